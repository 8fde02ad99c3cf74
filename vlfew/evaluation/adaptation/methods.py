"""The few-shot methods that are compared: what fits a few-shot task and then scores images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet
from vlfew.core.errors import ConfigError, did_you_mean
from vlfew.core.features import Features, FeatureSpec
from vlfew.core.registry import Registry
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.adaptation.support_sampling import Draw, Splits
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank, encode_subset
from vlfew.models import FINE_TUNERS
from vlfew.models.fine_tuning import ClassTexts, FineTunedModel
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.cosine import cosine_matrix

CHUNK = 4096
"""Queries that are scored at a time."""
ALL = "all"
"""In place of a method: all that need no training of the model."""


@dataclass(frozen=True)
class Task:
    """N classes with K support images each and, where there is text, text embeddings.

    Attributes:
        context: the model and the data.
        splits: where the images come from.
        draw: the images; there may be more than K support images.
        shots: K.
        text_embeddings: `[N, D]`; None where classes have no text.
        texts: names of each class, without prompts; None where they have none.
        seed: of the draw, and of methods with random numbers.
    """

    context: EvaluationContext
    splits: Splits
    draw: Draw
    shots: int
    text_embeddings: Tensor | None
    texts: list[list[str]] | None
    seed: int

    @property
    def support_bank(self) -> FeatureBank:
        """The bank with the support and the held-out images."""
        return self.context.bank(self.splits.support)

    @property
    def query_bank(self) -> FeatureBank:
        """The bank with the queries."""
        return self.context.bank(self.splits.query)

    def support(self, text: bool) -> SupportSet:
        """The support images and, with `text`, one text embedding per class."""
        n, k = len(self.draw.classes), self.shots
        items = self.support_bank.features.embedding[self.draw.support[:, :k].flatten()]
        class_id, modality = torch.arange(n).repeat_interleave(k), torch.full((n * k,), IMAGE)
        if text and self.text_embeddings is not None:
            items = torch.cat([items, self.text_embeddings])
            class_id = torch.cat([class_id, torch.arange(n)])
            modality = torch.cat([modality, torch.full((n,), TEXT)])
        return self._support_set(items, class_id, modality)

    def text_support(self) -> SupportSet:
        """The text embeddings of the classes alone."""
        assert self.text_embeddings is not None
        n = len(self.draw.classes)
        return self._support_set(self.text_embeddings, torch.arange(n), torch.full((n,), TEXT))

    def _support_set(self, items: Tensor, class_id: Tensor, modality: Tensor) -> SupportSet:
        names = tuple(self.context.data.class_names[c] for c in self.draw.classes.tolist())
        items, class_id, modality = (t.to(scoring_device()) for t in (items, class_id, modality))
        return SupportSet(Features(items), class_id, len(names), modality, class_names=names)


class FittedMethod(ABC):
    """A method that was fitted to a task."""

    @abstractmethod
    def logits(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        """Logits `[Q, N]`, on the CPU, of the images at `positions [Q]` of a bank."""

    @abstractmethod
    def transfer(self, task: Task) -> FittedMethod | None:
        """The method, with what it has learned, on other classes by their text alone; None if it cannot."""


class ComparedMethod(ABC):
    """A few-shot method by name, with options that can be tuned.

    Args:
        name: of the method.
        registry: that it is in.
        fixed: options that are not tuned.

    Attributes:
        needs_text: whether every class must have text.
        grid: option name to the values that tuning may choose from.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """

    needs_text: bool
    grid: Mapping[str, Sequence[Any]]

    def __init__(self, name: str, registry: Registry, fixed: Mapping[str, Any]) -> None:
        self.name, self.registry, self._schema = name, registry, registry.options(name)
        checked = registry.checked(name, dict(fixed))
        self.fixed = {key: checked[key] for key in fixed}

    def options(self, chosen: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """All options: the fixed ones, the chosen ones, the others by default; random numbers depend on the task."""
        return self._schema(**{**chosen, **self.fixed}).model_dump(exclude={"seed"})

    def candidates(self) -> list[dict[str, Any]]:
        """The combinations of options that tuning may choose from, the defaults first."""
        free = {key: values for key, values in self.grid.items() if key not in self.fixed}
        every = [self.options(dict(zip(free, values, strict=True))) for values in product(*free.values())]
        default = self.options()
        return [default, *(options for options in every if options != default)]

    @abstractmethod
    def fit(self, task: Task, options: Mapping[str, Any]) -> FittedMethod:
        """Fits the method to a task."""


class FittedClassifier(FittedMethod):
    """A fitted few-shot classifier on frozen features."""

    def __init__(self, method: FewShotMethod) -> None:
        self.method = method

    @torch.no_grad()
    def logits(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        images, device = bank.features.embedding, scoring_device()
        parts = (images[part].to(device) for part in positions.split(CHUNK))
        return torch.cat([self.method.logits(Features(part)).cpu() for part in parts])

    def transfer(self, task: Task) -> FittedMethod | None:
        method = self.method.transfer(task.text_support())
        return None if method is None else FittedClassifier(method)


class ClassifierMethod(ComparedMethod):
    """A few-shot classifier on frozen features."""

    def __init__(self, name: str, fixed: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(name, CLASSIFIERS, fixed)
        component: Any = CLASSIFIERS.get(name)
        self.grid = component.grid
        # Of the instance, not of its class: with some options it needs text. One that can do without
        # would be another method under its name.
        self.needs_text = not _images_alone(component(FeatureSpec(1), **self.options()))

    def fit(self, task: Task, options: Mapping[str, Any]) -> FittedMethod:
        seed = {"seed": task.seed} if "seed" in self._schema.model_fields else {}
        spec = FeatureSpec(task.support_bank.features.embedding.shape[1])
        method = CLASSIFIERS.get(self.name)(spec, **options, **seed).to(scoring_device())
        return FittedClassifier(method.fit(task.support(text=not _images_alone(method))))


def _images_alone(method: FewShotMethod) -> bool:
    return method.needs_images and not method.needs_text


class FittedFineTuned(FittedMethod):
    """A model that was fine-tuned, with classes by their text."""

    def __init__(self, tuned: FineTunedModel, context: EvaluationContext, texts: ClassTexts) -> None:
        self.tuned, self.context, self.classes = tuned, context, tuned.embed_classes(texts).cpu()

    def logits(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        parts = []
        for part in positions.split(CHUNK):
            if self.tuned.model is self.context.model:
                images = bank.features.embedding[part]
            else:
                images = encode_subset(self.tuned.model, bank.data, bank.index[part], "again").embedding
            parts.append(self.tuned.scale * cosine_matrix(images, self.classes))
        return torch.cat(parts)

    def transfer(self, task: Task) -> FittedMethod | None:
        assert task.texts is not None
        return FittedFineTuned(self.tuned, self.context, task.texts)


class FineTuningMethod(ComparedMethod):
    """A fine-tuning method: gradient steps through the model, anew for every task."""

    needs_text = True

    def __init__(self, name: str, fixed: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(name, FINE_TUNERS, fixed)
        self.grid = {}

    def fit(self, task: Task, options: Mapping[str, Any]) -> FittedMethod:
        n, k = len(task.draw.classes), task.shots
        index = task.support_bank.index[task.draw.support[:, :k].flatten()]
        assert task.texts is not None
        tuned = FINE_TUNERS.get(self.name)(
            task.context.model,
            task.context.data.images.batch(index),
            torch.arange(n).repeat_interleave(k),
            task.texts,
            seed=task.seed,
            **options,
        )
        return FittedFineTuned(tuned, task.context, task.texts)


def frozen_methods() -> list[str]:
    """Names of the few-shot classifiers that work on frozen features and need nothing more."""
    names = []
    for name in CLASSIFIERS.names():
        if name in SIMILARITIES.names():
            continue
        component: Any = CLASSIFIERS.get(name)
        required = any(f.is_required() for f in CLASSIFIERS.options(name).model_fields.values())
        if not (component.needs_map or component.transductive or required):
            names.append(name)
    return names


def find_methods(
    names: Sequence[str], no_text: str, fixed: Mapping[str, Mapping[str, Any]]
) -> tuple[list[ComparedMethod], list[str]]:
    """The methods of these names, and the names of those that are skipped for lack of text.

    Methods that fine-tune the model (`coop`, `lora`) are not part of `all`.

    Args:
        names: of methods; `all` stands for those on frozen features.
        no_text: why classes have no text; "" where they have.
        fixed: by method, options that are not tuned.

    Raises:
        ConfigError: an unknown method, none, or a named one that needs text where there is none; fixed options of a
            method that is not compared.
    """
    frozen = frozen_methods()
    known = [ALL, *frozen, *FINE_TUNERS.names()]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown method {name!r}{did_you_mean(name, known)}")
    expanded = list(dict.fromkeys(n for name in names for n in (frozen if name == ALL else [name])))
    if not expanded:
        raise ConfigError(f"no method is named; known: {', '.join(known)}")
    kinds: dict[str, Any] = {n: ClassifierMethod if n in frozen else FineTuningMethod for n in expanded}
    methods: list[ComparedMethod] = [kinds[name](name, fixed.get(name, {})) for name in expanded]
    skipped = [method.name for method in methods if method.needs_text and no_text]
    for name in skipped:
        if name in names:
            without = [name for name in frozen if not ClassifierMethod(name).needs_text]
            raise ConfigError(
                f"method {name!r} needs text, and {no_text}; methods without text: {', '.join(without)}"
            )
    compared = [name for name in expanded if name not in skipped]
    for name in fixed:
        if name not in compared:
            raise ConfigError(
                f"options are fixed for {name!r}, which is not compared{did_you_mean(name, compared)}"
            )
    return [method for method in methods if method.name in compared], skipped
