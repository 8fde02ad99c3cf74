"""Configurations and results saved by versions before 0.2, with today's names."""

from __future__ import annotations

import shlex
from copy import deepcopy
from typing import Any

from vlfew.core.renamed import KEYS, OPTIONS, current_value, current_values

_RESULT_FIELDS = {
    "asked": "options",
    "classes_left_out": "skipped_classes",
    "pictures_accuracy": "image_accuracy",
    "pictures_ci95": "image_ci95",
    "words_accuracy": "text_accuracy",
    "words_ci95": "text_ci95",
}


def upgrade_config(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration with today's keys, values and component names."""
    values = deepcopy(values)
    for old, new in KEYS.items():
        *sections, key = old.split(".")
        holder: Any = values
        for section in sections:
            holder = holder.get(section) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and key in holder:
            _set(values, new.split("."), holder.pop(key))
    if isinstance(values.get("model_selection"), dict):
        values["model_selection"] = _upgrade_options(values["model_selection"])
    values["evaluate"] = [_upgrade_options(entry) for entry in values.get("evaluate") or []]
    return {k: current_values(v) if isinstance(v, dict) else v for k, v in values.items()}


def upgrade_result(entry: dict[str, Any]) -> dict[str, Any]:
    """A result with today's protocol, options, fields and command; a current one is returned as it is."""
    if "asked" not in entry:
        return entry
    new = {_RESULT_FIELDS.get(key, key): value for key, value in _upgrade_options(entry).items()}
    new["options"] = _upgrade_options(new["options"], entry["protocol"])
    new["command"] = upgrade_command(entry.get("command", ""))
    return new


def upgrade_command(command: str) -> str:
    """`vlfew evaluate RUN --protocol P ...` as `vlfew evaluate P RUN ...`, with today's flags."""
    words = shlex.split(command)
    if words[:2] != ["vlfew", "evaluate"] or "--protocol" not in words:
        return command
    at = words.index("--protocol")
    protocol = words[at + 1]
    rest, new = iter(words[3:at] + words[at + 2 :]), list[str]()
    settings: list[str] = []
    key = ""
    for word in rest:
        if word == "--set":
            name, _, value = next(rest).partition("=")
            setting = KEYS.get(f"data.{name}", f"data.{name}")
            settings.append(f"{setting}={current_value(setting.partition('.')[2], value)}")
        elif word.startswith("--"):
            key = _upgrade_option(word[2:].replace("-", "_"), protocol)
            new.append("--" + key.replace("_", "-"))
        else:
            new.append(str(current_value(key, word)))
    name = current_value("protocol", protocol)
    return shlex.join(["vlfew", "evaluate", name, words[2], *new, *settings])


def _upgrade_options(options: dict[str, Any], protocol: str = "") -> dict[str, Any]:
    """A protocol's options, and its name where they hold it, with today's keys and values."""
    protocol = options.get("protocol", protocol)
    return current_values({_upgrade_option(key, protocol): value for key, value in options.items()})


def _upgrade_option(key: str, protocol: str) -> str:
    names = OPTIONS.get(key, (key,))
    return names[-1] if protocol == "verification" else names[0]


def _set(values: dict[str, Any], path: list[str], value: Any) -> None:
    *sections, key = path
    if len(sections) == 2 and value is None:  # an optional section that was off
        (*sections, key) = sections
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = value
