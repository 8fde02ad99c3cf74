"""Configurations as flat `dotted.key: value` mappings, and how two of them differ."""

from __future__ import annotations

from typing import Any

from vlfew.core.config import Config


def flat_values(config: Config) -> dict[str, Any]:
    """Every value by its dotted key (`optim.lr`, `objective.0.weight`); a list of plain values is one value."""

    def flat(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            items = list(enumerate(value))
        else:
            return {path: value}
        nested: dict[str, Any] = {}
        for key, item in items:
            nested |= flat(item, f"{path}.{key}" if path else str(key))
        return nested

    return flat(config.model_dump(mode="json"), "")


def config_differences(old: Config, new: Config) -> list[str]:
    """One `key: old -> new` for every value that differs."""
    return differences(flat_values(old), flat_values(new))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The same for flat mappings."""
    return [
        f"{key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
        for key in old | new
        if old.get(key) != new.get(key)
    ]
