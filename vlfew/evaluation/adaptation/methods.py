"""The few-shot methods that `adapt` compares: what fits a problem and then scores images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS, SIMILARITIES
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import IMAGE, TEXT, Support
from vlfew.core.config_file import parse_values
from vlfew.core.errors import ConfigError, did_you_mean
from vlfew.core.features import Features, FeatureSpec
from vlfew.core.registry import Registry
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.adaptation.support_sampling import Draw, Sides
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.feature_bank import FeatureBank, encode_images
from vlfew.models.fine_tuning import TUNERS, Texts, Tuned
from vlfew.similarities.base import cosine_matrix

CHUNK = 4096
"""Queries that are scored at a time."""
ALL = "all"


@dataclass(frozen=True)
class Problem:
    """N classes, each said in K images and, where there are words, in words.

    Attributes:
        context: the model and the data.
        sides: where the images come from.
        draw: which they are; more than K may be in it.
        shots: K.
        words: `[N, D]`; None where classes have none.
        texts: names of each class, in no prompt; None where they have none.
        seed: of the draw, and of methods that draw something themselves.
    """

    context: EvaluationContext
    sides: Sides
    draw: Draw
    shots: int
    words: Tensor | None
    texts: list[list[str]] | None
    seed: int

    @property
    def bank(self) -> FeatureBank:
        """What the support and the images held out are in."""
        return self.context.bank(self.sides.support)

    @property
    def queries(self) -> FeatureBank:
        """What the queries are in."""
        return self.context.bank(self.sides.query)

    def support(self, words: bool) -> Support:
        """The images of all classes and then, if wanted, their words; one item of words a class."""
        n, k = len(self.draw.classes), self.shots
        items = self.bank.features.embedding[self.draw.support[:, :k].flatten()]
        class_id, modality = torch.arange(n).repeat_interleave(k), torch.full((n * k,), IMAGE)
        if words and self.words is not None:
            items = torch.cat([items, self.words])
            class_id = torch.cat([class_id, torch.arange(n)])
            modality = torch.cat([modality, torch.full((n,), TEXT)])
        return _support(self, items, class_id, modality)

    def named(self) -> Support:
        """The classes by their words alone."""
        assert self.words is not None
        n = len(self.draw.classes)
        return _support(self, self.words, torch.arange(n), torch.full((n,), TEXT))


def _support(problem: Problem, items: Tensor, class_id: Tensor, modality: Tensor) -> Support:
    names = tuple(problem.context.data.class_names[c] for c in problem.draw.classes.tolist())
    device = scoring_device()
    return Support(
        Features(items.to(device)), class_id.to(device), len(names), modality.to(device), class_names=names
    )


class Fitted(ABC):
    """A method that has taken in a problem."""

    @abstractmethod
    def score(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        """Scores `[Q, N]`, on the CPU, of the images at `positions [Q]` of a bank."""

    @abstractmethod
    def transfer(self, problem: Problem) -> Fitted | None:
        """The method, with what it has learned, on other classes by their words alone; None if it cannot."""


class Method(ABC):
    """A way from a few images and words of classes to scores.

    Attributes:
        name: by which it is asked for.
        needs_text: whether it goes by words, and every class must be said in some.
        grid: option name to the values that validation may choose among.
    """

    name: str
    needs_text: bool
    grid: Mapping[str, Sequence[Any]]

    @abstractmethod
    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options, those not given by default.

        Raises:
            ValidationError: one that it does not have, or cannot have.
        """

    @abstractmethod
    def fit(self, problem: Problem, options: Mapping[str, Any]) -> Fitted:
        """Takes in a problem."""

    def candidates(self, fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What validation may choose among, the defaults first; what is fixed stays."""
        free = {key: values for key, values in self.grid.items() if key not in fixed}
        every = [dict(zip(free, values, strict=True)) for values in product(*free.values())]
        default = self.options(fixed)
        return [default, *(o for one in every if (o := self.options({**fixed, **one})) != default)]


class FittedScorer(Fitted):
    """A scorer that has its support."""

    def __init__(self, method: FewShotMethod) -> None:
        self.method = method

    @torch.no_grad()
    def score(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        images, device = bank.features.embedding, scoring_device()
        parts = (images[part].to(device) for part in positions.split(CHUNK))
        return torch.cat([self.method.score(Features(part)).cpu() for part in parts])

    def transfer(self, problem: Problem) -> Fitted | None:
        method = self.method.transfer(problem.named())
        return None if method is None else FittedScorer(method)


class ScorerMethod(Method):
    """A registered scorer over frozen features.

    Args:
        name: in the registry.
        fixed: options that are not to be chosen.
    """

    def __init__(self, name: str, fixed: Mapping[str, Any]) -> None:
        component: type[FewShotMethod] = CLASSIFIERS.get(name)  # type: ignore[assignment]
        self.name, self.grid, self._schema = name, component.grid, CLASSIFIERS.options(name)
        # Of the scorer and not of its class: with some options it needs words. One that may go by either
        # would without words be another method under its name.
        self.needs_text = not _by_images_alone(component(FeatureSpec(1), **self.options(fixed)))

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        # What it draws goes by the seed of the problem.
        return self._schema(**given).model_dump(exclude={"seed"})

    def fit(self, problem: Problem, options: Mapping[str, Any]) -> Fitted:
        seeded = {"seed": problem.seed} if "seed" in self._schema.model_fields else {}
        feature_spec = FeatureSpec(problem.bank.features.embedding.shape[1])
        method = CLASSIFIERS.get(self.name)(feature_spec, **options, **seeded).to(scoring_device())
        return FittedScorer(method.fit(problem.support(words=not _by_images_alone(method))))


def _by_images_alone(method: FewShotMethod) -> bool:
    return method.needs_images and not method.needs_text


class FittedTuner(Fitted):
    """A model that was tuned, and classes by their words."""

    def __init__(self, tuned: Tuned, context: EvaluationContext, texts: Texts) -> None:
        self.tuned, self.context, self.words = tuned, context, tuned.say(texts)

    def score(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        parts = []
        for part in positions.split(CHUNK):
            if self.tuned.model is self.context.model:
                seen = bank.features.embedding[part]
            else:
                index = bank.index[part]
                seen = encode_images(self.tuned.model, bank.data, index, "again").embedding
            parts.append(self.tuned.scale * cosine_matrix(seen, self.words))
        return torch.cat(parts)

    def transfer(self, problem: Problem) -> Fitted | None:
        assert problem.texts is not None
        return FittedTuner(self.tuned, self.context, problem.texts)


class TunerMethod(Method):
    """A registered tuner: gradient steps through the model itself, for every cell anew.

    Args:
        name: in the registry.
    """

    needs_text = True

    def __init__(self, name: str) -> None:
        self.name, self.grid, self._schema = name, {}, TUNERS.options(name)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._schema(**given).model_dump(exclude={"seed"})

    def fit(self, problem: Problem, options: Mapping[str, Any]) -> Fitted:
        n, k = len(problem.draw.classes), problem.shots
        images = problem.bank.index[problem.draw.support[:, :k].flatten()]
        assert problem.texts is not None
        tuned = TUNERS.get(self.name)(
            problem.context.model,
            problem.context.data.images.batch(images),
            torch.arange(n).repeat_interleave(k),
            problem.texts,
            seed=problem.seed,
            **options,
        )
        return FittedTuner(tuned, problem.context, problem.texts)


def cheap_methods() -> list[str]:
    """Names of all that work on the features of frozen models, and need nothing more."""
    names = []
    for name in CLASSIFIERS.names():
        component: Any = CLASSIFIERS.get(name)
        fields = CLASSIFIERS.options(name).model_fields.values()
        if not (name in SIMILARITIES.names() or component.needs_map or component.transductive) and not any(
            field.is_required() for field in fields
        ):
            names.append(name)
    return names


def find_methods(
    asked: Sequence[str], no_words: str, fixed: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Method], list[str]]:
    """The methods of these names, and those of `all` that were left out.

    Tuners (`coop`, `lora`) come by name alone: they train through the model, for every cell anew.

    Args:
        asked: names; `all` stands for all cheap ones.
        no_words: why classes have no words; "" where they have.
        fixed: by method, options that are not to be chosen.

    Raises:
        ConfigError: no such method, one twice, or one that needs words where there are none; says which
            remain.
    """
    cheap = cheap_methods()
    known = [ALL, *cheap, *TUNERS.names()]
    for name in asked:
        if name not in known:
            raise ConfigError(f"unknown method {name!r}{did_you_mean(name, known)}")
    names = list(dict.fromkeys(n for name in asked for n in (cheap if name == ALL else [name])))
    if not names:
        raise ConfigError(f"no method is named; known: {', '.join(known)}")
    methods: list[Method] = [
        ScorerMethod(name, fixed.get(name, {})) if name in cheap else TunerMethod(name) for name in names
    ]
    if not no_words:
        return methods, []
    remaining = [name for name in cheap if not ScorerMethod(name, {}).needs_text]
    for method in methods:
        if method.needs_text and method.name in asked:
            raise ConfigError(
                f"method {method.name!r} needs words, and {no_words}; without words remain: {', '.join(remaining)}"
            )
    left_out = [method.name for method in methods if method.needs_text]
    return [method for method in methods if not method.needs_text], left_out


def parse_fixed(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options that are not to be chosen, by method, from `METHOD.KEY=VALUE`.

    Raises:
        ConfigError: of another form, an unknown method or option, or a value that it cannot have.
    """
    given: dict[str, list[str]] = {}
    for setting in settings:
        name, dot, option = setting.partition(".")
        if not dot or "=" not in option:
            raise ConfigError(f"{setting!r} is not of the form METHOD.KEY=VALUE, such as linear_probe.c=1")
        known = [*cheap_methods(), *TUNERS.names()]
        if name not in known:
            raise ConfigError(f"unknown method {name!r}{did_you_mean(name, known)}")
        given.setdefault(name, []).append(option)
    return {
        name: parse_values(options, _registry_of(name).options(name), f"method {name!r}")
        for name, options in given.items()
    }


def _registry_of(name: str) -> Registry:
    return TUNERS if name in TUNERS.names() else CLASSIFIERS
