"""A model of noisy projections on tiny data."""

from __future__ import annotations

import pytest

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext


@pytest.fixture
def data() -> LabeledImages:
    return make_data(classes=21, images=8, groups=1)


@pytest.fixture
def context(data: LabeledImages) -> EvaluationContext:
    return EvaluationContext(FakeModel(), data)
