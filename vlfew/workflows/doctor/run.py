"""How far a run is, its model and its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from vlfew.core.config_file import load_saved_config
from vlfew.core.errors import VlfewError
from vlfew.core.plurals import counted
from vlfew.data.labeled_images import LabeledImages
from vlfew.models.dual_stream import DualStream
from vlfew.training.checkpoint import latest_checkpoint, load_checkpoint
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.assemble import load_data_of
from vlfew.workflows.doctor.data import check_data
from vlfew.workflows.doctor.finding import Finding, Level
from vlfew.workflows.doctor.model import check_model


def check_run(run: RunFolder) -> Iterator[Finding]:
    """How far a run is, its model and its data."""
    try:
        config, members = load_saved_config(run.config), run.members
    except VlfewError as error:
        yield from (Finding("problem", "run", line) for line in str(error).splitlines())
        yield from _state_and_model(run)[0]
        return
    models = []
    for one in members or [run]:
        findings, model = _state_and_model(one)
        models.append(model)
        # Of a repeated run, what is not as it should be.
        yield from (finding for finding in findings if not members or finding.level != "ok")
    if members:
        states = Counter(member.state for member in members)
        by_state = ", ".join(f"{count} {state}" for state, count in states.items())
        level: Level = "ok" if set(states) == {"finished"} else "note"
        yield Finding(level, "run", f"{counted(len(members), 'run')}: {by_state}")
    trained = next((model for model in models if model is not None), None)

    def read(on_bad_image: Literal["error", "skip"]) -> LabeledImages:
        data = config.data.model_copy(update={"on_bad_image": on_bad_image})
        return load_data_of(config.model_copy(update={"data": data, "repeat": None}))

    yield from check_data(
        read,
        lambda: None if trained is None else trained.text_encoder,
        fingerprint=None if members or trained is None else trained.metadata.get("data_fingerprint"),
        trained=True,
    )


def _state_and_model(run: RunFolder) -> tuple[list[Finding], DualStream | None]:
    """How far a run is, and its model."""
    newest, has_config = latest_checkpoint(run.checkpoints), run.config.is_file()
    how = f"go on with: {run.command}" if has_config else "give it back its config.yaml to go on"
    states: dict[str, tuple[Level, str]] = {
        "finished": ("ok", "is finished"),
        "trained": ("note", f"is trained, without results; {how}"),
        "unfinished": ("note", f"is unfinished, with checkpoint {newest}; {how}"),
        "new": ("note", f"has neither a model nor a checkpoint; {how.replace('go on', 'start')}"),
    }
    level, text = states[run.state]
    found = [Finding(level, "run", f"{run.path} {text}")]
    if run.state in ("trained", "finished"):
        findings, model = check_model(str(run.path))
        return found + findings, model
    try:
        if newest is not None:
            load_checkpoint(run.checkpoints, newest, {})
    except VlfewError as error:
        found.append(Finding("problem", "run", str(error)))
    return found, None
