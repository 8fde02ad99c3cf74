"""Texts of classes: prompts from class names and templates, or descriptions from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vlfew.classifiers.prototypes import encode_class_texts
from vlfew.core.errors import DataError, ModelError, did_you_mean
from vlfew.core.plurals import counted, first_names
from vlfew.data.class_names import NameLookup
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.table_files import read_json_mapping
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.text.distinct import check_distinct_texts
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.prompt_templates import CLASS_NAME, read_templates
from vlfew.models.text_cache import cached_text_embeddings


class NoTextError(DataError):
    """Classes without text where a protocol needs it."""


def read_descriptions(path: Path, data: LabeledImages) -> dict[str, list[str]]:
    """Class name to texts, from a JSON object of strings or lists of strings.

    Raises:
        DataError: missing, not such an object, or a class that `data` does not have.
    """
    descriptions: dict[str, list[str]] = {}
    lookup = NameLookup(data.class_names)
    for written, texts in read_json_mapping(path).items():
        name = lookup.find(written)
        texts = [texts] if isinstance(texts, str) else texts
        if not (isinstance(texts, list) and texts and all(isinstance(t, str) and t.strip() for t in texts)):
            raise DataError(f"{path}: class {written!r} needs a text or a list of texts, none of them empty")
        if name is None:
            raise DataError(
                f"{path}: {data.name} has no class {written!r}{did_you_mean(written, data.class_names)}"
            )
        if name in descriptions:
            raise DataError(f"{path}: class {name!r} is described twice; remove one")
        descriptions[name] = texts
    return descriptions


def class_prompts(
    data: LabeledImages, classes: Tensor, templates: str | Sequence[str], descriptions: Path | None
) -> list[list[str]]:
    """The texts of each class of `classes [C]`.

    Every name of a class in every template; a class with descriptions has those instead, unchanged.

    Raises:
        ConfigError: no template, or one without `{}`.
        NoTextError: classes whose names are codes, and that descriptions do not cover; names them.
        DataError: a class whose text is empty; unusable descriptions.
    """
    templates = read_templates(templates)
    described = read_descriptions(descriptions, data) if descriptions else {}
    names = [data.class_names[c] for c in classes.tolist() if not data.class_texts[c]]
    check_described(data, [name for name in names if name not in described], len(classes), descriptions)
    prompts = []
    for c in classes.tolist():
        name = data.class_names[c]
        if name in described:
            prompts.append(described[name])
            continue
        if not all(text.strip() for text in data.class_texts[c]):
            raise DataError(f"{data.name}: class {name!r} has an empty text; a prompt cannot be made of it")
        prompts.append([t.replace(CLASS_NAME, text) for text in data.class_texts[c] for t in templates])
    return prompts


def check_described(
    data: LabeledImages, codes: Sequence[str], classes: int, descriptions: Path | None = None
) -> None:
    """Checks that every class has a text.

    Args:
        data: the data set.
        codes: names of the classes without one.
        classes: how many classes are needed.
        descriptions: file in which they are missing, if there is one.

    Raises:
        NoTextError: there are such classes.
    """
    if not codes:
        return
    those = "that class alone" if len(codes) == 1 else "these classes alone"
    those = "each class" if len(codes) == classes else those
    way_out = (
        f"add {those} to {descriptions}" if descriptions else f"describe {those} with descriptions=FILE.json"
    )
    way_out += f" (or in {data.texts_file})" * bool(data.texts_file)
    if len(codes) == classes:
        raise NoTextError(f"class names of {data.name} are codes, not text (such as {codes[0]!r}); {way_out}")
    raise NoTextError(
        f"{data.name}: {len(codes)} of {counted(classes, 'class')} without text, since the name looks like a code: "
        f"{first_names(codes)}; {way_out}"
    )


def check_prompts(
    encoder: TextEncoder, data: LabeledImages, classes: Tensor, prompts: Sequence[Sequence[str]]
) -> None:
    """Checks that the text encoder can tell the prompts of `classes [C]` apart.

    Raises:
        DataError: two classes have the same tokens; where each image is a class of its own, they may share a caption.
    """
    if len(data.labels) > len(data.class_names):
        names = [data.class_names[c] for c in classes.tolist()]
        check_distinct_texts(encoder, names, prompts, way_out=", in other templates or descriptions")


def class_embeddings(
    context: EvaluationContext, classes: Tensor, templates: str | Sequence[str], descriptions: Path | None
) -> Tensor:
    """Text embeddings `[C, D]` of `classes [C]`: prompts normalized, averaged, normalized again; on the CPU.

    Those of many prompts are cached (`vlfew.models.text_cache`).

    Raises:
        ModelError: the model has no text encoder.
        ConfigError: as `class_prompts`.
        DataError: as `class_prompts`.
    """
    texts = class_prompts(context.data, classes, templates, descriptions)
    model, data = context.model, context.data
    if not model.has_text:
        raise ModelError(
            "this model has no text encoder (it was trained without text) and cannot encode class names; "
            "the protocol asif adds a text encoder to it"
        )
    check_prompts(model.require_text_encoder(), data, classes, texts)
    return cached_text_embeddings(
        model.fingerprint, texts, lambda: encode_class_texts(model.encode_text, texts).cpu()
    )
