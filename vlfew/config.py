"""The configuration of a run: typed sections with their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Resize = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
OnBadImage = Literal["error", "skip"]
Center = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A mapping with known keys only."""

    model_config = ConfigDict(extra="forbid")


class Component(BaseModel):
    """A mapping that names a registered component; its further keys are that component's options."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the component."""
        return dict(self.model_extra or {})


class Data(Component):
    """Where pictures come from and how they are read (`vlfew.data.Reading`)."""

    name: str = "glyphs"
    root: Path | None = None
    image_size: Annotated[int, Field(ge=8)] = 32
    channels: Literal[1, 3] = 1
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    center: Center = 1.0
    on_bad_image: OnBadImage = "error"
    split_seed: int = 0


class Lora(Section):
    """LoRA of a tower whose own weights stay as they are (Hu et al. 2022; needs peft).

    Attributes:
        rank: of what is learned beside a layer.
        alpha: what is learned counts `alpha / rank` times.
        dropout: on what it sees.
        layers: a glob over the names of the layers in the tower's blocks: dense ones, convolutions and
            attentions. As in `*_proj`; all of them, where it is not given.
    """

    rank: Count = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    layers: str = "*"


class Tower(Component):
    """A stream, and what of it is trained: all, nothing (`frozen`), or a part of what is frozen.

    Attributes:
        frozen: its weights stay as they are.
        unlocked: so many last blocks of a frozen tower, and what comes after them, are trained all the same.
        lora: of a frozen tower.
    """

    frozen: bool
    unlocked: Annotated[int, Field(ge=0)] = 0
    lora: Lora | None = None

    @model_validator(mode="after")
    def _of_a_frozen_tower(self) -> Tower:
        asked = [key for key, given in (("unlocked", self.unlocked), ("lora", self.lora)) if given]
        if asked and not self.frozen:
            raise ValueError(f"{asked[0]} is of a frozen tower; set frozen: true beside it")
        if len(asked) > 1:
            raise ValueError("unlocked and lora are two ways to train a part of a tower; choose one")
        return self

    @property
    def fixed(self) -> bool:
        """Whether nothing of it is trained."""
        return self.frozen and not self.unlocked and self.lora is None


Views = Literal["one", "mirror", "turns", "symmetries"]
Twins = Literal["shared", "unshared"]


class FrontEnd(Component):
    """What pictures go through before the backbone, by name, with its options."""

    name: str


class Image(Tower):
    """The image stream: a backbone and its options.

    `front_end` stands before the backbone, in training, evaluation and use alike.

    `views` is what evaluation and use see of a picture: itself; itself and its mirror image; its four
    quarter turns; or all eight `symmetries` of the square, the turns and their mirror images. Two pictures
    are then as alike as their views of the same kind are on average.
    `twins: unshared` is a pseudo-Siamese pair: two backbones of the same make with weights of their own,
    one for each side of a comparison.
    `centred`: embeddings are taken, each normalised, from the mean of those of the training pictures
    (CL2N of SimpleShot, Wang et al. 2019), and words from the mean of the training classes': what all of a
    kind have in common tells no class.
    """

    backbone: str = "conv4"
    front_end: FrontEnd | None = None
    frozen: bool = False
    views: Views = "one"
    twins: Twins = "shared"
    centred: bool = False

    @property
    def stream(self) -> str:
        """Its name for people: of the backbone and, if there is one, what stands before it."""
        return self.backbone if self.front_end is None else f"{self.front_end.name} into {self.backbone}"


class Text(Tower):
    """The text stream: a pretrained encoder and its options, and the projection that is learned.

    `neighbours`, a temperature: once trained, words are not read by the projection but by the training classes that
    have words like them (`vlfew.models.neighbours`).

    `encoder: null` trains without words. `projection: none` takes the encoder's own space.
    """

    encoder: str | None = "minilm"
    frozen: bool = True
    projection: Literal["none", "linear", "mlp"] = "mlp"
    hidden: Count = 512
    dropout: Fraction = 0.1
    neighbours: Annotated[float, Field(gt=0)] | None = None


class Loss(Component):
    """One term of the objective; it counts from `start` to `stop`, shares of the training."""

    loss: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    start: Fraction = 0.0
    stop: Fraction = 1.0

    @model_validator(mode="after")
    def _some_share(self) -> Loss:
        if self.start >= self.stop:
            raise ValueError(f"start ({self.start:g}) must be below stop ({self.stop:g})")
        return self


class Similarity(Component):
    """How alike two pictures are, by name (a scorer), with its options; a name alone will do."""

    scorer: str = "cosine"

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"scorer": value} if isinstance(value, str) else value


Form = Literal["classes", "pairs", "tasks", "given_pairs"]
Even = Annotated[int, Field(ge=2, multiple_of=2)]


class Sampling(Section):
    """A batch, in one of four forms; `classes: 64, pictures: 4` where none is given.

    - `classes` classes with `pictures` pictures each.
    - `pairs` pairs of pictures, half of one class and half of two.
    - `tasks` one-shot tasks: a query, and one picture of each of `ways` classes, its own among them.
    - `given_pairs` of the data set's own training pairs, half the same and half different. Nothing else
      is told of the pictures, and only losses over pairs can be trained.

    With `groups`, a batch comes from that many groups (alphabets) in equal parts: classes of each, or
    pairs and tasks that lie within one. So it holds the confusions that within-group evaluation asks
    about. `distinct_sources` sets pictures of different sources (drawers) beside each other. The words
    of `more_words` further training classes go with the batch as wrong answers. Classes with fewer
    pictures than `least_pictures` are left out.
    """

    classes: Annotated[int, Field(ge=2)] | None = None
    pictures: Count | None = None
    pairs: Even | None = None
    tasks: Count | None = None
    ways: Annotated[int, Field(ge=2)] | None = None
    given_pairs: Even | None = None
    groups: Count | None = None
    distinct_sources: bool = True
    more_words: Annotated[int, Field(ge=0)] = 0
    least_pictures: Count = 1

    @model_validator(mode="after")
    def _one_form(self) -> Sampling:
        forms = {
            "classes and pictures": self.classes is not None or self.pictures is not None,
            "pairs": self.pairs is not None,
            "tasks and ways": self.tasks is not None or self.ways is not None,
            "given_pairs": self.given_pairs is not None,
        }
        asked = [form for form, given in forms.items() if given]
        if len(asked) > 1:
            raise ValueError(
                f"a batch is of one form: {' or '.join(asked)}; set those of the other forms to null"
            )
        if (self.tasks is None) != (self.ways is None):
            raise ValueError("tasks and ways go together")
        if self.form == "classes":
            self.classes = 64 if self.classes is None else self.classes
            self.pictures = 4 if self.pictures is None else self.pictures
        if self.given_pairs is not None:
            if "distinct_sources" not in self.model_fields_set:
                self.distinct_sources = False
            if self.groups or self.distinct_sources or self.more_words or self.least_pictures > 1:
                raise ValueError(
                    "given_pairs are as they are: groups, distinct_sources, more_words and least_pictures "
                    "have no part in them"
                )
        return self

    @property
    def form(self) -> Form:
        """Which of the four forms it is."""
        if self.pairs is not None:
            return "pairs"
        if self.given_pairs is not None:
            return "given_pairs"
        return "classes" if self.tasks is None else "tasks"

    @property
    def batch_size(self) -> int:
        """Pictures in a batch."""
        sizes = {
            "classes": (self.classes or 0) * (self.pictures or 0),
            "pairs": 2 * (self.pairs or 0),
            "tasks": (self.tasks or 0) * (1 + (self.ways or 0)),
            "given_pairs": 2 * (self.given_pairs or 0),
        }
        return sizes[self.form]

    def options(self) -> dict[str, Any]:
        """What the sampler of the form takes."""
        own = {
            "classes": {"classes", "pictures"},
            "pairs": {"pairs"},
            "tasks": {"tasks", "ways"},
            "given_pairs": {"given_pairs"},
        }[self.form]
        common = {"groups", "distinct_sources", "more_words", "least_pictures"}
        return self.model_dump(include=own if self.form == "given_pairs" else own | common)


class Augment(Section):
    """Random changes to training pictures, each uniform within +- its bound.

    Rotation and shears (along rows, and `shear_y` along columns) in degrees; scale and translation as
    fractions, drawn for width and height apart; `elastic` is the largest shift of a smooth random field,
    as a fraction of the picture; `erase` is the probability of blanking a box of up to a quarter of the
    picture. Each of the seven parts of the affine map (rotation, two shears, two scales, two
    translations) is applied with probability `each`. Koch et al. 2015, section 3.3, at 105 pixels:
    `{rotate: 10, shear: 17.2, shear_y: 17.2, scale: 0.2, translate: 0.019, each: 0.5}`.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=60)] = 0.0
    shear_y: Annotated[float, Field(ge=0, lt=60)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    translate: Fraction = 0.0
    each: Fraction = 1.0
    elastic: Annotated[float, Field(ge=0, le=0.25)] = 0.0
    flip: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    erase: Fraction = 0.0


class Layers(Section):
    """Settings of their own for the trained parameters whose names match a glob.

    What is given here takes the place of the value of that name in `optim`: `lr` is a learning rate,
    not a factor, and goes through the same warm-up and schedule. Where several globs match a
    parameter, the last one that gives a value wins. A `weight_decay` reaches biases and norms only
    under a glob that matches nothing else (`*.bias`).

    Attributes:
        match: as in `backbone.dense.*`, against the names in `model.safetensors`, and `objective.*` for
            what the losses learn; capitals count.
    """

    match: str
    lr: Annotated[float, Field(gt=0)] | None = None
    momentum: Momentum | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Layers:
        if (self.lr, self.momentum, self.weight_decay) == (None, None, None):
            raise ValueError("give lr, momentum or weight_decay for what matches")
        return self


class Optim(Section):
    """An optimiser with linear warm-up and a schedule, over optimiser steps.

    After the warm-up the learning rate falls in half a cosine to zero, stays `constant`, or is
    multiplied by `decay` after every `decay_every` steps (`exponential`). Weight decay is decoupled
    in AdamW and an L2 penalty, added to the gradient, in the others; matrices and kernels decay,
    biases and norms do not. `momentum` is beta 1 in Adam and AdamW; RMSprop has none unless it is
    given; from `momentum_start`, where given, it goes linearly to its value at the last step
    (Koch et al. 2015, section 3.2). `layers` give parts of the model their own settings.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Momentum = 0.9
    # Above zero: RMSprop makes room for its momentum at the first step or never.
    momentum_start: Annotated[float, Field(gt=0, lt=1)] | None = None
    steps: Count = 1000
    warmup: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["cosine", "constant", "exponential"] = "cosine"
    decay: Annotated[float, Field(gt=0, le=1)] = 0.99
    decay_every: Count = 100
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    layers: list[Layers] = []

    @model_validator(mode="after")
    def _usual_momentum(self) -> Optim:
        if self.name == "rmsprop" and "momentum" not in self.model_fields_set:
            self.momentum = 0.0
        return self


def _no(value: Any) -> Any:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class Training(Section):
    """How the steps are run. `mixed_precision: auto` is bf16 where the hardware has it, else no.

    With `gradient_cache` the networks see so many pictures (and texts) of a batch at a time, twice, and
    memory does not grow with the batch (`vlfew.training.gradient_cache`).
    """

    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_no)] = "auto"
    accumulation: Count = 1
    gradient_cache: Count | None = None
    compile: bool = False
    validate_every: Count = 200
    patience: Count | None = None
    checkpoint_every: Count = 200
    log_every: Count = 20
    trackers: list[Literal["tensorboard"]] = []


class Protocol(Component):
    """An evaluation by name, with that protocol's options; used for validation and after training."""

    protocol: str


class Repeat(Section):
    """The same run for each of some values of one key: the folds of a protocol, or seeds."""

    key: str
    values: Annotated[list[int | float | str], Field(min_length=2)]

    @model_validator(mode="after")
    def _each_its_own_run(self) -> Repeat:
        if self.key.partition(".")[0] in ("name", "repeat", "evaluate"):
            raise ValueError(f"{self.key} cannot be repeated over: it does not change what is trained")
        names = [str(value) for value in self.values]
        if len(set(names)) < len(names):
            raise ValueError("values must differ from each other")
        if odd := next((name for name in names if not re.fullmatch(r"[\w.+-]*\w", name)), None):
            raise ValueError(f"{odd!r} cannot be part of a folder's name")
        return self


class Config(Section):
    """A whole run.

    `embedding_dim: null` keeps the backbone's own vectors. `select` says how checkpoints are compared
    on the validation split (one-shot episodes when not given), `evaluate` what is measured at the end.
    `start_from`, a run folder or any name that `vlfew.load` takes, gives the weights to begin with.
    With `repeat` there is a run for each value, and the results are means over the runs.
    """

    name: str = "run"
    seed: int = 0
    data: Data = Data()
    image: Image = Image()
    text: Text = Text()
    embedding_dim: Count | None = 256
    similarity: Similarity = Similarity()
    objective: Annotated[list[Loss], Field(min_length=1)]
    fallback: Loss = Loss(loss="contrastive")
    start_from: str | None = None
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    optim: Optim = Optim()
    training: Training = Training()
    select: Protocol | None = None
    evaluate: list[Protocol] = []
    repeat: Repeat | None = None

    @field_validator("name")
    @classmethod
    def _below_the_runs(cls, name: str) -> str:
        if not all(step.strip() and step not in (".", "..") for step in name.split("/")):
            raise ValueError("must be the name of a folder among the runs, or of one in it (a/b)")
        return name


def dump_config(config: Config) -> str:
    """The configuration as resolved, as YAML that `load_config` reads back to the same."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flat_values(config: Config) -> dict[str, Any]:
    """Each value by its dotted key (`optim.lr`, `objective.0.weight`); a list of plain values is one."""

    def flat(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            items = list(enumerate(value))
        else:
            return {path: value}
        found: dict[str, Any] = {}
        for key, item in items:
            found |= flat(item, f"{path}.{key}" if path else str(key))
        return found

    return flat(config.model_dump(mode="json"), "")


def differences(old: Config, new: Config) -> list[str]:
    """One `key: old -> new` for each value that differs, dotted."""
    a, b = flat_values(old), flat_values(new)
    return [f"{k}: {a.get(k, 'unset')} -> {b.get(k, 'unset')}" for k in a | b if a.get(k) != b.get(k)]
