"""A class is what you say it is: some images, some words, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from vlfew.classifiers.multimodal_prototypes import MultimodalPrototypes, with_text
from vlfew.classifiers.support import IMAGE, TEXT, Support, images_with_words
from vlfew.core.checks import check_range
from vlfew.core.errors import DataError
from vlfew.core.features import Features
from vlfew.models.inputs import check_images, check_texts, told

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlfew.models.dual_stream import DualStream

Item: TypeAlias = "str | Path | Image"
ClassDescription: TypeAlias = "Item | Sequence[Item]"


class Prediction(NamedTuple):
    """The best class, its score, and how far ahead of the second best it is.

    The score is by the similarity the model was trained for, cosine where there are words; of a model that
    learned its similarity, it is a mixture of both where all classes have both. Where there is one class, nothing is
    second, and the margin is 0.
    """

    label: str
    score: float
    margin: float


class Classifier:
    """Classes by description: a `str` is words; a `Path` or PIL image is an image; a list mixes them.

    Args:
        model: encodes both.
        classes: class name to its description.
        text_weight: share of the words in a class that has images and words; 0..1.

    Raises:
        DataError: no classes, an empty description, an image that cannot be read, the name of an image
            file given as words, or the reverse.
        ConfigError: a text weight outside 0..1.
        ModelError: words, for a model without a text stream.
    """

    def __init__(
        self, model: DualStream, classes: Mapping[str, ClassDescription], text_weight: float = 0.5
    ) -> None:
        if not isinstance(classes, Mapping):
            raise DataError(
                f"classes are told as a dict, from the name of each to its words or images; got {told(classes)}"
            )
        check_range("text_weight", text_weight, 0, 1)
        self.model, self.classes = model, tuple(classes)
        if not classes:
            raise DataError("a classifier needs at least one class")
        texts: list[str] = []
        images: list[Path | Image] = []
        text_class: list[int] = []
        image_class: list[int] = []
        for number, (name, said) in enumerate(classes.items()):
            items: Sequence[Item] = said if isinstance(said, list | tuple) else [said]  # type: ignore[list-item]
            if not items:
                raise DataError(f"class {name!r} is described by nothing: give it words, images or both")
            for item in items:
                if isinstance(item, str):
                    check_texts([item], f"class {name!r}: ")
                    texts.append(item)
                    text_class.append(number)
                else:
                    check_images([item], f"class {name!r}: ")
                    images.append(item)
                    image_class.append(number)
        method = model.method("default")
        features = self._encode(images) if images else None
        if texts:
            # What images alone have, such as maps, serves where all classes have both.
            complete = set(image_class) == set(text_class)
            method = (
                with_text(method, model.feature_spec, text_weight)
                if complete
                else MultimodalPrototypes(model.feature_spec, text_weight=text_weight)
            )
            words = model.encode_texts(texts)
            features = Features(words) if features is None else images_with_words(features, words)
        assert features is not None
        support = Support(
            features=features,
            class_id=torch.tensor(image_class + text_class),
            n_classes=len(classes),
            modality=torch.tensor([IMAGE] * len(images) + [TEXT] * len(texts)),
            class_names=self.classes,
        )
        self.method = method.fit(support)

    def scores(self, images: Sequence[Path | Image]) -> Tensor:
        """Scores `[Q, N]` of images and classes."""
        return self.method.score(self._encode(images))

    def predict(self, images: Sequence[Path | Image]) -> list[Prediction]:
        """The best class for each image."""
        scores = self.scores(images)
        best, which = scores.topk(min(2, scores.shape[1]), dim=1)
        margin = best[:, 0] - best[:, 1] if best.shape[1] > 1 else torch.zeros(len(best))
        return [
            Prediction(self.classes[int(w)], float(s), float(m))
            for w, s, m in zip(which[:, 0], best[:, 0], margin, strict=True)
        ]

    def _encode(self, images: Sequence[Path | Image]) -> Features:
        """Reads and encodes images, some at a time."""
        check_images(images)
        if not images:
            raise DataError("there are no images to tell the class of")
        starts = range(0, len(images), 64)
        return Features.cat([self.model.encode_images(self.model.read(images[n : n + 64])) for n in starts])
