"""The losses of a configuration, and whether batches and model fit them."""

from __future__ import annotations

from vlfew.core.config import Config, LossConfig
from vlfew.core.errors import ConfigError
from vlfew.data.labeled_images import LabeledImages
from vlfew.losses import LOSSES
from vlfew.losses.objective import SelectedLosses, WeightedLoss, losses_with, select_losses
from vlfew.similarities import SIMILARITIES


def choose_losses(config: Config, data: LabeledImages) -> SelectedLosses:
    """The losses of the objective; without text for two training classes, alignment losses are dropped.

    Raises:
        ConfigError: a loss that needs more than the batches or the model provide.
    """

    def weighted(loss: LossConfig) -> WeightedLoss:
        return WeightedLoss(loss.loss, loss.weight, loss.options, loss.start, loss.stop)

    has_text = training_has_text(data) and config.text.encoder is not None
    losses = [weighted(loss) for loss in config.objective]
    selected = select_losses(losses, has_text, weighted(config.fallback_loss))
    if config.sampling.form == "annotated_pairs":
        why = "needs classes, and sampling.annotated_pairs_per_batch provides only which pairs are the same"
        _check_losses(selected, "pairs_only", why)
    if not config.image.share_weights:
        why = "compares images by one embedding each, and image.share_weights=false gives two"
        _check_losses(selected, "supports_unshared", why)
    _check_batches(config, selected)
    return selected


def training_has_text(data: LabeledImages) -> bool:
    """Whether texts of the training classes can be told apart: two classes have some."""
    return len(data.classes("train")) - len(data.without_text("train")) >= 2


def _check_losses(selected: SelectedLosses, attribute: str, why: str) -> None:
    """Checks that an attribute is true of all losses."""
    unable = [loss.name for loss in selected.losses if not getattr(loss.kind, attribute)]
    if unable:
        able = ", ".join(losses_with(attribute))
        raise ConfigError(f"objective: {unable[0]} {why}; losses that work here: {able}")


def _check_batches(config: Config, selected: SelectedLosses) -> None:
    """Checks each loss against the shape of the batches."""
    for loss in selected.losses:
        options = LOSSES.options(loss.name)(**loss.options).model_dump()
        loss.kind.check_batches(options, config.sampling.classes_per_batch, config.sampling.images_per_class)


def check_similarity(config: Config, selected: SelectedLosses) -> None:
    """Checks that similarity and embedding are trained by the objective, and used as they are trained.

    Raises:
        ConfigError: they are not.
    """
    similarity, kinds = config.similarity.name, [loss.kind for loss in selected.losses]
    for loss in selected.losses:
        if loss.kind.required_similarity not in (None, similarity):
            raise ConfigError(
                f"loss {loss.name} trains similarity: {loss.kind.required_similarity}, and similarity is "
                f"{similarity}; change one of the two"
            )
    learned = getattr(SIMILARITIES.get(similarity), "learned", False)
    if learned and not any(kind.trains_similarity for kind in kinds):
        able = [
            "{loss: " + name + "}"
            for name in losses_with("trains_similarity")
            if WeightedLoss(name).kind.required_similarity in (None, similarity)
        ]
        raise ConfigError(
            f"similarity: {similarity} is learned, and no loss of the objective trains it; "
            f"add {' or '.join(able)} to the objective"
        )
    if learned and config.image.tta != "none":
        raise ConfigError(
            f"similarity: {similarity} is learned without test-time augmentation; leave image.tta at 'none', "
            "or use similarity: cosine"
        )
    for key, value in (
        ("image.center_embeddings", config.image.center_embeddings),
        ("image.class_probability_weight", config.image.class_probability_weight),
        ("text.class_neighbors", config.text.class_neighbors),
    ):
        if value and (similarity != "cosine" or not config.image.share_weights):
            raise ConfigError(
                f"{key} needs similarity: cosine and image.share_weights: true; leave it out or change those"
            )
    if config.embedding_dim is not None and not any(kind.needs_embedding for kind in kinds):
        raise ConfigError(
            f"embedding_dim: {config.embedding_dim} is a projection that no loss of the objective trains, since "
            "all use feature maps; set embedding_dim: null"
        )
