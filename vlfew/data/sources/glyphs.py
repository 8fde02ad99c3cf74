"""glyphs: thousands of named characters drawn with the fonts that ship inside matplotlib.

A data set that every installation has: no download, real typography, and compositional class names ("greek small
letter alpha with tonos"), so that naming unseen characters is a genuine zero-shot test.

The definition is fixed: faces are the DejaVu Sans, Sans Mono and Serif families (without Display) and
STIXGeneral; characters have a Unicode name, a category L, N, S or P, a non-blank image in at least
four faces and at least three distinct images; characters that share an image are *one class*
(Latin, Greek and Cyrillic capital H look the same: as separate classes they would leak from training to test and
could not be named), and all their names are its texts.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.progress import progress
from vlfew.data.connected import first_connected
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS

FAMILIES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")
CATEGORIES = "LNSP"
MIN_FACES, MIN_IMAGES = 4, 3
TEST_SHARE, VAL_SHARE = 0.2, 0.1
EM, BASELINE = 26 / 32, 24 / 32
"""Font size and baseline as fractions of the image height, so that accents and descenders fit."""


@dataclass(frozen=True)
class Glyph:
    """A distinct image of a class; those of a set are ordered by class, face and image.

    Attributes:
        label: number of the class.
        face: number of the face.
        image: `size * size` gray bytes, black on white.
        code: the code point that was drawn.
    """

    label: int
    face: int
    image: bytes
    code: int


@dataclass(frozen=True)
class GlyphSet:
    """The characters that a set of faces draws.

    Attributes:
        faces: the font files.
        classes: the code points of each class, which share images.
        glyphs: the distinct images of all classes.
    """

    faces: list[Path]
    classes: list[list[int]]
    glyphs: list[Glyph]

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The names of each class, in lower case."""
        return tuple(
            tuple(unicodedata.name(chr(code)).lower() for code in members) for members in self.classes
        )

    def parts(self, seed: int) -> np.ndarray:
        """`[classes]` 0 for training, 1 for validation, 2 for test.

        Drawn by a hash of the class's first character instead of a shuffle, so that additional characters in a font
        version move no other class.
        """

        def draw(code: int) -> float:
            digest = hashlib.sha256(f"{seed}:{code:x}".encode()).digest()
            return int.from_bytes(digest[:8], "big") / 2**64

        drawn = np.array([draw(members[0]) for members in self.classes])
        return np.where(drawn < TEST_SHARE, 2, np.where(drawn < TEST_SHARE + VAL_SHARE, 1, 0))


def load(root: Path | None, preprocessor: ImagePreprocessor) -> LabeledImages:
    """Named characters, black on white, drawn with the fonts of matplotlib; split from `preprocessor.seed`.

    Raises:
        DataError: the fonts are missing in matplotlib, or `center_crop` is set.
    """
    if preprocessor.center_crop != 1:
        raise DataError(
            f"glyphs cannot be cropped; leave out data.center_crop ({preprocessor.center_crop:g})"
        )
    glyph_set = draw_glyphs(root, preprocessor.image_size)
    size, images = preprocessor.image_size, b"".join(glyph.image for glyph in glyph_set.glyphs)
    tensor = torch.from_numpy(np.frombuffer(images, np.uint8).reshape(-1, 1, size, size).copy())
    if preprocessor.channels == 3:
        tensor = tensor.repeat(1, 3, 1, 1)
    labels, texts = torch.tensor([glyph.label for glyph in glyph_set.glyphs]), glyph_set.texts
    digest = hashlib.sha256(images)
    digest.update(labels.numpy().tobytes() + repr((texts, preprocessor.seed)).encode())
    return LabeledImages(
        name="glyphs",
        images=InMemory(tensor),
        labels=labels,
        class_names=tuple(names[0] for names in texts),
        splits=_split(glyph_set, labels, preprocessor.seed),
        fingerprint=digest.hexdigest()[:16],
        class_texts=texts,
        source_id=torch.tensor([glyph.face for glyph in glyph_set.glyphs]),
    )


def draw_glyphs(root: Path | None, size: int) -> GlyphSet:
    """Draws every character of every face and finds the classes.

    Args:
        root: a folder of fonts; None for those inside matplotlib.
        size: of the images in pixels; characters that look the same at this size are one class.

    Raises:
        DataError: no fonts, or none that draw the same characters.
    """
    faces = _faces() if root is None else sorted(root.glob("*.ttf"))
    if not faces:
        raise DataError(f"no fonts (*.ttf) in {root}: glyphs needs at least {MIN_FACES} faces")
    drawn: dict[int, dict[int, bytes]] = defaultdict(dict)
    for number, face in enumerate(progress(faces, "drawing glyphs", len(faces), "faces")):
        for code, image in _draw_face(face, size).items():
            drawn[code][number] = image
    codes = sorted(
        code
        for code, images in drawn.items()
        if len(images) >= MIN_FACES and len(set(images.values())) >= MIN_IMAGES
    )
    if not codes:
        raise DataError(f"no character is drawn by at least {MIN_FACES} of the {len(faces)} faces")

    classes = _merge_identical(codes, drawn)
    glyphs: list[Glyph] = []
    for label, members in enumerate(classes):
        first: dict[bytes, tuple[int, int]] = {}
        for code in members:
            for number, image in drawn[code].items():
                first.setdefault(image, (number, code))
        own = [Glyph(label, number, image, code) for image, (number, code) in first.items()]
        glyphs += sorted(own, key=lambda glyph: (glyph.face, glyph.image))
    return GlyphSet(faces, classes, glyphs)


def _faces() -> list[Path]:
    """The font files inside the installed matplotlib, read in place."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    styles = {"", "Bold", "Bol", "Oblique", "Italic", "BoldOblique", "BoldItalic", "BolIta"}
    names = {family + joint + style for family in FAMILIES for style in styles for joint in ("", "-")}
    faces = sorted(path for path in folder.glob("*.ttf") if path.stem in names)
    if not faces:
        raise DataError(f"no DejaVu or STIX fonts in {folder}: reinstall matplotlib (pip install matplotlib)")
    return faces


def _draw_face(face: Path, size: int) -> dict[int, bytes]:
    """Code point to image (`size * size` gray bytes, black on white) for the characters of a face.

    Characters share a baseline and are centered horizontally; those larger than the image are drawn smaller.
    """
    from matplotlib.ft2font import FT2Font
    from PIL import Image, ImageDraw, ImageFont

    base, em = round(size * BASELINE), round(size * EM)
    font_of = cache(partial(ImageFont.truetype, str(face)))
    images = {}
    for code in sorted(FT2Font(str(face)).get_charmap()):
        char = chr(code)
        if unicodedata.category(char)[0] not in CATEGORIES or not unicodedata.name(char, ""):
            continue
        font = font_of(em)
        left, top, right, bottom = font.getbbox(char, anchor="ls")
        fit = min(
            1.0, size / max(right - left, 1), base / max(-top, 1), (size - base) / max(bottom, 1)
        )  # the box is relative to the baseline: top is negative above it
        if fit < 1.0:
            font = font_of(max(6, int(em * fit)))
            left, _, right, _ = font.getbbox(char, anchor="ls")
        canvas = Image.new("L", (size, size), 255)
        origin = ((size - (right - left)) // 2 - left, base)
        ImageDraw.Draw(canvas).text(origin, char, fill=0, font=font, anchor="ls")
        image = canvas.tobytes()
        if min(image) < 128:
            images[code] = image
    return images


def _merge_identical(codes: list[int], drawn: dict[int, dict[int, bytes]]) -> list[list[int]]:
    """Group characters into classes: those that share an image belong together."""
    first: dict[bytes, int] = {}
    links = [(first.setdefault(image, code), code) for code in codes for image in drawn[code].values()]
    groups: dict[int, list[int]] = defaultdict(list)
    for code, root in first_connected(codes, links).items():
        groups[root].append(code)
    return list(groups.values())


def _split(glyph_set: GlyphSet, labels: Tensor, seed: int) -> dict[str, Tensor]:
    """Train, validation and test by class."""
    per_image = torch.from_numpy(glyph_set.parts(seed))[labels]
    return {name: (per_image == p).nonzero().flatten() for p, name in enumerate(SPLITS)}
