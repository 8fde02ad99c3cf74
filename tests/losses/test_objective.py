import pytest
import torch

from vlfew.errors import ConfigError
from vlfew.features import Features
from vlfew.losses.encoded import Encoded
from vlfew.losses.objective import Objective

TERMS = [("supervised_contrastive", 1.0, {}), ("alignment_softmax", 2.0, {"temperature": 0.1})]
FALLBACK = ("contrastive", 1.0, {})


def batch(words=True):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(6, 4, generator=generator)
    text = torch.randn(3, 4, generator=generator) if words else None
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return Encoded(Features(image), labels, text, torch.arange(3) if words else None)


def test_sum_is_weighted():
    total, terms = Objective(TERMS, words=True, fallback=FALLBACK)(batch())
    expected = terms["supervised_contrastive"] + 2 * terms["alignment_softmax"]
    torch.testing.assert_close(total.detach(), expected)


def test_without_words_alignment_is_dropped_and_said():
    objective = Objective(TERMS, words=False, fallback=FALLBACK)
    assert objective.dropped == ["alignment_softmax"]
    assert not objective.fell_back and not objective.needs_words
    assert list(objective(batch(words=False))[1]) == ["supervised_contrastive"]


def test_fallback_takes_over_when_nothing_is_left():
    objective = Objective(TERMS[1:], words=False, fallback=FALLBACK)
    assert objective.fell_back and list(objective.weights) == ["contrastive"]
    assert objective(batch(words=False))[0].isfinite()


def test_fallback_that_needs_words_is_refused():
    with pytest.raises(ConfigError, match="needs words itself"):
        Objective(TERMS[1:], words=False, fallback=("alignment_sigmoid", 1.0, {}))


def test_a_term_used_twice_keeps_both():
    terms = [("contrastive", 1.0, {"margin": 0.5}), ("contrastive", 3.0, {"margin": 2.0})]
    objective = Objective(terms, words=False)
    assert objective.weights == {"contrastive": 1.0, "contrastive#2": 3.0}


def test_losses_are_float32_under_autocast():
    objective = Objective(TERMS, words=True)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = objective(batch())
    torch.testing.assert_close(total, objective(batch())[0], rtol=0, atol=0)
