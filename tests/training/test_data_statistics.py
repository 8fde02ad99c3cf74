"""What a model takes from the training images."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.compare import assert_close
from tests.conftest import make_data
from vlfew.data.labeled_images import InMemory
from vlfew.models import DualStream, ModelSpec
from vlfew.training.data_statistics import fit_pixel_statistics


class Unreadable(InMemory):
    def batch(self, index: Tensor) -> Tensor:
        raise AssertionError("images were read")


def test_pixel_statistics_are_those_of_the_images_unless_the_weights_expect_others() -> None:
    data = make_data()
    side = data.images.shape[1]
    model = DualStream.from_spec(ModelSpec(backbone="conv4", backbone_options={"width": 4}, image_size=side))
    fit_pixel_statistics(model, data)
    pixels = data.images.batch(data.indices("train")).double()
    assert_close(model.pixel_mean.flatten(), pixels.mean((0, 2, 3)).float())
    assert_close(model.pixel_std.flatten(), pixels.std((0, 2, 3), correction=0).float())

    before = model.pixel_mean.clone()
    model.backbone.pixel_mean = (0.5,)
    fit_pixel_statistics(model, replace(data, images=Unreadable(data.images.tensor)))
    assert torch.equal(model.pixel_mean, before)
