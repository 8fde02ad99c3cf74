"""Verbs that score: by a protocol, by methods of few images, run beside run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vlfew.cli.options import Options, Run, count_or, data_for, ending_in, number_or, numbers
from vlfew.core.errors import VlfewError


def evaluate(
    run: Run,
    protocol: Annotated[
        str, typer.Option(help="few-shot, zero-shot, asif, verification, identification, ...")
    ],
    data: Annotated[str | None, typer.Option(help="Data source; that of the run if not given.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    split: Annotated[str | None, typer.Option(help="Which split [test].")] = None,
    ways: Annotated[str | None, typer.Option(help="Classes in an episode, or 'all'.")] = None,
    shots: Annotated[int | None, typer.Option(help="Support images of a class.")] = None,
    queries: Annotated[str | None, typer.Option(help="Query images of a class, or 'all'.")] = None,
    episodes: Annotated[str | None, typer.Option(help="How many; 'each': all supports in turn.")] = None,
    trials: Annotated[int | None, typer.Option(help="Of omniglot-trials.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the episodes [0].")] = None,
    pairs: Annotated[int | None, typer.Option(help="Pairs to draw where the data have none.")] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Split that gives thresholds and shares [val].")
    ] = None,
    calibration_pairs: Annotated[int | None, typer.Option(help="Draw so many to choose it by.")] = None,
    folds: Annotated[int | None, typer.Option(help="Of drawn pairs [10].")] = None,
    gallery_size: Annotated[str | None, typer.Option(help="Classes in the gallery, or 'all'.")] = None,
    draws: Annotated[int | None, typer.Option(help="Of the gallery [10].")] = None,
    method: Annotated[str | None, typer.Option(help="By name; the model's own if not given.")] = None,
    on_small_class: Annotated[str | None, typer.Option(help="Classes with too few images: skip.")] = None,
    support_split: Annotated[str | None, typer.Option(help="Split that gives the support.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt such as 'a photo of a {}', or one, seven, eighty.")
    ] = None,
    descriptions: Annotated[Path | None, typer.Option(help="JSON: class name to texts.")] = None,
    text_weight: Annotated[
        str | None, typer.Option(help="Share of the words, 0 to 1, or 'validated'.")
    ] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Of asif [minilm].")] = None,
    anchors: Annotated[int | None, typer.Option(help="Of asif: pairs of an image and its words.")] = None,
    sparsity: Annotated[int | None, typer.Option(help="Of asif: anchors that are kept.")] = None,
    exponent: Annotated[float | None, typer.Option(help="Of asif: of the cosines to them.")] = None,
    folder: Annotated[Path | None, typer.Option("--runs", help="Folder of official Omniglot runs.")] = None,
    options: Options = [],  # noqa: B006
    json_file: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, callback=ending_in(".json"), help="Also write results here."),
    ] = None,
    episodes_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Keep the episodes here, or take them from here when it is there."),
    ] = None,
    pairs_file: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Keep the drawn pairs here, or take them from here when it is there."
        ),
    ] = None,
    per_episode: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write accuracies of all episodes here.")
    ] = None,
) -> None:
    """Score a trained model by a protocol; never trains, never chooses anything."""
    from vlfew.evaluation import PROTOCOLS
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.evaluate import evaluate as run_protocol
    from vlfew.evaluation.evaluate import save_per_episode
    from vlfew.evaluation.repeats import merge_results
    from vlfew.evaluation.results import write_results
    from vlfew.models.serialization import load
    from vlfew.training.run_folder import RunFolder
    from vlfew.workflows.train import evaluate_command, notes_of, print_results

    given = {
        "split": split,
        "ways": count_or("all", ways, "--ways"),
        "shots": shots,
        "queries": count_or("all", queries, "--queries"),
        "episodes": count_or("each", episodes, "--episodes"),
        "trials": trials,
        "seed": seed,
        "pairs": pairs,
        "calibrate": calibrate,
        "calibration_pairs": calibration_pairs,
        "folds": folds,
        "gallery_size": count_or("all", gallery_size, "--gallery-size"),
        "draws": draws,
        "method": method,
        "on_small_class": on_small_class,
        "support_split": support_split,
        "templates": template,
        "descriptions": descriptions,
        "text_weight": number_or("validated", text_weight, "--text-weight"),
        "text_encoder": text_encoder,
        "anchors": anchors,
        "sparsity": sparsity,
        "exponent": exponent,
        "runs": folder,
        "episodes_file": episodes_file,
        "pairs_file": pairs_file,
    }
    asked = {key: value for key, value in given.items() if value is not None}
    PROTOCOLS.checked(protocol, asked)
    command = evaluate_command(run, protocol, data, asked, root, options)
    whole = RunFolder(Path(run))
    results, episodes_of = [], []
    for one in [str(member.path) for member in whole.members] or [run]:
        model = load(one).to(scoring_device())
        images, metadata = data_for(one, model.spec.preprocessor(), data, root, options)
        result, outcome = run_protocol(
            EvaluationContext(model, images),
            protocol,
            asked,
            command=command,
            trained_on=str(metadata.get("trained_on", one)),
            outside_data=model.spec.outside_data,
        )
        result.note = "; ".join(filter(None, [result.note, *notes_of(metadata, images)]))
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


def adapt(
    run: Run,
    data: Annotated[str | None, typer.Option(help="Data source; that of the run if not given.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    split: Annotated[str, typer.Option(help="Whose classes are told apart.")] = "test",
    methods: Annotated[str, typer.Option(help="Names with commas between; all: the cheap ones.")] = "all",
    shots: Annotated[str, typer.Option(help="Support images of a class, ascending.")] = "1,2,4,8,16",
    repeats: Annotated[int, typer.Option(help="Draws of the support.")] = 3,
    ways: Annotated[str, typer.Option(help="Classes that each seed draws, or 'all'.")] = "all",
    tune_on: Annotated[
        Literal["val-classes", "held-out-images", "none"] | None,
        typer.Option(help="What chooses options: other classes, further images, nothing."),
    ] = None,
    base_to_new: Annotated[
        bool, typer.Option("--base-to-new", help="Images of half of the classes, words of the others.")
    ] = False,
    on_small_class: Annotated[
        Literal["error", "skip"], typer.Option(help="Classes with too few images.")
    ] = "error",
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
    from vlfew.evaluation.adaptation.compare import adapt as run_methods
    from vlfew.evaluation.adaptation.compare import write_adaptation
    from vlfew.evaluation.adaptation.methods import find_methods, parse_fixed
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.feature_bank import encode_split
    from vlfew.evaluation.feature_cache import cached_split_features
    from vlfew.evaluation.prompt_templates import read_templates
    from vlfew.models.serialization import load
    from vlfew.report.adaptation_report import write_adapted
    from vlfew.workflows.train import adapt_command, adapt_folder, notes_of, print_adaptation, set_aside

    asked: dict[str, Any] = {
        "methods": [name.strip() for name in methods.split(",")],
        "split": split,
        "shots": numbers(shots, "--shots"),
        "repeats": repeats,
        "ways": count_or("all", ways, "--ways"),
        "tune_on": tune_on,
        "base_to_new": base_to_new,
        "on_small_class": on_small_class,
        "templates": template or ["{}"],
        "descriptions": descriptions,
        "fixed": parse_fixed(fix or []),
    }
    # Mistyped names are told before anything is read.
    find_methods(asked["methods"], "", asked["fixed"])
    read_templates(asked["templates"])
    folder = adapt_folder(run, out, data, split, base_to_new)
    model = load(run).to(scoring_device())
    if not model.spec.share_weights:
        raise VlfewError(
            f"{run} is a pair of streams that share no weights, and these methods go by one embedding of a "
            "image; take vlfew evaluate, which compares one side with the other"
        )
    images, metadata = data_for(run, model.spec.preprocessor(), data, root, options)
    found = run_methods(
        EvaluationContext(model, images, encode=cached_split_features if cache else encode_split),
        **asked,
        model=run,
        command=adapt_command(run, data, root, options, asked, fix or []),
        trained_on=str(metadata.get("trained_on", run)),
        outside_data=model.spec.outside_data,
        notes=notes_of(metadata, images),
    )
    if aside := set_aside(folder, found.command):
        print(f"note       the comparison that was there is {aside} now", file=sys.stderr)
    write_adaptation(folder / "adapt.json", found)
    write_adapted(folder / "adapt.html", found)
    print_adaptation(found)
    print(f"page: {folder / 'adapt.html'}", file=sys.stderr)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, up to 8.")],
    out: Annotated[
        Path, typer.Option(dir_okay=False, callback=ending_in(".html"), help="Where to write the page.")
    ] = Path("comparison.html"),
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", dir_okay=False, callback=ending_in(".json"), help="Also write the figures here."
        ),
    ] = None,
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
