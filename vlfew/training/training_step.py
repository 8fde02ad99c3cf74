"""The computation of a training step as one module, which DistributedDataParallel wraps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlfew.core.features import Features
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.gather import all_gather
from vlfew.losses.objective import Objective
from vlfew.models.dual_stream import DualStream
from vlfew.training.batches import BatchLabels


class TrainingStep(nn.Module):
    """Encodes this process's share of a batch, then computes the objective over the whole batch.

    Features are gathered inside, so that loss and gradients are the same for any number of processes (except for
    BatchNorm and dropout of the image encoder, which see only their process's images).

    Args:
        model: that is trained.
        objective: that is minimized.
        classes: `[C]` the training classes, ascending.
    """

    classes: Tensor

    def __init__(self, model: DualStream, objective: Objective, classes: Tensor) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.register_buffer("classes", classes, persistent=False)

    def forward(
        self,
        pixels: Tensor | Features,
        labels: BatchLabels,
        text: Tensor | dict[str, Tensor] | None = None,
        progress: float = 0.0,
        image_seed: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and the terms of the objective by name.

        Args:
            pixels: `[B / P, C, H, W]` in 0..255, the share of this one of P processes; or cached outputs of a frozen
                backbone for them.
            labels: of the whole batch.
            text: T texts: vectors `[T, D_text]` of a frozen text encoder, or tokens `[T, L]` by name.
            progress: share of the training that is done, 0 to 1.
            image_seed: of dropout in this process's image encoder.
        """
        # Text first: it is the same in every process, and so is its dropout.
        vectors = None if text is None else self.encode_text(text)
        embedding = None if vectors is None else self.project_text(vectors)
        if image_seed is not None:
            torch.manual_seed(image_seed)
        return self.compute_loss(self.encode_images(pixels), embedding, vectors, labels, progress)

    def encode_images(self, pixels: Tensor | Features) -> tuple[Tensor, ...]:
        """Embeddings `[b, D]` of images `[b, C, H, W]`, and maps `[b, C', H', W']` where they are needed."""
        features = self.model(pixels, None).image
        if not (self.objective.needs_map or self.model.similarity.needs_map):
            return (features.embedding.float(),)
        return features.embedding.float(), features.require("map", "the objective").float()

    def encode_text(self, text: Tensor | dict[str, Tensor]) -> Tensor:
        """The text encoder's vectors `[T, D_text]` of tokens; vectors are returned unchanged."""
        if isinstance(text, Tensor):
            return text
        assert self.model.text_encoder is not None
        vectors: Tensor = self.model.text_encoder(text).embedding
        return vectors

    def project_text(self, vectors: Tensor) -> Tensor:
        """The text encoder's vectors `[T, D_text]` to embeddings `[T, D]`."""
        embedding: Tensor = self.model(None, vectors).text
        return embedding.float()

    def compute_loss(
        self,
        features: tuple[Tensor, ...],
        text: Tensor | None,
        vectors: Tensor | None,
        labels: BatchLabels,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms.

        Args:
            features: what `encode_images` gave for this process's share.
            text: embeddings `[T, D]`.
            vectors: `[T, D_text]` that they were projected from.
            labels: of the whole batch.
            progress: share of the training that is done.
        """
        batch = EncodedBatch(
            image=Features(*map(all_gather, features)),
            labels=labels.labels,
            target=torch.searchsorted(self.classes, labels.labels) if self.objective.needs_classes else None,
            text=text,
            text_vectors=vectors,
            text_labels=labels.text_labels,
            similarity=self.model.similarity,
            sampled_pairs=labels.pairs,
            progress=progress,
            unshared=not self.model.spec.share_weights,
            host_labels=labels.host_labels,
        )
        return self.objective(batch)
