"""What is known about the overlap of evaluated data with the data that pretrained weights come from."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.core.plurals import first_names
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders.pretraining_data import class_names, contains, labeled_data, normalized


def overlap(outside_data: str, data: LabeledImages, split: str | None) -> str:
    """What a reader of a result must know of the outside data.

    Args:
        outside_data: by name, as a model has it.
        data: that the model is evaluated on.
        split: the evaluated one.

    Returns:
        `contains the test images`; or which classes of the split have the name of a class of the outside data; or ""
        where nothing is known: the outside data are not labeled by names, or the classes have no names but codes.
    """
    if data.images_from and contains(outside_data, data.images_from):
        return "contains the test images"
    labeled = labeled_data(outside_data)
    if not labeled or split is None or split not in data.splits:
        return ""
    evaluated = data.classes(split).tolist()
    of = " or ".join(labeled)
    known = known_by_name(outside_data, data, evaluated)
    found = [data.class_names[number] for number, one in zip(evaluated, known, strict=True) if one]
    if found:
        return f"{len(found):,} of {len(evaluated):,} classes have the name of a class of {of}: {first_names(found)}"
    if not any(data.class_texts[number] for number in evaluated):
        return ""
    return f"none of {len(evaluated):,} classes has the name of a class of {of}"


def known_by_name(outside_data: str, data: LabeledImages, classes: Sequence[int]) -> list[bool]:
    """Whether each of some classes has the name of a class of the outside data, where those are labeled by names."""
    known = frozenset[str]().union(*map(class_names, labeled_data(outside_data)))
    return [
        not known.isdisjoint(map(normalized, (data.class_names[number], *data.class_texts[number])))
        for number in classes
    ]
