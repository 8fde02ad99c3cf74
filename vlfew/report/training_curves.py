"""The log of a training run as charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vlfew.core.config import Config
from vlfew.report.charts import GRAY, PALETTE, Chart, Series, draw_chart
from vlfew.report.formatting import percent, spaced

POINTS = 240
"""Most points of a curve; longer logs are averaged."""
KNOWN = {"step", "loss", "lr", "images_per_second", "seconds", "validation"}
"""Keys of a log entry that are no loss terms."""


def training_curves(log: Sequence[dict[str, Any]], weights: dict[str, float]) -> list[Chart] | str:
    """Losses, validation accuracy, learning rate and throughput against the step.

    Args:
        log: entries of `log.jsonl`.
        weights: of the loss terms, for their names in the legend.
    """
    steps = [entry for entry in log if "loss" in entry]
    charts = [
        *_losses(steps, weights),
        *_validation([e["validation"] | {"step": e["step"]} for e in log if "validation" in e]),
    ]
    for key, title in (("lr", "Learning rate"), ("images_per_second", "Throughput, images per second")):
        x, y = thin(*points(steps, key))
        if x:
            charts.append(
                draw_chart(title, [Series(spaced(key), x, y, PALETTE[0])], from_zero=True, legend=False)
            )
    return charts or "No curves: log.jsonl has no training steps."


def loss_terms(log: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the loss terms that were trained on at any time, in their order."""
    keys = dict.fromkeys(key for entry in log if "loss" in entry for key in entry)
    return [key for key in keys if key not in KNOWN]


def loss_weights(config: Config) -> dict[str, float]:
    """Weight of each term by its name in the log ("contrastive#2"), including the fallback loss."""
    weights: dict[str, float] = {}
    for loss in (*config.objective, config.fallback_loss):
        times = sum(used.partition("#")[0] == loss.loss for used in weights)
        weights[f"{loss.loss}#{times + 1}" if times else loss.loss] = loss.weight
    return weights


def points(entries: Sequence[dict[str, Any]], key: str, x: str = "step") -> tuple[list[float], list[float]]:
    """`(x, key)` of the entries that have both as finite numbers."""
    found = [(float(e[x]), float(e[key])) for e in entries if key in e and x in e]
    finite = [(at, y) for at, y in found if math.isfinite(y)]
    return [at for at, _ in finite], [y for _, y in finite]


def thin(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Means of neighbors, so that at most `POINTS` are left, each at its last step."""
    group = -(-len(x) // POINTS) or 1
    means = [math.fsum(part) / len(part) for part in (y[i : i + group] for i in range(0, len(y), group))]
    return [x[min(i + group, len(x)) - 1] for i in range(0, len(x), group)], means


def smooth(values: Sequence[float]) -> list[float]:
    """Mean over a window of about a twelfth of the curve around each point."""
    half = len(values) // 24
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def _losses(steps: Sequence[dict[str, Any]], weights: dict[str, float]) -> list[Chart]:
    terms = loss_terms(steps)
    series = []
    for number, key in enumerate(["loss", *terms] if len(terms) > 1 else ["loss"]):
        x, y = thin(*points(steps, key))
        if not x:
            continue
        name = key if key != "loss" else "sum" if len(terms) > 1 else (terms or [key])[0]
        weight = weights.get(key, 1.0) if key != "loss" else 1.0
        times = f"{weight:g} × " if weight != 1 else ""
        smoothed = smooth(y)
        color = PALETTE[(number - 1) % len(PALETTE)] if number else GRAY
        series.append(Series(f"{times}{spaced(name)} {smoothed[-1]:.2f}", x, smoothed, color, raw=y))
    return [draw_chart("Training loss", series)] if series else []


def _validation(entries: Sequence[dict[str, Any]]) -> list[Chart]:
    if not entries:
        return []
    x, y = points(entries, "accuracy")
    best = y.index(max(y))
    saved = f"saved: step {x[best]:,.0f}, {percent(y[best], 1)}%"
    series = [
        Series("validation", x, y, PALETTE[2], marker="circle"),
        Series(saved, [x[best]], [y[best]], PALETTE[1], marker="circle", size=14, hollow=True),
    ]
    protocol, split = entries[best]["protocol"], entries[best].get("split", "val")
    return [draw_chart(f"Validation accuracy, {protocol} on {split}", series, percents=True)]
