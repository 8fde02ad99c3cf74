"""The dual stream: pictures and words into one space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vlfew.data.decode import read_image
from vlfew.encoders.backbone import Backbone, channel_stats
from vlfew.encoders.front_end import FrontEnd
from vlfew.encoders.text import TextEncoder
from vlfew.errors import DataError, ModelError
from vlfew.features import Features, Space
from vlfew.models.hub import OnHub
from vlfew.models.items import require_pictures, require_words, told
from vlfew.models.neighbours import Neighbours
from vlfew.models.opening import open_tower
from vlfew.models.spec import ModelSpec
from vlfew.models.text_projection import TextProjection
from vlfew.models.views import VIEWS, further_views
from vlfew.scorers import SCORERS, SIMILARITIES
from vlfew.scorers.base import Scorer
from vlfew.scorers.prototypes import mean_texts, normalised_mean
from vlfew.scorers.support import Support
from vlfew.scorers.unshared import Unshared

if TYPE_CHECKING:
    from vlfew.models.classifier import ClassDescription, Classifier
    from vlfew.models.items import Picture

KEPT_TEXTS = 50_000
"""At most so many texts are kept encoded: 75 MB at 384 numbers each."""


class DualStream(nn.Module, OnHub):
    """An image stream and a text stream that meet in one space, and the similarity used there.

    Attributes:
        about: what a saved model says of its training.
        home: the folder that it was loaded from, if any.
        fingerprint: a hash of its weights, once they are on the disk and no longer change.

    Args:
        spec: what it was built from.
        backbone: pictures `[B, C, H, W]` to `Features`.
        text_encoder: texts to `[T, D_text]`; None for a model without words.
        front_end: normalised pictures to what the backbone sees; None where it sees them as they are.
        right: a second backbone, where the twins share no weights; the first one is then the left.

    Raises:
        ModelError: words, for twins that share no weights.
    """

    def __init__(
        self,
        spec: ModelSpec,
        backbone: Backbone,
        text_encoder: TextEncoder | None,
        front_end: FrontEnd | None = None,
        right: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.front_end = front_end
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
        self.neighbours: Neighbours | None = None
        self._kept: dict[str, Tensor] = {}
        self.about: dict[str, Any] = {}
        self.home: Path | None = None
        self.fingerprint: str | None = None
        self._hub_mixin_config = None  # `model.json` says all
        if text_encoder is not None:
            assert spec.text is not None
            t = spec.text
            self.text_projection = TextProjection(
                t.projection, text_encoder.dim, self.dim, t.hidden, t.dropout
            )
            if t.neighbours is not None:
                dim = self.dim * VIEWS[spec.views]
                self.neighbours = Neighbours(t.classes, text_encoder.dim, dim, t.neighbours)
        shape, averaged = _map_shape(backbone, *seen_by_backbone(spec, front_end))
        self.space = Space(self.dim, shape, averaged and spec.embedding_dim is None)
        self._trained_parts = self._open_towers()
        self.similarity: Scorer = self._over_sides(
            SIMILARITIES.get(spec.similarity)(self.space, **spec.similarity_options)
        )
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        # Of the pictures' channels, which a front end may have made more of than the backbone's weights knew.
        mean = channel_stats(backbone.pixel_mean or (127.5 / 255,), spec.channels)
        std = channel_stats(backbone.pixel_std or (0.25,), spec.channels)
        self.register_buffer("pixel_mean", torch.tensor(mean).mul(255).view(-1, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(std).mul(255).view(-1, 1, 1))
        self.picture_mean: Tensor
        self.word_mean: Tensor
        if spec.centred:
            self.register_buffer("picture_mean", torch.zeros(self.dim * VIEWS[spec.views]))
            self.register_buffer("word_mean", torch.zeros(self.dim * VIEWS[spec.views]))

    def _open_towers(self) -> dict[str, list[nn.Module]]:
        """Sets what of each tower is trained; gives the trained parts of those that are not trained whole."""
        spec, parts = self.spec, dict[str, list[nn.Module]]()
        channels, side = seen_by_backbone(spec, self.front_end)
        shown = torch.zeros(1, channels, side, side)
        of_image = (spec.backbone_frozen, spec.backbone_unlocked, spec.backbone_lora)
        for name in ("backbone", "right_backbone"):
            if (tower := getattr(self, name)) is not None:
                parts[name] = open_tower(tower, *of_image, shown, "image")
        if (encoder := self.text_encoder) is not None and (t := spec.text) is not None:
            tokens = encoder.tokenize(["a"]) if t.unlocked else {}
            parts["text_encoder"] = open_tower(encoder, t.frozen, t.unlocked, t.lora, tokens, "text")
        return parts

    @property
    def has_text(self) -> bool:
        return self.text_encoder is not None

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def set_pixel_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Per-channel mean and deviation `[C]` (0..255) of the training pictures.

        Backbones with pretrained weights keep the ones that those weights expect.
        """
        if self.backbone.pixel_mean is None:
            self.pixel_mean.copy_(mean.view(-1, 1, 1))
            self.pixel_std.copy_(std.view(-1, 1, 1))

    def refer_to(self, pictures: Iterable[Tensor], labels: Tensor, texts: Sequence[Sequence[str]]) -> None:
        """Shows the model what it must know of the training classes, if it is centred or reads words by them.

        Args:
            pictures: uint8 `[B, C, H, W]` each, in the order of `labels`.
            labels: `[n]`, the places of their classes in `texts`.
            texts: of each class.
        """
        self.fingerprint = None
        if self.spec.centred:
            self.picture_mean.zero_()
        seen = normalize(torch.cat([self.encode_images(batch).embedding for batch in pictures]), dim=1)
        if self.spec.centred:
            # Pictures and words have a direction of their own that all of a kind share.
            self.picture_mean.copy_(seen.mean(0))
            seen = normalize(seen - seen.mean(0), dim=1)
        if self.neighbours is not None:
            words = mean_texts(lambda asked: self._read(asked).float().cpu(), texts)
            self.neighbours.remember(words, normalised_mean(Support(Features(seen), labels, len(texts))))
        elif self.spec.centred and self.has_text:
            self.word_mean.zero_()
            self.word_mean.copy_(self.encode_texts([text for own in texts for text in own]).mean(0))

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

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels `[B, C, H, W]` in 0..255 (any number type) by the model's mean and deviation, float32."""
        return (pixels.float() - self.pixel_mean) / self.pixel_std

    def forward_images(self, pixels: Tensor) -> Features:
        """Pixels `[B, C, H, W]` in 0..255 (any number type) to features, `embedding [B, D]`.

        From twins that share no weights, `[B, 2 D]`: what the left one gives beside what the right one
        gives; and no maps.
        """
        x = self.normalised(pixels)
        if self.front_end is not None:
            # In float32 whatever the network is trained in: half precision would coarsen the pictures.
            with torch.autocast(x.device.type, enabled=False):
                x = self.front_end(x)
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

        Views lie side by side, each normalised where the similarity is the cosine, so that cosines and
        squared distances of the whole are those of the views, averaged or summed. Of twins that share
        no weights, all views by the left one come first. Maps are those of the picture itself. Of a centred
        model the whole is normalised and taken from `picture_mean`.
        """
        features = self.forward_images(images)
        if self.spec.views != "one":
            parts = [features.embedding]
            parts += [self.forward_images(view).embedding for view in further_views(images, self.spec.views)]
            if self.right_backbone is not None:
                sides = zip(*(part.chunk(2, dim=1) for part in parts), strict=True)
                parts = [view for side in sides for view in side]
            if self.spec.similarity == "cosine":
                parts = [normalize(part, dim=1) for part in parts]
            features.embedding = torch.cat(parts, dim=1)
        if self.spec.centred:
            features.embedding = normalize(features.embedding, dim=1) - self.picture_mean
        return features

    def forward_words(self, encoded: Tensor) -> Tensor:
        """The text encoder's vectors `[T, D_text]` to `[T, V * D]`, to be compared with what `forward_views` gives.

        As alike to all views of a picture; of a centred model normalised, and taken from `word_mean`. A model that
        reads words by the training classes gives what those look like.
        """
        if self.neighbours is not None:
            pictured: Tensor = self.neighbours(encoded)
            return pictured
        words = self.forward_texts(encoded).repeat(1, VIEWS[self.spec.views])
        return normalize(words, dim=1) - self.word_mean if self.spec.centred else words

    def forward_tokens(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """The text encoder's inputs, each `[T, L]`, to `[T, V * D]`; see `forward_words`.

        Raises:
            ModelError: the model has no text stream.
        """
        if self.text_encoder is None:
            raise ModelError("this model has no text stream: it was trained without words")
        return self.forward_words(self.text_encoder(tokens).embedding)

    def read(self, images: Sequence[Picture]) -> Tensor:
        """Paths and Pillow images as this model wants pictures: uint8 `[B, C, H, W]`, for `encode_images`.

        Raises:
            DataError: a picture that cannot be read, or words in its place.
        """
        require_pictures(images)
        reading = self.spec.reading()
        pixels = [read_image(image, reading) for image in images]
        empty = (0, reading.channels, reading.image_size, reading.image_size)
        return torch.stack(pixels) if pixels else torch.empty(empty, dtype=torch.uint8)

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Features:
        """uint8 `[B, C, H, W]`, as `read` gives, to features on the CPU: `embedding [B, V * D]` for V views.

        The embedding is float32 and not normalised (see `forward_views`). Maps are in half precision, and
        there where the similarity needs them.

        Raises:
            DataError: something else than pictures as this model sees them.
        """
        self._require_pixels(images)
        self.eval()
        features = self.forward_views(images.to(self.device))
        maps = features.need("map", self.spec.similarity) if self.similarity.needs_map else None
        return Features(features.embedding.float().cpu(), None if maps is None else maps.half().cpu())

    def _require_pixels(self, images: Tensor) -> None:
        """Refuses what is no tensor of uint8 `[B, C, H, W]` of the model's channels and side."""
        wanted = (self.spec.channels, self.spec.image_size, self.spec.image_size)
        if not isinstance(images, Tensor):
            got = told(images)
        elif images.dtype != torch.uint8 or images.shape[1:] != wanted:
            got = f"{images.dtype} {list(images.shape)}".removeprefix("torch.")
        else:
            return
        raise DataError(
            f"this model sees uint8 {['B', *wanted]}, and got {got}; model.read makes it of pictures, and "
            "load_data(..., reading=model.spec.reading()) of data sets".replace("'", "")
        )

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Texts to `[T, V * D]` in the space of the pictures; float32, on the CPU, not normalised.

        Raises:
            ModelError: the model has no text stream.
            DataError: an empty text, the name of a picture file, or no list of texts.
        """
        if self.text_encoder is None:
            raise ModelError("this model has no text stream: it was trained without words")
        require_words(texts)
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

    def scorer(self, name: str = "default") -> Scorer:
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
            return self._over_sides(SCORERS.get("prototypes")(self.space, metric=self.spec.similarity))
        component = SCORERS.get(name)
        if not getattr(component, "learned", False):
            return self._over_sides(component(self.space))
        trained = getattr(component, "weights_of", None) or name
        if trained != self.spec.similarity:
            raise ModelError(f"this model has no trained {trained}; train with similarity: {trained}")
        learned: Scorer = component(self.space, **self.spec.similarity_options)
        learned.load_state_dict(self.similarity.state_dict())
        return learned.eval().requires_grad_(False)

    def _over_sides(self, scorer: Scorer) -> Scorer:
        """The scorer, for embeddings as this model gives them."""
        return scorer if self.right_backbone is None else Unshared(scorer)

    def classifier(self, classes: Mapping[str, ClassDescription], text_weight: float = 0.5) -> Classifier:
        """A classifier over classes said in pictures, words or both; see `Classifier`."""
        from vlfew.models.classifier import Classifier

        return Classifier(self, classes, text_weight)


def seen_by_backbone(spec: ModelSpec, front_end: FrontEnd | None) -> tuple[int, int]:
    """Channels and side in pixels of what the backbone sees."""
    if front_end is None:
        return spec.channels, spec.image_size
    return front_end.out_channels, front_end.out_size


def _projection(backbone: Backbone, spec: ModelSpec) -> nn.Module:
    """From the backbone's own vectors to those of the common space."""
    return nn.Identity() if spec.embedding_dim is None else nn.Linear(backbone.dim, spec.embedding_dim)


@torch.inference_mode()
def _map_shape(backbone: Backbone, channels: int, size: int) -> tuple[tuple[int, int, int] | None, bool]:
    """`(C, H, W)` of the backbone's map, and whether its embedding is that map averaged.

    Found out by showing it a picture of what it takes. That is no blank one, of which a network without
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
