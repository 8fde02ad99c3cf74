"""The text cache: used for the same model and texts, never for others, and not trusted when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.compare import assert_close
from tests.conftest import make_data
from tests.encoders.conftest import bert_folder
from tests.evaluation.fakes import FakeModel, run
from vlfew.encoders import TEXT_ENCODERS
from vlfew.evaluation.context import EvaluationContext
from vlfew.models.cache_keys import hash_weights
from vlfew.models.text_cache import MIN_TEXTS, cached_text_embeddings, encode_once, hash_text_encoder

__all__ = ["bert_folder"]

TEXTS = [[f"class {c} prompt {p}" for p in range(MIN_TEXTS // 2)] for c in range(2)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vlfew" / "text"


class Counted:
    """Gives other embeddings each time, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensor:
        self.calls += 1
        return torch.full((2, 3), float(self.calls))


@pytest.fixture
def make() -> Counted:
    return Counted()


def test_the_same_model_and_texts_are_encoded_once(make: Counted) -> None:
    first = cached_text_embeddings("model", TEXTS, make)
    assert torch.equal(cached_text_embeddings("model", TEXTS, make), first) and make.calls == 1


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("another", TEXTS),
        ("model", [[*TEXTS[0], "more"], TEXTS[1]]),
        ("model", [TEXTS[0] + TEXTS[1][:1], TEXTS[1][1:]]),
    ],
)
def test_another_model_or_other_texts_are_encoded(make: Counted, model: str, texts: list[list[str]]) -> None:
    cached_text_embeddings("model", TEXTS, make)
    cached_text_embeddings(model, texts, make)
    assert make.calls == 2


@pytest.mark.parametrize(("model", "texts"), [(None, TEXTS), ("model", [["a"], ["b"]])])
def test_a_changing_model_or_few_texts_are_not_cached(
    make: Counted, cache: Path, model: str | None, texts: list[list[str]]
) -> None:
    for _ in range(2):
        cached_text_embeddings(model, texts, make)
    assert make.calls == 2 and not cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-4],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"",
    ],
    ids=["cut short", "a flipped bit", "empty"],
)
def test_a_damaged_file_is_replaced(make: Counted, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    cached_text_embeddings("model", TEXTS, make)
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert float(cached_text_embeddings("model", TEXTS, make)[0, 0]) == 2
    assert float(cached_text_embeddings("model", TEXTS, make)[0, 0]) == 2 and make.calls == 2


def test_a_cache_that_is_not_writable(make: Counted, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        cached_text_embeddings("model", TEXTS, make)
    assert make.calls == 2


def test_zero_shot_with_many_prompts_encodes_them_once(cache: Path) -> None:
    model = FakeModel()
    model.fingerprint = "a saved model"
    context = EvaluationContext(model, make_data(classes=60, images=3))
    options = {"templates": ["eighty"]}
    first, _ = run(context, "zero-shot", **options)
    assert len(list(cache.iterdir())) == 1

    def error(texts: list[str]) -> Tensor:
        raise AssertionError("encoded again")

    model.encode_text = error  # type: ignore[method-assign]
    again, _ = run(context, "zero-shot", **options)
    assert again == first


def test_encoders_of_equal_weights_that_pool_otherwise_are_told_apart(bert_folder: Path) -> None:
    texts = [f"text number {n}" for n in range(MIN_TEXTS)]
    mean, cls = (
        TEXT_ENCODERS.get(f"hf:{bert_folder}")(pooling=pooling).eval() for pooling in ("mean", "cls")
    )
    assert hash_weights(mean) == hash_weights(cls)
    encode_once(mean, texts)
    assert_close(encode_once(cls, texts), cls.encode(texts))
    assert hash_text_encoder(mean) != hash_text_encoder(cls)
