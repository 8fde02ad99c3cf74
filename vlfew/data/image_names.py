"""Which files are images, by their names."""

from __future__ import annotations

import os

IMAGE_SUFFIXES = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".mpo",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".qoi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
"""Of the formats that Pillow reads."""
HEIC_SUFFIXES = frozenset([".heic", ".heif"])
"""Of HEIC images, as phones save them, which Pillow reads by the package pillow-heif."""


def is_image(name: str) -> bool:
    """Whether a file is an image, by its suffix."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or suffix in HEIC_SUFFIXES
