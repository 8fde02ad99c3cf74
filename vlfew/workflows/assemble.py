"""From a configuration to the finished parts of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.optim import Optimizer

from vlfew.core.config import Config
from vlfew.core.config_file import Part, load_config
from vlfew.core.errors import ConfigError
from vlfew.data.augmentation import BatchAugment
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.samplers import make_sampler
from vlfew.data.sources import SOURCES
from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.evaluation import PROTOCOLS
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.objective import Objective, SelectedLosses
from vlfew.models.backbone_cache import BackboneCache, evaluation_cache
from vlfew.models.dual_stream import DualStream
from vlfew.similarities import SIMILARITIES
from vlfew.training.batches import BatchLoader
from vlfew.training.cached_views import CachedViews, check_frozen
from vlfew.training.gradient_cache import check_no_batch_norm
from vlfew.training.hardware import make_accelerator
from vlfew.training.optimizer import make_optimizer, set_rates
from vlfew.training.run_folder import RunFolder
from vlfew.training.text_batches import TextBatches
from vlfew.training.training_step import TrainingStep
from vlfew.training.validation import ModelSelection
from vlfew.workflows.configured_model import Initialization, build_model, initialize
from vlfew.workflows.model_selection import choose_model_selection
from vlfew.workflows.objective import choose_losses, training_has_text

PARTS = {
    "data": Part(SOURCES, "name"),
    "image": Part(BACKBONES, "backbone"),
    "image.preprocessing": Part(PREPROCESSING, "name"),
    "text": Part(TEXT_ENCODERS, "encoder"),
    "similarity": Part(SIMILARITIES, "name"),
    "objective": Part(LOSSES, "loss"),
    "fallback_loss": Part(LOSSES, "loss"),
    "model_selection": Part(PROTOCOLS, "protocol"),
    "evaluate": Part(PROTOCOLS, "protocol"),
}


@dataclass
class Assembly:
    """The parts of a training, ready for a `Trainer`.

    Attributes:
        data: images, labels, texts and splits.
        model: image encoder, text encoder and similarity.
        training_step: model and objective as one module, on the accelerator's device.
        loader: of the batches, augmented and on the device, with their texts.
        optimizer: over the trained parameters.
        parameter_names: in the optimizer's order.
        schedule: sets learning rate and momentum of a step.
        model_selection: how the best weights are chosen; None without a validation split.
        initialization: the weights that the model starts from, if not random ones.
        accelerator: device, processes, precision and trackers.
        summary: what is trained, in a few lines for people.
        notes: what readers of the results must know.
    """

    data: LabeledImages
    model: DualStream
    training_step: TrainingStep
    loader: BatchLoader
    optimizer: Optimizer
    parameter_names: list[str]
    schedule: Callable[[Optimizer, int], float]
    model_selection: ModelSelection | None
    initialization: Initialization | None
    accelerator: Accelerator
    summary: list[str]
    notes: list[str]

    @property
    def objective(self) -> Objective:
        """The weighted sum of losses that is minimized."""
        return self.training_step.objective


def read_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration and checks it against every registry.

    Raises:
        ConfigError: one line for each mistake.
    """
    return load_config(path, overrides, PARTS)


def load_data_of(config: Config) -> LabeledImages:
    """Loads the data set of a configuration; if it is split by class, no class is in two splits."""
    d = config.data
    preprocessor = ImagePreprocessor(
        d.image_size,
        d.channels,
        d.resize,
        d.center_crop,
        d.on_bad_image,
        d.split_seed,
        d.interpolation,
        align_faces=d.align_faces,
    )
    data = load_data(d.name, d.root, preprocessor, **d.options)
    if data.split_by == "class":
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if one in data.splits and other in data.splits:
                data.check_disjoint_classes(one, other)
    return data


def assemble(config: Config, run: RunFolder | None = None, data: LabeledImages | None = None) -> Assembly:
    """Builds every part of a training.

    Args:
        config: checked by `read_config`.
        run: where trackers that write files write them.
        data: the data set of the configuration, if it was loaded before.

    Raises:
        VlfewError: parts that do not go together, or cannot be built.
    """
    data = load_data_of(config) if data is None else data
    accelerator = make_accelerator(
        config.training.mixed_precision, config.training.trackers, None if run is None else run.path
    )
    sampler = make_sampler(data, "train", config.sampling, config.seed)
    batch_size, processes = config.sampling.batch_size, accelerator.num_processes
    if batch_size % processes:
        raise ConfigError(
            f"a batch of {batch_size} images (see sampling) cannot be shared equally by {processes} processes"
        )
    losses = choose_losses(config, data)
    classes = data.classes("train")
    model = build_model(config, losses, len(classes) - len(data.without_text("train")))
    initialization = initialize(model, data, config.init_from)
    objective = Objective(losses, LossContext(model.feature_spec, len(classes)))
    step = TrainingStep(model, objective, classes).to(accelerator.device)
    if objective.may_skip_parameters:
        # Otherwise processes would wait for gradients that do not come at this step.
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    optimizer, names = make_optimizer(step, config.optim)
    if not names:
        raise ConfigError(
            "nothing is trained: every encoder is frozen and nothing is learned on top"
            + (
                f", since {', '.join(losses.dropped)} needs class names that are text (classes.yaml gives them)"
                if losses.dropped
                else ""
            )
            + f"; use {config.image.backbone} by its name without training (vlfew adapt, vlfew classify), or set "
            "embedding_dim or image.frozen=false"
        )
    selection = choose_model_selection(config, data, model.has_text)
    texts = None
    if model.text_encoder is not None:
        frozen = model.text_cache if config.text.fixed else None
        texts = TextBatches(model.text_encoder, data, frozen, accelerator.device)
    augment, views = BatchAugment(config.augment, config.seed), None
    if config.training.cache_views is not None:
        check_frozen(model)
        cache = BackboneCache(
            with_map=objective.needs_map or model.similarity.needs_map,
            precision=accelerator.mixed_precision,
            autocast=accelerator.autocast,
            rank=accelerator.process_index,
            world_size=processes,
            wait=accelerator.wait_for_everyone,
        )
        views = CachedViews(model, data, cache, augment, config.training.cache_views)
        model.backbone_cache = evaluation_cache(model, maps=True)
    loader = BatchLoader(
        data,
        sampler,
        augment,
        texts,
        accelerator.device,
        rank=accelerator.process_index,
        world_size=processes,
        views=views,
        num_workers=config.training.num_workers,
    )
    if config.training.gradient_cache is not None:
        check_no_batch_norm(model.train())
    if config.training.compile:
        model.backbone.compile()
        if model.right_backbone is not None:
            model.right_backbone.compile()
    return Assembly(
        data=data,
        model=model,
        training_step=step,
        loader=loader,
        optimizer=optimizer,
        parameter_names=names,
        schedule=lambda optimizer, step: set_rates(optimizer, config.optim, step),
        model_selection=selection,
        initialization=initialization,
        accelerator=accelerator,
        summary=_summary(config, data, model, objective, accelerator),
        notes=_notes(config, data, losses, selection, initialization),
    )


def _summary(
    config: Config, data: LabeledImages, model: DualStream, objective: Objective, accelerator: Accelerator
) -> list[str]:
    """Data, streams, objective and hardware."""
    # Of the model alone: what losses learn for themselves is not saved.
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    of = f"{len(data.classes('train')):,} classes"
    if config.sampling.form == "annotated_pairs":
        of = f"{len(data.pairs.get('train', ())):,} pairs"
    terms = " + ".join(
        f"{term.weight:g} {name}"
        + ("" if (term.start, term.stop) == (0, 1) else f" ({term.start:.0%} to {term.stop:.0%})")
        for name, term in objective.specs.items()
    )
    twice = " twice, no weights shared" if not config.image.share_weights else ""
    text = f" + {config.text.encoder}" if model.has_text else ", no text"
    return [
        f"data       {data.name}: {len(data.indices('train')):,} training images of {of}",
        f"streams    {config.image.display_name}{twice}{text}: {trained:,} parameters trained, {frozen:,} frozen",
        f"objective  {terms}",
        f"running    {config.optim.steps:,} steps of {config.sampling.batch_size} images, "
        f"{accelerator.num_processes} process(es) on {accelerator.device.type}, "
        f"precision {accelerator.mixed_precision}",
    ]


def _notes(
    config: Config,
    data: LabeledImages,
    losses: SelectedLosses,
    selection: ModelSelection | None,
    initialization: Initialization | None,
) -> list[str]:
    """What readers of the log and of the results must know."""
    notes = [] if initialization is None else [initialization.note]
    if selection is None:
        notes.append("no validation split: the weights of the last step are saved")
    elif config.model_selection is not None and selection.protocol != config.model_selection.protocol:
        notes.append(
            f"model selection by {selection.protocol} instead of {config.model_selection.protocol}, which needs text "
            "for every validation class"
        )
    warmup, steps = config.optim.warmup_steps, config.optim.steps
    if warmup >= steps:
        notes.append(
            f"the warm-up (optim.warmup_steps={warmup}) lasts as long as the training (optim.steps={steps}): "
            "the learning rate rises to the end"
        )
    if losses.dropped:
        remaining = "the fallback " * losses.used_fallback + ", ".join(loss.name for loss in losses.losses)
        why = "no text encoder" if training_has_text(data) else "class names are codes, not text"
        notes.append(f"{', '.join(losses.dropped)} dropped: {why}; training on {remaining}")
    without_text = not any(loss.kind.needs_text for loss in losses.losses)
    if without_text and not losses.dropped and training_has_text(data) and config.text.encoder is not None:
        notes.append(
            "no loss of the objective uses text: the text encoder is left out (alignment_softmax uses it)"
        )
    return notes
