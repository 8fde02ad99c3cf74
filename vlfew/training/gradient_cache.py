"""Gradient caching (GradCache: Gao, Zhang, Han and Callan 2021): a large contrastive batch in little memory.

A loss over a batch needs the embeddings of the whole batch, but not the activations behind them. So embeddings are
computed in chunks without a graph; the loss gives the gradient of each embedding; and chunk by chunk the embeddings
are computed again, with a graph, through which that gradient reaches the weights (section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vlfew.core.errors import ConfigError
from vlfew.training.batches import TrainingBatch
from vlfew.training.training_step import TrainingStep


class ChunkedEncoder:
    """Encodes items in chunks, twice, with the same dropout both times.

    Args:
        encode: items `start` to `stop` to tensors, one for each kind of feature (`[b, D]`, for example).
        count: of items.
        size: of a chunk.
        seed: of dropout; that of a chunk adds the number of its first item.
        autocast: context in which items are encoded.
    """

    def __init__(
        self,
        encode: Callable[[int, int], tuple[Tensor, ...]],
        count: int,
        size: int,
        seed: int,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._encode, self._count, self._size, self._seed = encode, count, size, seed
        self._autocast = autocast
        self._leaves: tuple[Tensor, ...] = ()

    def _chunk(self, start: int) -> tuple[Tensor, ...]:
        torch.manual_seed(self._seed + start)
        with self._autocast():
            return self._encode(start, min(start + self._size, self._count))

    def features(self) -> tuple[Tensor, ...]:
        """Features of all items, without a graph behind them; they collect gradients."""
        with torch.no_grad():
            chunks = [self._chunk(start) for start in range(0, self._count, self._size)]
        self._leaves = tuple(torch.cat(kind).requires_grad_() for kind in zip(*chunks, strict=True))
        return self._leaves

    def backward(self) -> None:
        """Passes the gradients of `features` on to the weights."""
        for start in range(0, self._count, self._size):
            pairs = [
                (feature, leaf.grad[start : start + self._size])
                for feature, leaf in zip(self._chunk(start), self._leaves, strict=True)
                if leaf.grad is not None and feature.requires_grad
            ]
            if pairs:
                torch.autograd.backward([feature for feature, _ in pairs], [grad for _, grad in pairs])


def backward_in_chunks(
    step: TrainingStep,
    accelerator: Accelerator,
    batch: TrainingBatch,
    progress: float,
    *,
    chunk_size: int,
    seeds: tuple[int, int],
    loss_weight: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Adds the gradients of a batch to the parameters.

    Args:
        step: model and objective.
        accelerator: precision and loss scaling.
        batch: this process's share.
        progress: fraction of the training that is done.
        chunk_size: in images or texts.
        seeds: of dropout over the images, and over the texts.
        loss_weight: factor of the loss in the gradients.

    Returns:
        Loss and terms of the objective.
    """

    def encode_images(first: int, last: int) -> tuple[Tensor, ...]:
        return step.encode_images(batch.pixels(first, last))

    images = ChunkedEncoder(encode_images, len(batch.images), chunk_size, seeds[0], accelerator.autocast)
    encoders, features = [images], images.features()
    vectors = batch.text
    if isinstance(vectors, dict):
        tokens = vectors

        def encode_text(first: int, last: int) -> tuple[Tensor, ...]:
            return (step.encode_text({name: value[first:last] for name, value in tokens.items()}),)

        count = len(next(iter(tokens.values())))
        texts = ChunkedEncoder(encode_text, count, chunk_size, seeds[1], accelerator.autocast)
        encoders.append(texts)
        (vectors,) = texts.features()
    torch.manual_seed(seeds[1])
    with accelerator.autocast():
        text = None if vectors is None else step.project_text(vectors)
        loss, loss_terms = step.compute_loss(features, text, vectors, batch.labels, progress)
    accelerator.backward(loss * loss_weight)
    for encoder in encoders:
        encoder.backward()
    return loss, loss_terms


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Averages gradients over processes.

    DistributedDataParallel does so only in a backward pass through its own forward.
    """
    if accelerator.num_processes > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, "mean")


def check_no_batch_norm(model: nn.Module) -> None:
    """Checks that no layer depends on which images are encoded together.

    Args:
        model: in training mode.

    Raises:
        ConfigError: a BatchNorm takes its statistics from the batch.
    """
    names = [name for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if names:
        raise ConfigError(
            f"training.gradient_cache: {names[0]} is a BatchNorm, which would see a chunk instead of the batch; "
            "choose a network without BatchNorm (conv4 with norm: group), or freeze it"
        )
