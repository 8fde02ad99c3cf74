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
    """Where images come from and how they are read (`vlfew.data.Reading`)."""

    name: str = "glyphs"
    root: Path | None = None
    image_size: Annotated[int, Field(ge=8)] = 32
    channels: Literal[1, 3] = 1
    resize: Resize = "squash"
    interpolation: Interpolation = "bilinear"
    center_crop: Center = 1.0
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
        unfreeze_last: so many last blocks of a frozen tower, and what comes after them, are trained all the same.
        lora: of a frozen tower.
    """

    frozen: bool
    unfreeze_last: Annotated[int, Field(ge=0)] = 0
    lora: Lora | None = None

    @model_validator(mode="after")
    def _of_a_frozen_tower(self) -> Tower:
        asked = [key for key, given in (("unfreeze_last", self.unfreeze_last), ("lora", self.lora)) if given]
        if asked and not self.frozen:
            raise ValueError(f"{asked[0]} is of a frozen tower; set frozen: true beside it")
        if len(asked) > 1:
            raise ValueError("unfreeze_last and lora are two ways to train a part of a tower; choose one")
        return self

    @property
    def fixed(self) -> bool:
        """Whether nothing of it is trained."""
        return self.frozen and not self.unfreeze_last and self.lora is None


TestTimeAugmentation = Literal["none", "hflip", "rot90", "d4"]


class Preprocessing(Component):
    """What images go through before the backbone, by name, with its options."""

    name: str


class Image(Tower):
    """The image stream: a backbone and its options.

    `preprocessing` stands before the backbone, in training, evaluation and use alike.

    `views` is what evaluation and use see of an image: itself; itself and its mirror image; its four
    quarter turns; or all eight `symmetries` of the square, the turns and their mirror images. Two images
    are then as alike as their views of the same kind are on average.
    `share_weights: false` is a pseudo-Siamese pair: two backbones of the same make with weights of their own,
    one for each side of a comparison.
    `centered`: embeddings are taken, each normalized, from the mean of those of the training images
    (CL2N of SimpleShot, Wang et al. 2019), and words from the mean of the training classes': what all of a
    kind have in common tells no class.
    """

    backbone: str = "conv4"
    preprocessing: Preprocessing | None = None
    frozen: bool = False
    tta: TestTimeAugmentation = "none"
    share_weights: bool = True
    center_embeddings: bool = False

    @property
    def stream(self) -> str:
        """Its name for people: of the backbone and, if there is one, what stands before it."""
        return (
            self.backbone if self.preprocessing is None else f"{self.preprocessing.name} into {self.backbone}"
        )


class Text(Tower):
    """The text stream: a pretrained encoder and its options, and the projection that is learned.

    `class_neighbors`, a temperature: once trained, words are not read by the projection but by the training classes that
    have words like them (`vlfew.models.class_neighbors`).

    `encoder: null` trains without words. `projection: none` takes the encoder's own space.
    """

    encoder: str | None = "minilm"
    frozen: bool = True
    projection: Literal["none", "linear", "mlp"] = "mlp"
    hidden: Count = 512
    dropout: Fraction = 0.1
    class_neighbors: Annotated[float, Field(gt=0)] | None = None


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
    """How alike two images are, by name (a scorer), with its options; a name alone will do."""

    name: str = "cosine"

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


Form = Literal["classes", "pairs", "episodes", "annotated_pairs"]
Even = Annotated[int, Field(ge=2, multiple_of=2)]


class Sampling(Section):
    """A batch, in one of four forms; `classes_per_batch: 64, images_per_class: 4` where none is given.

    - `classes_per_batch` classes with `images_per_class` images each.
    - `pairs_per_batch` pairs of images, half of one class and half of two.
    - `episodes_per_batch` one-shot tasks: a query, and one image of each of `ways` classes, its own among them.
    - `annotated_pairs_per_batch` of the data set's own training pairs, half the same and half different. Nothing else
      is told of the images, and only losses over pairs can be trained.

    With `groups_per_batch`, a batch comes from that many groups (alphabets) in equal parts: classes of each, or
    pairs and tasks that lie within one. So it holds the confusions that within-group evaluation asks
    about. `distinct_sources` sets images of different sources (drawers) beside each other. The words
    of `extra_text_negatives` further training classes go with the batch as wrong answers. Classes with fewer
    images than `min_images_per_class` are left out.
    """

    classes_per_batch: Annotated[int, Field(ge=2)] | None = None
    images_per_class: Count | None = None
    pairs_per_batch: Even | None = None
    episodes_per_batch: Count | None = None
    ways: Annotated[int, Field(ge=2)] | None = None
    annotated_pairs_per_batch: Even | None = None
    groups_per_batch: Count | None = None
    distinct_sources: bool = True
    extra_text_negatives: Annotated[int, Field(ge=0)] = 0
    min_images_per_class: Count = 1

    @model_validator(mode="after")
    def _one_form(self) -> Sampling:
        forms = {
            "classes_per_batch and images_per_class": self.classes_per_batch is not None
            or self.images_per_class is not None,
            "pairs_per_batch": self.pairs_per_batch is not None,
            "episodes_per_batch and ways": self.episodes_per_batch is not None or self.ways is not None,
            "annotated_pairs_per_batch": self.annotated_pairs_per_batch is not None,
        }
        asked = [form for form, given in forms.items() if given]
        if len(asked) > 1:
            raise ValueError(
                f"a batch is of one form: {' or '.join(asked)}; set those of the other forms to null"
            )
        if (self.episodes_per_batch is None) != (self.ways is None):
            raise ValueError("episodes_per_batch and ways go together")
        if self.form == "classes":
            self.classes_per_batch = 64 if self.classes_per_batch is None else self.classes_per_batch
            self.images_per_class = 4 if self.images_per_class is None else self.images_per_class
        if self.annotated_pairs_per_batch is not None:
            if "distinct_sources" not in self.model_fields_set:
                self.distinct_sources = False
            if (
                self.groups_per_batch
                or self.distinct_sources
                or self.extra_text_negatives
                or self.min_images_per_class > 1
            ):
                raise ValueError(
                    "annotated_pairs_per_batch are as they are: groups_per_batch, distinct_sources, extra_text_negatives and min_images_per_class "
                    "have no part in them"
                )
        return self

    @property
    def form(self) -> Form:
        """Which of the four forms it is."""
        if self.pairs_per_batch is not None:
            return "pairs"
        if self.annotated_pairs_per_batch is not None:
            return "annotated_pairs"
        return "classes" if self.episodes_per_batch is None else "episodes"

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        sizes = {
            "classes": (self.classes_per_batch or 0) * (self.images_per_class or 0),
            "pairs": 2 * (self.pairs_per_batch or 0),
            "episodes": (self.episodes_per_batch or 0) * (1 + (self.ways or 0)),
            "annotated_pairs": 2 * (self.annotated_pairs_per_batch or 0),
        }
        return sizes[self.form]

    def options(self) -> dict[str, Any]:
        """What the sampler of the form takes."""
        own = {
            "classes": {"classes_per_batch", "images_per_class"},
            "pairs": {"pairs_per_batch"},
            "episodes": {"episodes_per_batch", "ways"},
            "annotated_pairs": {"annotated_pairs_per_batch"},
        }[self.form]
        common = {"groups_per_batch", "distinct_sources", "extra_text_negatives", "min_images_per_class"}
        return self.model_dump(include=own if self.form == "annotated_pairs" else own | common)


class Augment(Section):
    """Random changes to training images, each uniform within +- its bound.

    Rotation and shears (along rows, and `shear_y` along columns) in degrees; scale and translation as
    fractions, drawn for width and height apart; `elastic` is the largest shift of a smooth random field,
    as a fraction of the image; `random_erasing` is the probability of blanking a box of up to a quarter of the
    image. Each of the seven parts of the affine map (rotation, two shears, two scales, two
    translations) is applied with probability `apply_prob`. Koch et al. 2015, section 3.3, at 105 pixels:
    `{rotate: 10, shear: 17.2, shear_y: 17.2, scale: 0.2, translate: 0.019, apply_prob: 0.5}`.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=60)] = 0.0
    shear_y: Annotated[float, Field(ge=0, lt=60)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    translate: Fraction = 0.0
    apply_prob: Fraction = 1.0
    elastic: Annotated[float, Field(ge=0, le=0.25)] = 0.0
    hflip: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    random_erasing: Fraction = 0.0


class ParamGroup(Section):
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
    def _says_something(self) -> ParamGroup:
        if (self.lr, self.momentum, self.weight_decay) == (None, None, None):
            raise ValueError("give lr, momentum or weight_decay for what matches")
        return self


class Optim(Section):
    """An optimizer with linear warm-up and a schedule, over optimizer steps.

    After the warm-up the learning rate falls in half a cosine to zero, stays `constant`, or is
    multiplied by `decay` after every `step_size` steps (`exponential`). Weight decay is decoupled
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
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.99
    step_size: Count = 100
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    param_groups: list[ParamGroup] = []

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

    With `gradient_cache` the networks see so many images (and texts) of a batch at a time, twice, and
    memory does not grow with the batch (`vlfew.training.gradient_cache`).
    """

    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_no)] = "auto"
    gradient_accumulation_steps: Count = 1
    gradient_cache: Count | None = None
    compile: bool = False
    eval_every: Count = 200
    patience: Count | None = None
    save_every: Count = 200
    log_every: Count = 20
    trackers: list[Literal["tensorboard"]] = []


class Protocol(Component):
    """An evaluation by name, with that protocol's options; used for validation and after training."""

    protocol: str


class Repeat(Section):
    """The same run for each of some values of one key: the folds of a protocol, or seeds."""

    over: str
    values: Annotated[list[int | float | str], Field(min_length=2)]

    @model_validator(mode="after")
    def _each_its_own_run(self) -> Repeat:
        if self.over.partition(".")[0] in ("name", "repeat", "evaluate"):
            raise ValueError(f"{self.over} cannot be repeated over: it does not change what is trained")
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
    `init_from`, a run folder or any name that `vlfew.load` takes, gives the weights to begin with.
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
    fallback_loss: Loss = Loss(loss="contrastive")
    init_from: str | None = None
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    optim: Optim = Optim()
    training: Training = Training()
    model_selection: Protocol | None = None
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
