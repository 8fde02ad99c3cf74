"""Public names are imported on first use."""

from __future__ import annotations

import pytest

import vlfew
import vlfew.data
import vlfew.models


def test_every_public_name_is_there() -> None:
    for package in (vlfew, vlfew.data, vlfew.models):
        for name in package.__all__:
            assert getattr(package, name).__module__.startswith("vlfew.")
    assert dir(vlfew) == sorted(vlfew.__all__) and "load" in vlfew.__all__
    with pytest.raises(AttributeError, match="module 'vlfew' has no attribute 'nothing'"):
        vlfew.nothing  # noqa: B018
