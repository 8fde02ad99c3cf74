"""The model card on the hub: what the model is, its training data, its results and the commands that measured them."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import ModelError

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

MINILM_LICENSE = "Its text encoder, all-MiniLM-L6-v2, is Apache-2.0."


def model_card(model: DualStream, repo_id: str = "owner/name", license: str | None = None) -> str:
    """Markdown with the hub's metadata header. The results are those of `results.json` in the model's folder.

    Args:
        model: as loaded.
        repo_id: its hub repository.
        license: of the weights; None if none was given.
    """
    results = _results(model)
    tags = ["few-shot", *(["zero-shot", "vision-language"] if model.has_text else ["metric-learning"])]
    header = [
        "---",
        "library_name: vlfew",
        *([f"license: {license}"] if license else []),
        f"pipeline_tag: {'zero-shot-image-classification' if model.has_text else 'image-feature-extraction'}",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    parts = [
        "\n".join(header),
        f"# {repo_id.rpartition('/')[2]}",
        _description(model),
        "## Results",
        _results_table(results),
        *(["Measured by:", _commands(results, repo_id)] if results else []),
        "## Usage",
        _usage(model, repo_id),
        "## License",
        _license(model, license),
    ]
    return "\n\n".join(parts) + "\n"


def _results(model: DualStream) -> list[dict[str, Any]]:
    path = None if model.path is None else model.path / "results.json"
    if path is None or not path.is_file():
        return []
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(r["accuracy"], float) and isinstance(r["ci95"], float) for r in results):
            raise ValueError("an accuracy is not a number")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path} cannot be read: {error}; the model card needs it") from None
    return list(results)


def _description(model: DualStream) -> str:
    spec, metadata = model.spec, model.metadata
    text = "" if spec.text is None else f" and the text encoder `{spec.text.encoder}`"
    channels = "gray" if spec.channels == 1 else "color"
    lines = [
        f"A vlfew model with the image encoder `{spec.backbone}`{text}, in {model.dim} dimensions. It takes "
        f"{channels} images of {spec.image_size} x {spec.image_size} pixels.",
        f"- training data: {metadata.get('trained_on', 'unknown')}",
        f"- pretrained on other images: {'yes' if spec.outside_data else 'no'}",
        *(f"- note: {note}" for note in metadata.get("notes", [])),
    ]
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def _results_table(results: list[dict[str, Any]]) -> str:
    if not results:
        return "The model was saved without results."
    rows = [
        "| protocol | data / split | setting | accuracy, % (95% interval) | interval over | seed | input |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        setting = [f"{r[key]} {key}" for key in ("ways", "shots", "pairs", "texts") if r.get(key)]
        cells = (
            r["protocol"],
            f"{r['data']} / {r['split']}",
            ", ".join(setting) or "-",
            f"{100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f}",
            r.get("interval_unit") or f"{r['episodes']:,} episodes",
            str(r["seed"]),
            " x ".join(map(str, r["input_size"])),
        )
        rows.append("| " + " | ".join(cells) + " |")
    notes = dict.fromkeys(r["note"] for r in results if r.get("note"))
    return "\n".join(rows) + "".join(f"\n\nNote: {note}." for note in notes)


def _commands(results: list[dict[str, Any]], repo_id: str) -> str:
    """The commands of the results, with the hub repository as the model."""
    commands = [shlex.split(r["command"]) for r in results]
    lines = [shlex.join(_with_model(words, repo_id)) for words in commands]
    return "\n".join(["```console", *lines, "```"])


def _with_model(words: list[str], repo_id: str) -> list[str]:
    """`vlfew evaluate PROTOCOL RUN ...` with another model; other commands unchanged."""
    return [*words[:3], repo_id, *words[4:]] if words[:2] == ["vlfew", "evaluate"] else words


def _usage(model: DualStream, repo_id: str) -> str:
    first = '"cat": "a photo of a cat"' if model.has_text else '"cat": Path("cat.jpg")'
    return f"""```python
from pathlib import Path

import vlfew

model = vlfew.load("{repo_id}")
clf = vlfew.FewShotClassifier.from_classes(model, {{{first}, "my mug": Path("mug.jpg")}})
print(clf.predict([Path("image.jpg")]))
```"""


def _license(model: DualStream, license: str | None) -> str:
    own = f"The weights: {license}." if license else "No license was given for these weights."
    minilm = model.spec.text is not None and model.spec.text.encoder == "minilm"
    return f"{own} {MINILM_LICENSE}" if minilm else own
