"""The card of a model on the hub: what it is, what it was trained on, what it reached and by which command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import ModelError
from vlfew.core.interval import interval_unit

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

MINILM_LICENSE = "The text encoder in it, all-MiniLM-L6-v2, is Apache-2.0."


def model_card(model: DualStream, repo_id: str = "owner/name", license: str | None = None) -> str:
    """Markdown with the head that the hub reads. The figures are those of `results.json` beside the model.

    Args:
        model: as it was loaded.
        repo_id: where it is to be had.
        license: of the weights; None says that none was stated.
    """
    results = _results(model)
    head = [
        "---",
        "library_name: vlfew",
        *([f"license: {license}"] if license else []),
        f"pipeline_tag: {'zero-shot-image-classification' if model.has_text else 'image-feature-extraction'}",
        "tags:",
        *(f"- {tag}" for tag in _tags(model)),
        "---",
    ]
    parts = [
        "\n".join(head),
        f"# {repo_id.rpartition('/')[2]}",
        _what(model),
        "## Figures",
        _figures(results),
        *(["The commands that measured them:", _commands(results, repo_id)] if results else []),
        "## Use",
        _use(model, repo_id),
        "## License",
        _license(model, license),
    ]
    return "\n\n".join(parts) + "\n"


def _results(model: DualStream) -> list[dict[str, Any]]:
    path = None if model.home is None else model.home / "results.json"
    if path is None or not path.is_file():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(r["accuracy"], float) and isinstance(r["ci95"], float) for r in results):
            raise ValueError("an accuracy that is no number")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} cannot be read: {error}; a card is written from it") from None
    return list(results)


def _tags(model: DualStream) -> Sequence[str]:
    return ("few-shot", "zero-shot", "vision-language") if model.has_text else ("few-shot", "metric-learning")


def _what(model: DualStream) -> str:
    spec, metadata = model.spec, model.metadata
    words = "" if spec.text is None else f", beside the text encoder `{spec.text.encoder}`"
    channels = "gray" if spec.channels == 1 else "color"
    lines = [
        f"A vlfew model: the image stream `{spec.backbone}` into {model.dim} "
        f"dimensions{words}. It sees {channels} images of {spec.image_size} x {spec.image_size} pixels.",
        f"- trained on: {metadata.get('trained_on', 'not known')}",
        f"- outside images: {'yes' if spec.outside_data else 'no'}",
        *(f"- note: {note}" for note in metadata.get("notes", [])),
    ]
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _figures(results: list[dict[str, Any]]) -> str:
    if not results:
        return "None: this model was saved without results."
    rows = [
        "| protocol | data / split | asked | accuracy, % (95% interval) | interval over | seed | input |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        sizes = [f"{r[key]} {key}" for key in ("ways", "shots", "pairs", "texts") if r.get(key)]
        cells = (
            r["protocol"],
            f"{r['data']} / {r['split']}",
            ", ".join(sizes) or "-",
            f"{100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f}",
            interval_unit(r),
            str(r["seed"]),
            " x ".join(map(str, r["input_size"])),
        )
        rows.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(r["note"] for r in results if r.get("note"))
    return "\n".join(rows) + "".join(f"\n\nNote: {note}." for note in notes)


def _commands(results: list[dict[str, Any]], repo_id: str) -> str:
    """The commands of the results, asked of the model where it is to be had."""
    words = [shlex.split(r["command"]) for r in results]
    told = [shlex.join([*w[:2], repo_id, *w[3:]] if w[:2] == ["vlfew", "evaluate"] else w) for w in words]
    return "\n".join(["```console", *told, "```"])


def _use(model: DualStream, repo_id: str) -> str:
    first = '"cat": "a photo of a cat"' if model.has_text else '"cat": Path("cat.jpg")'
    return f"""```python
from pathlib import Path

import vlfew

model = vlfew.load("{repo_id}")
clf = model.classifier({{{first}, "my mug": Path("mug.jpg")}})
print(clf.predict([Path("image.jpg")]))
```"""


def _license(model: DualStream, license: str | None) -> str:
    own = f"The weights: {license}." if license else "None was stated for these weights."
    minilm = model.spec.text is not None and model.spec.text.encoder == "minilm"
    return f"{own} {MINILM_LICENSE}" if minilm else own
