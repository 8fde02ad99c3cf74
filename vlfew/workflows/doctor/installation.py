"""Versions, device and cache."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

import torch

from vlfew.core.plurals import counted
from vlfew.data.data_root import cache_dir
from vlfew.training.hardware import available_cores, resolve_precision
from vlfew.workflows.doctor.finding import Finding

FREE_BYTES = 2**30
"""Less free space than this is a note."""


def check_installation() -> Iterator[Finding]:
    """Versions, device and cache."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("vlfew") or ()]
    except PackageNotFoundError:
        yield Finding("problem", "versions", "vlfew is not installed: pip install -e . in its folder")
        return
    shown, wrong = [], []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
        if requirement.name in ("torch", "torchvision", "transformers"):
            shown.append(f"{requirement.name} {found}")
    yield Finding(
        "ok", "versions", f"vlfew {version('vlfew')}, Python {platform.python_version()}, {', '.join(shown)}"
    )
    if wrong:
        yield Finding("problem", "versions", f"{'; '.join(wrong)}: pip install --upgrade vlfew")
    missing = [extra for extra, packages in _extras(wanted).items() if not all(map(_installed, packages))]
    if missing:
        yield Finding("ok", "extras", f"not installed: {', '.join(missing)} (pip install 'vlfew[EXTRA]')")
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    cores = counted(available_cores(), "CPU core")
    yield Finding(
        "ok",
        "device",
        f"{', '.join(devices) or 'no GPU'}, {cores}, precision auto is {resolve_precision('auto')!r}",
    )
    place = cache_dir()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding(
            "note",
            "cache",
            f"{place} cannot be written: images are decoded at every start (set XDG_CACHE_HOME)",
        )
        return
    free = shutil.disk_usage(existing).free
    yield Finding("note" if free < FREE_BYTES else "ok", "cache", f"{place}, {free / 2**30:,.1f} GiB free")


def _extras(wanted: Sequence[object]) -> dict[str, list[str]]:
    """Extra to the packages that it installs."""
    extras: dict[str, list[str]] = {}
    for requirement in wanted:
        marker = str(getattr(requirement, "marker", ""))
        if "extra ==" in marker:
            extra = marker.rpartition("==")[2].strip(" '\"")
            extras.setdefault(extra, []).append(str(getattr(requirement, "name", "")))
    return extras


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
