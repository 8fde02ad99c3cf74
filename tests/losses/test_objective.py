from dataclasses import replace

import pytest
import torch

from tests.losses.conftest import MAPS_ALONE, build, encoded
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import BatchPairs, EncodedBatch
from vlfew.losses.objective import Objective, TermSpec, choose_terms, losses_with

TERMS = [
    TermSpec("supervised_contrastive"),
    TermSpec("alignment_softmax", weight=2.0, options={"temperature": 0.1}),
]
FALLBACK = TermSpec("contrastive")


def objective_of(terms, words=True, fallback_loss=FALLBACK):
    return Objective(choose_terms(terms, words, fallback_loss), LossContext(FeatureSpec(4), 3))


def batch(words=True):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(6, 4, generator=generator)
    text = torch.randn(3, 4, generator=generator) if words else None
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return EncodedBatch(Features(image), labels, labels, text, torch.arange(3) if words else None)


def test_sum_is_weighted():
    total, terms = objective_of(TERMS)(batch())
    expected = terms["supervised_contrastive"] + 2 * terms["alignment_softmax"]
    torch.testing.assert_close(total.detach(), expected)


def test_without_words_alignment_is_dropped_and_said():
    objective = objective_of(TERMS, words=False)
    chosen = objective.chosen
    assert chosen.dropped == ("alignment_softmax",)
    assert not chosen.fell_back and not chosen.needs_text
    assert list(objective(batch(words=False))[1]) == ["supervised_contrastive"]


def test_fallback_takes_over_when_nothing_is_left():
    objective = objective_of(TERMS[1:], words=False)
    assert objective.chosen.fell_back and list(objective.terms) == ["contrastive"]
    assert objective(batch(words=False))[0].isfinite()


def test_fallback_that_needs_words_is_refused():
    with pytest.raises(ConfigError, match="needs words itself"):
        choose_terms(TERMS[1:], words=False, fallback_loss=TermSpec("alignment_sigmoid"))


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


def test_weights_of_a_term_that_does_not_count_are_left_alone():
    """No gradient, not one of 0: an optimizer's penalty would wear them down before they begin."""
    learned = {"learned": True}
    objective = objective_of(
        [TermSpec("supervised_contrastive", options=learned, stop=0.5), TermSpec("prototypical", start=0.5)]
    )
    assert objective.leaves_out and objective.last_start == 0.5
    late = replace(batch(), progress=0.9)
    late.image.embedding.requires_grad_()
    objective(late)[0].backward()
    assert late.image.embedding.grad.any()
    assert [p.grad for p in objective.parameters() if p.requires_grad] == [None]


def test_a_share_of_the_training_without_any_term_is_refused():
    terms = [TermSpec("contrastive", stop=0.25), TermSpec("prototypical", start=0.5)]
    with pytest.raises(ConfigError, match="no term of the objective counts at 25% of the training"):
        choose_terms(terms, words=True)


def test_a_share_left_empty_for_want_of_words_says_what_is_missing():
    terms = [TermSpec("alignment_softmax", stop=0.5), TermSpec("contrastive", start=0.5)]
    choose_terms(terms, words=True)
    with pytest.raises(
        ConfigError, match="counts at 0% of the training without alignment_softmax, for"
    ) as error:
        choose_terms(terms, words=False)
    assert "\n" not in str(error.value) and "text.encoder is null" in str(error.value)


def test_classifier_first_then_triplets():
    """Each stage trains by its own loss; the classifier stands still in the second."""
    objective = objective_of([TermSpec("cross_entropy", stop=0.5), TermSpec("triplet", start=0.5)])
    for progress, name in ((0.0, "cross_entropy"), (0.5, "triplet"), (0.99, "triplet")):
        one = replace(batch(), progress=progress)
        one.image.embedding.requires_grad_()
        objective.zero_grad()
        total, values = objective(one)
        assert list(values) == [name] and total > 0
        total.backward()
        assert one.image.embedding.grad.abs().sum() > 0
        classifier = objective.terms["cross_entropy"].linear.weight.grad
        assert (classifier is not None) == (name == "cross_entropy")


def test_annealing_is_over_the_terms_own_part():
    late = objective_of([TermSpec("l_softmax", start=0.5), TermSpec("contrastive", stop=0.5)])
    whole = objective_of([TermSpec("l_softmax")])
    whole.load_state_dict({k: v for k, v in late.state_dict().items() if k in whole.state_dict()})
    for progress, own in ((0.5, 0.0), (0.6, 0.2), (0.9, 0.8)):
        value = late(replace(batch(), progress=progress))[1]["l_softmax"]
        torch.testing.assert_close(value, whole(replace(batch(), progress=own))[1]["l_softmax"])


def test_losses_over_pairs_are_those_that_no_class_label_changes():
    """All that data of pairs without classes can be trained by."""
    blind = []
    for name in set(LOSSES.names()) - set(MAPS_ALONE):
        one = encoded([0, 0, 1, 1, 2, 3], texts=[0, 1, 2, 3])
        drawn = BatchPairs(
            torch.tensor([0, 2, 4]), torch.tensor([1, 4, 5]), torch.tensor([True, False, False])
        )
        values = []
        for labels in ([0, 0, 1, 1, 2, 3], [3, 1, 3, 0, 0, 3]):
            asked = torch.tensor(labels)
            values.append(build(name)(replace(one, labels=asked, target=asked, drawn_pairs=drawn)).item())
        if values[0] == values[1]:
            blind.append(name)
    assert sorted(blind) == sorted(losses_with("pairs_only"))


def test_options_out_of_range_are_told_of_every_loss_that_has_some():
    terms = [TermSpec("triplet", options={"margin": -1.0}), TermSpec("contrastive", options={"margin": 9.0})]
    with pytest.raises(ConfigError) as error:
        objective_of(terms)
    assert error.value.problems[0] == "loss triplet: margin is -1.0; it must be a number above 0"
    assert error.value.problems[1].startswith("loss contrastive: margin is 9.0, and unit vectors")
