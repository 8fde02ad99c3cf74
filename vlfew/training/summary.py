"""What a training is, in a few lines for people."""

from __future__ import annotations

from accelerate import Accelerator

from vlfew.core.config import Config
from vlfew.data.labeled_images import LabeledImages
from vlfew.losses.objective import Chosen
from vlfew.training.training_step import TrainingStep
from vlfew.workflows.assemble import Start


def describe(config: Config, data: LabeledImages, step: TrainingStep, accelerator: Accelerator) -> list[str]:
    """Data, streams, objective and where it runs."""
    model = step.model
    # Those of the model, as its page tells them: what losses learn for themselves is not kept.
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    train, given = data.indices("train"), data.pairs.get("train", ())
    of = f"{len(data.classes('train')):,} classes"
    if config.sampling.form == "annotated_pairs":
        of = f"{len(given):,} pairs"
    terms = " + ".join(
        f"{spec.weight:g} {name}"
        + ("" if (spec.start, spec.stop) == (0, 1) else f" ({spec.start:.0%} to {spec.stop:.0%})")
        for name, spec in step.objective.specs.items()
    )
    place = f"{accelerator.num_processes} process(es) on {accelerator.device.type}"
    return [
        f"data       {data.name}: {len(train):,} training images of {of}",
        f"streams    {config.image.stream}"
        + (" twice, no weights shared" if not config.image.share_weights else "")
        + (f" + {config.text.encoder}" if model.has_text else ", no words")
        + f": {trained:,} parameters trained, {frozen:,} frozen",
        f"objective  {terms}",
        f"running    {config.optim.steps:,} steps of {config.sampling.batch_size} images, {place}, "
        f"precision {accelerator.mixed_precision}",
    ]


def training_notes(
    config: Config, start: Start | None, validated: bool, chosen: Chosen, data: LabeledImages
) -> list[str]:
    """What a reader of the log and of the results must know.

    Args:
        config: of the training.
        start: the weights that it starts from, if any.
        validated: whether a validation split chooses the weights.
        chosen: the terms of the objective.
        data: what is trained on.
    """
    notes = [] if start is None else [start.note]
    if not validated:
        notes.append("no validation split: the weights of the last step are kept")
    if config.optim.warmup_steps >= config.optim.steps:
        notes.append(
            f"optim.warmup_steps={config.optim.warmup_steps} is as long as the training or longer: the learning rate only rises"
        )
    if not chosen.dropped:
        return notes
    left = "the fallback " * chosen.fell_back + ", ".join(term.name for term in chosen.kept)
    why = "class names are codes, not words" if not data.names_are_text else "no text encoder"
    return [*notes, f"{', '.join(chosen.dropped)} dropped: {why}; training on {left}"]
