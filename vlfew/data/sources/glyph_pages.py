"""glyph_pages: pages of several characters with their boxes, made from glyphs as a function of seed and number.

A page is light, its characters are darker and may cover each other in part, and lines run through it. The characters
are those of `glyphs` with its split: a page of the test split shows test characters alone, so that a detector has seen
none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from vlfew.core.errors import ConfigError
from vlfew.core.progress import progress
from vlfew.core.random import generator_at
from vlfew.data.annotated import AnnotatedImages, object_images, whole_images
from vlfew.data.boxes import Boxes
from vlfew.data.file_hashes import hash_images
from vlfew.data.image_stores import SquareImages
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources.glyphs import GlyphSet, draw_glyphs
from vlfew.data.splits import SPLITS

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

CLASS_SIZE = 32
"""Pixels of the images that decide which characters are one class: those of `glyphs` at its default size."""
FONT_SIZES = 12, 48
"""Smallest and largest size of a character, in pixels of a page."""
LINES = 2, 6
"""Fewest and most lines of a page."""
TRIES = 30
"""Places that are tried for a character before another one is drawn."""


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    train_pages: Annotated[int, Field(ge=1)] = 2000,
    val_pages: Annotated[int, Field(ge=1)] = 200,
    test_pages: Annotated[int, Field(ge=1)] = 500,
    page_size: Annotated[int, Field(ge=96)] = 160,
    min_glyphs: Annotated[int, Field(ge=0)] = 6,
    max_glyphs: Annotated[int, Field(ge=1, le=40)] = 14,
    min_size: Annotated[int, Field(ge=4, le=48)] = 9,
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.45,
    clutter: bool = True,
    crops: bool = False,
    crop_margin: Annotated[float, Field(ge=0)] = 0.15,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Pages of characters with their boxes; page n of a split depends on the split's seed and n alone.

    Args:
        root: a folder of fonts; None for those inside matplotlib.
        preprocessor: size and channels; `preprocessor.seed` draws the split of the characters and the pages.
        train_pages: pages of the training split.
        val_pages: pages of the validation split.
        test_pages: pages of the test split.
        page_size: height and width of a page in pixels, before it is resized.
        min_glyphs: fewest characters on a page.
        max_glyphs: most characters on a page.
        min_size: least length of the longer side of a box in pixels, at `page_size`.
        overlap: largest part of a box that another one may cover.
        clutter: whether lines run through the pages.
        crops: an image of each character, with a label, in place of the pages with boxes.
        crop_margin: around the box of a crop on each side, as a fraction of its longer side.
        memory_limit_mb: larger sets of crops (in MiB) are made on demand.

    Raises:
        ConfigError: fewer characters at most than at least.
        DataError: as `glyphs`.
    """
    if min_glyphs > max_glyphs:
        raise ConfigError(f"data.min_glyphs={min_glyphs} is more than data.max_glyphs={max_glyphs}")
    glyph_set = draw_glyphs(root, CLASS_SIZE)
    painter = PagePainter(
        glyph_set, page_size, (min_glyphs, max_glyphs), min_size, overlap, clutter, preprocessor.seed
    )
    counts = dict(zip(SPLITS, (train_pages, val_pages, test_pages), strict=True))
    wanted = [(split, number) for split, count in counts.items() for number in range(count)]
    drawn = (painter.page(split, number) for split, number in wanted)
    pages = list(progress(drawn, "drawing pages", len(wanted), "pages"))
    pixels = torch.from_numpy(np.stack([page.pixels for page in pages]))
    per_page = torch.tensor([len(page.labels) for page in pages])
    corners = torch.tensor([*chain.from_iterable(page.xyxy for page in pages)], dtype=torch.float32)
    boxes = Boxes(
        corners.reshape(-1, 4) / page_size,
        torch.tensor([*chain.from_iterable(page.labels for page in pages)], dtype=torch.int64),
        torch.arange(len(pages)).repeat_interleave(per_page),
        len(pages),
    )
    ends = np.cumsum(list(counts.values())).tolist()
    found = AnnotatedImages(
        name="glyph_pages",
        images=pixels.numpy(),
        image_names=[f"{split}-{number}" for split, number in wanted],
        sizes=[(page_size, page_size)] * len(pages),
        boxes=boxes,
        class_names=tuple(names[0] for names in glyph_set.texts),
        class_texts=glyph_set.texts,
        splits={s: torch.arange(end - counts[s], end) for s, end in zip(SPLITS, ends, strict=True)},
        hashes=hash_images(pixels).tolist(),
        store=SquareImages(pixels, preprocessor),
    )
    if crops:
        return object_images(found, preprocessor, memory_limit_mb, crop_margin)
    return whole_images(found, preprocessor, memory_limit_mb)


@dataclass(frozen=True)
class Page:
    """`pixels` uint8 `[N, N]`; corners in pixels and class of each character."""

    pixels: np.ndarray
    xyxy: list[tuple[int, int, int, int]]
    labels: list[int]


class PagePainter:
    """Draws pages.

    Args:
        glyph_set: the characters.
        size: of a page in pixels.
        count: fewest and most characters.
        min_size: least length of the longer side of a character.
        overlap: largest part of a box that another one may cover.
        clutter: whether there are lines.
        seed: of the split of the characters and of the pages.
    """

    def __init__(
        self,
        glyph_set: GlyphSet,
        size: int,
        count: tuple[int, int],
        min_size: int,
        overlap: float,
        clutter: bool,
        seed: int,
    ) -> None:
        self.size, self.count, self.min_size = size, count, min_size
        self.overlap, self.clutter, self.seed = overlap, clutter, seed
        self.faces = [str(face) for face in glyph_set.faces]
        of_class: list[list[tuple[int, int]]] = [[] for _ in glyph_set.classes]
        for glyph in glyph_set.glyphs:
            of_class[glyph.label].append((glyph.face, glyph.code))
        self.of_class, parts = of_class, glyph_set.parts(seed)
        self.classes = {split: np.flatnonzero(parts == part) for part, split in enumerate(SPLITS)}
        self._font = lru_cache(512)(self._open_font)

    def page(self, split: str, number: int) -> Page:
        """Page `number` of a split."""
        from PIL import Image, ImageDraw

        rng = generator_at(self.seed, "glyph page", split, number)
        paper = int(rng.integers(200, 256))
        page = Image.new("L", (self.size, self.size), paper)
        draw = ImageDraw.Draw(page)
        lines = int(rng.integers(LINES[0], LINES[1] + 1)) if self.clutter else 0
        for _ in range(lines // 2):
            self._line(draw, rng, paper)
        xyxy: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        wanted = int(rng.integers(self.count[0], self.count[1] + 1))
        for _ in range(20 * wanted):  # a crowded page ends with fewer
            if len(labels) == wanted:
                break
            label = int(rng.choice(self.classes[split]))
            glyph = self._glyph(rng, label)
            if (box := self._free_place(rng, glyph.size, xyxy)) is None:
                continue
            page.paste(paper - int(rng.integers(90, 200)), box, glyph)
            xyxy.append(box)
            labels.append(label)
        for _ in range(lines - lines // 2):
            self._line(draw, rng, paper)
        return Page(np.array(page), xyxy, labels)

    def _glyph(self, rng: np.random.Generator, label: int) -> Image:
        """The ink of a character of a class, cut out: 255 where it is, 0 where it is not."""
        face, code = self.of_class[label][int(rng.integers(len(self.of_class[label])))]
        low, high = FONT_SIZES
        size = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        ink = self._ink(face, code, size)
        while (longer := max(ink.size)) < self.min_size:
            size = max(size + 1, size * self.min_size // longer)
            ink = self._ink(face, code, size)
        return ink

    def _ink(self, face: int, code: int, size: int) -> Image:
        from PIL import Image, ImageDraw

        font, char = self._font(face, size), chr(code)
        left, top, right, bottom = (int(side) for side in font.getbbox(char, anchor="ls"))
        mask = Image.new("L", (right - left + 4, bottom - top + 4))
        ImageDraw.Draw(mask).text((2 - left, 2 - top), char, fill=255, font=font, anchor="ls")
        # What is barely gray is no ink that a box should contain.
        box = mask.point(lambda value: 255 * (value >= 64)).getbbox() or mask.getbbox() or (0, 0, 1, 1)
        return mask.crop(box)

    def _open_font(self, face: int, size: int) -> FreeTypeFont:
        from PIL import ImageFont

        return ImageFont.truetype(self.faces[face], size)

    def _free_place(
        self, rng: np.random.Generator, size: tuple[int, int], taken: list[tuple[int, int, int, int]]
    ) -> tuple[int, int, int, int] | None:
        """A box of a size of which none that is taken covers too much, and the reverse; None if none is found."""
        width, height = size
        if width >= self.size or height >= self.size:
            return None
        for _ in range(TRIES):
            left = int(rng.integers(self.size - width))
            top = int(rng.integers(self.size - height))
            box = (left, top, left + width, top + height)
            if all(_covered(box, other) <= self.overlap for other in taken):
                return box
        return None

    def _line(self, draw: ImageDraw.ImageDraw, rng: np.random.Generator, paper: int) -> None:
        ends = rng.integers(0, self.size, 4).tolist()
        draw.line(ends, fill=paper - int(rng.integers(30, 150)), width=int(rng.integers(1, 3)))


def _covered(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The part of the smaller box that the other one covers."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
