"""Faces: the main one of an image, turned and scaled so that the eyes are where face models expect them.

dlib finds faces by histograms of oriented gradients (King 2015, arXiv:1502.00046) and places five landmarks by an
ensemble of regression trees (Kazemi and Sullivan 2014).
"""

from __future__ import annotations

import math
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from vlfew.core.errors import ModelError
from vlfew.core.packaged_file import PackagedFile

if TYPE_CHECKING:
    from PIL.Image import Image

LANDMARKS = PackagedFile(
    name="align_faces",
    package="face-recognition-models",
    version="0.3.0",
    import_name="face_recognition_models",
    file="models/shape_predictor_5_face_landmarks.dat",
    sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    extra="faces",
)
"""Both corners of the eyes and the bottom of the nose; trained on 7,198 faces, in the public domain."""
MARGIN = 0.25
"""Around the face, as a fraction of its side; what dlib's face model was trained with."""
LONGEST_SIDE = 1280
"""Pixels; larger images are reduced to find the faces in them."""


class _Aligner(threading.local):
    """dlib's detector and landmarks, which only one thread at a time may use."""

    def __init__(self) -> None:
        if find_spec("dlib") is None:
            raise ModelError('align_faces: the package dlib-bin is not installed; pip install "vlfew[faces]"')
        import dlib

        self.dlib: Any = dlib
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(LANDMARKS.locate()))

    def rectangles(self, pixels: np.ndarray) -> list[Any]:
        """The faces of an image `[H, W, 3]`: large ones, else smaller ones, else one that fills the image."""
        for doublings in (0, 1):
            if found := self.detector(pixels, doublings):
                return list(found)
        height, width = (side // 2 for side in pixels.shape[:2])
        bordered = np.pad(pixels, ((height, height), (width, width), (0, 0)), mode="edge")
        return [
            self.dlib.translate_rect(face, self.dlib.point(-width, -height))
            for face in self.detector(bordered, 0)
        ]


_aligner: _Aligner | None = None


def align_face(image: Image, size: int) -> Image | None:
    """The main face of an image: a large one near the middle.

    Args:
        image: RGB.
        size: height and width of the result in pixels.

    Returns:
        The face, with a quarter of its side around it; None where none is found.

    Raises:
        ModelError: the packages of the extra `faces` are not installed, or damaged.
    """
    from PIL import Image as images

    global _aligner
    _aligner = _aligner or _Aligner()
    pixels = np.asarray(image)
    scale = min(1.0, LONGEST_SIDE / max(image.size))
    reduced = image
    if scale < 1:
        reduced = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    faces = _aligner.rectangles(np.asarray(reduced))
    if not faces:
        return None
    dlib = _aligner.dlib
    face = max(faces, key=lambda found: _prominence(found, *reduced.size))
    sides = (round(side / scale) for side in (face.left(), face.top(), face.right(), face.bottom()))
    landmarks = _aligner.landmarks(pixels, dlib.rectangle(*sides))
    return images.fromarray(dlib.get_face_chip(pixels, landmarks, size=size, padding=MARGIN))


def _prominence(face: Any, width: int, height: int) -> float:
    """The area of a face, which counts less the farther it is from the middle of the image: `exp(-2)` at a side's."""
    center = face.center()
    x, y = 2 * center.x / width - 1, 2 * center.y / height - 1
    return float(face.area() * math.exp(-2 * (x * x + y * y)))
