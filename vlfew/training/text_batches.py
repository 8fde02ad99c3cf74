"""The texts that go with a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.data.batch import Batch
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.cache import TextCache
from vlfew.encoders.text.distinct import check_distinct_texts


class TextBatches:
    """Gives the texts of a batch as `TrainingStep` takes them.

    A frozen encoder encodes the texts of the training classes once, at the start, and never sees those of the other
    classes. For one that is trained, texts are tokenized at every step.

    Args:
        encoder: of texts.
        data: whose class texts are used.
        frozen: of a frozen encoder: its cache, through which it encodes; None for one that is trained.
        device: of vectors and tokens.

    Raises:
        DataError: the encoder gives the same tokens for two training classes.
    """

    def __init__(
        self, encoder: TextEncoder, data: LabeledImages, frozen: TextCache | None, device: torch.device
    ) -> None:
        self._encoder, self._device = encoder, device
        self._texts = [text for texts in data.class_texts for text in texts]
        self._first = torch.tensor([0, *map(len, data.class_texts)]).cumsum(0)
        self._vectors: Tensor | None = None
        trained = [c for c in data.classes("train").tolist() if data.class_texts[c]]
        # An image that is a class of its own may share its caption with another one.
        several = data.labels[data.indices("train")].bincount(minlength=len(data.class_names)) > 1
        check_distinct_texts(
            encoder,
            [data.class_names[c] for c in trained if several[c]],
            [data.class_texts[c] for c in trained if several[c]],
            way_out=", or train without text (text.encoder=null)",
        )
        if frozen is not None:
            used = [number for c in trained for number in range(int(self._first[c]), int(self._first[c + 1]))]
            self._row = torch.zeros(len(self._texts), dtype=torch.long)
            self._row[used] = torch.arange(len(used))
            encoder.to(device)
            self._vectors = frozen.encode([self._texts[number] for number in used]).to(device)

    def __call__(self, batch: Batch) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Vectors `[T, D_text]` or tokens of the batch's texts, and their classes `[T]`."""
        number = self._first[batch.text_classes] + batch.text_choice
        labels = batch.text_classes.to(self._device, non_blocking=True)
        if self._vectors is not None:
            return self._vectors[self._row[number].to(self._device, non_blocking=True)], labels
        tokens = self._encoder.tokenize([self._texts[i] for i in number.tolist()])
        return {name: value.to(self._device, non_blocking=True) for name, value in tokens.items()}, labels
