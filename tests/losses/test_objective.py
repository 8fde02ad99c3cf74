from dataclasses import replace

import pytest
import torch

from vlfew.errors import ConfigError
from vlfew.features import Features, Space
from vlfew.losses.encoded import Encoded
from vlfew.losses.objective import Objective, TermSpec, choose_terms
from vlfew.losses.term import Trained

TERMS = [
    TermSpec("supervised_contrastive"),
    TermSpec("alignment_softmax", weight=2.0, options={"temperature": 0.1}),
]
FALLBACK = TermSpec("contrastive")


def objective_of(terms, words=True, fallback=FALLBACK):
    return Objective(choose_terms(terms, words, fallback), Trained(Space(4), 3))


def batch(words=True):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(6, 4, generator=generator)
    text = torch.randn(3, 4, generator=generator) if words else None
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return Encoded(Features(image), labels, labels, text, torch.arange(3) if words else None)


def test_sum_is_weighted():
    total, terms = objective_of(TERMS)(batch())
    expected = terms["supervised_contrastive"] + 2 * terms["alignment_softmax"]
    torch.testing.assert_close(total.detach(), expected)


def test_without_words_alignment_is_dropped_and_said():
    objective = objective_of(TERMS, words=False)
    chosen = objective.chosen
    assert chosen.dropped == ("alignment_softmax",)
    assert not chosen.fell_back and not chosen.needs_words
    assert list(objective(batch(words=False))[1]) == ["supervised_contrastive"]


def test_fallback_takes_over_when_nothing_is_left():
    objective = objective_of(TERMS[1:], words=False)
    assert objective.chosen.fell_back and list(objective.terms) == ["contrastive"]
    assert objective(batch(words=False))[0].isfinite()


def test_fallback_that_needs_words_is_refused():
    with pytest.raises(ConfigError, match="needs words itself"):
        choose_terms(TERMS[1:], words=False, fallback=TermSpec("alignment_sigmoid"))


def test_a_term_used_twice_keeps_both():
    terms = [
        TermSpec("contrastive", options={"margin": 0.5}),
        TermSpec("contrastive", weight=3.0, options={"margin": 2.0}),
    ]
    total, values = objective_of(terms)(batch())
    torch.testing.assert_close(total, values["contrastive"] + 3 * values["contrastive#2"])


def test_losses_are_float32_under_autocast():
    objective = objective_of(TERMS)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = objective(batch())
    torch.testing.assert_close(total, objective(batch())[0], rtol=0, atol=0)


def test_a_term_counts_for_its_share_of_the_training():
    objective = objective_of(
        [TermSpec("supervised_contrastive", stop=0.5), TermSpec("contrastive", start=0.5)]
    )
    early, late = ([*objective(replace(batch(), progress=p))[1]] for p in (0.49, 0.5))
    assert (early, late) == (["supervised_contrastive"], ["contrastive"])


def test_every_weight_has_a_gradient_at_every_step():
    """Processes that train together wait for one another's gradients."""
    learned = {"learned": True}
    objective = objective_of(
        [TermSpec("supervised_contrastive", options=learned, stop=0.5), TermSpec("prototypical", start=0.5)]
    )
    objective(replace(batch(), progress=0.9))[0].backward()
    assert [p.grad.item() for p in objective.parameters() if p.requires_grad] == [0.0]


def test_a_share_of_the_training_without_any_term_is_refused():
    terms = [TermSpec("contrastive", stop=0.25), TermSpec("prototypical", start=0.5)]
    with pytest.raises(ConfigError, match="no term of the objective counts at 25% of the training"):
        choose_terms(terms, words=True)
