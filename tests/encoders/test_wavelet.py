"""The wavelet front end against PyWavelets."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfew.core.errors import ModelError
from vlfew.encoders import PREPROCESSING
from vlfew.encoders.preprocessing.wavelet import Wavelet

MODES = ["symmetric", "periodic", "periodization"]


def in_float64(*arguments: int, **options: object) -> Wavelet:
    """The front end with the filters in double precision, as PyWavelets has them."""
    torch.set_default_dtype(torch.float64)
    try:
        return PREPROCESSING.get("wavelet")(*arguments, **options)
    finally:
        torch.set_default_dtype(torch.float32)


def images(channels: int, size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(size).normal(size=(count, channels, size, size))


def repeated(band: np.ndarray, size: int) -> np.ndarray:
    """`[B, C, h, w]` to `[B, C, size, size]`: each coefficient repeated over its pixels."""
    at = [place * band.shape[-1] // size for place in range(size)]
    return band[:, :, at][:, :, :, at]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2"])
@pytest.mark.parametrize("size", [16, 21])
def test_one_level_is_dwt2(wavelet: str, mode: str, size: int) -> None:
    x = images(3, size)
    approximation, details = pywt.dwt2(x, wavelet, mode)
    expected = np.concatenate([approximation, *details], axis=1)
    preprocessing = in_float64(3, size, wavelet=wavelet, mode=mode)
    found = preprocessing(torch.tensor(x))
    assert (
        found.shape == (2, 12, preprocessing.out_size, preprocessing.out_size)
        and preprocessing.out_channels == 12
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_every_discrete_wavelet_is_dwt2(mode: str) -> None:
    for wavelet in pywt.wavelist(kind="discrete"):
        size = 2 * (pywt.Wavelet(wavelet).dec_len - 1)  # the smallest that is allowed
        x = images(1, size, count=1)
        approximation, details = pywt.dwt2(x, wavelet, mode)
        found = in_float64(1, size, wavelet=wavelet, mode=mode)(torch.tensor(x))
        expected = np.concatenate([approximation, *details], axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-11, err_msg=wavelet)


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
    wavelet=st.sampled_from(["haar", "db2", "bior2.2"]),
    mode=st.sampled_from(MODES),
    data=st.data(),
)
def test_levels_are_wavedec2(size: int, channels: int, wavelet: str, mode: str, data: st.DataObject) -> None:
    most = pywt.dwt_max_level(size, pywt.Wavelet(wavelet).dec_len)
    if most == 0:
        with pytest.raises(ModelError, match="are too long for images"):
            in_float64(channels, size, wavelet=wavelet)
        return
    level = data.draw(st.integers(1, most))
    with pytest.raises(ModelError, match=f"must be from 1 to {most}"):
        in_float64(channels, size, wavelet=wavelet, level=most + 1)
    x = images(channels, size)
    approximation, *details = pywt.wavedec2(x, wavelet, mode, level)

    short = in_float64(channels, size, wavelet=wavelet, mode=mode, level=level, keep="approximation")
    found = short(torch.tensor(x))
    assert found.shape[1:] == (short.out_channels, short.out_size, short.out_size)
    np.testing.assert_allclose(found, approximation, atol=1e-11)

    all_bands = in_float64(channels, size, wavelet=wavelet, mode=mode, level=level)
    found = all_bands(torch.tensor(x))
    assert found.shape[1:] == (all_bands.out_channels, all_bands.out_size, all_bands.out_size)
    finest = details[-1][0].shape[-1]
    bands = [approximation, *(band for level_details in details for band in level_details)]
    expected = np.concatenate([repeated(band, finest) for band in bands], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_halves_what_divides() -> None:
    preprocessing = Wavelet(3, 84)
    assert (preprocessing.out_channels, preprocessing.out_size) == (12, 42)
    preprocessing = Wavelet(3, 84, level=2)
    assert (preprocessing.out_channels, preprocessing.out_size) == (21, 42)
    preprocessing = Wavelet(3, 84, level=2, keep="approximation")
    assert (preprocessing.out_channels, preprocessing.out_size) == (3, 21)
    assert Wavelet(1, 32, wavelet="db4", mode="periodization").out_size == 16


def test_gradients_reach_the_pixels() -> None:
    preprocessing = in_float64(1, 12, wavelet="db2", level=2)
    x = torch.tensor(images(1, 12, count=1), requires_grad=True)
    assert torch.autograd.gradcheck(preprocessing, (x,), fast_mode=True)
    assert not list(preprocessing.parameters())


def test_rebuilt_without_pywavelets(monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing = Wavelet(3, 32, wavelet="bior2.2", level=2, mode="periodic")
    x = torch.tensor(images(3, 32)).float()
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ModelError, match=r"pip install 'vlfew\[wavelets\]'") as error:
        Wavelet(3, 32)
    assert "\n" not in str(error.value)
    again = PREPROCESSING.get("wavelet")(3, 32, **preprocessing.saved_options)
    assert (again.out_channels, again.out_size) == (21, 18)
    assert again.saved_options == preprocessing.saved_options
    assert again(x).isnan().all()  # until its filters are loaded
    again.load_state_dict(preprocessing.state_dict())
    assert torch.equal(again(x), preprocessing(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wavelet": "harr"}, r"unknown wavelet 'harr'; did you mean 'haar'\?"),
        ({"wavelet": "morl"}, "unknown wavelet 'morl'"),  # a continuous one
        ({"wavelet": ""}, "unknown wavelet ''; pywt.wavelist"),
        ({"level": 0}, r"level is 0; with 'haar' and images of 16 x 16 pixels it must be from 1 to 4"),
        ({"wavelet": "db2", "level": 3}, "must be from 1 to 2"),
        ({"wavelet": "db10"}, "20 pixels long, are too long for images of 16 x 16 pixels"),
        ({"taps": 3}, "taps is 3"),
        ({"taps": 0}, "taps is 0"),
    ],
)
def test_mistakes_are_one_line_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        PREPROCESSING.get("wavelet")(3, 16, **options)
    assert "\n" not in str(error.value)
