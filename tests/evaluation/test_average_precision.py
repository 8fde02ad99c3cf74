"""Average precision of boxes: equal to pycocotools, and what it is on boxes that one can count by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.data.boxes import Boxes
from vlfew.data.detections import Detections
from vlfew.evaluation.average_precision import average_precision, coco_data

pytest.importorskip("faster_coco_eval")


def random_boxes(rng: np.random.Generator, count: int) -> Tensor:
    corner = rng.uniform(0, 0.7, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + rng.uniform(0.05, 0.3, (count, 2))], 1)).float()


def pages(
    seed: int, images: int, classes: int, most: int, crowds: float, wrong: float
) -> tuple[Boxes, Detections]:
    """Objects, and detections near them, some of another class, some elsewhere; scores are coarse, so that many tie."""
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(np.sort(rng.integers(0, images, rng.integers(1, most * images + 1))))
    xyxy, labels = (
        random_boxes(rng, len(image)),
        torch.from_numpy(rng.integers(0, classes, len(image))),
    )
    ignored = torch.from_numpy(rng.uniform(size=len(image)) < crowds)
    ignored[0] = False
    found = [n for n in range(len(image)) if rng.uniform() < 0.9 for _ in range(rng.integers(1, 3))]
    moved = xyxy[found] + torch.from_numpy(rng.normal(0, 0.02, (len(found), 4))).float()
    noise = int(rng.integers(0, 20))
    boxes = torch.cat([moved, random_boxes(rng, noise)])
    at = torch.cat([image[found], torch.from_numpy(rng.integers(0, images, noise))])
    names = torch.cat([labels[found], torch.from_numpy(rng.integers(0, classes, noise))])
    other = torch.from_numpy(rng.uniform(size=len(names)) < wrong)
    names[other] = torch.from_numpy(rng.integers(0, classes, int(other.sum())))
    scores = torch.from_numpy(rng.integers(0, 20, len(names)) / 20)
    shuffled = torch.from_numpy(rng.permutation(len(names)))
    truth = Boxes(xyxy.clamp(0, 1), labels, image, images, ignored)
    return truth, Detections(boxes[shuffled], scores[shuffled], at[shuffled], images, names[shuffled])


def by_pycocotools(truth: Boxes, found: Detections, by_class: bool) -> list[float]:
    """AP, AP50, AP75 and AR as pycocotools summarizes them."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    objects, results = coco_data(truth, found, torch.arange(truth.num_images), by_class)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = coco.COCO()
        reference.dataset = objects
        reference.createIndex()
        evaluation = cocoeval.COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [evaluation.stats[n] for n in (0, 1, 2, 8)]


@settings(max_examples=40)
@given(
    st.integers(0, 2**16),
    st.integers(1, 12),
    st.integers(1, 5),
    st.sampled_from([1, 4, 14]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.5]),
    st.booleans(),
)
def test_equal_to_pycocotools(seed, images, classes, most, crowds, wrong, by_class) -> None:
    truth, found = pages(seed, images, classes, most, crowds, wrong)
    if not len(found):
        return
    ours = average_precision(truth, found, by_class=by_class)
    expected = by_pycocotools(truth, found, by_class)
    assert [ours.ap, ours.ap50, ours.ap75, ours.ar] == pytest.approx(expected, abs=1e-12)
    if by_class:
        assert np.mean(list(ours.per_class.values())) == pytest.approx(expected[0])
        assert set(ours.per_class) == set(truth.objects.labels.tolist())


def one_image(
    truth: list[list[float]], found: list[list[float]], scores: list[float]
) -> tuple[Boxes, Detections]:
    count = len(truth)
    return (
        Boxes(torch.tensor(truth), torch.zeros(count).long(), torch.zeros(count).long(), 1),
        Detections.of_images([torch.tensor(found)], [torch.tensor(scores)]),
    )


def test_a_box_counts_at_the_overlaps_that_it_reaches() -> None:
    # 0.8 of the object: right at 0.5, 0.55 ... 0.75 and, in single precision, at or below 0.8.
    result = average_precision(*one_image([[0, 0, 1, 0.5]], [[0, 0, 0.81, 0.5]], [0.9]))
    assert (result.ap50, result.ap75) == (1, 1) and result.ap == pytest.approx(0.7) and result.ci95 is None


def test_a_surer_wrong_box_costs_precision_and_a_less_sure_one_does_not() -> None:
    truth, wrong = [[0.0, 0.0, 0.5, 0.5]], [0.6, 0.6, 0.9, 0.9]
    assert average_precision(*one_image(truth, [truth[0], wrong], [0.5, 0.9])).ap == pytest.approx(0.5)
    assert average_precision(*one_image(truth, [truth[0], wrong], [0.9, 0.5])).ap == 1


def test_nothing_found_is_zero_and_names_do_not_matter_unless_asked() -> None:
    truth, found = pages(3, 4, 3, 4, 0, 0)
    nothing = Detections.of_images([torch.zeros(0, 4)] * 4, [torch.zeros(0)] * 4, [torch.zeros(0).long()] * 4)
    for by_class in (False, True):
        result = average_precision(truth, nothing, by_class=by_class)
        assert (result.ap, result.ap50, result.ar) == (0, 0, 0)
    assert found.labels is not None
    renamed = Detections(found.xyxy, found.scores, found.image, 4, (found.labels + 1) % 3)
    assert average_precision(truth, renamed).ap == average_precision(truth, found).ap > 0
    assert average_precision(truth, renamed, by_class=True).ap < 0.1


def test_an_empty_page_counts_against_what_is_found_on_it() -> None:
    box = torch.tensor([[0.1, 0.1, 0.4, 0.4]])
    truth = Boxes(box, torch.tensor([0]), torch.tensor([0]), 2)
    clean = Detections.of_images([box, box[:0]], [torch.tensor([0.5]), torch.zeros(0)])
    false = Detections.of_images([box, box], [torch.tensor([0.5]), torch.tensor([0.9])])
    assert average_precision(truth, clean).ap == 1
    assert average_precision(truth, false).ap == pytest.approx(0.5)


def test_the_interval_is_over_images_and_the_same_for_a_seed() -> None:
    truth, found = pages(1, 12, 3, 6, 0, 0)
    one, again = (average_precision(truth, found, resamples=10).ci95 for _ in range(2))
    assert one == again and one is not None and 0 < one < 0.5
    assert average_precision(truth, found, resamples=10, seed=1).ci95 != one


def test_what_cannot_be_scored_is_named() -> None:
    truth, found = pages(0, 3, 2, 3, 0, 0)
    with pytest.raises(DataError, match="detections in 3 images, and objects in 1"):
        average_precision(truth.subset(torch.tensor([0])), found)
    with pytest.raises(DataError, match="not one object"):
        average_precision(truth[torch.zeros(len(truth), dtype=torch.bool)], found)
    with pytest.raises(DataError, match="needs detections with labels"):
        average_precision(truth, Detections(found.xyxy, found.scores, found.image, 3), by_class=True)
    with pytest.raises(DataError, match="images are numbered from 0 to 2"):
        Detections(found.xyxy, found.scores, found.image + 3, 3)
    with pytest.raises(DataError, match="NaN or infinite"):
        Detections(found.xyxy, found.scores * float("nan"), found.image, 3)
    with pytest.raises(DataError, match="need as many scores"):
        Detections(found.xyxy, found.scores[1:], found.image, 3)
