"""The words that go with a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_told_apart


class TextBatches:
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

    def __init__(self, encoder: TextEncoder, data: LabeledImages, frozen: bool, device: torch.device) -> None:
        self._encoder, self._device = encoder, device
        self._texts = [text for texts in data.class_texts for text in texts]
        self._first = torch.tensor([0, *map(len, data.class_texts)]).cumsum(0)
        self._vectors: Tensor | None = None
        trained = data.classes("train").tolist()
        # Where every image is a class of its own, two may well be said by one caption.
        if len(data.indices("train")) > len(trained):
            check_told_apart(
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
