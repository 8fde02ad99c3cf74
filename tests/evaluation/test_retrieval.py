"""Retrieval against a loop over queries in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.evaluation.fakes import FakeModel, run
from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.run_protocol import check_protocol
from vlfew.evaluation.statistics import cluster_ci95, mean_ci95


class Known:
    """A model with given embeddings: of images by their one pixel, of texts by themselves."""

    has_text = True
    fingerprint = None

    def __init__(self, images: Tensor, texts: dict[str, Tensor]) -> None:
        self.images, self.texts = images, texts

    def image_features(self, images: Tensor) -> Features:
        return Features(self.images[images[:, 0, 0, 0].long()])

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.stack([self.texts[text] for text in texts])


def captioned(texts: list[list[str]], labels: list[int]) -> LabeledImages:
    """Images of one pixel, their number; all of the split `test`."""
    return LabeledImages(
        name="captions",
        images=InMemory(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)),
        labels=torch.tensor(labels),
        class_names=tuple(f"image {n}" for n in range(len(texts))),
        splits={"test": torch.arange(len(labels))},
        fingerprint="known",
        class_texts=tuple(map(tuple, texts)),
    )


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def rank(query: Tensor, items: list[tuple[Tensor, bool]]) -> int:
    """Rank of the best correct item, behind all wrong ones with the same score."""
    best = max(cosine(query, item) for item, right in items if right)
    return 1 + sum(not right and cosine(query, item) >= best - 1e-6 for item, right in items)


@settings(max_examples=60)
@given(data=st.data(), classes=st.integers(2, 6))
def test_ranks_and_recalls_match_a_loop(data: st.DataObject, classes: int) -> None:
    # Few distinct vectors and few distinct texts: ties and shared captions are common.
    vector = st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (2, 1, -1), (-1, 2, 2)])
    letter = st.sampled_from("abcdefgh")
    texts = [data.draw(st.lists(letter, min_size=1, max_size=4, unique=True)) for _ in range(classes)]
    labels = sorted([*range(classes), *data.draw(st.lists(st.integers(0, classes - 1), max_size=4))])
    of_image = [torch.tensor(data.draw(vector)).float() for _ in labels]
    of_text = {w: torch.tensor(data.draw(vector)).float() for w in "abcdefgh"}
    context = EvaluationContext(Known(torch.stack(of_image), of_text), captioned(texts, labels))
    result, _ = run(context, "retrieval")

    every = [(c, text) for c, own in enumerate(texts) for text in own]
    to_image = [
        rank(of_text[text], [(of_image[n], text in texts[c]) for n, c in enumerate(labels)])
        for _, text in every
    ]
    to_text = [
        rank(of_image[n], [(of_text[text], text in texts[c]) for _, text in every])
        for n, c in enumerate(labels)
    ]
    for name, ranks in (("text_to_image", to_image), ("image_to_text", to_text)):
        for k in (1, 5, 10):
            assert result.get(f"{name}_r{k}") == pytest.approx(sum(r <= k for r in ranks) / len(ranks))
        assert result.get(f"{name}_median_rank") == median(ranks)
    hits = [
        sum(c == own and r == 1 for (own, _), r in zip(every, to_image, strict=True)) for c in range(classes)
    ]
    assert result.get("text_to_image_r1_ci95") == pytest.approx(cluster_ci95(hits, [len(t) for t in texts]))
    both = [result.get("text_to_image_r1"), result.get("image_to_text_r1")]
    assert result.accuracy == pytest.approx(sum(both) / 2)
    assert (result.get("images"), result.get("texts")) == (len(labels), len(every))
    assert result.get("distinct_texts", len(every)) == len({text for _, text in every})


def test_the_interval_of_the_mean_is_that_of_images_when_each_has_one_caption() -> None:
    """Each image is then a cluster with one answer each way: the mean of its two answers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, generator=generator)
    captions = {f"w{n}": p + 0.4 * torch.randn(3, generator=generator) for n, p in enumerate(images)}
    context = EvaluationContext(Known(images, captions), captioned([[w] for w in captions], list(range(40))))
    result, _ = run(context, "retrieval")
    scores = torch.tensor([[cosine(w, p) for p in images] for w in captions.values()])
    right = torch.arange(40)
    both = ((scores.argmax(1) == right).double() + (scores.argmax(0) == right).double()) / 2
    _, ci95 = mean_ci95(both.tolist())
    assert 0.1 < result.accuracy < 0.9 and result.ci95 == pytest.approx(ci95)
    assert result.episodes == 40


def test_equal_scores_for_all_are_always_wrong() -> None:
    texts = [["a", "b"], ["c"], ["d"]]
    same = torch.ones(3)
    context = EvaluationContext(
        Known(same.expand(3, 3), dict.fromkeys("abcd", same)), captioned(texts, [0, 1, 2])
    )
    result, _ = run(context, "retrieval")
    assert result.accuracy == 0 and result.get("text_to_image_median_rank") == 3


def test_what_cannot_be_retrieved_is_an_error(data: LabeledImages) -> None:
    with pytest.raises(ModelError, match="cannot encode captions"):
        run(EvaluationContext(FakeModel(has_text=False), data), "retrieval")
    with pytest.raises(DataError, match="codes, not text"):
        check_protocol("retrieval", {}, replace(data, class_texts=()))
    broken = Known(torch.ones(2, 3), {"a": torch.ones(3), "b": torch.full((3,), math.nan)})
    with pytest.raises(ModelError, match="NaN or infinity for texts"):
        run(EvaluationContext(broken, captioned([["a"], ["b"]], [0, 1])), "retrieval")
