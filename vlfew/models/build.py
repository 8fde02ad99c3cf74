"""The parts of a model from its spec."""

from __future__ import annotations

import math
from typing import Any

import torch
from einops import reduce
from torch import Tensor, nn

from vlfew.core.features import FeatureSpec
from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.encoders.image.backbone import Backbone, channel_stats
from vlfew.encoders.preprocessing.base import Preprocessing
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.class_neighbors import ClassNeighbors
from vlfew.models.class_probabilities import ClassProbabilities
from vlfew.models.spec import ModelSpec
from vlfew.models.text_projection import TextProjection
from vlfew.models.tta import NUM_VIEWS
from vlfew.models.whitening import Whitening


def encoders(spec: ModelSpec) -> tuple[Backbone, TextEncoder | None, Preprocessing | None, Backbone | None]:
    """The arguments of `DualStream` after the spec, by registry name, pretrained where their options say so.

    Raises:
        VlfewError: unknown component, missing weights, or sizes that do not fit.
    """
    preprocessing: Preprocessing | None = None
    if spec.preprocessing is not None:
        component = PREPROCESSING.get(spec.preprocessing)
        preprocessing = component(spec.channels, spec.image_size, **spec.preprocessing_options)
    channels, size, _ = backbone_input_shape(spec, preprocessing)

    def backbone() -> Any:
        return BACKBONES.get(spec.backbone)(channels, size, **spec.backbone_options)

    # In this order: each draws its initial weights from the same random numbers.
    left, right = backbone(), None if spec.share_weights else backbone()
    text_encoder: TextEncoder | None = None
    if spec.text is not None:
        text_encoder = (
            TEXT_ENCODERS.get(spec.text.encoder)(**spec.text.options)
            if spec.text.saved is None
            else TextEncoder.from_saved(spec.text.saved)
        )
    return left, text_encoder, preprocessing, right


def backbone_options(spec: ModelSpec, backbone: Backbone) -> dict[str, Any]:
    """All options that build a backbone's architecture again, without its original files."""
    return backbone.saved_options or BACKBONES.checked(spec.backbone, spec.backbone_options)


def preprocessing_options(spec: ModelSpec, preprocessing: Preprocessing | None) -> dict[str, Any]:
    """The same for the preprocessing; {} where there is none."""
    if spec.preprocessing is None or preprocessing is None:
        return {}
    return preprocessing.saved_options or PREPROCESSING.checked(
        spec.preprocessing, spec.preprocessing_options
    )


def backbone_input_shape(spec: ModelSpec, preprocessing: Preprocessing | None) -> tuple[int, int, int]:
    """Channels, height and width of the backbone's input."""
    if preprocessing is None:
        return spec.channels, spec.image_size, spec.image_size
    return preprocessing.out_channels, preprocessing.out_size, preprocessing.out_size


def image_projection(backbone: Backbone, embedding_dim: int | None) -> nn.Module:
    """From the backbone's embedding into the joint space."""
    return nn.Identity() if embedding_dim is None else nn.Linear(backbone.dim, embedding_dim)


def text_projection(spec: ModelSpec, text_dim: int | None, dim: int) -> TextProjection | None:
    """From the text encoder's space, of width `text_dim`, into the joint space; None where nothing is projected."""
    if text_dim is None or (t := spec.text) is None:
        return None
    added = uses_pretraining_classes(spec)
    if added and t.projection == "none":
        return None
    return TextProjection(t.projection, text_dim, dim, t.hidden, t.dropout, zero=added)


def uses_pretraining_classes(spec: ModelSpec) -> bool:
    """Whether texts are represented by the classes that the image encoder was pretrained on."""
    neighbors = None if spec.text is None else spec.text.class_neighbors
    return neighbors is not None and neighbors.classes == "pretraining"


def class_neighbors(spec: ModelSpec, text_dim: int | None, dim: int) -> ClassNeighbors | None:
    """The alternative to the projection, or the map to which it is added, where the spec has one."""
    if text_dim is None or (t := spec.text) is None or t.class_neighbors is None:
        return None
    width = dim if uses_pretraining_classes(spec) else embedding_size(spec, dim)
    return ClassNeighbors(t.num_classes, text_dim, width, t.class_neighbors.temperature)


def embedding_size(spec: ModelSpec, dim: int) -> int:
    """Width E of what is compared, where the joint space has width `dim`."""
    sides = 1 if spec.share_weights else 2
    return dim * NUM_VIEWS[spec.tta] * sides + spec.num_pretraining_classes


def whitening(spec: ModelSpec, dim: int) -> Whitening | None:
    """Of image embeddings, where the spec has it."""
    options = spec.whiten_embeddings
    return None if options is None else Whitening(dim, options.power, options.shrinkage)


def class_probabilities(spec: ModelSpec, dim: int) -> ClassProbabilities | None:
    """Of the classes that the backbone was pretrained on, where the spec compares them."""
    return ClassProbabilities(spec.num_pretraining_classes, dim) if spec.class_probability_weight else None


def pixel_statistics(backbone: Backbone, channels: int) -> tuple[Tensor, Tensor]:
    """Initial mean and standard deviation `[C, 1, 1]` of pixels in 0..255: the pretrained weights', or the middle.

    For the channels of the images, which preprocessing may have multiplied before the backbone.
    """
    mean = channel_stats(backbone.pixel_mean or (0.5,), channels)
    std = channel_stats(backbone.pixel_std or (0.25,), channels)
    return torch.tensor(mean).mul(255).view(-1, 1, 1), torch.tensor(std).mul(255).view(-1, 1, 1)


@torch.inference_mode()
def image_feature_spec(
    backbone: Backbone, input_shape: tuple[int, int, int], embedding_dim: int | None
) -> FeatureSpec:
    """Sizes of the image stream's output, found by encoding one image.

    The image is a gradient: a network without biases makes zeros of a blank one, and all its outputs look equal.
    """
    training = backbone.training
    image = torch.linspace(-1, 1, math.prod(input_shape)).view(1, *input_shape)
    features = backbone.eval()(image.contiguous(memory_format=torch.channels_last))
    backbone.train(training)
    if features.map is None:
        return FeatureSpec(embedding_dim or backbone.dim)
    mean = reduce(features.map, "b c h w -> b c", "mean")
    averaged = mean.shape == features.embedding.shape and torch.allclose(mean, features.embedding)
    return FeatureSpec(
        embedding_dim or backbone.dim, tuple(features.map.shape[1:]), averaged and embedding_dim is None
    )
