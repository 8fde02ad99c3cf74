"""The command line: parse, call, print. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vlfew.allocator import keep_freed_memory
from vlfew.errors import VlfewError

if TYPE_CHECKING:
    from vlfew.data.images import LabelledImages
    from vlfew.data.reading import Reading

app = typer.Typer(
    name="vlfew",
    help="Vision-language few-shot learning: new classes from one picture, a few words, or both.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sources: list them, look at one, put one in place.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run folder, a hub id, open_clip:ARCH/TAG, transformers:NAME or timm:NAME."
    ),
]
Options = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="A data option; repeatable.")]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; mistakes become one line and exit status 2."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        # A name that the output's encoding lacks is escaped, not a reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, standalone_mode=True)
    except (VlfewError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            for line in str(error).splitlines():
                print(f"vlfew: {line}", file=sys.stderr)
        signal = getattr(error, "signal", 0)
        sys.exit(128 + signal if signal else 2)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
) -> None:
    """Train, evaluate and report; the same command again resumes, or shows a finished run."""
    from vlfew.pipeline import run_pipeline

    run_pipeline(config, overrides or [], runs)


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")],
    space: Annotated[Path, typer.Option(help="YAML: keys with {low:, high:} or {choices: [...]}.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those of earlier calls included.")] = 20,
    pruner: Annotated[
        Literal["median", "none"], typer.Option(help="Whether trials below the median are ended early.")
    ] = "median",
    seed: Annotated[int, typer.Option(help="Of the suggestions.")] = 0,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
) -> None:
    """Search for settings by the validation split; the same command again goes on."""
    from vlfew.pipeline import run_search

    run_search(config, overrides or [], space, runs, trials=trials, pruner=pruner, seed=seed)


@app.command()
def evaluate(
    run: Run,
    protocol: Annotated[
        str, typer.Option(help="few-shot, zero-shot, asif, verification, identification, ...")
    ],
    data: Annotated[str | None, typer.Option(help="Data source; that of the run if not given.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split [test].")] = None,
    ways: Annotated[str | None, typer.Option(help="Classes in an episode, or 'all'.")] = None,
    shots: Annotated[int | None, typer.Option(help="Support pictures of a class.")] = None,
    queries: Annotated[str | None, typer.Option(help="Query pictures of a class, or 'all'.")] = None,
    episodes: Annotated[str | None, typer.Option(help="How many; 'each': all supports in turn.")] = None,
    trials: Annotated[int | None, typer.Option(help="Of omniglot-trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the episodes [0].")] = None,
    pairs: Annotated[int | None, typer.Option(help="Pairs to draw where the data have none.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Split that gives thresholds and shares [val].")
    ] = None,
    calibration_pairs: Annotated[int | None, typer.Option(help="Draw so many to choose it by.")] = None,
    folds: Annotated[int | None, typer.Option(help="Of drawn pairs [10].")] = None,
    enrolled: Annotated[str | None, typer.Option(help="Classes in the gallery, or 'all'.")] = None,
    draws: Annotated[int | None, typer.Option(help="Of the gallery [10].")] = None,
    scorer: Annotated[str | None, typer.Option(help="By name; the model's own if not given.")] = None,
    too_few: Annotated[str | None, typer.Option(help="Classes with too few pictures: leave_out.")] = None,
    support_split: Annotated[str | None, typer.Option(help="Split that gives the support.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt such as 'a photo of a {}', or one, seven, eighty.")
    ] = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name to texts.")] = None,
    text_weight: Annotated[
        str | None, typer.Option(help="Share of the words, 0 to 1, or 'validated'.")
    ] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Of asif [minilm].")] = None,
    anchors: Annotated[int | None, typer.Option(help="Of asif: pairs of a picture and its words.")] = None,
    sparsity: Annotated[int | None, typer.Option(help="Of asif: anchors that are kept.")] = None,
    exponent: Annotated[float | None, typer.Option(help="Of asif: of the cosines to them.")] = None,
    folder: Annotated[Path | None, typer.Option("--runs", help="Folder of official Omniglot runs.")] = None,
    options: Options = [],  # noqa: B006
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write results here.")] = None,
    episodes_file: Annotated[
        Path | None, typer.Option(help="Keep the episodes here, or take them from here when it is there.")
    ] = None,
    pairs_file: Annotated[
        Path | None, typer.Option(help="Keep the drawn pairs here, or take them from here when it is there.")
    ] = None,
    per_episode: Annotated[Path | None, typer.Option(help="Write accuracies of all episodes here.")] = None,
) -> None:
    """Score a trained model by a protocol; never trains, never chooses anything."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.evaluate import evaluate as run_protocol
    from vlfew.evaluation.evaluate import protocol_options, save_per_episode
    from vlfew.evaluation.repeats import merge_results
    from vlfew.evaluation.results import write_results
    from vlfew.evaluation.subject import Subject
    from vlfew.models.saved import load
    from vlfew.pipeline import data_notes, evaluate_command, print_results
    from vlfew.training.run import RunFolder

    given = {
        "split": split,
        "ways": _count_or("all", ways, "--ways"),
        "shots": shots,
        "queries": _count_or("all", queries, "--queries"),
        "episodes": _count_or("each", episodes, "--episodes"),
        "trials": trials,
        "seed": seed,
        "pairs": pairs,
        "calibrate": calibrate,
        "calibration_pairs": calibration_pairs,
        "folds": folds,
        "enrolled": _count_or("all", enrolled, "--enrolled"),
        "draws": draws,
        "scorer": scorer,
        "too_few": too_few,
        "support_split": support_split,
        "templates": template,
        "descriptions": descriptions,
        "text_weight": _number_or("validated", text_weight, "--text-weight"),
        "text_encoder": text_encoder,
        "anchors": anchors,
        "sparsity": sparsity,
        "exponent": exponent,
        "runs": folder,
        "episodes_file": episodes_file,
        "pairs_file": pairs_file,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    protocol_options(protocol, asked)
    command = evaluate_command(run, protocol, data, asked, root, options)
    whole = RunFolder(Path(run))
    results, episodes_of = [], []
    for one in [str(member.path) for member in whole.members] or [run]:
        model = load(one).to(scoring_device())
        images, about = _data_for(one, model.spec.reading(), data, root, options)
        result, outcome = run_protocol(
            Subject(model, images),
            protocol,
            asked,
            command=command,
            trained_on=str(about.get("trained_on", one)),
            outside_data=model.spec.outside_data,
        )
        result.note = "; ".join(filter(None, [result.note, *data_notes(about, images)]))
        results.append(result)
        episodes_of.append(outcome.per_episode)
    if whole.members:
        result = merge_results(results, *whole.repeated)
    print_results([result])
    if result.note:
        print(f"note: {result.note}", file=sys.stderr)
    if json_file is not None:
        write_results(json_file, [result])
    if per_episode is not None:
        save_per_episode(per_episode, episodes_of)


@app.command()
def adapt(
    run: Run,
    data: Annotated[str | None, typer.Option(help="Data source; that of the run if not given.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    split: Annotated[str, typer.Option(help="Whose classes are told apart.")] = "test",
    methods: Annotated[str, typer.Option(help="Names with commas between; all: the cheap ones.")] = "all",
    shots: Annotated[str, typer.Option(help="Support pictures of a class, ascending.")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(help="Draws of the support.")] = 3,
    ways: Annotated[str, typer.Option(help="Classes that each seed draws, or 'all'.")] = "all",
    choose: Annotated[
        Literal["val", "pictures", "fixed"] | None,
        typer.Option(help="What chooses options: other classes, further pictures, nothing."),
    ] = None,
    base_to_new: Annotated[
        bool, typer.Option("--base-to-new", help="Pictures of half of the classes, words of the others.")
    ] = False,
    too_few: Annotated[
        Literal["refuse", "leave_out"], typer.Option(help="Classes with too few pictures.")
    ] = "refuse",
    template: Annotated[list[str] | None, typer.Option(help="Prompt such as 'a photo of a {}'.")] = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name to texts.")] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD.KEY=VALUE", help="An option not to be chosen; repeatable."),
    ] = None,
    cache: Annotated[bool, typer.Option(help="Keep features in the user's cache.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder of the results [RUN/adapt/DATA].")] = None,
    options: Options = [],  # noqa: B006
) -> None:
    """Compare few-shot methods on a frozen model: accuracy against the number of shots."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.adaptation import adapt as run_methods
    from vlfew.evaluation.adaptation import write_adaptation
    from vlfew.evaluation.bank import encode_split
    from vlfew.evaluation.kept_bank import kept_split
    from vlfew.evaluation.methods import find_methods, parse_fixed
    from vlfew.evaluation.subject import Subject
    from vlfew.models.saved import load
    from vlfew.pipeline import adapt_command, adapt_folder, data_notes, print_adaptation
    from vlfew.report.adapted import write_adapted

    asked: dict[str, Any] = {
        "methods": [name.strip() for name in methods.split(",")],
        "split": split,
        "shots": _numbers(shots, "--shots"),
        "seeds": seeds,
        "ways": _count_or("all", ways, "--ways"),
        "choose": choose,
        "base_to_new": base_to_new,
        "too_few": too_few,
        "templates": template or ["{}"],
        "descriptions": descriptions,
        "fixed": parse_fixed(fix or []),
    }
    find_methods(asked["methods"], "", asked["fixed"])  # a mistyped name is told before anything is read
    folder = adapt_folder(run, out, data, split, base_to_new)
    model = load(run).to(scoring_device())
    if model.spec.twins == "unshared":
        raise VlfewError(
            f"{run} is a pair of streams that share no weights, and these methods go by one embedding of a "
            "picture; take vlfew evaluate, which compares one side with the other"
        )
    images, about = _data_for(run, model.spec.reading(), data, root, options)
    found = run_methods(
        Subject(model, images, encode=kept_split if cache else encode_split),
        **asked,
        model=run,
        command=adapt_command(run, data, root, options, asked, fix or []),
        trained_on=str(about.get("trained_on", run)),
        outside_data=model.spec.outside_data,
        notes=data_notes(about, images),
    )
    write_adaptation(folder / "adapt.json", found)
    write_adapted(folder / "adapt.html", found)
    print_adaptation(found)
    print(f"page: {folder / 'adapt.html'}", file=sys.stderr)


@app.command()
def classify(
    run: Run,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders or globs.")],
    classes: Annotated[Path, typer.Option(help="YAML: class name to text:, images: or both.")],
    text_weight: Annotated[
        float, typer.Option(min=0, max=1, help="Share of words where a class has both.")
    ] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Tell which of your classes each picture shows."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.models.class_file import find_images, read_class_file, unequal_kinds
    from vlfew.models.saved import load

    described, pictures = read_class_file(classes), find_images(images)
    if warning := unequal_kinds(described):
        print(f"vlfew: warning: {warning}", file=sys.stderr)
    predictions = load(run).to(scoring_device()).classifier(described, text_weight).predict(pictures)
    rows = [
        {"image": str(path), "label": p.label, "score": round(p.score, 4), "margin": round(p.margin, 4)}
        for path, p in zip(pictures, predictions, strict=True)
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    _print_table(["image", "label", "score", "margin"], [list(row.values()) for row in rows])


@app.command()
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
    from vlfew.models.saved import load

    model = load(run)
    if dry_run is None:
        print(model.push_to_hub(repo, license=weights_license, private=private))
        return
    for path in write_pretrained(model, dry_run, repo, weights_license):
        print(f"{path}  {path.stat().st_size / 1e6:,.1f} MB")
    print(f"nothing was uploaded; without --dry-run these go to {repo}", file=sys.stderr)


@app.command()
def export(
    run: Run,
    stream: Annotated[Literal["image", "text"], typer.Option(help="Which of the two.")],
    out: Annotated[Path, typer.Option(metavar="FILE.onnx", help="Where to write it.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--check", metavar="IMAGE", help="Pictures, folders or globs to compare by; repeatable."
        ),
    ] = None,
) -> None:
    """Write one stream as an ONNX file that gives what the model gives."""
    from vlfew.models.class_file import find_images
    from vlfew.models.export import TOLERANCE, export_stream
    from vlfew.models.saved import load

    model = load(run)
    if images and stream == "text":
        raise VlfewError("--check takes pictures, which the text stream does not; leave it out")
    pictures = model.read(find_images(images)) if images else None
    apart = export_stream(model, stream, out, pictures)
    by = f"random and {len(pictures)} real pictures" if pictures is not None else "random pictures"
    print(f"{out}  {out.stat().st_size / 1e6:,.1f} MB")
    print(
        f"largest difference of normalised embeddings from the model's, by {by if stream == 'image' else 'texts'}: "
        f"{apart:.1e} (below {TOLERANCE:.0e})"
    )


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, up to 8.")],
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("comparison.html"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
) -> None:
    """Set runs side by side: figures, whether they differ, curves, configurations."""
    from rich.console import Console

    from vlfew.report.comparison import (
        compare_runs,
        comparison_tables,
        write_comparison,
        write_comparison_json,
    )

    compared = compare_runs(runs)
    write_comparison(compared, out)
    if json_file is not None:
        write_comparison_json(compared, json_file)
    console = Console()
    # Into a file or pipe, rich would fold the tables to 80 columns.
    wide = Console(width=console.width if console.is_terminal else 200)
    for table in comparison_tables(compared):
        wide.print(table)
        print()
    print(compared.found)
    print(f"page: {out}", file=sys.stderr)


@app.command()
def models() -> None:
    """List front ends, image backbones and text encoders."""
    from vlfew.encoders import BACKBONES, FRONT_ENDS, TEXT_ENCODERS

    internal = {"load", "config"}  # for building a saved model again
    rows = []
    for kind, registry in (("front end", FRONT_ENDS), ("image", BACKBONES), ("text", TEXT_ENCODERS)):
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
    _print_table(["stream", "name", "options"], rows)


@data_app.command("list")
def data_list() -> None:
    """List the data sources and whether their data are at hand."""
    from vlfew.data.sources import SOURCES, find_source

    known = {
        "glyphs": "built in",
        "folder": "any folder of pictures: --root PATH",
        "captions": "any folder with a captions.csv or .jsonl: --root PATH",
        "pairs": "any folder with a pairs.csv: --root PATH",
        "hf:": "a path, or a data set of the Hugging Face hub",
    }
    rows = []
    for name in SOURCES.names():
        place = known.get(name)
        if place is None:
            try:
                place = str(find_source(name))
            except VlfewError:
                place = f"not here: vlfew data prepare {name} --from PATH"
        shown, example = (name + "NAME", name + "x") if name.endswith(":") else (name, name)
        rows.append([shown, ", ".join(SOURCES.options(example).model_fields) or "-", place])
    _print_table(["name", "options", "where"], rows)


@data_app.command("show")
def data_show(
    name: str,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    image_size: Annotated[int, typer.Option(help="Pixels.")] = 84,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 grey, 3 colour.")] = 3,
    skip_bad: Annotated[bool, typer.Option(help="Leave unreadable pictures out and count them.")] = False,
    split: Annotated[str | None, typer.Option(help="Split on the sheet; all if not given.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Contact sheet to write [<name>.png].")] = None,
    options: Options = [],  # noqa: B006
) -> None:
    """Say what is in a data set, and draw a contact sheet of it."""
    from vlfew.data.reading import Reading
    from vlfew.data.show import contact_sheet, describe
    from vlfew.data.sources import load_data
    from vlfew.files import file_stem

    if channels == 2 or image_size < 8:
        raise VlfewError("--channels is 1 or 3, and --image-size at least 8 pixels")
    reading = Reading(image_size, channels, on_bad_image="skip" if skip_bad else "error")
    reading, asked = _data_options(name, reading, options)
    images = load_data(name, root, reading, **asked)
    about = describe(images)
    rows = [
        ("data", f"{about['name']}, fingerprint {about['fingerprint']}"),
        ("pictures", f"{about['pictures']:,} of {' x '.join(map(str, about['shape']))}"),
        ("classes", f"{about['classes']:,}" + (f" in {about['groups']} groups" if about["groups"] else "")),
        ("names", f"{'words' if about['names_are_words'] else 'codes'}: {'; '.join(about['examples'])}"),
    ]
    rows.append(("framed", _framing(reading)))
    rows.append(("splits", f"by {about['split_by']}"))
    for part, s in about["splits"].items():
        each = f"{s['fewest_per_class']} to {s['most_per_class']} a class"
        rows.append((part, f"{s['classes']:,} classes, {s['pictures']:,} pictures, {each}"))
    rows.append(("in memory", f"{about['bytes_in_memory'] / 2**20:,.1f} MiB decoded"))
    if about["skipped"]:
        rows.append(("skipped", f"{about['skipped']:,} pictures that could not be read"))
    if about["note"]:
        rows.append(("note", about["note"]))
    path = sheet or Path(f"{file_stem(name)}.png")
    contact_sheet(images, [split] if split else list(images.splits), path)
    for key, value in [*rows, ("sheet", path)]:
        print(f"{key:<10} {value}")


@data_app.command("prepare")
def data_prepare(
    name: str,
    source: Annotated[Path | None, typer.Option("--from", help="Archive or folder to take it from.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch it, where that is possible.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where to put it [the user's cache].")] = None,
) -> None:
    """Put a data set in place: unpacked safely and checked, or not at all."""
    from vlfew.data import prepare

    if (source is None) == (not download):
        raise VlfewError("give one of --from PATH and --download")
    print(prepare.download(name, root) if source is None else prepare.prepare(name, source, root))


def _print_table(columns: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)


def _count_or(word: str, text: str | None, flag: str) -> int | str | None:
    if text is None or text == word:
        return text
    if not text.isdigit() or int(text) < 1:
        raise VlfewError(f"{flag} is a number from 1 up, or {word!r}, not {text!r}")
    return int(text)


def _number_or(word: str, text: str | None, flag: str) -> float | str | None:
    if text is None or text == word:
        return text
    try:
        return float(text)
    except ValueError:
        raise VlfewError(f"{flag} is a number, or {word!r}, not {text!r}") from None


def _framing(reading: Reading) -> str:
    """How pictures were made square, and by what they would be framed in another way."""
    part = "whole pictures" if reading.center == 1 else f"the middle {reading.center:.0%} of pictures"
    if reading.resize == "squash":
        return (
            f"{part}, squashed to a square (--set resize=crop takes the middle square, --set center=0.6 less)"
        )
    return f"{part}, the middle square of each (--set resize=squash keeps all of it)"


def _numbers(text: str, flag: str) -> list[int]:
    if not all(part.isdigit() for part in text.split(",")):
        raise VlfewError(f"{flag} takes ascending numbers such as 1,2,4,8,16, not {text!r}")
    return [int(part) for part in text.split(",")]


def _load_data(name: str, root: Path | None, reading: Reading, options: list[str]) -> LabelledImages:
    from vlfew.data.sources import load_data

    reading, asked = _data_options(name, reading, options)
    return load_data(name, root, reading, **asked)


def _data_options(name: str, reading: Reading, options: list[str]) -> tuple[Reading, dict[str, Any]]:
    """What `--set` says: how these data's pictures are framed, and the options of their source.

    A model wants pictures of its size and channels, but how much of a picture is background is a matter
    of the data.
    """
    from dataclasses import replace

    from pydantic import create_model

    from vlfew.config import Center, Resize
    from vlfew.config_file import parse_values
    from vlfew.data.sources import SOURCES

    schema = create_model(
        "options",
        __base__=SOURCES.options(name),
        center=(Center, reading.center),
        resize=(Resize, reading.resize),
    )
    asked = parse_values(options, schema, f"data source {name!r}")
    framing = {key: asked.pop(key) for key in ("center", "resize") if key in asked}
    return replace(reading, **framing), asked


def _data_for(
    run: str, reading: Reading, name: str | None, root: Path | None, options: list[str]
) -> tuple[LabelledImages, dict[str, Any]]:
    """The data to evaluate on, read as the run read them where they are the run's own; and what it
    was trained on."""
    from dataclasses import replace

    from vlfew.config_file import load_config
    from vlfew.data.sources import load_data
    from vlfew.models.saved import read_about
    from vlfew.training.run import RunFolder

    folder = RunFolder(Path(run))
    about = read_about(folder.path) if folder.path.is_dir() else {}
    own = load_config(folder.config).data if folder.config.is_file() else None
    if own is not None and name in (None, own.name):
        # Its own seed and options: another split would put classes it was trained on into the test.
        reading = replace(reading, on_bad_image=own.on_bad_image, seed=own.split_seed)
        reading, asked = _data_options(own.name, reading, options)
        return load_data(own.name, root or own.root, reading, **own.options | asked), about
    if name is None:
        raise VlfewError(f"{run} does not say what it was trained on: name the data with --data")
    return _load_data(name, root, reading, options), about


if __name__ == "__main__":
    main()
