"""The words that go with a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlfew.data.batch import Batch
from vlfew.data.images import LabelledImages
from vlfew.encoders.text import TextEncoder
from vlfew.errors import DataError


class BatchWords:
    """Gives a batch's texts as `TrainingStep` takes them.

    A frozen encoder reads the texts of the training classes once, at the start; those of held-out
    classes are not even read. One that is trained gets tokens at every step.

    Args:
        encoder: of the text stream.
        data: whose class texts they are.
        frozen: whether the encoder is.
        device: where they are wanted.

    Raises:
        DataError: the encoder cannot tell the words of two training classes apart.
    """

    def __init__(
        self, encoder: TextEncoder, data: LabelledImages, frozen: bool, device: torch.device
    ) -> None:
        self._encoder, self._device = encoder, device
        self._texts = [text for texts in data.class_texts for text in texts]
        self._first = torch.tensor([0, *map(len, data.class_texts)]).cumsum(0)
        self._vectors: Tensor | None = None
        trained = data.classes("train").tolist()
        require_told_apart(
            encoder, [data.class_names[c] for c in trained], [data.class_texts[c] for c in trained]
        )
        if frozen:
            used = [number for c in trained for number in range(int(self._first[c]), int(self._first[c + 1]))]
            self._row = torch.zeros(len(self._texts), dtype=torch.long)
            self._row[used] = torch.arange(len(used))
            vectors = encoder.to(device).encode([self._texts[number] for number in used])
            self._vectors = vectors.to(device)

    def __call__(self, batch: Batch) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Vectors `[T, D_text]` or tokens of the batch's texts, and their classes `[T]`."""
        number = self._first[batch.words] + batch.text
        labels = batch.words.to(self._device)
        if self._vectors is not None:
            return self._vectors[self._row[number].to(self._device)], labels
        tokens = self._encoder.tokenize([self._texts[i] for i in number.tolist()])
        return {name: value.to(self._device) for name, value in tokens.items()}, labels


def require_told_apart(encoder: TextEncoder, names: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    """Refuses classes whose words are the same to the encoder: unknown to it, or cut where they differ.

    Args:
        encoder: of the texts.
        names: of N classes.
        texts: those of each of them.

    Raises:
        DataError: all texts of two classes become the same tokens; says which classes.
    """
    flat = iter(encoder.token_ids([text for of_class in texts for text in of_class]))
    seen: dict[frozenset[tuple[int, ...]], int] = {}
    for number, of_class in enumerate(texts):
        tokens = frozenset(next(flat) for _ in of_class)
        other = seen.setdefault(tokens, number)
        if other != number and tokens:
            raise DataError(
                f"classes {names[other]!r} and {names[number]!r} are the same to the text encoder "
                f"({texts[other][0]!r} and {of_class[0]!r} become the same tokens); give one other words, or "
                "train without words (text.encoder=null)"
            )
