"""One training step's computation, as a single module for DistributedDataParallel to wrap."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.features import Features
from vlfew.losses.batch import BatchPairs, EncodedBatch
from vlfew.losses.gather import all_gather
from vlfew.losses.objective import Objective
from vlfew.models.dual_stream import DualStream


class TrainingStep(nn.Module):
    """Both streams over this process's share of a batch, then the objective over the whole batch.

    Gathering inside makes the loss, and so the gradient, the same whatever the number of processes
    (BatchNorm and dropout in the image stream aside, which are of each process's own images).

    Args:
        model: the model.
        objective: what is made small.
        classes: `[C]` the training classes, ascending.
    """

    classes: Tensor

    def __init__(self, model: DualStream, objective: Objective, classes: Tensor) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.register_buffer("classes", classes, persistent=False)

    def forward(
        self,
        pixels: Tensor,
        labels: Tensor,
        words: Tensor | dict[str, Tensor] | None = None,
        text_labels: Tensor | None = None,
        seed: int | None = None,
        pairs: BatchPairs | None = None,
        progress: float = 0.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch and its terms.

        Args:
            pixels: `[B / P, C, H, W]` in 0..255, this process's share.
            labels: `[B]` classes of the whole batch.
            words: T texts: the frozen encoder's vectors `[T, D_text]`, or its tokens when it is
                trained too.
            text_labels: `[T]` class of each text.
            seed: of this process's dropout in the image stream.
            pairs: those that the batch was drawn for, over the whole batch.
            progress: the share of the training that is done, 0 to 1.
        """
        # Words first: they are the same in every process, and so is their dropout then.
        text = None if words is None else self.project(self.read(words))
        if seed is not None:
            torch.manual_seed(seed)
        return self.judge(self.look(pixels), labels, text, text_labels, pairs, progress)

    def look(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Of images `[b, C, H, W]`: embeddings `[b, D]` and, where they are needed, maps `[b, C', H', W']`."""
        found = self.model.forward_images(pixels)
        if not (self.objective.needs_map or self.model.similarity.needs_map):
            return (found.embedding.float(),)
        return found.embedding.float(), found.need("map", "the objective").float()

    def read(self, words: Tensor | dict[str, Tensor]) -> Tensor:
        """Of texts, their vectors `[T, D_text]`: those of the encoder for tokens, and vectors as they are."""
        if isinstance(words, Tensor):
            return words
        assert self.model.text_encoder is not None
        encoded: Tensor = self.model.text_encoder(words).embedding
        return encoded

    def project(self, encoded: Tensor) -> Tensor:
        """The text encoder's vectors `[T, D_text]` to `[T, D]`."""
        return self.model.forward_texts(encoded).float()

    def judge(
        self,
        looked: tuple[Tensor, ...],
        labels: Tensor,
        text: Tensor | None,
        text_labels: Tensor | None,
        pairs: BatchPairs | None,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of a batch of which this process has `look`ed at its share; see `forward`."""
        image = Features(*map(all_gather, looked))
        batch = EncodedBatch(
            image=image,
            labels=labels,
            target=torch.searchsorted(self.classes, labels) if self.objective.needs_classes else None,
            words=text,
            text_labels=text_labels,
            similarity=self.model.similarity,
            drawn_pairs=pairs,
            progress=progress,
            unshared=not self.model.spec.share_weights,
        )
        return self.objective(batch)
