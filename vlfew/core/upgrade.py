"""Configurations and results saved by versions before 0.2, with today's names."""

from __future__ import annotations

import shlex
from copy import deepcopy
from typing import Any

from vlfew.core.renamed import COMPONENTS, KEYS, OPTIONS, VALUES

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
        section, _, key = old.rpartition(".")
        holder = _section(values, section)
        if isinstance(holder, dict) and key in holder:
            _set(values, new.split("."), holder.pop(key))
    for name, entries in (("evaluate", values.get("evaluate") or []), ("model_selection", None)):
        if entries is not None:
            values[name] = [_upgrade_protocol(entry) for entry in entries]
        elif isinstance(values.get(name), dict):
            values[name] = _upgrade_protocol(values[name])
    for path, renames in VALUES.items():
        section, _, key = path.rpartition(".")
        holder = _section(values, section) if section else None
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = renames.get(holder[key], holder[key])
    return values


def upgrade_result(entry: dict[str, Any]) -> dict[str, Any]:
    """A result with today's protocol, options, fields and command; a current one is returned as it is."""
    if "asked" not in entry:
        return entry
    protocol = entry["protocol"]
    new = {_RESULT_FIELDS.get(key, key): value for key, value in _upgrade_options(protocol, entry).items()}
    new["options"] = _upgrade_options(protocol, new["options"])
    new["protocol"] = COMPONENTS["protocol"].get(protocol, protocol)
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
    for word in rest:
        if word == "--set":
            settings.append(_upgrade_setting(next(rest)))
        elif word == "--template":
            new.append("--templates")
        elif word.startswith("--"):
            (key,) = _upgrade_options(protocol, {word[2:].replace("-", "_"): None})
            new.append("--" + key.replace("_", "-"))
        else:
            key = new[-1][2:].replace("-", "_") if new else ""
            new.append(str(_upgrade_value(key, word)))
    name = COMPONENTS["protocol"].get(protocol, protocol)
    return shlex.join(["vlfew", "evaluate", name, words[2], *new, *settings])


def _upgrade_protocol(entry: dict[str, Any]) -> dict[str, Any]:
    protocol = entry["protocol"]
    return _upgrade_options(protocol, entry) | {"protocol": COMPONENTS["protocol"].get(protocol, protocol)}


def _upgrade_options(protocol: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of a protocol with today's keys and values."""
    new: dict[str, Any] = {}
    for key, value in options.items():
        if key == "scorer" and protocol == "verification":
            key = "similarity"
        key = OPTIONS.get(key, key).partition(" ")[0]
        new[key] = _upgrade_value(key, value)
    return new


def _upgrade_value(key: str, value: Any) -> Any:
    renames = {**VALUES.get(key, {}), **(COMPONENTS["method"] if key == "method" else {})}
    return renames.get(value, value) if isinstance(value, str) else value


def _upgrade_setting(setting: str) -> str:
    """`data.center_crop=0.6` of `center=0.6`."""
    name, _, value = setting.partition("=")
    key = KEYS.get(f"data.{name}", f"data.{name}")
    return f"{key}={VALUES.get(key, {}).get(value, value)}"


def _section(values: dict[str, Any], path: str) -> Any:
    holder: Any = values
    for step in path.split(".") if path else []:
        holder = holder.get(step) if isinstance(holder, dict) else None
    return holder


def _set(values: dict[str, Any], path: list[str], value: Any) -> None:
    *sections, key = path
    if len(sections) == 2 and value is None:  # an optional section that was off
        (*sections, key) = sections
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = value
