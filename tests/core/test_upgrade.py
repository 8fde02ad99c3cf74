"""Results saved before 0.2 are read with today's names, and their commands are today's."""

from __future__ import annotations

import pytest

from vlfew.core.upgrade import upgrade_command, upgrade_result


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "vlfew evaluate runs/a --protocol few-shot --split test --too-few leave_out",
            "vlfew evaluate few-shot runs/a --split test --on-small-class skip",
        ),
        (
            "vlfew evaluate runs/a --protocol pictures-and-words --scorer pictures_and_words",
            "vlfew evaluate multimodal runs/a --method multimodal_prototypes",
        ),
        (
            "vlfew evaluate runs/a --protocol verification --scorer cosine",
            "vlfew evaluate verification runs/a --similarity cosine",
        ),
        (
            "vlfew evaluate runs/a --protocol zero-shot --template 'a photo of a {}' --set center=0.6",
            "vlfew evaluate zero-shot runs/a --templates 'a photo of a {}' data.center_crop=0.6",
        ),
        (
            "vlfew evaluate runs/a --set protocol=one-picture --protocol few-shot",
            "vlfew evaluate few-shot runs/a data.protocol=one-image",
        ),
        ("vlfew train quickstart", "vlfew train quickstart"),
    ],
)
def test_command(old: str, new: str) -> None:
    assert upgrade_command(old) == new
    assert upgrade_command(new) == new


def test_result() -> None:
    old = {
        "protocol": "pictures-and-words",
        "asked": {"too_few": "leave_out", "choose": "pictures", "scorer": "pictures_and_words"},
        "classes_left_out": 2,
        "pictures_accuracy": 0.5,
        "words_ci95": 0.1,
        "command": "vlfew evaluate runs/a --protocol pictures-and-words --draws 3",
    }
    new = {
        "protocol": "multimodal",
        "options": {
            "on_small_class": "skip",
            "tune_on": "held-out-images",
            "method": "multimodal_prototypes",
        },
        "skipped_classes": 2,
        "image_accuracy": 0.5,
        "text_ci95": 0.1,
        "command": "vlfew evaluate multimodal runs/a --repeats 3",
    }
    assert upgrade_result(old) == new
    assert upgrade_result(new) is new
