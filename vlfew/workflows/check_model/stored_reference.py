"""Stored values of towers in Python packages, made by other implementations of the same networks.

`scripts/reference_embeddings.py` makes them. Each embedding is stored as a digest: a few cosine transform coefficients,
to which all of its elements contribute.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.encoders.text.base import TextEncoder
from vlfew.models.dual_stream import DualStream
from vlfew.workflows.check_model.check import EMBEDDINGS, Check, relative_difference
from vlfew.workflows.check_model.reference import EncodeText, Reference
from vlfew.workflows.check_model.samples import TEXTS, write_squares

FILE = Path(__file__).with_name("stored_values.json")
BORDER = 32
"""Pixels that EfficientNet-Lite's crop leaves out, of an image that has them beside its input's."""
DIGEST = 24
"""Numbers that an embedding is stored by."""


def digest(values: Tensor) -> Tensor:
    """Rows `[N, D]` to the first coefficients of their cosine transforms `[N, 24]`, in float64.

    Low frequencies alone would miss an exchange of neighbors; steps of 37 spread them over all.
    """
    width = values.shape[1]
    place = torch.arange(width, dtype=torch.float64) + 0.5
    frequency = (1 + 37 * torch.arange(DIGEST, dtype=torch.float64)) % width
    return values.double() @ torch.cos(math.pi / width * torch.outer(place, frequency))


class StoredReference(Reference):
    """Digests by another implementation.

    Attributes:
        tower: key of `stored_values.json`.
    """

    tower: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        values: dict[str, Any] = json.loads(FILE.read_text("utf-8"))[self.tower]
        self._values = values
        self._reference = f"stored values of {values['made_by']}"

    def image_checks(self, model: DualStream, folder: Path) -> list[Check]:
        """Preprocessed pixels and embeddings."""
        paths = write_squares(folder, model.spec.image_size + BORDER)
        pixels = model.normalize_pixels(model.preprocess(paths)).flatten(1)
        outputs = {"preprocessed pixels": pixels, "image embeddings": model.encode_image(paths)}
        return [self._check(what, output.cpu()) for what, output in outputs.items()]

    def text_checks(self, encoder: TextEncoder, encode: EncodeText) -> list[Check]:
        """Embeddings of the texts, of unit length."""
        return [self._check("text embeddings", normalize(encode(TEXTS), dim=1).cpu())]

    def _check(self, what: str, output: Tensor) -> Check:
        expected = torch.tensor(self._values[what], dtype=torch.float64)
        return Check(what, self._reference, relative_difference(digest(output), expected), EMBEDDINGS)


class StoredLite0(StoredReference):
    """Of `efficientnet_lite0`."""

    tower = "efficientnet_lite0"


class StoredLite1(StoredReference):
    """Of `efficientnet_lite1`."""

    tower = "efficientnet_lite1"


class StoredLite2(StoredReference):
    """Of `efficientnet_lite2`."""

    tower = "efficientnet_lite2"


class StoredMiniLM(StoredReference):
    """Of `minilm`."""

    tower = "minilm"
