"""The architecture of a model: everything it is built from except its weights."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vlfew.core.config import (
    AlignFaces,
    ClassNeighborsConfig,
    Interpolation,
    LoraConfig,
    Resize,
    TestTimeAugmentation,
    WhitenConfig,
)
from vlfew.core.outside_data import OutsideData
from vlfew.data.preprocess import ImagePreprocessor, ResizeFirst

ProjectionKind = Literal["none", "linear", "mlp"]


class TextSpec(BaseModel):
    """The text encoder and its projection into the joint space.

    Attributes:
        encoder: registry name, with `options`.
        saved: `TextEncoder.saved_config` of a saved model, from which the encoder is built instead of by name.
        frozen, unfreeze_last, lora: which weights are trained (`vlfew.core.config.TowerConfig`).
        projection: `none`, `linear` or `mlp`; `hidden` is the width of the latter's hidden layer.
        dropout: probability in the projection.
        class_neighbors: map texts by the classes with the most similar ones.
        num_classes: number of these training classes, those with text.
    """

    model_config = ConfigDict(extra="forbid")

    encoder: str
    options: dict[str, Any] = {}
    saved: dict[str, Any] | None = None
    frozen: bool = True
    unfreeze_last: int = 0
    lora: LoraConfig | None = None
    projection: ProjectionKind = "mlp"
    hidden: int = 512
    dropout: float = 0.1
    class_neighbors: ClassNeighborsConfig | None = None
    num_classes: int = 0

    @property
    def fixed(self) -> bool:
        """Whether no weight of the encoder is trained."""
        return self.frozen and not self.unfreeze_last and self.lora is None


class ModelSpec(BaseModel):
    """Everything needed to build a model again, except its weights.

    Attributes:
        backbone: registry name of the image encoder, with `backbone_options`.
        backbone_frozen, backbone_unfreeze_last, backbone_lora: which of its weights are trained
            (`vlfew.core.config.TowerConfig`).
        preprocessing: registry name of a fixed transform in front of the backbone, with `preprocessing_options`.
        tta: test-time augmentation (`vlfew.core.config.ImageConfig`).
        share_weights: one backbone for both sides of a comparison, or one for each.
        center_embeddings: subtract the mean embedding of the training set.
        whiten_embeddings: whiten them within its classes.
        class_probability_weight: share, 0 to 1, in similarities of the probabilities of the `num_pretraining_classes`
            classes that the backbone was pretrained on.
        text: the text stream; None for a model of images alone.
        embedding_dim: width D of the joint space; None uses the backbone's own embedding.
        similarity: registry name, with `similarity_options`.
        image_size, channels, resize, interpolation, center_crop, resize_first, align_faces: how images are preprocessed
            (`ImagePreprocessor`).
        outside_data: the images that the weights it started from were trained on, by name (`ImageNet-1k`); `not known`
            where no name is known, empty where it started from random weights.
    """

    model_config = ConfigDict(extra="forbid")

    backbone: str
    backbone_options: dict[str, Any] = {}
    backbone_frozen: bool = False
    backbone_unfreeze_last: int = 0
    backbone_lora: LoraConfig | None = None
    preprocessing: str | None = None
    preprocessing_options: dict[str, Any] = {}
    tta: TestTimeAugmentation = "none"
    share_weights: bool = True
    center_embeddings: bool = False
    whiten_embeddings: WhitenConfig | None = None
    class_probability_weight: float = 0.0
    num_pretraining_classes: int = 0
    text: TextSpec | None = None
    embedding_dim: int | None = 256
    similarity: str = "cosine"
    similarity_options: dict[str, Any] = {}
    image_size: int = 32
    channels: int = 1
    resize: Resize = "stretch"
    interpolation: Interpolation = "bilinear"
    center_crop: float = 1.0
    # Left out where there is none, so that fingerprints of other models do not depend on it.
    resize_first: ResizeFirst | None = Field(default=None, exclude_if=lambda value: value is None)
    align_faces: AlignFaces = Field(default="none", exclude_if=lambda value: value == "none")
    outside_data: OutsideData = ""

    @property
    def backbone_fixed(self) -> bool:
        """Whether no weight of the backbone is trained."""
        return self.backbone_frozen and not self.backbone_unfreeze_last and self.backbone_lora is None

    def preprocessor(self) -> ImagePreprocessor:
        """How images are read for this model."""
        return ImagePreprocessor(
            self.image_size,
            self.channels,
            self.resize,
            self.center_crop,
            interpolation=self.interpolation,
            resize_first=self.resize_first,
            align_faces=self.align_faces,
        )
