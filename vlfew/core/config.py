"""The configuration of a run: typed sections with their defaults.

The schema is one file, so that every key can be found in one place.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vlfew.core.overrides import OptionalPath

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountFromZero = Annotated[int, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Resize = Literal["stretch", "crop", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
OnBadImage = Literal["error", "skip"]
AlignFaces = Literal["none", "required", "when_found"]
TestTimeAugmentation = Literal["none", "hflip", "rot90", "d4"]


class ConfigSection(BaseModel):
    """A mapping with a fixed set of keys."""

    model_config = ConfigDict(extra="forbid")


class ComponentConfig(BaseModel):
    """A mapping that names a registered component; all further keys are options of that component."""

    model_config = ConfigDict(extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the component."""
        return dict(self.model_extra or {})


class DataConfig(ComponentConfig):
    """Data source, and how its images are preprocessed (`vlfew.data.ImagePreprocessor`)."""

    name: str = "glyphs"
    root: OptionalPath = None
    image_size: Annotated[int, Field(ge=8)] = 32
    channels: Literal[1, 3] = 1
    resize: Resize = "stretch"
    interpolation: Interpolation = "bilinear"
    center_crop: PositiveFraction = 1.0
    align_faces: AlignFaces = "none"
    on_bad_image: OnBadImage = "error"
    split_seed: int = 0


class LoraConfig(ConfigSection):
    """LoRA adapters in a frozen encoder (Hu et al. 2022; needs peft).

    Attributes:
        rank: of the two low-rank factors.
        alpha: the update is scaled by `alpha / rank`.
        dropout: probability, on the adapter's input.
        layers: a glob over the names of dense, convolutional and attention layers in the encoder's blocks, such as
            `*_proj`; the default matches all of them.
    """

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Momentum = 0.0
    layers: str = "*"


class TowerConfig(ComponentConfig):
    """An encoder and which of its weights are trained: all of them, none (`frozen`), or some of a frozen encoder.

    Attributes:
        frozen: keep the pretrained weights fixed.
        unfreeze_last: train this many last blocks of a frozen encoder, and every layer after them.
        lora: train LoRA adapters in a frozen encoder.
    """

    frozen: bool
    unfreeze_last: CountFromZero = 0
    lora: LoraConfig | None = None

    @model_validator(mode="after")
    def _partial_training_needs_a_frozen_encoder(self) -> TowerConfig:
        given = [key for key, value in (("unfreeze_last", self.unfreeze_last), ("lora", self.lora)) if value]
        if given and not self.frozen:
            raise ValueError(f"{given[0]} applies to a frozen encoder; also set frozen: true")
        if len(given) > 1:
            raise ValueError("unfreeze_last and lora are two ways to train part of an encoder; choose one")
        return self

    @property
    def fixed(self) -> bool:
        """Whether no weight of the encoder is trained."""
        return self.frozen and not self.unfreeze_last and self.lora is None


class PreprocessingConfig(ComponentConfig):
    """A learned or fixed transform in front of the backbone, by name, with its options."""

    name: str


class WhitenConfig(ConfigSection):
    """Whiten image embeddings within the training classes (`vlfew.models.whitening`).

    Attributes:
        power: exponent of the absolute values before.
        shrinkage: share of the identity in the covariance, beyond what its estimate has; 1 whitens nothing.
    """

    power: Positive = 0.5
    shrinkage: Fraction = 0.5


class ImageConfig(TowerConfig):
    """The image stream: a backbone and its options.

    Attributes:
        backbone: registry name, such as `conv4` or `timm:resnet18`.
        preprocessing: applied before the backbone in training, evaluation and use alike.
        tta: test-time augmentation. Evaluation and use encode the image alone (`none`), with its mirror image
            (`hflip`), in its four quarter turns (`rot90`), or in all eight symmetries of the square (`d4`). The
            similarity of two images is the mean over views of the same kind.
        share_weights: `false` trains a pseudo-Siamese pair: two backbones with separate weights, one for each
            side of a comparison.
        center_embeddings: subtract the mean embedding of the training images after L2 normalization (CL2N of
            SimpleShot, Wang et al. 2019); text embeddings are centered by the mean of the training classes.
        whiten_embeddings: also whiten them within the training classes.
        class_probability_weight: share, 0 to 1, in similarities of the probabilities of the classes that the backbone
            was pretrained on (`vlfew.models.class_probabilities`).
    """

    backbone: str = "conv4"
    preprocessing: PreprocessingConfig | None = None
    frozen: bool = False
    tta: TestTimeAugmentation = "none"
    share_weights: bool = True
    center_embeddings: bool = False
    whiten_embeddings: WhitenConfig | None = None
    class_probability_weight: Fraction = 0.0

    @model_validator(mode="after")
    def _whitening_is_of_centered_embeddings(self) -> ImageConfig:
        if self.whiten_embeddings is not None and not self.center_embeddings:
            raise ValueError("whiten_embeddings is of centered embeddings; also set center_embeddings: true")
        return self

    @property
    def display_name(self) -> str:
        """The backbone's name, with the preprocessing in front of it if there is one."""
        return self.backbone if self.preprocessing is None else f"{self.preprocessing.name} + {self.backbone}"


class ClassNeighborsConfig(ConfigSection):
    """Represent a text by the classes with similar texts (`vlfew.models.class_neighbors`).

    Attributes:
        temperature: of the softmax over text similarities.
        classes: those of the training split, by their mean embeddings, in place of the projection after training; or
            those that the image encoder was pretrained on (`pretraining`), by the weights of its classifier, to which
            a learned projection is added.
    """

    temperature: Positive
    classes: Literal["training", "pretraining"] = "training"


class TextConfig(TowerConfig):
    """The text stream: a pretrained encoder, its options, and a learned projection.

    Attributes:
        encoder: registry name; `null` trains without text.
        projection: from the encoder's space to the joint one; `none` uses the encoder's own space.
        hidden: width of the `mlp` projection.
        dropout: probability in the projection.
        class_neighbors: map texts by the classes with the most similar ones.
    """

    encoder: str | None = "minilm"
    frozen: bool = True
    projection: Literal["none", "linear", "mlp"] = "mlp"
    hidden: Count = 512
    dropout: Fraction = 0.1
    class_neighbors: ClassNeighborsConfig | None = None


class LossConfig(ComponentConfig):
    """One term of the objective, active from `start` to `stop`, as fractions of the training steps."""

    loss: str
    weight: Positive = 1.0
    start: Fraction = 0.0
    stop: Fraction = 1.0

    @model_validator(mode="after")
    def _start_before_stop(self) -> LossConfig:
        if self.start >= self.stop:
            raise ValueError(f"start ({self.start:g}) must be below stop ({self.stop:g})")
        return self


class SimilarityConfig(ComponentConfig):
    """How two embeddings are compared, by name, with its options; a plain string is the name."""

    name: str = "cosine"

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


BatchForm = Literal["classes", "pairs", "episodes", "annotated_pairs"]
EvenCount = Annotated[int, Field(ge=2, multiple_of=2)]
FORM_KEYS: dict[BatchForm, tuple[str, ...]] = {
    "classes": ("classes_per_batch", "images_per_class"),
    "pairs": ("pairs_per_batch",),
    "episodes": ("episodes_per_batch", "ways"),
    "annotated_pairs": ("annotated_pairs_per_batch",),
}
COMMON_KEYS = ("groups_per_batch", "distinct_sources", "extra_text_negatives", "min_images_per_class")


class SamplingConfig(ConfigSection):
    """What a training batch consists of, in one of four forms; 64 classes with 4 images each by default.

    - `classes_per_batch` classes with `images_per_class` images each.
    - `pairs_per_batch` image pairs, half from the same class and half from two.
    - `episodes_per_batch` one-shot episodes: a query, and one image of each of `ways` classes, its own among them.
    - `annotated_pairs_per_batch` of the data set's own training pairs, half same and half different. Class labels
      are not used, so only losses over pairs can be trained.

    Attributes:
        groups_per_batch: draw the batch from this many groups (alphabets) in equal parts, so that it holds the
            confusions of within-group evaluation. Pairs and episodes each stay within one group.
        distinct_sources: pair images of different sources (drawers) where these are known.
        extra_text_negatives: texts of this many further training classes serve as negatives.
        min_images_per_class: smaller classes are not sampled.
    """

    classes_per_batch: Annotated[int, Field(ge=2)] | None = None
    images_per_class: Count | None = None
    pairs_per_batch: EvenCount | None = None
    episodes_per_batch: Count | None = None
    ways: Annotated[int, Field(ge=2)] | None = None
    annotated_pairs_per_batch: EvenCount | None = None
    groups_per_batch: Count | None = None
    distinct_sources: bool = True
    extra_text_negatives: CountFromZero = 0
    min_images_per_class: Count = 1

    @model_validator(mode="after")
    def _exactly_one_form(self) -> SamplingConfig:
        given = [
            form for form, keys in FORM_KEYS.items() if any(getattr(self, key) is not None for key in keys)
        ]
        if len(given) > 1:
            names = " or ".join(" and ".join(FORM_KEYS[form]) for form in given)
            raise ValueError(f"a batch has one form: {names}; set the keys of the other forms to null")
        if (self.episodes_per_batch is None) != (self.ways is None):
            raise ValueError("episodes_per_batch and ways go together")
        if self.form == "classes":
            self.classes_per_batch = self.classes_per_batch or 64
            self.images_per_class = self.images_per_class or 4
        if self.form == "annotated_pairs":
            if "distinct_sources" not in self.model_fields_set:
                self.distinct_sources = False
            if any((self.groups_per_batch, self.distinct_sources, self.extra_text_negatives)) or (
                self.min_images_per_class > 1
            ):
                raise ValueError(
                    f"annotated_pairs_per_batch cannot be combined with {', '.join(COMMON_KEYS)}"
                )
        return self

    @property
    def form(self) -> BatchForm:
        """Which of the four forms the batch has."""
        given = (form for form, keys in FORM_KEYS.items() if getattr(self, keys[0]) is not None)
        return next(given, "classes")

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        number: int = getattr(self, FORM_KEYS[self.form][0])
        if self.form == "classes":
            return number * (self.images_per_class or 1)
        return number * (1 + self.ways) if self.ways is not None else 2 * number

    def options(self) -> dict[str, Any]:
        """The constructor arguments of the batch sampler of this form."""
        common = () if self.form == "annotated_pairs" else COMMON_KEYS
        return self.model_dump(include={*FORM_KEYS[self.form], *common})


class AugmentConfig(ConfigSection):
    """Random augmentation of training images, each uniform within +- its bound.

    Koch et al. 2015, section 3.3, at 105 pixels, is
    `{rotate: 10, shear: 17.2, shear_y: 17.2, scale: 0.2, translate: 0.019, apply_prob: 0.5}`.

    Attributes:
        rotate: degrees.
        shear: degrees, along rows.
        shear_y: degrees, along columns.
        scale: fraction, drawn for width and height separately.
        translate: fraction of the image, drawn for both axes.
        apply_prob: probability of each of the seven parts of the affine map (rotation, two shears, two scales,
            two translations).
        elastic: largest shift of a smooth random field, as a fraction of the image.
        hflip: probability of a horizontal flip.
        brightness: relative change.
        contrast: relative change.
        random_erasing: probability of blanking a box of up to a quarter of the image.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=60)] = 0.0
    shear_y: Annotated[float, Field(ge=0, lt=60)] = 0.0
    scale: Momentum = 0.0
    translate: Fraction = 0.0
    apply_prob: Fraction = 1.0
    elastic: Annotated[float, Field(ge=0, le=0.25)] = 0.0
    hflip: Fraction = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    random_erasing: Fraction = 0.0


class ParamGroupConfig(ConfigSection):
    """Optimizer settings for the trained parameters whose names match a glob.

    A value given here replaces the one in `optim`: `lr` is a learning rate, not a factor, and follows the same
    warm-up and schedule. Where several globs match a parameter, the last one wins. A `weight_decay` applies to
    biases and norms only if the glob matches nothing else (`*.bias`).

    Attributes:
        match: a case-sensitive glob such as `backbone.dense.*` over the names in `model.safetensors`, and
            `objective.*` for parameters of the losses.
    """

    match: str
    lr: Positive | None = None
    momentum: Momentum | None = None
    weight_decay: NonNegative | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> ParamGroupConfig:
        if (self.lr, self.momentum, self.weight_decay) == (None, None, None):
            raise ValueError("give lr, momentum or weight_decay for the matching parameters")
        return self


class OptimConfig(ConfigSection):
    """Optimizer, linear warm-up and learning rate schedule, in optimizer steps.

    After the warm-up the learning rate follows half a cosine to zero (`cosine`), stays `constant`, or is multiplied
    by `gamma` every `step_size` steps (`step`). Weight decay is decoupled in AdamW and an L2 penalty in the others;
    it applies to matrices and kernels, not to biases and norms. `momentum` is beta 1 in Adam and AdamW; RMSprop has
    none unless it is given. With `momentum_start` it rises linearly to its value at the last step (Koch et al. 2015,
    section 3.2). `param_groups` give parts of the model their own settings.
    """

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.05
    momentum: Momentum = 0.9
    # Above zero: RMSprop allocates its momentum buffer at the first step or never.
    momentum_start: Annotated[float, Field(gt=0, lt=1)] | None = None
    steps: Count = 1000
    warmup_steps: CountFromZero = 100
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    gamma: PositiveFraction = 0.99
    step_size: Count = 100
    max_grad_norm: Positive | None = 1.0
    param_groups: list[ParamGroupConfig] = []

    @model_validator(mode="after")
    def _default_momentum(self) -> OptimConfig:
        if self.name == "rmsprop" and "momentum" not in self.model_fields_set:
            self.momentum = 0.0
        return self


def _bare_no(value: Any) -> Any:
    """YAML reads a bare `no` as false."""
    return "no" if value is False else value


class TrainingConfig(ConfigSection):
    """How the steps are run.

    Attributes:
        mixed_precision: `auto` is bf16 where the hardware supports it, otherwise no.
        gradient_accumulation_steps: batches per optimizer step.
        gradient_cache: encode this many images (and texts) of a batch at a time, twice, so that memory does not
            grow with the batch (`vlfew.training.gradient_cache`).
        cache_views: encode this many augmented views of every training image once, and train on the cached outputs:
            for a frozen backbone (`vlfew.training.cached_views`). Evaluations encode every image once, too.
        compile: `torch.compile` the backbone.
        num_workers: processes that load batches; `null` is one per core (at most 8) where images are decoded on
            demand, and none where they are in memory.
        eval_every: steps between validations.
        patience: stop after this many validations without improvement.
        save_every: steps between checkpoints.
        log_every: steps between log entries.
        trackers: names of Accelerate's experiment trackers, such as tensorboard, wandb, mlflow, trackio.
    """

    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_bare_no)] = "auto"
    gradient_accumulation_steps: Count = 1
    gradient_cache: Count | None = None
    cache_views: Count | None = None
    compile: bool = False
    num_workers: CountFromZero | None = None
    eval_every: Count = 200
    patience: Count | None = None
    save_every: Count = 200
    log_every: Count = 20
    trackers: list[str] = []


class ProtocolConfig(ComponentConfig):
    """An evaluation protocol by name, with its options; used for model selection and after training."""

    protocol: str


class RepeatConfig(ConfigSection):
    """Train one run for each value of a key: seeds, or the folds of a protocol."""

    over: str
    values: Annotated[list[int | float | str], Field(min_length=2)]

    @model_validator(mode="after")
    def _distinct_runs(self) -> RepeatConfig:
        if self.over.partition(".")[0] in ("name", "repeat", "evaluate"):
            raise ValueError(f"cannot repeat over {self.over}: it does not change the training")
        names = [str(value) for value in self.values]
        if len(set(names)) < len(names):
            raise ValueError("values must be distinct")
        if odd := next((name for name in names if not re.fullmatch(r"[\w.+-]*\w", name)), None):
            raise ValueError(f"{odd!r} cannot be part of a folder name")
        return self


class Config(ConfigSection):
    """A complete run: train, select a checkpoint, evaluate.

    Attributes:
        embedding_dim: of the joint space; `null` keeps the backbone's own embedding.
        fallback_loss: trained where there is no text and the objective only has alignment terms.
        init_from: initial weights, from a run folder or any name that `vlfew.load` accepts.
        model_selection: how checkpoints are compared on the validation split; one-shot episodes by default.
        evaluate: protocols to run after training.
        repeat: train once for each value of a key; results are means over the runs.
    """

    name: str = "run"
    seed: int = 0
    data: DataConfig = DataConfig()
    image: ImageConfig = ImageConfig()
    text: TextConfig = TextConfig()
    embedding_dim: Count | None = 256
    similarity: SimilarityConfig = SimilarityConfig()
    objective: Annotated[list[LossConfig], Field(min_length=1)]
    fallback_loss: LossConfig = LossConfig(loss="contrastive")
    init_from: str | None = None
    sampling: SamplingConfig = SamplingConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    training: TrainingConfig = TrainingConfig()
    model_selection: ProtocolConfig | None = None
    evaluate: list[ProtocolConfig] = []
    repeat: RepeatConfig | None = None

    @field_validator("name")
    @classmethod
    def _inside_the_runs_folder(cls, name: str) -> str:
        if not all(step.strip() and step not in (".", "..") for step in name.split("/")):
            raise ValueError("must be the name of a folder inside the runs folder (a or a/b)")
        return name
