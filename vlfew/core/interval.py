"""What an interval is over, said of a result and of what is kept of one alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def interval_unit(told: Mapping[str, Any]) -> str:
    """`1,000 episodes`, `884 classes`, `10 folds` or `3 runs`, of a result's fields.

    `interval` is the protocol's own word for it (`over classes, as clusters of images`).
    """
    if runs := told.get("repeats"):
        return f"{runs:,} runs"
    over = (told.get("interval") or "over episodes").removeprefix("over ").partition(",")[0]
    return f"{len(told.get('fold_accuracies') or ()) or told['episodes']:,} {over}"
