"""The model card on the hub: what the model is, its training data, its results and the commands that measured them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData
from jinja2 import Template

from vlfew.core.errors import ModelError
from vlfew.encoders import PACKAGED_BACKBONES
from vlfew.encoders.packaged.base import PackagedWeights
from vlfew.encoders.packaged.minilm import WEIGHTS as MINILM

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

TEMPLATE = Path(__file__).with_name("model_card.md.j2")


def model_card(model: DualStream, repo_id: str = "owner/name", license: str | None = None) -> str:
    """Markdown with the hub's metadata header. The results are those of `results.json` in the model's folder.

    Args:
        model: as loaded.
        repo_id: its hub repository.
        license: of the weights; None if none was given.

    Raises:
        ModelError: `results.json` cannot be read.
    """
    results = _results(model)
    header = ModelCardData(
        library_name="vlfew",
        license=license,
        pipeline_tag="zero-shot-image-classification" if model.has_text else "image-feature-extraction",
        tags=["few-shot", *(["zero-shot", "vision-language"] if model.has_text else ["metric-learning"])],
    )
    card = Template(TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True)
    content = card.render(
        header=header.to_yaml(),
        name=repo_id.rpartition("/")[2],
        model=model,
        results=results,
        commands=[_with_model(shlex.split(r["command"]), repo_id) for r in results],
        repo_id=repo_id,
        license=license,
        packaged=_packaged_weights(model),
    )
    return content + "\n"


def _packaged_weights(model: DualStream) -> list[tuple[str, PackagedWeights]]:
    """The streams of a model that started from packaged weights, with these."""
    found, text = [], model.spec.text
    if model.spec.backbone in PACKAGED_BACKBONES.names():
        backbone: Any = PACKAGED_BACKBONES.get(model.spec.backbone)
        found.append(("image encoder", backbone.weights))
    if text is not None and text.encoder == MINILM.name:
        found.append(("text encoder", MINILM))
    return found


def _results(model: DualStream) -> list[dict[str, Any]]:
    path = None if model.path is None else model.path / "results.json"
    if path is None or not path.is_file():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(r["accuracy"], float) and isinstance(r["ci95"], float | None) for r in results):
            raise ValueError("an accuracy is not a number")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} cannot be read: {error}; the model card needs it") from None
    return list(results)


def _with_model(words: list[str], repo_id: str) -> str:
    """The command `vlfew evaluate PROTOCOL RUN ...` with another model; other commands unchanged."""
    return shlex.join([*words[:3], repo_id, *words[4:]] if words[:2] == ["vlfew", "evaluate"] else words)
