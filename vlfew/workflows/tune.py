"""`vlfew tune`: search hyperparameters on the validation split, and report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vlfew.core.checks import check_at_least
from vlfew.core.console import log, wide_console
from vlfew.core.errors import ConfigError
from vlfew.core.recipes import find_recipe

if TYPE_CHECKING:
    from vlfew.data.labeled_images import LabeledImages
    from vlfew.training.run_folder import RunFolder
    from vlfew.workflows.search import Search


def tune(
    config_path: str | Path,
    overrides: Sequence[str],
    space_path: str | Path,
    runs: str | Path = Path("runs"),
    *,
    trials: Annotated[int, Field(ge=1)] = 20,
    pruner: Literal["median", "none"] = "median",
    seed: int = 0,
) -> Path:
    """Search hyperparameters; continues an earlier search until there are `trials` trials in all.

    Args:
        config_path: YAML file of the configuration, or the name of a recipe.
        overrides: `key=value`, for every trial.
        space_path: YAML file of the search space.
        runs: folder of run folders; the trials go to `runs/<config.name>-tune/`.
        trials: number of trials in all, with those of earlier calls.
        pruner: whether trials below the median are stopped early.
        seed: of the suggestions.

    Returns:
        The folder of the search.

    Raises:
        VlfewError: a mistake in the configuration, the search space or the data; no trial could be trained.
    """
    check_at_least("trials", trials)
    if find_spec("optuna") is None:
        raise ConfigError("tuning needs Optuna, which is not installed (pip install 'vlfew[tune]')")
    from vlfew.report.tune_report import SearchResult, search_table, write_tune_report
    from vlfew.workflows.search import Search

    config_path, space_path, runs = find_recipe(config_path), Path(space_path), Path(runs)
    search = Search(config_path, overrides, space_path, runs, trials=trials, pruner=pruner, seed=seed)
    with search.opened() as study:

        def result() -> SearchResult:
            best = study.best
            command = "" if best is None else _evaluate_command(search, search.run_of(best))
            return SearchResult(search, study.trials, best, study.importances(), command)

        for _ in search.run_trials(study, _report_trial, log):
            write_tune_report(result())  # a search takes hours: its page can be read all along
        final = result()
        page = write_tune_report(final)
    if final.best is None:
        why = next((t.why for t in reversed(final.trials) if t.why), "all were pruned")
        raise ConfigError(f"{search.path}: no trial finished training ({final.counts}); the last: {why}")
    wide_console().print(search_table(final))
    print(f"\n{final.warning}\n")
    print(f"best     trial {final.best.number}: {' '.join(final.best.overrides)}")
    print(f"train    {search.command(final.best)}")
    print(f"evaluate {final.evaluate}")
    log(f"page: {page}")
    return search.path


def _report_trial(run: RunFolder, data: LabeledImages) -> None:
    """The page of a trial, with images of the validation split: no trial sees the test split."""
    from vlfew.evaluation.accuracy import scoring_device
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.evaluation.results import write_results
    from vlfew.models.loading import load
    from vlfew.report import write_report

    write_report(run, EvaluationContext(load(run.path).to(scoring_device()), data), [], split="val")
    write_results(run.results, [])


def _evaluate_command(search: Search, run: RunFolder) -> str:
    """The command of the first configured evaluation, for the run of a trial."""
    from vlfew.models.serialization import read_spec
    from vlfew.workflows.evaluate import configured_evaluations, evaluate_command

    evaluations = configured_evaluations(search.config, read_spec(run.path).text is not None)
    protocol, options = next(iter(evaluations), ("few-shot", {}))
    return evaluate_command(str(run.path), protocol, None, options)
