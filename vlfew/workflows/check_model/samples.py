"""Images and texts that towers are checked on: drawn, so that they are the same on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

TEXTS = [
    "a photo of a cat",
    "A red cube, left of two blue cylinders.",
    "Ein Café in Übergröße: naïve coöperation – déjà vu",
    "salt &amp; pepper   on  two\tlines\nand a half",
    "貓 и собака 🐈",
    ".",
    "seven ships " * 120,  # longer than the context of most towers
]
ROTATED, TRANSPARENT, PALETTE = "rotated.jpg", "transparent.png", "palette.png"
"""Files that libraries read in ways of their own."""


def draw(height: int, width: int) -> np.ndarray:
    """A color image `[H, W, 3]` of smooth, fine and sharp parts, by integer arithmetic; uint8."""
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=2)
    disk = (x - width // 3) ** 2 + (y - height // 2) ** 2 < (min(height, width) // 4) ** 2
    stripes = (x // 3 + y // 5) % 2 == 0
    corner = (x > width * 2 // 3) & (y < height // 3)
    ramps[disk] = 255 - ramps[disk][:, ::-1]
    ramps[stripes & corner] = (240, 30, 90)
    return ramps.astype(np.uint8)


def write_images(folder: Path) -> list[Path]:
    """Writes the images: of many shapes, colors and formats, larger and smaller than any tower's input."""
    from PIL import Image

    transparent = Image.fromarray(draw(160, 200)).convert("RGBA")
    transparent.putalpha(Image.fromarray(draw(160, 200)[:, :, 0]))
    rotated = Image.fromarray(draw(200, 300))
    orientation = rotated.getexif()
    orientation[0x0112] = 6  # to be turned by a quarter
    images = {
        "landscape.png": Image.fromarray(draw(240, 320)),
        "portrait.png": Image.fromarray(draw(264, 152)),
        "tiny.png": Image.fromarray(draw(13, 20)),
        "gray.png": Image.fromarray(draw(180, 200)[:, :, 1]),
        PALETTE: Image.fromarray(draw(220, 180)).quantize(64),
        TRANSPARENT: transparent,
        "photo.jpg": Image.fromarray(draw(1200, 1600)),
        ROTATED: rotated,
    }
    for name, image in images.items():
        more: dict[str, Any] = {"exif": orientation} if name == ROTATED else {}
        image.save(folder / name, quality=90, **more)
    return [folder / name for name in images]


def write_squares(folder: Path, side: int) -> list[Path]:
    """Writes squares whose center crop is the same whole pixels by any rule of rounding, and as large as, larger and
    smaller than the input of a tower.

    Args:
        folder: where to; PNG, which all decoders read alike.
        side: in pixels, of an image whose crop is the input of the tower; even.
    """
    from PIL import Image

    sides = {"same.png": side, "larger.png": 2 * side, "smaller.png": side // 2}
    for name, length in sides.items():
        Image.fromarray(draw(length, length)).save(folder / name)
    return [folder / name for name in sides]


def upright_and_opaque(path: Path) -> Image:
    """An image as vlfew reads it: turned as its EXIF orientation says, with white behind it, in color."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
