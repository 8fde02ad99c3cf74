"""The texts that go with a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_distinct_texts


class TextBatches:
    """Gives the texts of a batch as `TrainingStep` takes them.

    A frozen encoder encodes the texts of the training classes once, at the start, and never sees those of the other
    classes. For one that is trained, texts are tokenized at every step.

    Args:
        encoder: of texts.
        data: whose class texts are used.
        frozen: whether the encoder is.
        device: of vectors and tokens.

    Raises:
        DataError: the encoder gives the same tokens for two training classes.
    """

    def __init__(self, encoder: TextEncoder, data: LabeledImages, frozen: bool, device: torch.device) -> None:
        self._encoder, self._device = encoder, device
        self._texts = [text for texts in data.class_texts for text in texts]
        self._first = torch.tensor([0, *map(len, data.class_texts)]).cumsum(0)
        self._vectors: Tensor | None = None
        trained = [c for c in data.classes("train").tolist() if data.class_texts[c]]
        # Where every image is a class of its own, two may share a caption.
        if len(data.indices("train")) > len(data.classes("train")):
            names, texts = data.class_names, data.class_texts
            way_out = ", or train without text (text.encoder=null)"
            check_distinct_texts(
                encoder, [names[c] for c in trained], [texts[c] for c in trained], way_out=way_out
            )
        if frozen:
            used = [number for c in trained for number in range(int(self._first[c]), int(self._first[c + 1]))]
            self._row = torch.zeros(len(self._texts), dtype=torch.long)
            self._row[used] = torch.arange(len(used))
            vectors = encoder.to(device).encode([self._texts[number] for number in used])
            self._vectors = vectors.to(device)

    def __call__(self, batch: Batch) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Vectors `[T, D_text]` or tokens of the batch's texts, and their classes `[T]`."""
        number = self._first[batch.text_classes] + batch.text_choice
        labels = batch.text_classes.to(self._device, non_blocking=True)
        if self._vectors is not None:
            return self._vectors[self._row[number].to(self._device, non_blocking=True)], labels
        tokens = self._encoder.tokenize([self._texts[i] for i in number.tolist()])
        return {name: value.to(self._device, non_blocking=True) for name, value in tokens.items()}, labels
