"""How a result is said to people, on the page and in the terminal alike."""

from __future__ import annotations

from vlfew.evaluation.results import Result


def percent(fraction: float, digits: int = 2) -> str:
    """`0.9153` as `91.53`."""
    return f"{100 * fraction:.{digits}f}"


def accuracy(result: Result) -> str:
    """`91.53 ± 0.41`, in percent; see `interval`."""
    return f"{percent(result.accuracy)} {interval(result)}"


def interval(result: Result, digits: int = 2) -> str:
    """See `half_width`."""
    return half_width(result.accuracy, result.ci95, digits)


def half_width(mean: float, ci95: float, digits: int = 2) -> str:
    """`± 0.41`, in percent; `(82.10 to 100.00)` where the interval would go on beyond what there can be."""
    low, high = mean - ci95, mean + ci95
    if low >= 0 and high <= 1:
        return f"± {percent(ci95, digits)}"
    return f"({percent(max(low, 0.0), digits)} to {percent(min(high, 1.0), digits)})"


def setting(result: Result) -> str:
    """`20-way 1-shot`, `all 884 classes`."""
    ways, shots = result.get("ways"), result.get("shots")
    repeated = f"{result.get('repeats')} runs" if result.get("repeats") else ""
    if pairs := result.get("pairs"):
        folds = len(result.get("fold_accuracies") or ())
        parts = [f"{pairs:,} pairs", f"{folds} folds" if folds else "", repeated, result.protocol_class]
        return ", ".join(filter(None, parts))
    if texts := result.get("texts"):
        told = f"{result.get('pictures'):,} pictures, {texts:,} texts"
        return ", ".join(filter(None, [told, repeated]))
    if ways is None:
        return "-"
    if result.get("probes"):
        return f"{ways:,} enrolled, {result.get('unknown', 0):,} unknown, {shots}-shot"
    # Against all classes every picture is scored once, and the protocol says how many there were.
    among = f"{ways:,}-way" if result.get("pictures") is None else f"all {ways:,} classes"
    told = f"{among} {shots}-shot" if shots else among
    left_out = result.get("classes_left_out")
    small = f"{left_out:,} small classes left out" if left_out else ""
    support = result.get("support_split")
    apart = f"support from {support}" if support else ""
    return ", ".join(filter(None, [told, apart, small, repeated]))


def title(result: Result, said: str | None = None) -> str:
    """`few-shot 20-way 1-shot on glyphs / test`; `said` stands for the setting."""
    said = setting(result) if said is None else said
    return f"{result.protocol}{'' if said == '-' else ' ' + said} on {result.data} / {result.split}"


def chance(result: Result) -> float | None:
    """Accuracy of guessing, a fraction."""
    ways = result.get("ways")
    told: float | None = result.get("chance")
    return told if told is not None else 1 / ways if ways else None


def chance_percent(result: Result) -> str:
    """In percent, to three digits; `-` where it is not known."""
    value = chance(result)
    return "-" if value is None else f"{100 * value:.3g}"


def extras(result: Result) -> list[str]:
    """Further figures of the protocol: `top-5 72.1`, `words alone 80.2`."""
    known = {
        "top5": "top-5",
        "pictures_accuracy": "pictures alone",
        "words_accuracy": "words alone",
        "auc": "AUC",
        "eer": "EER",
        "tar_at_far_0.01": "TAR at FAR 1%",
        "tar_at_far_0.001": "TAR at FAR 0.1%",
        "dir_at_fpir_0.1": "DIR at FPIR 10%",
        "dir_at_fpir_0.01": "DIR at FPIR 1%",
    }
    found = {label: result.get(key) for key, label in known.items()}
    told = [f"{label} {percent(value, 1)}" for label, value in found.items() if value is not None]
    for way, label in (("text_to_image", "text to picture"), ("image_to_text", "picture to text")):
        if result.get(f"{way}_r1") is not None:
            recalls = ", ".join(percent(result.get(f"{way}_r{k}"), 1) for k in (1, 5, 10))
            told.append(f"{label} R@1, 5, 10: {recalls}; median rank {result.get(f'{way}_median_rank'):g}")
    for rate, key in (("1%", "far_0.01_refused"), ("0.1%", "far_0.001_refused")):
        told += [f"TAR at FAR {rate}: too few pairs"] if result.get(key) else []
    if error := result.get("standard_error"):
        told.insert(0, f"standard error {percent(error, 2)}")
    return told


def duration(seconds: float) -> str:
    """`5 min 12 s`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = {"h": hours, "min": minutes, "s": 0 if hours else left}
    return " ".join(f"{count} {unit}" for unit, count in parts.items() if count) or "0 s"


def counted(number: int, noun: str) -> str:
    """`1 picture`, `7,327 pictures`, `3 classes`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
