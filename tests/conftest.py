"""Shared small things: the data root, tiny data sets."""

from __future__ import annotations

import os
import signal
import tarfile
from pathlib import Path

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # Each test process has a core of its own, and what it starts shares that; set before libraries count the cores.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

import pytest
import torch
from hypothesis import settings

from vlfew.data.labeled_images import InMemory, LabeledImages

# Tests never reach a hub: what they use is made here or installed.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
# How long an example takes says how busy the machine is, not whether the code is right.
# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples at each run, so that a change fails for its own reasons; new ones are tried with VLFEW_FUZZ.
settings.register_profile("default", deadline=None, derandomize="VLFEW_FUZZ" not in os.environ)
settings.load_profile("default")


def real_data(*parts: str) -> Path:
    """A path under the data root; skips the test when it is not there."""
    root = os.environ.get("VLFEW_DATA")
    if not root:
        pytest.skip("VLFEW_DATA is not set: real data are not at hand")
    path = Path(root).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not under VLFEW_DATA")
    return path


def part_of_lfw(source: Path, folder: Path, pairs: int = 30) -> None:
    """LFW with the first pairs of each kind in each fold, the people in them, and up to four images of each."""
    folder.mkdir()
    lines = (source / "pairs.txt").read_text().splitlines()
    folds, size = map(int, lines[0].split())
    starts = range(1, 2 * folds * size, size)  # of the same and the different pairs of each fold
    kept = [line for start in starts for line in lines[start : start + pairs]]
    (folder / "pairs.txt").write_text("\n".join([f"{folds}\t{pairs}", *kept]))
    named = set()
    for fields in (line.split() for line in kept):
        named |= {
            (fields[0], int(fields[1])),
            (fields[-2] if len(fields) == 4 else fields[0], int(fields[-1])),
        }
    people = {person for person, _ in named}
    sets: list[list[str]] = []
    for line in (source / "people.txt").read_text().splitlines()[1:]:
        if "\t" not in line:
            sets.append([])
        elif line.split()[0] in people:
            sets[-1].append(line)
    (folder / "people.txt").write_text(
        "\n".join([str(folds), *(row for own in sets for row in (str(len(own)), *own))])
    )
    with (
        tarfile.open(source / "lfw-deepfunneled.tar") as whole,
        tarfile.open(folder / "lfw-deepfunneled.tar", "w") as few,
    ):
        for member in whole:
            person, _, number = Path(member.name).stem.rpartition("_")
            if member.isfile() and person in people and ((person, int(number)) in named or int(number) <= 4):
                few.addfile(member, whole.extractfile(member))


def make_data(
    classes: int = 12, images: int = 6, size: int = 16, has_text: bool = True, groups: int | None = None
) -> LabeledImages:
    """Images that a tiny model can classify: each class is a pattern, each image adds noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(classes, 1, size, size, generator=generator)
    noise = torch.rand(classes, images, 1, size, size, generator=generator)
    tensor = (255 * (0.8 * patterns[:, None] + 0.2 * noise)).to(torch.uint8).flatten(0, 1)
    labels = torch.arange(classes).repeat_interleave(images)
    part = torch.arange(classes) % 3
    names = tuple(f"word{c} thing" if has_text else f"s{c}" for c in range(classes))
    return LabeledImages(
        name="tiny",
        images=InMemory(tensor),
        labels=labels,
        class_names=names,
        class_texts=tuple((name,) for name in names) if has_text else (),
        splits={
            name: (part[labels] == p).nonzero().flatten() for p, name in enumerate(("train", "val", "test"))
        },
        fingerprint="tiny",
        class_group=None if groups is None else torch.arange(classes) // 3 % groups,
        group_names=() if groups is None else tuple(f"g{g}" for g in range(groups)),
        source_id=torch.arange(images).repeat(classes),
    )


@pytest.fixture
def tiny() -> LabeledImages:
    return make_data()
