"""What a model is built from, but for its weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vlfew.core.config import Interpolation, Lora, Resize, TestTimeAugmentation
from vlfew.data.preprocess import ImagePreprocessor

ProjectionKind = Literal["none", "linear", "mlp"]


class TextSpec(BaseModel):
    """The text stream: a registered encoder by name, or one kept as `saved_config` says.

    Attributes:
        class_neighbors: temperature at which words are read by training classes; None reads them by the projection.
        classes: how many training classes these are.
    """

    model_config = ConfigDict(extra="forbid")

    encoder: str
    options: dict[str, Any] = {}
    saved: dict[str, Any] | None = None
    frozen: bool = True
    unfreeze_last: int = 0
    lora: Lora | None = None
    projection: ProjectionKind = "mlp"
    hidden: int = 512
    dropout: float = 0.1
    class_neighbors: float | None = None
    classes: int = 0

    @property
    def fixed(self) -> bool:
        """Whether the encoder is always the same."""
        return self.frozen and not self.unfreeze_last and self.lora is None


class ModelSpec(BaseModel):
    """All that is needed to build a model again, but for its weights.

    Attributes:
        backbone: registry name, with `backbone_options`.
        backbone_frozen, backbone_unlocked, backbone_lora: what of it is trained (`vlfew.core.config.Tower`).
        preprocessing: registry name of what stands before the backbone, with `front_end_options`.
        tta: what `encode_images` sees of an image (`vlfew.core.config.Image`).
        share_weights: whether both sides of a comparison have one backbone, or each has its own.
        center_embeddings: whether embeddings are taken from the mean of those of training, images and words each.
        embedding_dim: D; None takes the backbone's own vectors.
        outside_data: whether the image stream starts from weights learned on other images.
    """

    model_config = ConfigDict(extra="forbid")

    backbone: str
    backbone_options: dict[str, Any] = {}
    backbone_frozen: bool = False
    backbone_unlocked: int = 0
    backbone_lora: Lora | None = None
    preprocessing: str | None = None
    front_end_options: dict[str, Any] = {}
    tta: TestTimeAugmentation = "none"
    share_weights: bool = True
    center_embeddings: bool = False
    text: TextSpec | None = None
    embedding_dim: int | None = 256
    similarity: str = "cosine"
    similarity_options: dict[str, Any] = {}
    image_size: int = 32
    channels: int = 1
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    center_crop: float = 1.0
    outside_data: bool = False

    def preprocessor(self) -> ImagePreprocessor:
        """How images must be read for this model."""
        return ImagePreprocessor(
            self.image_size, self.channels, self.resize, self.center_crop, interpolation=self.interpolation
        )
