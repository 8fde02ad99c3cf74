"""Boxes beside images: subsets, where they land in a square, and what data with boxes say to those who need labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vlfew.core.config import SamplingConfig
from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages
from vlfew.data.box_geometry import place
from vlfew.data.boxes import Boxes
from vlfew.data.crops import crop_square
from vlfew.data.decode import read_image
from vlfew.data.labeled_images import NO_LABEL
from vlfew.data.preprocess import ResizeFirst
from vlfew.data.preview import describe
from vlfew.data.samplers import make_sampler
from vlfew.data.sources.combined import combine
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.run_protocol import check_protocol


def boxes(*per_image: list[int], ignored: list[bool] | None = None) -> Boxes:
    """An image of each list of classes; object k of image n starts at k/10 and n/10."""
    rows = [(n, k, label) for n, labels in enumerate(per_image) for k, label in enumerate(labels)]
    corners = [[k / 10, n / 10, k / 10 + 0.1, n / 10 + 0.2] for n, k, _ in rows]
    return Boxes(
        torch.tensor(corners).reshape(-1, 4),
        torch.tensor([label for _, _, label in rows], dtype=torch.int64),
        torch.tensor([n for n, _, _ in rows], dtype=torch.int64),
        len(per_image),
        None if ignored is None else torch.tensor(ignored),
    )


def pages() -> LabeledImages:
    """Three pages of classes 0 to 2; the last one is empty and alone in the test split."""
    return LabeledImages(
        name="mine",
        images=InMemory(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)),
        labels=torch.full((4,), NO_LABEL),
        class_names=("a", "b", "c"),
        splits={"train": torch.tensor([0, 1]), "val": torch.tensor([3]), "test": torch.tensor([2])},
        fingerprint="x",
        boxes=boxes([0, 1], [1, 2], [], [2], ignored=[False, False, False, True, False]),
    )


@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=6), st.randoms())
def test_a_subset_has_the_objects_of_its_images_in_their_order(classes, random) -> None:
    index = [random.randrange(len(classes)) for _ in range(5)]
    part = boxes(*classes).subset(torch.tensor(index))
    assert [part.labels[part.rows(n)].tolist() for n in range(5)] == [classes[n] for n in index]
    tops = [part.xyxy[part.rows(n), 1].tolist() for n in range(5)]
    assert tops == [pytest.approx([n / 10] * len(classes[n])) for n in index]
    assert part.per_image.tolist() == [len(classes[n]) for n in index]


def test_one_part_after_the_other() -> None:
    both = Boxes.cat([boxes([0], []), boxes([2, 1])])
    assert both.num_images == 3 and both.image.tolist() == [0, 2, 2] and both.labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "corners", [[0, 0, 0, 1], [0.5, 0, 0.2, 1], [-0.1, 0, 1, 1], [0, 0, 1.1, 1], [float("nan"), 0, 1, 1]]
)
def test_boxes_have_an_area_inside_their_image(corners: list[float]) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        Boxes(torch.tensor([corners]), torch.tensor([0]), torch.tensor([0]), 1)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(40, 120),
    st.integers(40, 120),
    st.sampled_from(["stretch", "crop", "pad"]),
    st.sampled_from([1.0, 0.8]),
    st.sampled_from([None, ResizeFirst(size=72), ResizeFirst(size=80, backend="torchvision")]),
)
def test_a_box_is_where_its_object_is_in_the_square(width, height, resize, center_crop, first) -> None:
    preprocessor = ImagePreprocessor(64, 1, resize, center_crop, resize_first=first)
    pixels = np.zeros((height, width), np.uint8)
    left, top, right, bottom = width // 2 - 9, height // 2 - 7, width // 2 + 6, height // 2 + 11
    pixels[top:bottom, left:right] = 255
    square = read_image(pixels, preprocessor)[0] > 127
    rows, columns = square.any(1).nonzero(), square.any(0).nonzero()
    seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    at = place(width, height, preprocessor)
    box = torch.tensor([[left, top, right, bottom]], dtype=torch.float64)
    expected = (at.to_square(box) * 64).clamp(0, 64)[0]
    assert (seen - expected).abs().max() <= 1, (seen, expected)
    assert torch.allclose(at.from_square(at.to_square(box)), box)


def test_aligned_faces_and_boxes_exclude_each_other() -> None:
    with pytest.raises(DataError, match=r"data\.align_faces turns images"):
        place(10, 10, ImagePreprocessor(align_faces="required"))


@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.floats(0, 2),
)
def test_the_crop_of_an_object_is_a_square_in_the_image_that_contains_it(size, corners, margin) -> None:
    width, height = size
    x1, x2 = sorted((corners[0] * width, corners[1] * width))
    y1, y2 = sorted((corners[2] * height, corners[3] * height))
    numbered = np.arange(width * height, dtype=np.int32).reshape(height, width)
    crop = np.asarray(crop_square(Image.fromarray(numbered), (x1, y1, x2, y2), margin))
    rows, columns = np.divmod(crop, width)
    assert crop.shape[0] == crop.shape[1] or crop.shape[0] == height or crop.shape[1] == width
    assert columns.min() <= x1 and x2 <= columns.max() + 1
    assert rows.min() <= y1 and y2 <= rows.max() + 1


def test_classes_are_those_of_the_objects_that_count() -> None:
    data = pages()
    assert data.classes("train").tolist() == [0, 1]  # 2 is there, but ignored
    assert data.classes("val").tolist() == [2] and data.classes("test").tolist() == []
    lines = dict(describe(data))
    assert lines["train"] == "2 classes, 2 images, 3 objects, 1 to 2 per image"
    assert lines["test"] == "0 classes, 1 image, 0 objects, 0 to 0 per image"


def test_boxes_of_another_number_of_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="boxes of 1 images for 4"):
        replace(pages(), boxes=boxes([0]))


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS.names())))
def test_each_protocol_says_in_one_line_what_it_needs(protocol: str) -> None:
    data = pages()
    if protocol == "detection":
        data = replace(data, boxes=None, labels=torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError) as caught:
        check_protocol(protocol, {"runs": "x"} if protocol == "omniglot-runs" else {}, data)
    text = str(caught.value)
    assert (
        "mine" in text and protocol in text and "boxes" in text and "data.crops" in text and "\n" not in text
    )


def test_samplers_lists_of_a_class_and_combined_data_need_labels() -> None:
    for use in (
        lambda: make_sampler(pages(), "train", SamplingConfig(), 0),
        lambda: pages().by_class("train"),
        lambda: combine([pages(), pages()]),
    ):
        with pytest.raises(DataError, match=r"mine has images of several objects.*data\.crops=true"):
            use()
