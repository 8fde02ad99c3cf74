"""Gradient caching (GradCache: Gao, Zhang, Han and Callan 2021): a large contrastive batch in little memory.

A loss over a batch needs the embeddings of all of it, but not all that led to them. So they are found in
chunks without a graph; the loss gives the gradient of each embedding; and chunk by chunk they are found
once more, with a graph, through which that gradient goes on to the weights (section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vlfew.core.errors import ConfigError
from vlfew.training.training_step import TrainingStep


class Chunks:
    """Items that are encoded so many at a time, twice, and with the same dropout both times.

    Args:
        encode: items `start` to `stop` as tensors, one for each kind of feature (`[b, D]`, say).
        count: of items.
        size: of a chunk.
        seed: of dropout; that of a chunk is so much further as its first item is.
        autocast: under which encoding is done.
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
        """All items, without what led to them; they gather a gradient."""
        with torch.no_grad():
            parts = [self._chunk(start) for start in range(0, self._count, self._size)]
        self._leaves = tuple(torch.cat(kind).requires_grad_() for kind in zip(*parts, strict=True))
        return self._leaves

    def backward(self) -> None:
        """Sends the gradients of `features` on to the weights."""
        for start in range(0, self._count, self._size):
            found = self._chunk(start)
            reached = [
                (part, leaf.grad[start : start + self._size])
                for part, leaf in zip(found, self._leaves, strict=True)
                if leaf.grad is not None and part.requires_grad
            ]
            if reached:
                torch.autograd.backward([part for part, _ in reached], [grad for _, grad in reached])


def backward_in_chunks(
    step: TrainingStep,
    accelerator: Accelerator,
    images: tuple[Callable[[int, int], Tensor], int],
    words: Tensor | dict[str, Tensor] | None,
    judge: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    *,
    size: int,
    seeds: tuple[int, int],
    share: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and terms of a batch; its gradients are left in the parameters.

    Args:
        step: what looks at images and reads texts.
        accelerator: gives precision, and scales the loss where that is needed.
        images: from `first` and `last` to those of the batch, augmented, the same at each call; and how many.
        words: texts: vectors as they are, or tokens, which are encoded in chunks as well.
        judge: from `looked=` and `text=` to loss and terms (`TrainingStep.judge`).
        size: of a chunk.
        seeds: of dropout: over the images, and over the texts.
        share: by which the loss is multiplied before its gradient is taken.
    """
    shown, count = images
    looking = Chunks(lambda a, b: step.look(shown(a, b)), count, size, seeds[0], accelerator.autocast)
    looked, chunked = looking.features(), [looking]
    if isinstance(words, dict):
        tokens, texts = words, len(next(iter(words.values())))

        def read(first: int, last: int) -> tuple[Tensor, ...]:
            return (step.read({name: value[first:last] for name, value in tokens.items()}),)

        preprocessor = Chunks(read, texts, size, seeds[1], accelerator.autocast)
        chunked.append(preprocessor)
        (words,) = preprocessor.features()
    torch.manual_seed(seeds[1])
    with accelerator.autocast():
        loss, terms = judge(looked=looked, text=None if words is None else step.project(words))
    accelerator.backward(loss * share)
    for part in chunked:
        part.backward()
    return loss, terms


def average_gradients(module: nn.Module) -> None:
    """Over processes, as DistributedDataParallel does of a backward pass that it knows of."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()


def check_no_batch_norm(model: nn.Module) -> None:
    """Refuses networks that look at the batch.

    Args:
        model: in the mode it is trained in.

    Raises:
        ConfigError: a BatchNorm that takes its statistics from the batch.
    """
    found = [n for n, m in model.named_modules() if isinstance(m, _BatchNorm) and m.training]
    if found:
        raise ConfigError(
            f"training.gradient_cache: {found[0]} is a BatchNorm, which would see a chunk in place of the "
            "batch; choose a network without (conv4 with norm: group), or freeze it"
        )
