"""Verbs that put a model to use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vlfew.cli.options import Run, print_table
from vlfew.core.errors import VlfewError


def classify(
    run: Run,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, folders or globs.")],
    classes: Annotated[Path, typer.Option(help="YAML: class name to text:, images: or both.")],
    text_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of words where a class has both.")
    ] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Tell which of your classes each image shows."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.models.class_file import find_images, read_class_file, unequal_kinds
    from vlfew.models.serialization import load

    described, paths = read_class_file(classes), find_images(images)
    if warning := unequal_kinds(described):
        print(f"vlfew: warning: {warning}", file=sys.stderr)
    predictions = load(run).to(scoring_device()).classifier(described, text_weight).predict(paths)
    rows = [
        {"image": str(path), "label": p.label, "score": round(p.score, 4), "margin": round(p.margin, 4)}
        for path, p in zip(paths, predictions, strict=True)
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_table(["image", "label", "score", "margin"], [list(row.values()) for row in rows])


def push(
    run: Run,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where to put it on the hub.")],
    weights_license: Annotated[
        str | None, typer.Option("--license", help="Of the weights, for the card, such as apache-2.0.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="For yourself alone.")] = False,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write there what would be uploaded, and no more.")
    ] = None,
) -> None:
    """Put a model on the Hugging Face hub, with a card written from its results."""
    from vlfew.models.hub import write_pretrained
    from vlfew.models.serialization import load

    model = load(run)
    if dry_run is None:
        print(model.push_to_hub(repo, license=weights_license, private=private))
        return
    for path in write_pretrained(model, dry_run, repo, weights_license):
        print(f"{path}  {path.stat().st_size / 1e6:,.1f} MB")
    print(f"nothing was uploaded; without --dry-run these go to {repo}", file=sys.stderr)


def export(
    run: Run,
    stream: Annotated[Literal["image", "text"], typer.Option(help="Which of the two.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", dir_okay=False, help="Where to write it.")],
    images: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="IMAGE", help="Images, folders or globs to compare by; repeatable."),
    ] = None,
) -> None:
    """Write one stream as an ONNX file that gives what the model gives."""
    from vlfew.models.class_file import find_images
    from vlfew.models.export import TOLERANCE, export_stream
    from vlfew.models.serialization import load

    model = load(run)
    if images and stream == "text":
        raise VlfewError("--check takes pixels, which the text stream does not; leave it out")
    pixels = model.read(find_images(images)) if images else None
    apart = export_stream(model, stream, out, pixels)
    by = f"random and {len(pixels)} real pixels" if pixels is not None else "random pixels"
    print(f"{out}  {out.stat().st_size / 1e6:,.1f} MB")
    print(
        f"largest difference of normalized embeddings from the model's, by {by if stream == 'image' else 'texts'}: "
        f"{apart:.1e} (below {TOLERANCE:.0e})"
    )


def models() -> None:
    """List front ends, image backbones and text encoders."""
    from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS

    internal = {"load", "config"}  # for building a saved model again
    rows = []
    for kind, registry in (("front end", PREPROCESSING), ("image", BACKBONES), ("text", TEXT_ENCODERS)):
        for name in registry.names():
            shown = name + "NAME" if name.endswith(":") else name
            example = name + "x" if name.endswith(":") else name
            rows.append(
                [
                    kind,
                    shown,
                    ", ".join(o for o in registry.options(example).model_fields if o not in internal) or "-",
                ]
            )
    print_table(["stream", "name", "options"], rows)
