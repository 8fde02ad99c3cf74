"""Average precision of detections, as COCO defines it; computed by faster-coco-eval."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError, ModelError
from vlfew.core.random import generator_at
from vlfew.data.boxes import Boxes
from vlfew.data.detections import Detections

MAX_DETECTIONS = 100
"""The surest of an image, which count."""
CATEGORY = 1
"""Of all objects, where their classes do not matter."""


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures, all fractions.

    Attributes:
        ap: mean over overlaps (intersection over union) of 0.5 to 0.95 of the area under precision over recall, at 101
            recalls; by class, the mean over the classes that have objects.
        ap50: at an overlap of 0.5.
        ap75: at an overlap of 0.75.
        ar: mean over the overlaps of the recall of `MAX_DETECTIONS` boxes an image.
        ci95: half width of the 95% interval of `ap`, over images drawn anew; None where none were drawn.
        per_class: class to its AP; empty where classes do not matter.
    """

    ap: float
    ap50: float
    ap75: float
    ar: float
    ci95: float | None = None
    per_class: dict[int, float] = field(default_factory=dict)


def average_precision(
    truth: Boxes, found: Detections, *, by_class: bool = False, resamples: int = 0, seed: int = 0
) -> AveragePrecision:
    """How well detections fit the objects of the same images.

    Ignored objects (crowds, difficult ones) count neither for nor against: what is found in one is left out.

    Args:
        truth: of S images; those of a split are `data.boxes.subset(data.indices(split))`.
        found: in these images, in the same order.
        by_class: a box must have the right label too; otherwise labels do not matter.
        resamples: how often the images are drawn anew, with replacement, for the interval; 0 for none.
        seed: of these draws.

    Raises:
        DataError: another number of images, no object, or detections without labels for `by_class`.
        ModelError: faster-coco-eval is missing.
    """
    if found.num_images != truth.num_images:
        raise DataError(f"detections in {found.num_images} images, and objects in {truth.num_images}")
    if not len(truth.objects):
        raise DataError("average precision: there is not one object to find")
    if by_class and found.labels is None:
        raise DataError("average precision by class needs detections with labels")
    if find_spec("faster_coco_eval") is None:
        raise ModelError("average precision needs faster-coco-eval (pip install 'vlfew[detection]')")
    figures = _evaluate(truth, found, torch.arange(truth.num_images), by_class)
    ci95 = None
    if resamples > 1 and truth.num_images > 1:
        drawn = []
        for number in range(resamples):
            rng = generator_at(seed, "resampled images", number)
            index = torch.from_numpy(rng.integers(0, truth.num_images, truth.num_images))
            if len(truth.subset(index).objects):
                drawn.append(_evaluate(truth, found, index, by_class).ap)
        ci95 = float(1.96 * np.std(drawn, ddof=1)) if len(drawn) > 1 else None
    return AveragePrecision(figures.ap, figures.ap50, figures.ap75, figures.ar, ci95, figures.per_class)


def coco_data(
    truth: Boxes, found: Detections, index: Tensor, by_class: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects and detections of images `index` in COCO's form: image `index[k]` is k + 1, a label its own number + 1.

    Lengths are fractions of the image. COCO's figures for all sizes of objects are the same in every unit.
    """
    part = truth.subset(index)
    assert part.ignored is not None
    labels = part.labels + 1 if by_class else torch.full_like(part.labels, CATEGORY)
    annotations = [
        {
            "id": n,
            "image_id": image + 1,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": crowd,
        }
        for n, (image, label, box, crowd) in enumerate(
            zip(
                part.image.tolist(),
                labels.tolist(),
                _xywh(part.xyxy),
                part.ignored.int().tolist(),
                strict=True,
            ),
            1,
        )
    ]
    categories = [{"id": n, "name": str(n)} for n in labels[~part.ignored].unique().tolist()]
    # All images that an image was drawn as: in order, so that equal scores rank as the images do.
    order = found.image.argsort(stable=True)
    counts = found.image.bincount(minlength=truth.num_images)
    ends = counts.cumsum(0)
    rows = [order[ends[n] - counts[n] : ends[n]] for n in index.tolist()]
    every = torch.cat([torch.empty(0, dtype=torch.int64), *rows])
    numbers = torch.arange(len(index)).repeat_interleave(counts[index]).tolist()
    names = (
        found.labels[every] + 1 if by_class and found.labels is not None else torch.full_like(every, CATEGORY)
    )
    results = [
        {"image_id": image + 1, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in zip(
            numbers, names.tolist(), _xywh(found.xyxy[every]), found.scores[every].tolist(), strict=True
        )
    ]
    images = [{"id": n + 1, "width": 1, "height": 1} for n in range(len(index))]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _xywh(xyxy: Tensor) -> list[list[float]]:
    exact = xyxy.double()
    return torch.cat([exact[:, :2], exact[:, 2:] - exact[:, :2]], 1).tolist()


def _evaluate(truth: Boxes, found: Detections, index: Tensor, by_class: bool) -> AveragePrecision:
    from faster_coco_eval import COCO, COCOeval_faster

    objects, results = coco_data(truth, found, index, by_class)
    # Without a detection there is nothing that the library could read the form of results from.
    reference = COCO(objects)
    evaluation = COCOeval_faster(
        reference, reference.loadRes(results), "bbox", print_function=lambda *_: None
    )
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return _figures(evaluation.eval["precision"], evaluation.eval["recall"], evaluation.params, by_class)


def _figures(precision: np.ndarray, recall: np.ndarray, params: Any, by_class: bool) -> AveragePrecision:
    """From precision `[overlaps, recalls, classes, 1, 1]` and recall `[overlaps, classes, 1, 1]`.

    -1 stands for a class without objects.
    """
    precision, recall = (
        np.asarray(precision)[..., 0, 0].reshape(len(params.iouThrs), len(params.recThrs), -1),
        np.asarray(recall)[..., 0, 0].reshape(len(params.iouThrs), -1),
    )

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean()) if (values > -1).any() else 0.0

    at = {overlap: int(np.abs(params.iouThrs - overlap).argmin()) for overlap in (0.5, 0.75)}
    per_class = {n - 1: mean(precision[..., k]) for k, n in enumerate(params.catIds)} if by_class else {}
    return AveragePrecision(
        mean(precision), mean(precision[at[0.5]]), mean(precision[at[0.75]]), mean(recall), None, per_class
    )
