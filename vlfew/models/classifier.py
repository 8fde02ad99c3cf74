"""A class is what you say it is: some pictures, some words, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor

from vlfew.checks import require_within
from vlfew.errors import DataError
from vlfew.features import Features
from vlfew.models.items import require_pictures, require_words, told
from vlfew.scorers.pictures_and_words import PicturesAndWords, beside_words
from vlfew.scorers.support import PICTURE, WORDS, Support, pictures_with_words

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
    """Classes by description: a `str` is words; a `Path` or PIL image is a picture; a list mixes them.

    Args:
        model: encodes both.
        classes: class name to its description.
        text_weight: share of the words in a class that has pictures and words; 0..1.

    Raises:
        DataError: no classes, an empty description, a picture that cannot be read, the name of a picture
            file given as words, or the reverse.
        ConfigError: a text weight outside 0..1.
        ModelError: words, for a model without a text stream.
    """

    def __init__(
        self, model: DualStream, classes: Mapping[str, ClassDescription], text_weight: float = 0.5
    ) -> None:
        if not isinstance(classes, Mapping):
            raise DataError(
                f"classes are told as a dict, from the name of each to its words or pictures; got {told(classes)}"
            )
        require_within("text_weight", text_weight, 0, 1)
        self.model, self.classes = model, tuple(classes)
        if not classes:
            raise DataError("a classifier needs at least one class")
        texts: list[str] = []
        pictures: list[Path | Image] = []
        text_class: list[int] = []
        picture_class: list[int] = []
        for number, (name, said) in enumerate(classes.items()):
            items: Sequence[Item] = said if isinstance(said, list | tuple) else [said]  # type: ignore[list-item]
            if not items:
                raise DataError(f"class {name!r} is described by nothing: give it words, pictures or both")
            for item in items:
                if isinstance(item, str):
                    require_words([item], f"class {name!r}: ")
                    texts.append(item)
                    text_class.append(number)
                else:
                    require_pictures([item], f"class {name!r}: ")
                    pictures.append(item)
                    picture_class.append(number)
        scorer = model.scorer("default")
        features = self._encode(pictures) if pictures else None
        if texts:
            # What pictures alone have, such as maps, serves where all classes have both.
            complete = set(picture_class) == set(text_class)
            scorer = (
                beside_words(scorer, model.space, text_weight)
                if complete
                else PicturesAndWords(model.space, text_weight=text_weight)
            )
            words = model.encode_texts(texts)
            features = Features(words) if features is None else pictures_with_words(features, words)
        assert features is not None
        support = Support(
            features=features,
            class_id=torch.tensor(picture_class + text_class),
            n_classes=len(classes),
            modality=torch.tensor([PICTURE] * len(pictures) + [WORDS] * len(texts)),
            class_names=self.classes,
        )
        self.scorer = scorer.fit(support)

    def scores(self, images: Sequence[Path | Image]) -> Tensor:
        """Scores `[Q, N]` of pictures and classes."""
        return self.scorer.score(self._encode(images))

    def predict(self, images: Sequence[Path | Image]) -> list[Prediction]:
        """The best class for each picture."""
        scores = self.scores(images)
        best, which = scores.topk(min(2, scores.shape[1]), dim=1)
        margin = best[:, 0] - best[:, 1] if best.shape[1] > 1 else torch.zeros(len(best))
        return [
            Prediction(self.classes[int(w)], float(s), float(m))
            for w, s, m in zip(which[:, 0], best[:, 0], margin, strict=True)
        ]

    def _encode(self, images: Sequence[Path | Image]) -> Features:
        """Reads and encodes pictures, some at a time."""
        require_pictures(images)
        if not images:
            raise DataError("there are no pictures to tell the class of")
        starts = range(0, len(images), 64)
        return Features.cat([self.model.encode_images(self.model.read(images[n : n + 64])) for n in starts])
