"""How results are written, on pages and in the terminal alike."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vlfew.evaluation.adaptation.result import AdaptationResult, Estimate
from vlfew.evaluation.results import Result

EXTRAS = {
    "top5": "top-5",
    "known_names": "known names",
    "new_names": "new names",
    "image_accuracy": "images only",
    "text_accuracy": "text only",
    "auc": "AUC",
    "eer": "EER",
    "tar_at_far_0.01": "TAR at FAR 1%",
    "tar_at_far_0.001": "TAR at FAR 0.1%",
    "dir_at_fpir_0.1": "DIR at FPIR 10%",
    "dir_at_fpir_0.01": "DIR at FPIR 1%",
}
"""Further figures of the protocols, by their keys."""


def percent(fraction: float, digits: int = 2) -> str:
    """`0.9153` as `91.53`."""
    return f"{100 * fraction:.{digits}f}"


def accuracy(result: Result) -> str:
    """`91.53 ± 0.41`, in percent; see `interval`."""
    return f"{percent(result.accuracy)} {interval(result)}"


def interval(result: Result, digits: int = 2) -> str:
    """The 95% interval of the accuracy, see `half_width`; or `(no interval: one episode)`."""
    if result.ci95 is None:
        return f"(no interval: {result.interval_unit})"
    return half_width(result.accuracy, result.ci95, digits)


def half_width(mean: float, ci95: float, digits: int = 2) -> str:
    """`± 0.41`, in percent; `(82.10 to 100.00)` where the interval would exceed 0 or 100."""
    low, high = mean - ci95, mean + ci95
    if low >= 0 and high <= 1:
        return f"± {percent(ci95, digits)}"
    return f"({percent(max(low, 0.0), digits)} to {percent(min(high, 1.0), digits)})"


def figure(found: Estimate | None) -> str:
    """`91.53 ± 0.41`, in percent; a dash where there is none."""
    if found is None:
        return "–"
    return percent(found.mean) + ("" if found.ci95 is None else f" {half_width(found.mean, found.ci95)}")


def outside_data(result: Result | AdaptationResult) -> str:
    """`ImageNet-1k (contains the test images)`, or `no`."""
    overlap = result.outside_data_overlap
    return (result.outside_data or "no") + (f" ({overlap})" if overlap else "")


def setting(result: Result) -> str:
    """`20-way 1-shot`, `all 884 classes`."""
    ways, shots = result.get("ways"), result.get("shots")
    repeated = f"{result.get('repeats')} runs" if result.get("repeats") else ""
    if pairs := result.get("pairs"):
        folds = len(result.get("fold_accuracies") or ())
        parts = [f"{pairs:,} pairs", f"{folds} folds" if folds else "", repeated, result.protocol_class]
        return ", ".join(filter(None, parts))
    if texts := result.get("texts"):
        return ", ".join(filter(None, [f"{result.get('images'):,} images, {texts:,} texts", repeated]))
    if people := result.get("enrolled_identities"):
        return f"{people:,} enrolled, {result.get('stranger_identities'):,} strangers"
    if ways is None:
        return "-"
    if result.get("probes"):
        return f"{ways:,} enrolled, {result.get('unknown', 0):,} unknown, {shots}-shot"
    # Against all classes every image is classified once, and the result has the number of images.
    classes = f"{ways:,}-way" if result.get("images") is None else f"all {ways:,} classes"
    left_out, support = result.get("skipped_classes"), result.get("support_split")
    parts = [
        f"{classes} {shots}-shot" if shots else classes,
        f"support from {support}" if support else "",
        f"{left_out:,} small classes skipped" if left_out else "",
        repeated,
    ]
    return ", ".join(filter(None, parts))


def title(result: Result, own_setting: str | None = None) -> str:
    """`few-shot 20-way 1-shot on glyphs / test`, with another setting where one is given."""
    shown = setting(result) if own_setting is None else own_setting
    return f"{result.protocol}{'' if shown == '-' else ' ' + shown} on {result.data} / {result.split}"


def chance(result: Result) -> float | None:
    """Accuracy of guessing, a fraction."""
    ways = result.get("ways")
    recorded: float | None = result.get("chance")
    return recorded if recorded is not None else 1 / ways if ways else None


def chance_percent(result: Result) -> str:
    """In percent, to three digits; `-` where it is not known."""
    value = chance(result)
    return "-" if value is None else f"{100 * value:.3g}"


def extras(result: Result) -> list[str]:
    """Further figures of the protocol: `top-5 72.1`, `text only 80.2`."""
    found = [f"standard error {percent(error)}"] if (error := result.get("standard_error")) else []
    values = {label: result.get(key) for key, label in EXTRAS.items()}
    found += [f"{label} {percent(value, 1)}" for label, value in values.items() if value is not None]
    for way, label in (("text_to_image", "text to image"), ("image_to_text", "image to text")):
        if result.get(f"{way}_r1") is not None:
            recalls = ", ".join(percent(result.get(f"{way}_r{k}"), 1) for k in (1, 5, 10))
            found.append(f"{label} R@1, 5, 10: {recalls}; median rank {result.get(f'{way}_median_rank'):g}")
    for name in ("far", "fpir", "far_normalized", "fpir_normalized"):
        if (measured := result.get(f"{name}_measured")) is not None:
            rate, _, normalized = name.partition("_")
            target = 100 * result.get(f"{rate}_target")
            label = rate.upper() + " with AS-norm" * bool(normalized)
            found.append(
                f"{label}: target {target:g}, {percent(measured)} measured, "
                f"{result.get(f'{name}_inside')} of {result.get('halvings')} as predicted, "
                f"FRR {percent(result.get(f'{name}_frr'), 1)}"
            )
    for rate, key in (("1%", "far_0.01_refused"), ("0.1%", "far_0.001_refused")):
        found += [f"TAR at FAR {rate}: too few pairs"] if result.get(key) else []
    return found


def duration(seconds: float) -> str:
    """`5 min 12 s`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = {"h": hours, "min": minutes, "s": 0 if hours else left}
    return " ".join(f"{count} {unit}" for unit, count in parts.items() if count) or "0 s"


def input_size(shape: Sequence[int]) -> str:
    """`84 × 84 pixels, color`, of `[C, H, W]`."""
    channels, height, width = shape
    return f"{width} × {height} pixels, {'gray' if channels == 1 else 'color'}"


def spaced(name: str) -> str:
    """An identifier as text: `tip_adapter` as `tip adapter`."""
    return name.replace("_", " ")


def anchor(title: str) -> str:
    """What links to a section of the page point to."""
    return title.lower().replace(" ", "-")


def unique_notes(notes: Iterable[str]) -> list[str]:
    """The parts of notes that are joined by semicolons, each once."""
    return list(dict.fromkeys(part for note in notes for part in note.split("; ") if part))


def option_value(value: Any) -> str:
    """A value of a configuration: text as it is, numbers in short, everything else as JSON."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def parameter_counts(counts: tuple[int, int] | None) -> str:
    """`1,078 trained, 22,565 frozen`, without those of which there are none."""
    named = zip(counts or (), ("trained", "frozen"), strict=False)
    return ", ".join(f"{n:,} {kind}" for n, kind in named if n) or "-"
