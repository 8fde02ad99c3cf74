"""The dual-stream model: images and texts in one embedding space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize as l2_normalize

from vlfew.classifiers.conse import mixed_embedding
from vlfew.classifiers.prototypes import encode_class_texts, normalized_mean
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.data.decode import read_image
from vlfew.encoders.image.backbone import Backbone
from vlfew.encoders.preprocessing.base import Preprocessing
from vlfew.encoders.pretraining_data import joined
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.cache import TextCache
from vlfew.models import build
from vlfew.models.comparison import Comparison
from vlfew.models.hub import HubModel
from vlfew.models.inputs import check_images, check_pixels, check_texts, check_tokens, to_readable
from vlfew.models.spec import ModelSpec
from vlfew.models.text_cache import cached_text_embeddings, encode_once, hash_text_encoder
from vlfew.models.trainable import set_trainable
from vlfew.models.tta import NUM_VIEWS, augmented_views, concatenate_views
from vlfew.similarities import SIMILARITIES

if TYPE_CHECKING:
    from transformers import BatchEncoding

    from vlfew.models.backbone_cache import BackboneCache
    from vlfew.models.inputs import ImageInput

    Tokens = Mapping[str, Tensor]

BATCH_SIZE = 64
"""Images that `encode_image` encodes at a time."""


class DualStreamOutput(NamedTuple):
    """Output of `DualStream.forward`; None where there was no such input.

    `image` has `embedding [B, D]` and what else the image encoder provides; `text` is `[T, D]`.
    """

    image: Features | None = None
    text: Tensor | None = None


class DualStream(nn.Module, Comparison, HubModel):
    """An image encoder and a text encoder with a joint embedding space, and the similarity used there.

    | method | takes | gives | gradients |
    |---|---|---|---|
    | `encode_image` | images, as paths, Pillow images, arrays or `preprocess` gives them | `[B, E]` | no |
    | `encode_text` | texts, or tokens | `[T, E]` | no |
    | `image_features` | preprocessed images | `Features` on the CPU, with the map where it is compared | no |
    | `encode_pixels` | pixels on the model's device | `Features` with `embedding [B, E]` | yes |
    | `encode_tokens` | tokens on the model's device | `[T, E]` | yes |
    | `project_text` | the text encoder's output `[T, D_text]` | `[T, E]` | yes |
    | `forward` | pixels, tokens | `DualStreamOutput`, as it is trained: without views and centering | yes |

    The embedding width E (`embedding_size`) is `dim`, times the views of test-time augmentation, times 2 where two
    backbones encode the two sides of a comparison (`share_weights: false`), plus the number of classes whose
    probabilities are compared too (`class_probabilities`).

    Attributes:
        dim: width D of the joint space.
        feature_spec: sizes of the image stream's output.
        similarity: of two images; the one that the model is trained for. `model.similarity(a, b)` of embeddings
            `[Q, E]` and `[S, E]` is `[Q, S]`.
        preprocessing: a fixed filter before the backbone, such as wavelets (`image.preprocessing`); None for none.
            Decoding and resizing is `preprocess`.
        class_neighbors: where a text is represented by the images of classes with similar texts
            (`text.class_neighbors`), instead of by `text_projection` or before that is added; None otherwise.
        whitening: of image embeddings within the training classes (`image.whiten_embeddings`); None for none.
        class_probabilities: of the classes that the backbone was pretrained on, where they are compared too
            (`image.class_probability_weight`).
        metadata: notes on its training, saved with it.
        path: the folder it was loaded from, if any.
        fingerprint: a hash of architecture and weights; None while they may change.
        text_cache: embeddings of texts by a text encoder whose weights are fixed.
        backbone_cache: where set, the backbone encodes the images of a data set once (`training.cache_views`).

    Args:
        spec: the architecture.
        backbone: image encoder, `[B, C, H, W]` to `Features`.
        text_encoder: tokens to `embedding [T, D_text]`; None for a model of images alone.
        preprocessing: applied to normalized images before the backbone.
        right_backbone: second image encoder of a pseudo-Siamese model (`share_weights: false`): each side of a
            comparison has its own, and similarities are the mean of both ways round.

    Raises:
        ModelError: a text encoder in a pseudo-Siamese model.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backbone: Backbone,
        text_encoder: TextEncoder | None,
        preprocessing: Preprocessing | None = None,
        right_backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.preprocessing = preprocessing
        # Weights and pixels both channels-last: mixed layouts would undo it for the whole network.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.dim = spec.embedding_dim or backbone.dim
        self.image_projection = build.image_projection(backbone, spec.embedding_dim)
        self.right_backbone: Backbone | None = None
        if right_backbone is not None:
            if text_encoder is not None:
                raise ModelError(
                    "share_weights: false leaves no joint space for texts; set text.encoder: null"
                )
            self.right_backbone = right_backbone.to(memory_format=torch.channels_last)
            self.right_projection = build.image_projection(right_backbone, spec.embedding_dim)
        self.text_encoder = text_encoder
        text_dim = None if text_encoder is None else text_encoder.dim
        self.text_projection = build.text_projection(spec, text_dim, self.dim)
        self.class_neighbors = build.class_neighbors(spec, text_dim, self.dim)
        input_shape = build.backbone_input_shape(spec, preprocessing)
        self.feature_spec = build.image_feature_spec(backbone, input_shape, spec.embedding_dim)
        backbones: dict[str, nn.Module | None] = {"backbone": backbone, "right_backbone": right_backbone}
        self._frozen_encoders = set_trainable(spec, torch.zeros(1, *input_shape), backbones, text_encoder)
        component = SIMILARITIES.get(spec.similarity)
        self.similarity = self._both_backbones(component(self.feature_spec, **spec.similarity_options))
        self.pixel_mean, self.pixel_std = map(nn.Buffer, build.pixel_statistics(backbone, spec.channels))
        if spec.center_embeddings:
            self.image_mean = nn.Buffer(torch.zeros(self.dim * NUM_VIEWS[spec.tta]))
            self.text_mean = nn.Buffer(torch.zeros(self.dim * NUM_VIEWS[spec.tta]))
        self.whitening = build.whitening(spec, self.dim)
        self.class_probabilities = build.class_probabilities(spec, self.dim)
        self.metadata: dict[str, Any] = {}
        self.path: Path | None = None
        self.fingerprint: str | None = None
        self.text_cache = TextCache(text_encoder, partial(encode_once, text_encoder))
        self.backbone_cache: BackboneCache | None = None
        self._hub_mixin_config = None  # `model.json` holds everything

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Self:
        """Builds a model from registered components, pretrained where their options say so.

        Raises:
            VlfewError: unknown component, missing weights, or sizes that do not fit.
        """
        return cls(spec, *build.encoders(spec))

    def forward(
        self, pixels: Tensor | Features | None = None, text: Tokens | Tensor | None = None
    ) -> DualStreamOutput:
        """Both streams as they are trained: without test-time augmentation and centering.

        Args:
            pixels: `[B, C, H, W]` in 0..255, any number type; or what `backbone_output` gives for them.
            text: the text encoder's inputs, each `[T, L]`, or its embeddings `[T, D_text]`.
        """
        image = None if pixels is None else self._forward_image(pixels)
        return DualStreamOutput(image, None if text is None else self._forward_text(text))

    def _forward_image(self, pixels: Tensor | Features) -> Features:
        """`[B, C, H, W]` to features; of a pseudo-Siamese model `embedding [B, 2 D]`, left and right, and no map."""
        if isinstance(pixels, Features):
            return Features(self.image_projection(pixels.embedding), pixels.map)
        x = self._backbone_input(pixels)
        features: Features = self.backbone(x)
        features.embedding = self.image_projection(features.embedding)
        if self.right_backbone is None:
            return features
        right = self.right_projection(self.right_backbone(x).embedding)
        return Features(torch.cat([features.embedding, right], dim=1))

    def backbone_output(self, pixels: Tensor) -> Features:
        """Pixels `[B, C, H, W]` in 0..255 to the backbone's output, before the projection; with gradients."""
        features: Features = self.backbone(self._backbone_input(pixels))
        return features

    def _backbone_input(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, C, H, W]` in 0..255, normalized and preprocessed."""
        x = self.normalize_pixels(pixels)
        if self.preprocessing is not None:
            # Always in float32: half precision would coarsen the images.
            with torch.autocast(x.device.type, enabled=False):
                x = self.preprocessing(x)
        # Convolutions in half precision are much faster in channels-last layout, on CPU and GPU.
        return x.contiguous(memory_format=torch.channels_last)

    def _forward_text(self, text: Tokens | Tensor) -> Tensor:
        """Tokens, each `[T, L]`, or the text encoder's output `[T, D_text]` to `[T, D]`."""
        encoded = self._text_encoder_output(text)
        if not self.uses_pretraining_classes:
            projected: Tensor = self.text_projection(encoded)  # type: ignore[misc]
            return projected
        known = l2_normalize(self.class_neighbors(encoded), dim=1)  # type: ignore[misc]
        return known if self.text_projection is None else known + self.text_projection(encoded)

    def _text_encoder_output(self, texts: Sequence[str] | Tokens | Tensor) -> Tensor:
        """Texts or tokens, each `[T, L]`, to `[T, D_text]`, which is returned as it is."""
        encoder = self.require_text_encoder()
        if isinstance(texts, Tensor):
            return texts
        if isinstance(texts, Mapping):
            embedding: Tensor = encoder(texts).embedding
            return embedding
        fixed = self.spec.text is not None and self.spec.text.fixed
        return self.text_cache.encode(texts) if fixed else encoder.encode(texts)

    def normalize_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, C, H, W]` in 0..255, standardized by the model's mean and standard deviation; float32."""
        return (pixels.float() - self.pixel_mean) / self.pixel_std

    def train(self, mode: bool = True) -> Self:
        """Training mode; frozen encoders stay in evaluation mode, apart from their trained parts."""
        super().train(mode)
        if mode:
            self.fingerprint = None  # the weights may change from now on
            for name, trained in self._frozen_encoders.items():
                getattr(self, name).eval()
                for part in trained:
                    part.train()
        return self

    def set_pixel_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets mean and standard deviation `[C]` (0..255) of the training images.

        Backbones with pretrained weights keep the statistics that those weights expect.
        """
        if self.backbone.pixel_mean is None:
            self.pixel_mean.copy_(mean.view(-1, 1, 1))
            self.pixel_std.copy_(std.view(-1, 1, 1))

    def fit_training_means(
        self, images: Iterable[Tensor | Sequence[Features]], labels: Tensor, texts: Sequence[Sequence[str]]
    ) -> None:
        """Stores what is computed from the training set after training, where the spec asks for it.

        That is the mean of all image and of all text embeddings (`center_embeddings`: both are subtracted), the
        covariance of images within classes (`whiten_embeddings`), the mean of the probabilities of known classes
        (`class_probabilities`), and the mean embedding of each class with its texts (`text.class_neighbors`).

        Args:
            images: batches of uint8 `[B, C, H, W]`, or of the backbone's outputs by view, in the order of `labels`.
            labels: `[n]`, indices of their classes in `texts`.
            texts: of each class; those without any are no neighbors.
        """
        self.fingerprint = None
        center = self.spec.center_embeddings
        self.eval()
        with torch.no_grad():
            of_batches = [[view.embedding.float() for view in self._forward_views(batch)] for batch in images]
        views = [torch.cat(parts) for parts in zip(*of_batches, strict=True)]
        if center:
            # All images share a direction, and so do all texts; it is removed from each.
            self.image_mean.zero_()
            self.image_mean.copy_(l2_normalize(self._join_views(views), dim=1).mean(0))
        if self.whitening is not None:
            self.whitening.fit(views[0], labels)
        if self.class_probabilities is not None:
            self.class_probabilities.fit(views[0])
        with torch.no_grad():
            embedding = l2_normalize(self._compared(views), dim=1).cpu()
        if self.class_neighbors is not None and not self.uses_pretraining_classes:
            with_text = [number for number, own in enumerate(texts) if own]
            encoded = encode_class_texts(
                lambda t: self._text_encoder_output(t).float().cpu(), [texts[number] for number in with_text]
            )
            means = normalized_mean(SupportSet(Features(embedding), labels, len(texts)))
            self.class_neighbors.fit(encoded, means[with_text])
        elif center and self.has_text:
            encoded = self._text_encoder_output([text for own in texts for text in own])
            with torch.no_grad():
                self.text_mean.copy_(self._unit_text(encoded.to(self.device)).float().mean(0))

    def fit_pretraining_classes(self) -> None:
        """Stores the classes that the backbone was pretrained on, where the spec asks for it.

        For texts, each is known by its names, and the first of them in `a photo of a {}`, and by the weights of the
        published classifier.

        Raises:
            ModelError: the backbone comes without such a classifier, or has a projection behind it.
        """
        if not self.uses_pretraining_classes and self.class_probabilities is None:
            return
        if self.spec.embedding_dim is not None:
            key = "text.class_neighbors.classes=pretraining compares texts with"
            if self.class_probabilities is not None:
                key = "image.class_probability_weight takes"
            raise ModelError(f"{key} the image encoder's own embedding; set embedding_dim=null")
        self.fingerprint = None
        known = self.backbone.pretrained_classifier()
        if self.class_probabilities is not None:
            self.class_probabilities.set_classifier(known.layer)
            self.spec.num_pretraining_classes = len(known.names)
        if not self.uses_pretraining_classes:
            return
        assert self.class_neighbors is not None and self.spec.text is not None
        texts = [[*own, f"a photo of a {own[0]}"] for own in known.names]
        encoded = cached_text_embeddings(
            hash_text_encoder(self.require_text_encoder()),
            texts,
            lambda: encode_class_texts(lambda t: self._text_encoder_output(t).float().cpu(), texts),
        )
        images = l2_normalize(known.layer.weight, dim=1)
        # Of centered embeddings, whose mean over these classes is about theirs.
        self.class_neighbors.fit(encoded, images - images.mean(0) if self.spec.center_embeddings else images)
        self.spec.text.num_classes = len(texts)

    @property
    def uses_pretraining_classes(self) -> bool:
        """Whether texts are represented by the classes that the backbone was pretrained on."""
        return build.uses_pretraining_classes(self.spec) and self.has_text

    @property
    def has_text(self) -> bool:
        """Whether the model has a text stream."""
        return self.text_encoder is not None

    def require_text_encoder(self) -> TextEncoder:
        """The text encoder; a ModelError where there is none."""
        if self.text_encoder is None:
            raise ModelError("this model has no text stream: it was trained without texts")
        return self.text_encoder

    @property
    def embedding_size(self) -> int:
        """Width E of the embeddings that `encode_image` and `encode_text` give."""
        return build.embedding_size(self.spec, self.dim)

    @property
    def pretrained_on_images(self) -> str:
        """What images the weights of either stream were pretrained on, by name, as CLIP's were; empty for none."""
        text_encoder = self.text_encoder
        return joined(
            [self.backbone.pretrained_on, "" if text_encoder is None else text_encoder.pretrained_on_images]
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def preprocess(self, images: Sequence[ImageInput]) -> Tensor:
        """Images decoded and resized to the model's input: uint8 `[B, C, H, W]`, not normalized (the model does that).

        Args:
            images: paths (`str` or `Path`), Pillow images, or uint8 arrays `[H, W]` or `[H, W, C]`.

        Raises:
            DataError: an image that cannot be read.
        """
        images = check_images(images)
        preprocessor, size = self.spec.preprocessor(), self.spec.image_size
        if not images:
            return torch.empty((0, self.spec.channels, size, size), dtype=torch.uint8)
        return torch.stack([read_image(to_readable(image), preprocessor) for image in images])

    def pixel_batches(self, images: Sequence[ImageInput] | Tensor) -> Iterator[Tensor]:
        """`preprocess` of many images, 64 at a time; images that are preprocessed are split alike.

        Raises:
            DataError: as `preprocess`, or a tensor of another type or size.
        """
        if isinstance(images, Tensor):
            check_pixels(images, self.spec)
            yield from images.split(BATCH_SIZE)
            return
        images = check_images(images)
        for start in range(0, max(len(images), 1), BATCH_SIZE):
            yield self.preprocess(images[start : start + BATCH_SIZE])

    @torch.no_grad()
    def encode_image(self, images: Sequence[ImageInput] | Tensor, normalize: bool = False) -> Tensor:
        """Images to embeddings `[B, E]` in the joint space; float32, on the model's device.

        Args:
            images: paths (`str` or `Path`), Pillow images, uint8 arrays `[H, W, C]`, or preprocessed uint8
                `[B, C, H, W]`.
            normalize: to unit length.

        Raises:
            DataError: an image that cannot be read, or a tensor of another type or size.
        """
        self.eval()
        batches = (batch.to(self.device) for batch in self.pixel_batches(images))
        embedding = torch.cat([self.encode_pixels(batch).embedding.float() for batch in batches])
        return l2_normalize(embedding, dim=1) if normalize else embedding

    @torch.no_grad()
    def image_features(self, pixels: Tensor | Sequence[Features]) -> Features:
        """Preprocessed images, uint8 `[B, C, H, W]`, or the backbone's output for each view, to features on the CPU.

        Returns:
            `embedding [B, E]` in float32 and, where the similarity needs it, `map` in half precision.

        Raises:
            DataError: a tensor of another type or size.
        """
        if not isinstance(pixels, list) or not all(isinstance(view, Features) for view in pixels):
            check_pixels(pixels, self.spec)
        self.eval()
        features = self.encode_pixels(pixels)
        maps = features.require("map", self.spec.similarity) if self.similarity.needs_map else None
        return Features(features.embedding.float().cpu(), None if maps is None else maps.half().cpu())

    def encode_pixels(self, pixels: Tensor | Sequence[Features]) -> Features:
        """What `encode_image` computes, with gradients: `[B, C, H, W]` in 0..255 to `embedding [B, E]`.

        Test-time augmentation concatenates the embeddings of V views, normalized where the similarity is the cosine,
        so that cosines and squared distances are means or sums over the views; the map is that of the image itself.
        Centering normalizes the result and subtracts `image_mean`; whitening, of each view, takes its place.

        Args:
            pixels: or the backbone's output for each of the views (`BackboneCache`).
        """
        features, *others = self._forward_views(pixels)
        features.embedding = self._compared([features.embedding, *(view.embedding for view in others)])
        return features

    def _forward_views(self, pixels: Tensor | Sequence[Features]) -> list[Features]:
        """The views of test-time augmentation, projected, on the model's device."""
        if isinstance(pixels, Tensor):
            return [self._forward_image(v) for v in augmented_views(pixels.to(self.device), self.spec.tta)]
        return [self._forward_image(view.apply(lambda part: part.to(self.device))) for view in pixels]

    def _join_views(self, views: Sequence[Tensor]) -> Tensor:
        """V embeddings `[B, D]` of the views to `[B, V * D]`."""
        if len(views) == 1:
            return views[0]
        cosine, sides = self.spec.similarity == "cosine", 1 if self.spec.share_weights else 2
        return concatenate_views(views, normalize=cosine, sides=sides)

    def _compared(self, views: Sequence[Tensor]) -> Tensor:
        """V embeddings `[B, D]` of the views to what is compared, `[B, E]`."""
        if self.whitening is not None:
            embedding = torch.cat([self.whitening(view) for view in views], dim=1)
        else:
            embedding = self._join_views(views)
            if self.spec.center_embeddings:
                embedding = l2_normalize(embedding, dim=1) - self.image_mean
        if self.class_probabilities is None:
            return embedding
        known = torch.stack([self.class_probabilities(view) for view in views]).mean(0)
        return mixed_embedding(embedding, known, self.spec.class_probability_weight)

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """The text encoder's inputs, each `[T, L]`, on the model's device; for `encode_text` and `forward`.

        Raises:
            ModelError: the model has no text stream.
            DataError: no texts, or something else than texts.
        """
        from transformers import BatchEncoding

        encoder = self.require_text_encoder()
        if not (texts := check_texts(texts)):
            raise DataError("there are no texts to tokenize")
        return BatchEncoding(encoder.tokenize(texts)).to(self.device)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str] | Tokens | Tensor, normalize: bool = False) -> Tensor:
        """Texts to embeddings `[T, E]` in the joint space; float32, on the model's device.

        Args:
            texts: a list of texts, or tokens as `tokenize` returns them, or token ids `[T, L]` alone.
            normalize: to unit length.

        Raises:
            ModelError: the model has no text stream.
            DataError: an empty text, the name of an image file, or a single text instead of a list.
        """
        self.require_text_encoder()
        self.eval()
        if isinstance(texts, Tensor):
            texts = {"input_ids": texts}
        if isinstance(texts, Mapping):
            check_tokens(texts)
            texts = {name: ids.to(self.device) for name, ids in texts.items()}
        else:
            texts = check_texts(texts)
        embedding = self.project_text(self._text_encoder_output(texts).to(self.device)).float()
        return l2_normalize(embedding, dim=1) if normalize else embedding

    def encode_tokens(self, tokens: Tokens) -> Tensor:
        """What `encode_text` computes, with gradients: tokens, each `[T, L]`, to `[T, E]`."""
        return self.project_text(self._text_encoder_output(tokens))

    def project_text(self, encoded: Tensor) -> Tensor:
        """The text encoder's output `[T, D_text]` to `[T, E]`, equally similar to all views of an image."""
        if self.class_neighbors is not None and not self.uses_pretraining_classes:
            neighbors: Tensor = self.class_neighbors(encoded)
            return neighbors
        if self.spec.center_embeddings:
            embedding = self._unit_text(encoded) - self.text_mean
        else:
            embedding = self._forward_text(encoded).repeat(1, NUM_VIEWS[self.spec.tta])
        if self.whitening is not None:
            views = [self.whitening.project_text(view) for view in embedding.split(self.dim, dim=1)]
            embedding = torch.cat(views, dim=1)
        if self.class_probabilities is None:
            return embedding
        known = embedding.new_zeros(len(embedding), self.spec.num_pretraining_classes)
        if self.uses_pretraining_classes:
            known = self.class_probabilities.embed(self.class_neighbors.shares(encoded))  # type: ignore[union-attr]
        return mixed_embedding(embedding, known, self.spec.class_probability_weight)

    def _unit_text(self, encoded: Tensor) -> Tensor:
        """The text encoder's output `[T, D_text]` to unit vectors `[T, V * D]`."""
        return l2_normalize(self._forward_text(encoded).repeat(1, NUM_VIEWS[self.spec.tta]), dim=1)
