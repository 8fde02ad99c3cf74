"""How training went: what `log.jsonl` says, as charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vlfew.config import Config
from vlfew.report.charts import Line, Mark, line_chart
from vlfew.report.markup import Html, element, paragraph
from vlfew.report.wording import percent

POINTS = 240
"""Most points drawn of a curve; longer logs are averaged."""
KNOWN = {"step", "loss", "lr", "images_per_second", "seconds", "validation"}


def draw_curves(log: Sequence[dict[str, Any]], weights: dict[str, float]) -> Html:
    """Losses, validation accuracy, learning rate and throughput against the step.

    Args:
        log: entries of `log.jsonl`.
        weights: of the loss terms, for their labels.
    """
    steps = [entry for entry in log if "loss" in entry]
    validated = [entry for entry in log if "validation" in entry]
    charts = [c for c in (_losses(steps, weights), _validation(validated)) if c]
    for key, title in (("lr", "Learning rate"), ("images_per_second", "Throughput, pictures per second")):
        x, y = points(steps, key)
        if x:
            charts.append(line_chart(title, [Line(*thin(x, y), colour=0)], from_zero=True))
    if not charts:
        return paragraph("No curves: log.jsonl holds no training steps.")
    return element("div", *charts, class_="charts")


def loss_terms(log: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the loss terms that were trained on at any time, as they came, numbered by the objective."""
    keys = dict.fromkeys(key for entry in log if "loss" in entry for key in entry)
    return [key for key in keys if key not in KNOWN]


def loss_weights(config: Config) -> dict[str, float]:
    """Weight of each term by the name it has in the log ("contrastive#2"), the fallback among them."""
    weights: dict[str, float] = {}
    for loss in (*config.objective, config.fallback):
        times = sum(used.partition("#")[0] == loss.loss for used in weights)
        weights[f"{loss.loss}#{times + 1}" if times else loss.loss] = loss.weight
    return weights


def smooth(values: Sequence[float]) -> list[float]:
    """Mean over a window of about a twelfth of the curve around each point."""
    half = len(values) // 24
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [math.fsum(window) / len(window) for window in windows]


def _losses(steps: Sequence[dict[str, Any]], weights: dict[str, float]) -> Html | None:
    terms = loss_terms(steps)
    shown = ["loss", *terms] if len(terms) > 1 else ["loss"]
    lines = []
    for number, key in enumerate(shown):
        x, y = thin(*points(steps, key))
        if not x:
            continue
        weight = weights.get(key, 1.0)
        times = f"{weight:g} × " if weight != 1 and key != "loss" else ""
        name = "sum" if key == "loss" and terms[1:] else (terms or [key])[0] if key == "loss" else key
        smoothed = smooth(y)
        label = f"{times}{name.replace('_', ' ')} {smoothed[-1]:.2f}"
        lines.append(Line(x, smoothed, label, number - 1 if number else None, raw=y))
    return line_chart("Training loss", lines) if lines else None


def _validation(entries: Sequence[dict[str, Any]]) -> Html | None:
    if not entries:
        return None
    x = [float(entry["step"]) for entry in entries]
    y = [float(entry["validation"]["accuracy"]) for entry in entries]
    best = max(range(len(y)), key=lambda i: (y[i], -i))
    about = entries[best]["validation"]
    mark = Mark(x[best], y[best], f"kept: step {x[best]:,.0f}, {percent(y[best], 1)}%")
    title = f"Validation accuracy, {about['protocol']} on {about.get('split', 'val')}"
    return line_chart(title, [Line(x, y, colour=2, dots=True)], y_text=lambda v: f"{100 * v:g}%", mark=mark)


def points(entries: Sequence[dict[str, Any]], key: str, x: str = "step") -> tuple[list[float], list[float]]:
    """`(x, key)` of the entries that say both, in numbers."""
    found = [(float(e[x]), float(e[key])) for e in entries if key in e and x in e]
    finite = [(at, y) for at, y in found if math.isfinite(y)]
    return [at for at, _ in finite], [y for _, y in finite]


def thin(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """Means of neighbours, so that at most `POINTS` are left; each stands at its last step."""
    group = -(-len(x) // POINTS) or 1
    means = [math.fsum(part) / len(part) for part in (y[i : i + group] for i in range(0, len(y), group))]
    return [x[min(i + group, len(x)) - 1] for i in range(0, len(x), group)], means
