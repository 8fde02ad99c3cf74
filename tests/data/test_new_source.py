"""A new data source is one file and one line of `SOURCES`, for Python and for the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import vlfew
from vlfew.cli import main
from vlfew.core.errors import ConfigError
from vlfew.data import ImagePreprocessor
from vlfew.data.sources import SOURCES

SOURCE = '''"""stripes: images with bright columns."""

import torch

from vlfew.data.labeled_images import InMemory, LabeledImages


def load(root, preprocessor, *, stripe_width: int = 2, images_per_class: int = 3) -> LabeledImages:
    """Bright columns at one place per class.

    Args:
        root: not used.
        preprocessor: size and channels.
        stripe_width: width of the bright columns in pixels.
        images_per_class: number of images of each class.
    """
    size = preprocessor.image_size
    images = torch.zeros(2 * images_per_class, preprocessor.channels, size, size, dtype=torch.uint8)
    images[:images_per_class, :, :, :stripe_width] = 255
    images[images_per_class:, :, :, -stripe_width:] = 255
    return LabeledImages(
        name="stripes",
        images=InMemory(images),
        labels=torch.arange(2).repeat_interleave(images_per_class),
        class_names=("left", "right"),
        class_texts=(("left",), ("right",)),
        splits={"test": torch.arange(2 * images_per_class)},
        fingerprint=f"stripes {stripe_width}",
    )
'''


@pytest.fixture(autouse=True)
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stripes_source.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES.entries, "stripes", "stripes_source:load")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    """The exit status of the command line and what it printed."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit_.value.code, captured.out + captured.err


def test_load_data_passes_and_checks_its_options() -> None:
    data = vlfew.load_data("stripes", preprocessor=ImagePreprocessor(image_size=8), stripe_width=3)
    assert data.class_names == ("left", "right") and len(data.labels) == 6
    assert (data.images.batch(data.indices("test")) == 255).sum(3).unique().tolist() == [3]
    with pytest.raises(
        ConfigError, match="stripes has no option 'stripe_witdh'; did you mean 'stripe_width'"
    ):
        vlfew.load_data("stripes", stripe_witdh=3)
    with pytest.raises(ConfigError, match="stripes: stripe_width='wide'; input should be a valid integer"):
        vlfew.load_data("stripes", stripe_width="wide")


def test_help_shows_its_options_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    status, output = run(capsys, "data", "show", "stripes", "--help")
    text = " ".join(output.replace("│", " ").split())  # without the borders of the help
    assert status == 0 and "Bright columns at one place per class." in text
    assert "--stripe-width INT Width of the bright columns in pixels. [default: 2]" in text
    assert "--images-per-class" in text and "--validation-alphabets" not in text


def test_the_commands_show_and_list_know_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    show = ("data", "show", "stripes", "--image-size", 8, "--images-per-class", 5, "--sheet", sheet)
    status, output = run(capsys, *show)
    assert status == 0 and "10 of 3 x 8 x 8" in output and "left; right" in output and sheet.is_file()
    status, output = run(capsys, "data", "list")
    assert status == 0 and "stripe_width, images_per_class" in output
    status, output = run(capsys, "data", "show", "stripe")
    assert status != 0 and "did you mean 'stripes'" in output
