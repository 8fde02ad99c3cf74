"""Sets of templates by name."""

from __future__ import annotations

import pytest
import torch

from tests.compare import assert_close
from tests.evaluation.fakes import FakeModel, run
from vlfew.core.errors import ConfigError
from vlfew.evaluation.class_prompts import class_embeddings
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.prompt_templates import read_templates


def test_the_sets_are_those_of_open_clip() -> None:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    assert read_templates("one") == ["a photo of a {}."]
    for name, theirs, count in (
        ("seven", SIMPLE_IMAGENET_TEMPLATES, 7),
        ("eighty", OPENAI_IMAGENET_TEMPLATES, 80),
    ):
        prompts = [template.replace("{}", "red fox") for template in read_templates(name)]
        assert prompts == [template("red fox") for template in theirs]
        assert len(set(prompts)) == count


def test_sets_and_templates_mix_without_duplicates() -> None:
    assert read_templates(["{}", "one", "a drawing of {}", "a photo of a {}.", "{}"]) == [
        "{}",
        "a photo of a {}.",
        "a drawing of {}",
    ]
    assert read_templates("a {}") == ["a {}"]


def test_neither_a_set_nor_a_template_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'eighty'"):
        read_templates(["one", "eigthy"])


def test_a_protocol_takes_a_set_by_name(context: EvaluationContext) -> None:
    classes = context.data.classes("test")
    named, _ = run(context, "zero-shot", templates="seven")
    listed, _ = run(context, "zero-shot", templates=read_templates("seven"))
    bare, _ = run(context, "zero-shot")
    assert named.accuracy == listed.accuracy != bare.accuracy
    assert named.get("templates") == ["seven"] and named.options["templates"] == "seven"
    embeddings = class_embeddings(context, classes, "seven", None)
    name = context.data.class_names[int(classes[0])]
    texts = [template.replace("{}", name) for template in read_templates("seven")]
    mean = torch.stack([FakeModel.text(t) / FakeModel.text(t).norm() for t in texts]).mean(0)
    assert_close(embeddings[0], mean / mean.norm())
