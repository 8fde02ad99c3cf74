"""How the best weights of a training are chosen: on the validation split, never on the test split."""

from __future__ import annotations

from vlfew.core.config import Config, ProtocolConfig
from vlfew.core.errors import ConfigError, DataError, error_context
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import NEEDS_TEXT, PROTOCOLS
from vlfew.evaluation.class_prompts import NoTextError
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.training.validation import ModelSelection


def choose_model_selection(config: Config, data: LabeledImages, has_text: bool) -> ModelSelection | None:
    """Protocol and options of validations; None without a validation split, which is noted.

    Where none is configured, or the configured one needs text that the run or a class does not have: one-shot
    episodes, 5-way with 15 queries or as large as the validation split allows, among classes of two images or more;
    where there are none, retrieval by text.

    Raises:
        ConfigError: another split than `val`; `training.patience` without a validation split.
        DataError: the validation split is too small.
    """
    configured = config.model_selection
    if "val" not in data.splits:
        if config.training.patience is not None:
            raise ConfigError(
                f"training.patience needs a validation split, and {data.name} as configured has none; leave it out, "
                "and the weights of the last step are saved"
            )
        return None
    if configured is not None and (has_text or configured.protocol not in NEEDS_TEXT):
        checked = _checked(configured, data)
        if checked is not None:
            return checked
    # A class with one image has no query.
    sizes = [len(index) for index in data.by_class("val").values() if len(index) > 1]
    if len(sizes) >= 2:
        options = {
            "split": "val",
            "ways": min(5, len(sizes)),
            "queries": max(1, min(15, min(sizes) - 1)),
            "episodes": 500,
            "on_small_class": "skip",
        }
        return ModelSelection("few-shot", PROTOCOLS.checked("few-shot", options))
    if has_text and len(data.classes("val")) > 1 and not data.without_text("val"):
        # Images with a text of their own each, such as captions.
        return ModelSelection("retrieval", PROTOCOLS.checked("retrieval", {"split": "val"}))
    with_text = "" if has_text or data.without_text() else ", or train with text (text.encoder)"
    raise DataError(
        f"{data.name}: split 'val' has {len(sizes)} class(es) with two images or more, and model selection needs at "
        f"least 2; add classes or images{with_text}"
    )


def _checked(configured: ProtocolConfig, data: LabeledImages) -> ModelSelection | None:
    """The configured protocol, which must not use the test split; None if it needs text that classes do not have."""
    options = PROTOCOLS.checked(configured.protocol, {"split": "val"} | configured.options)
    splits = {
        "split": ("val",),
        "calibration_split": ("val",),
        "validation_split": ("val",),
        "support_split": ("train", None),
    }
    for key, allowed in splits.items():
        if key in options and options[key] not in allowed:
            raise ConfigError(
                f"model_selection.{key} must be {allowed[0]!r}, not {options[key]!r}: the test split has no part in "
                "choosing a model"
            )
    with error_context(f"model_selection: {configured.protocol}"):
        try:
            check_protocol(configured.protocol, options, data)
        except NoTextError:
            return None
    return ModelSelection(configured.protocol, options)
