"""Writers that are killed: what was acknowledged is there, the rest is whole or absent, a retry enrolls once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gallery.conftest import SETTINGS
from tests.gallery.crash_writer import ITEMS, request
from tests.training.conftest import ENVIRONMENT
from vlfew.gallery.stores import create_store, open_store

WRITERS = 3
SCRIPT = Path(__file__).with_name("crash_writer.py")


@pytest.mark.parametrize("kills", [0, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_writers(place: str | Path, kills: int) -> None:
    kills = kills or (2 if isinstance(place, Path) else 1)  # writers to Postgres take seconds to start
    rng = random.Random(0)
    create_store(place, SETTINGS).close()
    following = [0] * WRITERS
    acknowledged, removed = set[str](), set[str]()
    for _ in range(kills):
        writers = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(place), str(n), str(following[n])],
                stdout=subprocess.PIPE,
                text=True,
                env=ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
            for n in range(WRITERS)
        ]
        for writer in writers:  # all of them are writing
            assert writer.stdout is not None
            first = writer.stdout.readline()
            assert first
            acknowledged.add(f"{writers.index(writer)}-{int(first)}")
        time.sleep(rng.uniform(0, 0.5))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for n, writer in enumerate(writers):
            assert writer.stdout is not None
            numbers = [
                int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")
            ]
            assert writer.wait() == -signal.SIGKILL
            acknowledged |= {f"{n}-{number}" for number in numbers if number >= 0}
            removed |= {f"{n}-{-number}" for number in numbers if number < 0}
            last = max(int(name.partition("-")[2]) for name in acknowledged if name.startswith(f"{n}-"))
            following[n] = last + 1
        store = open_store(place)
        assert store.check() == []
        there = {row.name: row.images for row in store.identities()}
        assert set(there.values()) <= {ITEMS}  # whole or absent
        # The removal of the last one may have been done and not acknowledged.
        maybe_removed = {f"{n}-{following[n] - 1}" for n in range(WRITERS) if following[n] % 7 == 0}
        assert acknowledged - removed - maybe_removed <= set(there)
        assert not removed & set(there)
        removed |= maybe_removed - set(there)
        for n in range(WRITERS):  # the clients do not know what became of their last request, and repeat it
            again = request(n, following[n])
            (answer,) = store.enroll([again], "f")
            assert answer.images == ITEMS and answer.replayed == (again.name in there)
            (answer,) = store.enroll([again], "f")
            assert answer.replayed and answer.images == ITEMS
            acknowledged.add(again.name)
            following[n] += 1
        names = {row.name for row in store.identities()}
        store.close()
    assert names <= acknowledged and len(names) > WRITERS * kills
