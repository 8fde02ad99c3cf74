"""What towers are compared with: how their library encodes files itself, or stored values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from einops import rearrange
from torch import Tensor
from torch.nn.functional import normalize

from vlfew.core.registry import Registry
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.dual_stream import DualStream
from vlfew.workflows.check_model.check import (
    EMBEDDINGS,
    PIXELS,
    Check,
    different_tokens,
    largest_difference,
    relative_difference,
)
from vlfew.workflows.check_model.samples import TEXTS, write_images

REFERENCES = Registry(
    "reference",
    {
        "open_clip:": "vlfew.workflows.check_model.open_clip_reference:OpenClipReference",
        "timm:": "vlfew.workflows.check_model.timm_reference:TimmReference",
        "transformers:": "vlfew.workflows.check_model.transformers_reference:TransformersReference",
        "dlib_face_resnet": "vlfew.workflows.check_model.dlib_reference:DlibReference",
        "efficientnet_lite0": "vlfew.workflows.check_model.stored_reference:StoredLite0",
        "efficientnet_lite1": "vlfew.workflows.check_model.stored_reference:StoredLite1",
        "efficientnet_lite2": "vlfew.workflows.check_model.stored_reference:StoredLite2",
        "minilm": "vlfew.workflows.check_model.stored_reference:StoredMiniLM",
    },
)
"""By the name of an image or text encoder; called with what follows the colon, each returns a `Reference`."""

EncodeText = Callable[[Sequence[str]], Tensor]


class Reference:
    """Something that an image tower, a text tower, or both can be compared with.

    Attributes:
        notes: where vlfew differs on purpose, and what was therefore done.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def image_checks(self, model: DualStream, folder: Path) -> list[Check]:
        """Compares the image tower of a published model on files, which are written into an empty folder."""
        raise NotImplementedError

    def text_checks(self, encoder: TextEncoder, encode: EncodeText) -> list[Check]:
        """Compares a text tower and its tokenizer; `encode` gives its embeddings `[T, D]`."""
        raise NotImplementedError

    def joint_checks(self) -> list[Check]:
        """After both: compares the similarities of images and texts."""
        return []


class LibraryReference(Reference, ABC):
    """A model as its own library loads it, by the library's documented calls.

    Attributes:
        library: its name.
        reads, encodes_images, tokenizes, encodes_texts: the calls, for the reader of the result.
        pixel_limit, embedding_limit: larger where the library does not round pixels to 8 bits.
    """

    library: str
    reads: str
    encodes_images: str
    tokenizes: str
    encodes_texts: str
    pixel_limit = PIXELS
    embedding_limit = EMBEDDINGS

    def __init__(self) -> None:
        super().__init__()
        self._embeddings: dict[str, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def pixels(self, paths: Sequence[Path]) -> Tensor:
        """Files to normalized pixels `[B, 3, H, W]`, in the order red, green, blue."""

    @abstractmethod
    def image_outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalized pixels to `image embeddings [B, D]`, or, where the library gives none, `image tokens`."""

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to the inputs of the text tower, each `[T, L]`."""
        raise NotImplementedError

    def text_outputs(self, tokens: dict[str, Any]) -> dict[str, Tensor]:
        """Inputs to `text embeddings [T, D]`, or, where the library gives none, `text tokens [T, L, W]`."""
        raise NotImplementedError

    def image_checks(self, model: DualStream, folder: Path) -> list[Check]:
        """Preprocessed pixels, and what the tower makes of them."""
        paths = write_images(folder)
        pixels, expected = model.normalize_pixels(model.preprocess(paths)), self.pixels(paths)
        difference = largest_difference(pixels, expected)
        checks = [Check("preprocessed pixels", self.reads, difference, self.pixel_limit)]
        ((what, output),) = self.image_outputs(expected).items()
        if what == "image embeddings":
            found = model.encode_image(paths)
            self._embeddings["image"] = found, output
        else:
            features = model.backbone(pixels)
            found = features.map if features.tokens is None else features.tokens
        difference = relative_difference(found, output)
        return [*checks, Check(what, self.encodes_images, difference, self.embedding_limit)]

    def text_checks(self, encoder: TextEncoder, encode: EncodeText) -> list[Check]:
        """Tokens, and what the tower makes of them."""
        tokens, expected = encoder.tokenize(TEXTS), self.tokens(TEXTS)
        checks = [Check("tokens", self.tokenizes, different_tokens(tokens, expected), 0.0)]
        ((what, output),) = self.text_outputs(expected).items()
        if what == "text embeddings":
            found = encode(TEXTS)
            self._embeddings["text"] = found, output
        else:
            hidden = encoder(tokens).tokens
            assert hidden is not None
            found = hidden * rearrange(tokens["attention_mask"], "t l -> t l 1")
        return [*checks, Check(what, self.encodes_texts, relative_difference(found, output), EMBEDDINGS)]

    def joint_checks(self) -> list[Check]:
        """Cosines of all images and texts."""
        if len(self._embeddings) < 2:
            return []
        image, text = self._embeddings["image"], self._embeddings["text"]
        found, expected = (
            normalize(a, dim=1) @ normalize(b, dim=1).T for a, b in zip(image, text, strict=True)
        )
        difference = largest_difference(found, expected)
        return [Check("similarities", f"those of {self.library}", difference, self.embedding_limit)]
