"""Calibrations of published models, measured beforehand, for galleries with too few images of their own.

`scripts/reference_calibrations.py` makes them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from vlfew.evaluation.templates import Combine
from vlfew.gallery.calibration import Calibration

FILE = Path(__file__).with_name("reference_calibrations.json")
FARS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
FPIRS = (0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Rates that there are thresholds for."""


def reference_calibration(
    fingerprint: str, combine: Combine, far: float | None, fpir: float | None
) -> Calibration | None:
    """The calibration for the highest rate that is not above the one asked for.

    Args:
        fingerprint: of the model.
        combine: the gallery's rule for several images.
        far, fpir: one of them is asked for.

    Returns:
        None where the model has none, or none for so low a rate.
    """
    rate = far if fpir is None else fpir
    assert rate is not None
    of_rule = _read().get(fingerprint, {}).get(combine, [])
    known = [Calibration.from_json(stored) for stored in of_rule]
    fitting = [
        one
        for one in known
        if one is not None
        and (one.threshold.gallery_size is None) == (fpir is None)
        and one.threshold.target <= rate
    ]
    return max(fitting, key=lambda one: one.threshold.target, default=None)


@cache
def _read() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Calibrations by fingerprint and rule."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = json.loads(FILE.read_text("utf-8"))
    return found
