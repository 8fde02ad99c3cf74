"""The dual stream: images and words into one space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vlfew.classifiers import CLASSIFIERS, SIMILARITIES
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.prototypes import mean_texts, normalized_mean
from vlfew.classifiers.support import Support
from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.decode import read_image
from vlfew.encoders.image.backbone import Backbone, channel_stats
from vlfew.encoders.preprocessing.base import Preprocessing
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.class_neighbors import ClassNeighbors
from vlfew.models.hub import OnHub
from vlfew.models.inputs import check_images, check_texts, told
from vlfew.models.spec import ModelSpec
from vlfew.models.text_projection import TextProjection
from vlfew.models.trainable import set_trainable_parts
from vlfew.models.tta import TTA_VIEWS, augmented_views
from vlfew.similarities.unshared import Unshared

if TYPE_CHECKING:
    from vlfew.models.classifier import ClassDescription, Classifier
    from vlfew.models.inputs import ImageInput

KEPT_TEXTS = 50_000
"""At most so many texts are kept encoded: 75 MB at 384 numbers each."""


class DualStream(nn.Module, OnHub):
    """An image stream and a text stream that meet in one space, and the similarity used there.

    Attributes:
        metadata: what a saved model says of its training.
        home: the folder that it was loaded from, if any.
        fingerprint: a hash of its weights, once they are on the disk and no longer change.

    Args:
        spec: what it was built from.
        backbone: images `[B, C, H, W]` to `Features`.
        text_encoder: texts to `[T, D_text]`; None for a model without words.
        preprocessing: normalized images to what the backbone sees; None where it sees them as they are.
        right: a second backbone, where the twins share no weights; the first one is then the left.

    Raises:
        ModelError: words, for twins that share no weights.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backbone: Backbone,
        text_encoder: TextEncoder | None,
        preprocessing: Preprocessing | None = None,
        right: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.preprocessing = preprocessing
        # Weights and pixels alike: one of the two in the other layout undoes it for the whole network.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.dim = spec.embedding_dim or backbone.dim
        self.image_projection = _projection(backbone, spec)
        self.right_backbone: Backbone | None = None
        if right is not None:
            if text_encoder is not None:
                raise ModelError("twins that share no weights have no space in common for words to be in")
            self.right_backbone = right.to(memory_format=torch.channels_last)
            self.right_projection = _projection(right, spec)
        self.text_encoder = text_encoder
        self.text_projection: TextProjection | None = None
        self.class_neighbors: ClassNeighbors | None = None
        self._kept: dict[str, Tensor] = {}
        self.metadata: dict[str, Any] = {}
        self.home: Path | None = None
        self.fingerprint: str | None = None
        self._hub_mixin_config = None  # `model.json` says all
        if text_encoder is not None:
            assert spec.text is not None
            t = spec.text
            self.text_projection = TextProjection(
                t.projection, text_encoder.dim, self.dim, t.hidden, t.dropout
            )
            if t.class_neighbors is not None:
                dim = self.dim * TTA_VIEWS[spec.tta]
                self.class_neighbors = ClassNeighbors(t.classes, text_encoder.dim, dim, t.class_neighbors)
        shape, averaged = _map_shape(backbone, *seen_by_backbone(spec, preprocessing))
        self.feature_spec = FeatureSpec(self.dim, shape, averaged and spec.embedding_dim is None)
        self._trained_parts = self._open_towers()
        self.similarity: FewShotMethod = self._over_sides(
            SIMILARITIES.get(spec.similarity)(self.feature_spec, **spec.similarity_options)
        )
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        # Of the images' channels, which a front end may have made more of than the backbone's weights knew.
        mean = channel_stats(backbone.pixel_mean or (127.5 / 255,), spec.channels)
        std = channel_stats(backbone.pixel_std or (0.25,), spec.channels)
        self.register_buffer("pixel_mean", torch.tensor(mean).mul(255).view(-1, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(std).mul(255).view(-1, 1, 1))
        self.image_mean: Tensor
        self.text_mean: Tensor
        if spec.center_embeddings:
            self.register_buffer("image_mean", torch.zeros(self.dim * TTA_VIEWS[spec.tta]))
            self.register_buffer("text_mean", torch.zeros(self.dim * TTA_VIEWS[spec.tta]))

    def _open_towers(self) -> dict[str, list[nn.Module]]:
        """Sets what of each tower is trained; gives the trained parts of those that are not trained whole."""
        spec, parts = self.spec, dict[str, list[nn.Module]]()
        channels, side = seen_by_backbone(spec, self.preprocessing)
        shown = torch.zeros(1, channels, side, side)
        of_image = (spec.backbone_frozen, spec.backbone_unlocked, spec.backbone_lora)
        for name in ("backbone", "right_backbone"):
            if (tower := getattr(self, name)) is not None:
                parts[name] = set_trainable_parts(tower, *of_image, shown, "image")
        if (encoder := self.text_encoder) is not None and (t := spec.text) is not None:
            tokens = encoder.tokenize(["a"]) if t.unfreeze_last else {}
            parts["text_encoder"] = set_trainable_parts(
                encoder, t.frozen, t.unfreeze_last, t.lora, tokens, "text"
            )
        return parts

    @property
    def has_text(self) -> bool:
        return self.text_encoder is not None

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def set_pixel_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Per-channel mean and deviation `[C]` (0..255) of the training images.

        Backbones with pretrained weights keep the ones that those weights expect.
        """
        if self.backbone.pixel_mean is None:
            self.pixel_mean.copy_(mean.view(-1, 1, 1))
            self.pixel_std.copy_(std.view(-1, 1, 1))

    def fit_reference(self, images: Iterable[Tensor], labels: Tensor, texts: Sequence[Sequence[str]]) -> None:
        """Shows the model what it must know of the training classes, if it is centered or reads words by them.

        Args:
            images: uint8 `[B, C, H, W]` each, in the order of `labels`.
            labels: `[n]`, the places of their classes in `texts`.
            texts: of each class.
        """
        self.fingerprint = None
        if self.spec.center_embeddings:
            self.image_mean.zero_()
        seen = normalize(torch.cat([self.encode_images(batch).embedding for batch in images]), dim=1)
        if self.spec.center_embeddings:
            # Images and words have a direction of their own that all of a kind share.
            self.image_mean.copy_(seen.mean(0))
            seen = normalize(seen - seen.mean(0), dim=1)
        if self.class_neighbors is not None:
            words = mean_texts(lambda asked: self._read(asked).float().cpu(), texts)
            self.class_neighbors.remember(words, normalized_mean(Support(Features(seen), labels, len(texts))))
        elif self.spec.center_embeddings and self.has_text:
            self.text_mean.zero_()
            self.text_mean.copy_(self.encode_texts([text for own in texts for text in own]).mean(0))

    def train(self, mode: bool = True) -> DualStream:
        """Training mode; frozen parts stay in evaluation mode (no dropout, fixed statistics)."""
        super().train(mode)
        if mode:
            self.fingerprint = None  # of weights that may change from now on
        frozen = {"backbone": self.spec.backbone_frozen, "right_backbone": self.spec.backbone_frozen}
        frozen["text_encoder"] = self.spec.text is not None and self.spec.text.frozen
        for name, parts in self._trained_parts.items():
            if frozen[name]:
                getattr(self, name).eval()
                for part in parts:
                    part.train(mode)
        return self

    def normalized(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, C, H, W]` in 0..255 (any number type) by the model's mean and deviation, float32."""
        return (pixels.float() - self.pixel_mean) / self.pixel_std

    def forward_images(self, pixels: Tensor) -> Features:
        """Pixels `[B, C, H, W]` in 0..255 (any number type) to features, `embedding [B, D]`.

        From twins that share no weights, `[B, 2 D]`: what the left one gives beside what the right one
        gives; and no maps.
        """
        x = self.normalized(pixels)
        if self.preprocessing is not None:
            # In float32 whatever the network is trained in: half precision would coarsen the images.
            with torch.autocast(x.device.type, enabled=False):
                x = self.preprocessing(x)
        # Convolutions in half precision are much faster on channels-last memory, CPU and GPU alike.
        x = x.contiguous(memory_format=torch.channels_last)
        features: Features = self.backbone(x)
        features.embedding = self.image_projection(features.embedding)
        if self.right_backbone is None:
            return features
        right = self.right_projection(self.right_backbone(x).embedding)
        return Features(torch.cat([features.embedding, right], dim=1))

    def forward_texts(self, encoded: Tensor) -> Tensor:
        """The text encoder's vectors `[T, D_text]` to `[T, D]`."""
        if self.text_projection is None:
            raise ModelError("this model has no text stream: it was trained without words")
        projected: Tensor = self.text_projection(encoded)
        return projected

    def forward_views(self, images: Tensor) -> Features:
        """Pixels `[B, C, H, W]` in 0..255 to features of all views, `embedding [B, V * D]`.

        TestTimeAugmentation lie side by side, each normalized where the similarity is the cosine, so that cosines and
        squared distances of the whole are those of the views, averaged or summed. Of twins that share
        no weights, all views by the left one come first. Maps are those of the image itself. Of a centered
        model the whole is normalized and taken from `image_mean`.
        """
        features = self.forward_images(images)
        if self.spec.tta != "none":
            parts = [features.embedding]
            parts += [self.forward_images(view).embedding for view in augmented_views(images, self.spec.tta)]
            if self.right_backbone is not None:
                sides = zip(*(part.chunk(2, dim=1) for part in parts), strict=True)
                parts = [view for side in sides for view in side]
            if self.spec.similarity == "cosine":
                parts = [normalize(part, dim=1) for part in parts]
            features.embedding = torch.cat(parts, dim=1)
        if self.spec.center_embeddings:
            features.embedding = normalize(features.embedding, dim=1) - self.image_mean
        return features

    def forward_words(self, encoded: Tensor) -> Tensor:
        """The text encoder's vectors `[T, D_text]` to `[T, V * D]`, to be compared with what `forward_views` gives.

        As alike to all views of an image; of a centered model normalized, and taken from `text_mean`. A model that
        reads words by the training classes gives what those look like.
        """
        if self.class_neighbors is not None:
            imaged: Tensor = self.class_neighbors(encoded)
            return imaged
        words = self.forward_texts(encoded).repeat(1, TTA_VIEWS[self.spec.tta])
        return normalize(words, dim=1) - self.text_mean if self.spec.center_embeddings else words

    def forward_tokens(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """The text encoder's inputs, each `[T, L]`, to `[T, V * D]`; see `forward_words`.

        Raises:
            ModelError: the model has no text stream.
        """
        if self.text_encoder is None:
            raise ModelError("this model has no text stream: it was trained without words")
        return self.forward_words(self.text_encoder(tokens).embedding)

    def read(self, images: Sequence[ImageInput]) -> Tensor:
        """Paths and Pillow images as this model wants images: uint8 `[B, C, H, W]`, for `encode_images`.

        Raises:
            DataError: an image that cannot be read, or words in its place.
        """
        check_images(images)
        preprocessor = self.spec.preprocessor()
        pixels = [read_image(image, preprocessor) for image in images]
        empty = (0, preprocessor.channels, preprocessor.image_size, preprocessor.image_size)
        return torch.stack(pixels) if pixels else torch.empty(empty, dtype=torch.uint8)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Features:
        """uint8 `[B, C, H, W]`, as `read` gives, to features on the CPU: `embedding [B, V * D]` for V views.

        The embedding is float32 and not normalized (see `forward_views`). Maps are in half precision, and
        there where the similarity needs them.

        Raises:
            DataError: something else than images as this model sees them.
        """
        self._check_pixels(images)
        self.eval()
        features = self.forward_views(images.to(self.device))
        maps = features.need("map", self.spec.similarity) if self.similarity.needs_map else None
        return Features(features.embedding.float().cpu(), None if maps is None else maps.half().cpu())

    def _check_pixels(self, images: Tensor) -> None:
        """Refuses what is no tensor of uint8 `[B, C, H, W]` of the model's channels and side."""
        wanted = (self.spec.channels, self.spec.image_size, self.spec.image_size)
        if not isinstance(images, Tensor):
            got = told(images)
        elif images.dtype != torch.uint8 or images.shape[1:] != wanted:
            got = f"{images.dtype} {list(images.shape)}".removeprefix("torch.")
        else:
            return
        raise DataError(
            f"this model sees uint8 {['B', *wanted]}, and got {got}; model.read makes it of images, and "
            "load_data(..., reading=model.spec.reading()) of data sets".replace("'", "")
        )

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Texts to `[T, V * D]` in the space of the images; float32, on the CPU, not normalized.

        Raises:
            ModelError: the model has no text stream.
            DataError: an empty text, the name of an image file, or no list of texts.
        """
        if self.text_encoder is None:
            raise ModelError("this model has no text stream: it was trained without words")
        check_texts(texts)
        self.eval()
        return self.forward_words(self._read(texts).to(self.device)).float().cpu()

    def _read(self, texts: list[str]) -> Tensor:
        """The encoder's vectors `[T, D_text]`; those of a frozen encoder are kept, being always the same."""
        assert self.text_encoder is not None and self.spec.text is not None
        if not self.spec.text.fixed:
            return self.text_encoder.encode(texts)
        if len(self._kept) + len(texts) > KEPT_TEXTS:
            self._kept.clear()
        new = list(dict.fromkeys(text for text in texts if text not in self._kept))
        if new:
            self._kept.update(zip(new, self.text_encoder.encode(new).cpu(), strict=True))
        return torch.stack([self._kept[text] for text in texts]) if texts else self.text_encoder.encode(texts)

    def method(self, name: str = "default") -> FewShotMethod:
        """A scorer for this model's space.

        `default` is the one it was trained for: its own similarity where that is learned or was given
        options, or else prototypes under its metric. None has gradients.

        Raises:
            ModelError: a learned one that is not this model's.
        """
        own = self.similarity.learned or self.spec.similarity_options
        if name == self.spec.similarity or (name == "default" and own):
            return deepcopy(self.similarity).cpu().eval().requires_grad_(False)
        if name == "default":
            return self._over_sides(
                CLASSIFIERS.get("prototypes")(self.feature_spec, metric=self.spec.similarity)
            )
        component = CLASSIFIERS.get(name)
        if not getattr(component, "learned", False):
            return self._over_sides(component(self.feature_spec))
        trained = getattr(component, "weights_of", None) or name
        if trained != self.spec.similarity:
            raise ModelError(f"this model has no trained {trained}; train with similarity: {trained}")
        learned: FewShotMethod = component(self.feature_spec, **self.spec.similarity_options)
        learned.load_state_dict(self.similarity.state_dict())
        return learned.eval().requires_grad_(False)

    def _over_sides(self, method: FewShotMethod) -> FewShotMethod:
        """The scorer, for embeddings as this model gives them."""
        return method if self.right_backbone is None else Unshared(method)

    def classifier(self, classes: Mapping[str, ClassDescription], text_weight: float = 0.5) -> Classifier:
        """A classifier over classes said in images, words or both; see `Classifier`."""
        from vlfew.models.classifier import Classifier

        return Classifier(self, classes, text_weight)


def seen_by_backbone(spec: ModelSpec, preprocessing: Preprocessing | None) -> tuple[int, int]:
    """Channels and side in pixels of what the backbone sees."""
    if preprocessing is None:
        return spec.channels, spec.image_size
    return preprocessing.out_channels, preprocessing.out_size


def _projection(backbone: Backbone, spec: ModelSpec) -> nn.Module:
    """From the backbone's own vectors to those of the common space."""
    return nn.Identity() if spec.embedding_dim is None else nn.Linear(backbone.dim, spec.embedding_dim)


@torch.inference_mode()
def _map_shape(backbone: Backbone, channels: int, size: int) -> tuple[tuple[int, int, int] | None, bool]:
    """`(C, H, W)` of the backbone's map, and whether its embedding is that map averaged.

    Found out by showing it an image of what it takes. That is no blank one, of which a network without
    biases makes zeros, alike in whatever it gives.
    """
    training = backbone.training
    shade = torch.linspace(-1, 1, channels * size * size).view(1, channels, size, size)
    shown = backbone.eval()(shade.contiguous(memory_format=torch.channels_last))
    backbone.train(training)
    if shown.map is None:
        return None, False
    mean = shown.map.mean((2, 3))
    averaged = mean.shape == shown.embedding.shape and torch.allclose(mean, shown.embedding)
    return tuple(shown.map.shape[1:]), averaged
