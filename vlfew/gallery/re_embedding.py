"""Enrolled items, embedded again by another model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted, first_names
from vlfew.gallery.encoding import to_rows, unit_length
from vlfew.gallery.images import read
from vlfew.gallery.store import ItemRow
from vlfew.models.dual_stream import DualStream

PART = 256
"""Items that are embedded at a time."""


def in_parts(items: Sequence[ItemRow]) -> Iterator[Sequence[ItemRow]]:
    for start in range(0, len(items), PART):
        yield items[start : start + PART]


def embed_again(
    model: DualStream, items: Sequence[ItemRow], content: Callable[[int], bytes | None], store: str
) -> dict[int, bytes]:
    """The embeddings of items by another model.

    Args:
        model: encodes them.
        items: without their images.
        content: the image of an item, where the gallery keeps it.
        store: name of the gallery, for messages.

    Raises:
        DataError: items that no file and no text is left of; names them.
        ModelError: texts for a model without a text encoder.
    """
    texts = [item for item in items if item.kind == "text"]
    if without := [item for item in texts if not item.text]:
        raise DataError(
            f"item {without[0].id} was enrolled as an embedding, which no other model can make; remove it first: "
            f"vlfew gallery remove {store} --item {without[0].id}"
        )
    found: dict[int, bytes] = {}
    if texts:
        names = [item.text for item in texts]
        rows = to_rows(unit_length(model.encode_text(names), names))
        found |= {item.id: row for item, row in zip(texts, rows, strict=True)}
    images, problems, pixels = [item for item in items if item.kind == "image"], [], []
    for item in images:
        try:
            pixels.append(_read_again(item, content(item.id), model))
        except DataError as error:
            problems.append(f"item {item.id} ({error})")
    if problems:
        raise DataError(
            f"{counted(len(problems), 'image')} cannot be embedded again, and nothing was changed: "
            f"{first_names(problems, 3)}; put the files back, or remove the items (vlfew gallery remove "
            f"{store} --item ID)"
        )
    if images:
        embedding = model.encode_image(torch.stack(pixels))
        rows = to_rows(unit_length(embedding, [f"item {item.id}" for item in images]))
        found |= {item.id: row for item, row in zip(images, rows, strict=True)}
    return found


def _read_again(item: ItemRow, content: bytes | None, model: DualStream) -> Tensor:
    """The pixels of an enrolled image, from the gallery or from its file."""
    from PIL import Image

    preprocessor = model.spec.preprocessor()
    if content is not None:
        return read(Image.open(BytesIO(content)), item.id, preprocessor).pixels
    if not item.source:
        raise DataError("it was not enrolled from a file")
    again = read(Path(item.source), item.id, preprocessor)
    if again.digest != item.digest:
        raise DataError(f"{item.source} has changed since")
    return again.pixels
