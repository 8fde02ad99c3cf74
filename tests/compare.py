"""Comparisons of floating-point results that hold on any processor.

Kernels differ between processors, and each rounds in its own way: an element near zero can be off by many
times its own size while the tensor is right. Tensors are therefore compared by relative norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOAT32, FLOAT64 = 1e-4, 1e-9
"""Rounding through a deep network stays below these on any processor; a mistake rarely does."""


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference divided by the norm of `expected`."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    found, expected = found.detach().double(), expected.detach().double()
    assert found.isfinite().all() and expected.isfinite().all(), "values that are not finite"
    difference, size = (found - expected).norm().item(), expected.norm().item()
    if size == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / size


def assert_close(found: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Fails unless both have the same shape and type and differ by at most `tolerance` in relative norm."""
    assert found.dtype == expected.dtype, f"{found.dtype}, expected {expected.dtype}"
    if tolerance is None:
        tolerance = FLOAT64 if found.dtype == torch.float64 else FLOAT32
    difference = relative_difference(found, expected)
    assert difference <= tolerance, f"relative difference {difference:.2g}, allowed {tolerance:.2g}"


def assert_same_gradients(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = FLOAT32
) -> None:
    """Compares the gradient of every parameter, by name.

    A parameter without effect (a bias before a normalization) has a gradient of rounding errors alone:
    what is below a thousandth of the gradient of all parameters is compared on that scale.
    """
    assert found.keys() == expected.keys()
    floor = 1e-3 * torch.stack([value.double().norm() for value in expected.values()]).norm().item()
    assert floor > 0, "all gradients are zero"
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].isfinite().all(), name
        difference = (found[name].double() - value.double()).norm().item()
        allowed = tolerance * max(value.norm().item(), floor)
        assert difference <= allowed, f"{name}: differs by {difference:.2g}, allowed {allowed:.2g}"
