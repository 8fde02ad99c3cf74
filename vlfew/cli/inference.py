"""`vlfew classify`, `models`, `export` and `push`."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Literal

import rich_click as click

from vlfew.cli.options import RUN_HELP, UserPath, file_option, images_argument, run_argument, with_parameters
from vlfew.core.console import log, print_table
from vlfew.core.errors import DataError, VlfewError
from vlfew.core.files import check_writable
from vlfew.core.plurals import counted, first_names


@click.command(epilog=RUN_HELP)
@run_argument
@images_argument
@click.option(
    "--classes",
    type=UserPath(),
    required=True,
    help="YAML file: each class with text:, images: or both; or a folder with a folder of images for each class.",
)
@click.option(
    "--text-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Weight of the text where a class has text and images.",
)
@click.option(
    "--method", default="default", show_default=True, help="Few-shot method; by default the model's own."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Lowest probability at which a class is accepted; images below it are unknown.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def classify(
    run: str,
    images: tuple[str, ...],
    classes: Path,
    text_weight: float,
    method: str,
    threshold: float,
    as_json: bool,
) -> int:
    """Classify images into your own classes.

    IMAGE is an image file, a folder or a glob. Images that cannot be read are named and left out; the exit status is
    then 1. Probabilities are calibrated where every class has at least two images; otherwise they only rank.
    """
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.models.class_file import find_images, mixed_modality_warning, read_class_file
    from vlfew.models.few_shot_classifier import FewShotClassifier
    from vlfew.models.loading import load

    others: list[Path] = []
    described, paths = read_class_file(classes, others), find_images(images, others=others)
    if others:
        log(f"vlfew: note: {counted(len(others), 'file')} set aside: {first_names(list(map(str, others)))}")
    if mixed := mixed_modality_warning(described):
        log(f"vlfew: warning: {mixed}")
    model = load(run).to(scoring_device())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        classifier = FewShotClassifier.from_classes(model, described, method=method, text_weight=text_weight)
    for warning in caught:
        log(f"vlfew: warning: {warning.message}")
    predictions, status = {}, 0
    try:
        predictions = dict(zip(paths, classifier.classify(paths, threshold), strict=True))
    except DataError:
        for path in paths:
            try:
                (predictions[path],) = classifier.classify([path], threshold)
            except DataError as error:
                log(f"vlfew: {error}")
                status = 1
        if not predictions:
            return 2
    if not classifier.calibrated_:
        log(
            "vlfew: note: probabilities are not calibrated (that takes two classes, each with two images)"
            + ("; a threshold on them has no error rate that holds" if threshold else "")
        )
    rows = []
    for path, prediction in predictions.items():
        values = {k: round(v, 4) if type(v) is float else v for k, v in prediction._asdict().items()}
        rows.append({"image": str(path), **values})
    if as_json:
        stated = [row | {"calibrated": classifier.calibrated_} for row in rows]
        print(json.dumps(stated, indent=2, ensure_ascii=False))
        return status
    for row in rows:
        if not row.pop("accepted"):
            row["label"] = f"unknown ({row['label']}?)"
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    return status


@click.command()
def models() -> None:
    """List preprocessing, image backbones and text encoders, with their options."""
    from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS

    internal = {"load", "config"}  # for rebuilding a saved model
    rows = []
    for kind, registry in (("preprocessing", PREPROCESSING), ("image", BACKBONES), ("text", TEXT_ENCODERS)):
        for name in registry.names():
            options = [option.name for option in registry.signature(name) if option.name not in internal]
            rows.append([kind, name + "NAME" if name.endswith(":") else name, ", ".join(options) or "-"])
    print_table(["kind", "name", "options"], rows, no_wrap=["kind", "name"])


@with_parameters(file_option("--out", ".onnx", "File to write.", required=True))
@click.command(epilog=RUN_HELP)
@run_argument
@click.option("--stream", type=click.Choice(["image", "text"]), required=True, help="Stream to export.")
@click.option("--check", "images", multiple=True, metavar="IMAGE", help="Images to compare on; repeatable.")
def export(run: str, stream: Literal["image", "text"], out_file: Path, images: tuple[str, ...]) -> None:
    """Export one stream to ONNX and compare its output with the model's."""
    from vlfew.models.class_file import find_images
    from vlfew.models.export import TOLERANCE, export_stream
    from vlfew.models.loading import load

    model = load(run)
    if images and stream == "text":
        raise VlfewError("--check takes images, which the text stream does not use; leave it out")
    pixels = model.preprocess(find_images(images)) if images else None
    difference = export_stream(model, stream, out_file, pixels)
    what = "texts" if stream == "text" else "random images"
    if pixels is not None:
        what = f"random and {len(pixels)} real images"
    print(f"{out_file}  {out_file.stat().st_size / 1e6:,.1f} MB")
    print(
        f"largest difference of normalized embeddings from the model's, on {what}: {difference:.1e} "
        f"(below {TOLERANCE:.0e})"
    )


@click.command(epilog=RUN_HELP)
@run_argument
@click.argument("repo", metavar="OWNER/NAME")
@click.option(
    "--license", "weights_license", help="License of the weights, for the model card, such as apache-2.0."
)
@click.option("--private", is_flag=True, help="Create a private repository.")
@click.option(
    "--dry-run",
    type=UserPath(),
    metavar="FOLDER",
    help="Write the files there, upload nothing.",
)
def push(run: str, repo: str, weights_license: str | None, private: bool, dry_run: Path | None) -> None:
    """Upload a model to the Hugging Face hub, with a model card written from its results."""
    from vlfew.models.hub import write_pretrained
    from vlfew.models.loading import load

    if dry_run is not None:
        check_writable(dry_run / "model.json", "--dry-run")
    model = load(run)
    if dry_run is None:
        print(model.push_to_hub(repo, license=weights_license, private=private))
        return
    for path in write_pretrained(model, dry_run, repo, weights_license):
        print(f"{path}  {path.stat().st_size / 1e6:,.1f} MB")
    log(f"nothing was uploaded; without --dry-run these files go to {repo}")
