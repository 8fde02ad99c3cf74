from dataclasses import replace

import pytest
import torch

from tests.compare import assert_close
from tests.losses.conftest import MAPS_ALONE, build, encoded
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import BatchPairs, EncodedBatch
from vlfew.losses.objective import Objective, WeightedLoss, losses_with, select_losses

TERMS = [
    WeightedLoss("supervised_contrastive"),
    WeightedLoss("alignment_softmax", weight=2.0, options={"temperature": 0.1}),
]
FALLBACK = WeightedLoss("contrastive")


def objective_of(losses, has_text=True):
    return Objective(select_losses(losses, has_text, FALLBACK), LossContext(FeatureSpec(4), 3))


def batch(has_text=True):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(6, 4, generator=generator)
    text = torch.randn(3, 4, generator=generator) if has_text else None
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    return EncodedBatch(Features(image), labels, labels, text, torch.arange(3) if has_text else None)


def test_sum_is_weighted():
    total, terms = objective_of(TERMS)(batch())
    expected = terms["supervised_contrastive"] + 2 * terms["alignment_softmax"]
    assert_close(total.detach(), expected)


def test_without_text_alignment_is_dropped():
    selected = select_losses(TERMS, False, FALLBACK)
    assert selected.dropped == ("alignment_softmax",)
    assert not selected.used_fallback and not selected.needs_text
    assert list(objective_of(TERMS, has_text=False)(batch(has_text=False))[1]) == ["supervised_contrastive"]


def test_fallback_is_used_when_no_loss_is_left():
    assert select_losses(TERMS[1:], False, FALLBACK).used_fallback
    objective = objective_of(TERMS[1:], has_text=False)
    assert list(objective.terms) == ["contrastive"]
    assert objective(batch(has_text=False))[0].isfinite()


def test_a_fallback_that_needs_text_is_an_error():
    with pytest.raises(ConfigError, match="needs text itself"):
        select_losses(TERMS[1:], has_text=False, fallback=WeightedLoss("alignment_sigmoid"))


def test_a_loss_may_be_used_twice():
    terms = [
        WeightedLoss("contrastive", options={"margin": 0.5}),
        WeightedLoss("contrastive", weight=3.0, options={"margin": 2.0}),
    ]
    total, values = objective_of(terms)(batch())
    assert_close(total, values["contrastive"] + 3 * values["contrastive#2"])


def test_losses_are_float32_under_autocast():
    objective = objective_of(TERMS)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = objective(batch())
    assert torch.equal(total, objective(batch())[0])


def test_a_loss_is_active_for_its_part_of_the_training():
    objective = objective_of(
        [WeightedLoss("supervised_contrastive", stop=0.5), WeightedLoss("contrastive", start=0.5)]
    )
    early, late = ([*objective(replace(batch(), progress=p))[1]] for p in (0.49, 0.5))
    assert (early, late) == (["supervised_contrastive"], ["contrastive"])


def test_weights_of_an_inactive_loss_have_no_gradient():
    """None instead of 0: otherwise weight decay would shrink them before the loss starts."""
    learned = {"learned": True}
    objective = objective_of(
        [
            WeightedLoss("supervised_contrastive", options=learned, stop=0.5),
            WeightedLoss("prototypical", start=0.5),
        ]
    )
    assert objective.may_skip_parameters and objective.last_start == 0.5
    late = replace(batch(), progress=0.9)
    late.image.embedding.requires_grad_()
    objective(late)[0].backward()
    assert late.image.embedding.grad.any()
    assert [p.grad for p in objective.parameters() if p.requires_grad] == [None]


def test_a_part_of_the_training_without_any_loss_is_an_error():
    terms = [WeightedLoss("contrastive", stop=0.25), WeightedLoss("prototypical", start=0.5)]
    with pytest.raises(ConfigError, match="no loss of the objective is active at 25% of the training"):
        select_losses(terms, has_text=True)


def test_a_part_left_empty_without_text_names_the_dropped_loss():
    terms = [WeightedLoss("alignment_softmax", stop=0.5), WeightedLoss("contrastive", start=0.5)]
    select_losses(terms, has_text=True)
    with pytest.raises(
        ConfigError, match="is active at 0% of the training without alignment_softmax, for"
    ) as error:
        select_losses(terms, has_text=False)
    assert "\n" not in str(error.value) and "text.encoder is null" in str(error.value)


def test_classifier_first_then_triplets():
    """Each stage trains by its own loss; the classifier is not trained in the second."""
    objective = objective_of([WeightedLoss("cross_entropy", stop=0.5), WeightedLoss("triplet", start=0.5)])
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


def test_annealing_is_over_the_losss_own_part():
    late = objective_of([WeightedLoss("l_softmax", start=0.5), WeightedLoss("contrastive", stop=0.5)])
    whole = objective_of([WeightedLoss("l_softmax")])
    whole.load_state_dict({k: v for k, v in late.state_dict().items() if k in whole.state_dict()})
    for progress, own in ((0.5, 0.0), (0.6, 0.2), (0.9, 0.8)):
        value = late(replace(batch(), progress=progress))[1]["l_softmax"]
        assert_close(value, whole(replace(batch(), progress=own))[1]["l_softmax"])


def test_losses_over_pairs_are_those_that_no_class_label_changes():
    """They are all that can be trained on pairs without classes."""
    blind = []
    for name in set(LOSSES.names()) - set(MAPS_ALONE):
        one = encoded([0, 0, 1, 1, 2, 3], texts=[0, 1, 2, 3])
        pairs = BatchPairs(
            torch.tensor([0, 2, 4]), torch.tensor([1, 4, 5]), torch.tensor([True, False, False])
        )
        values = []
        for labels in ([0, 0, 1, 1, 2, 3], [3, 1, 3, 0, 0, 3]):
            y = torch.tensor(labels)
            values.append(build(name)(replace(one, labels=y, target=y, sampled_pairs=pairs)).item())
        if values[0] == values[1]:
            blind.append(name)
    assert sorted(blind) == sorted(losses_with("pairs_only"))


def test_options_out_of_range_are_reported_for_every_loss():
    terms = [
        WeightedLoss("triplet", options={"margin": -1.0}),
        WeightedLoss("contrastive", options={"margin": 9.0}),
    ]
    with pytest.raises(ConfigError) as error:
        objective_of(terms)
    assert error.value.problems[0] == "loss triplet: margin is -1.0; it must be a number above 0"
    assert error.value.problems[1].startswith("loss contrastive: margin is 9.0, and unit vectors")


@pytest.mark.parametrize(("value", "got"), [(0.5, "0.5"), (torch.zeros(6), r"a tensor of shape \[6\]")])
def test_a_loss_must_be_a_scalar_tensor(monkeypatch, value, got):
    objective = objective_of(TERMS[:1])
    monkeypatch.setattr(objective.terms["supervised_contrastive"], "forward", lambda batch: value)
    with pytest.raises(
        VlfewError, match=f"loss 'supervised_contrastive' must return a scalar tensor, got {got}"
    ):
        objective(batch())
