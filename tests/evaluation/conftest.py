"""A model of noisy projections on tiny data."""

from __future__ import annotations

import pytest

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel
from vlfew.data.images import LabelledImages
from vlfew.evaluation.subject import Subject


@pytest.fixture
def data() -> LabelledImages:
    return make_data(classes=21, pictures=8, groups=1)


@pytest.fixture
def subject(data: LabelledImages) -> Subject:
    return Subject(FakeModel(), data)
