"""Words kept by model and texts: used again, told apart, and not trusted when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel, run
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.text_cache import LEAST, cached_text_embeddings

TEXTS = [[f"class {c} prompt {p}" for p in range(LEAST // 2)] for c in range(2)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vlfew" / "words"


class Counted:
    """Gives vectors of its own each time, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Tensor:
        self.asked += 1
        return torch.full((2, 3), float(self.asked))


@pytest.fixture
def make() -> Counted:
    return Counted()


def test_the_same_model_and_texts_are_encoded_once(make: Counted) -> None:
    first = cached_text_embeddings("model", TEXTS, make)
    assert torch.equal(cached_text_embeddings("model", TEXTS, make), first) and make.asked == 1


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("another", TEXTS),
        ("model", [[*TEXTS[0], "more"], TEXTS[1]]),
        ("model", [TEXTS[0] + TEXTS[1][:1], TEXTS[1][1:]]),
    ],
)
def test_another_model_or_other_texts_are_told_apart(
    make: Counted, model: str, texts: list[list[str]]
) -> None:
    cached_text_embeddings("model", TEXTS, make)
    cached_text_embeddings(model, texts, make)
    assert make.asked == 2


@pytest.mark.parametrize(("model", "texts"), [(None, TEXTS), ("model", [["a"], ["b"]])])
def test_nothing_is_kept_of_a_changing_model_or_of_few_texts(
    make: Counted, cache: Path, model: str | None, texts: list[list[str]]
) -> None:
    for _ in range(2):
        cached_text_embeddings(model, texts, make)
    assert make.asked == 2 and not cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-4],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"",
    ],
    ids=["cut short", "a bit turned", "empty"],
)
def test_a_damaged_file_is_made_anew(make: Counted, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    cached_text_embeddings("model", TEXTS, make)
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert float(cached_text_embeddings("model", TEXTS, make)[0, 0]) == 2
    assert float(cached_text_embeddings("model", TEXTS, make)[0, 0]) == 2 and make.asked == 2


def test_a_cache_that_cannot_be_written_is_done_without(make: Counted, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        cached_text_embeddings("model", TEXTS, make)
    assert make.asked == 2


def test_zero_shot_with_many_prompts_reads_them_once(cache: Path) -> None:
    model = FakeModel()
    model.fingerprint = "a saved model"
    context = EvaluationContext(model, make_data(classes=60, images=3))
    options = {"templates": ["eighty"]}
    first, _ = run(context, "zero-shot", **options)
    assert len(list(cache.iterdir())) == 1

    def error(texts: list[str]) -> Tensor:
        raise AssertionError("read again")

    model.encode_texts = error  # type: ignore[method-assign]
    again, _ = run(context, "zero-shot", **options)
    assert again == first
