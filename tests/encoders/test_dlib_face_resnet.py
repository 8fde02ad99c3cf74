"""dlib's face network and face alignment: the same numbers as dlib's own, and one line where there is no face."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlfew
from tests.compare import assert_close
from vlfew.core.errors import DataError, ModelError
from vlfew.data import face_alignment
from vlfew.data.decode import read_image
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.packaged.dlib_face_resnet import Block, DlibFaceResNet
from vlfew.encoders.packaged.dlib_file import read_layers
from vlfew.models import save_model
from vlfew.workflows.check_model.workflow import check_model

REQUIRED = ImagePreprocessor(150, channels=3, align_faces="required")
PEOPLE = (
    "George_W_Bush/George_W_Bush_0001.jpg",
    "George_W_Bush/George_W_Bush_0002.jpg",
    "Tony_Blair/Tony_Blair_0001.jpg",
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two photographs of one person and one of another."""
    archive = Path(os.environ.get("VLFEW_DATA", "")) / "lfw" / "lfw-deepfunneled.tar"
    if not archive.is_file():
        pytest.skip("needs lfw in VLFEW_DATA")
    folder = tmp_path_factory.mktemp("faces")
    with tarfile.open(archive) as tar:
        for name in PEOPLE:
            tar.extract(f"lfw-deepfunneled/{name}", folder, filter="data")
    return [folder / "lfw-deepfunneled" / name for name in PEOPLE]


def test_embeddings_are_those_of_dlib() -> None:
    dlib = pytest.importorskip("dlib")
    rng = np.random.default_rng(0)
    chips = [
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((150, 150)) for _ in range(3)
    ]
    network = dlib.face_recognition_model_v1(str(DlibFaceResNet.weights.locate()))
    theirs = torch.tensor([list(network.compute_face_descriptor(np.asarray(chip))) for chip in chips])
    model = vlfew.load("dlib_face_resnet")
    ours = model.encode_image(
        torch.stack([torch.from_numpy(np.array(chip)).permute(2, 0, 1) for chip in chips])
    )
    assert_close(ours, theirs)
    assert not model.has_text and model.spec.outside_data.startswith("FaceScrub")


def test_photographs_are_aligned_as_by_dlib(faces: list[Path]) -> None:
    dlib = pytest.importorskip("dlib")
    landmarks = dlib.shape_predictor(str(face_alignment.LANDMARKS.locate()))
    pixels = np.asarray(Image.open(faces[0]))
    (face,) = dlib.get_frontal_face_detector()(pixels, 0)
    chip = dlib.get_face_chip(pixels, landmarks(pixels, face), size=150, padding=0.25)
    assert np.array_equal(read_image(faces[0], REQUIRED).permute(1, 2, 0).numpy(), chip)
    one, two, other = torch.nn.functional.normalize(vlfew.load("dlib_face_resnet").encode_image(faces), dim=1)
    assert one @ two > 0.93 > one @ other


def test_the_main_face_of_several_is_taken_wherever_it_is(faces: list[Path]) -> None:
    big, small = (Image.open(path) for path in (faces[0], faces[2]))
    both = Image.new("RGB", (1600, 1200))
    both.paste(big.resize((900, 900)), (500, 200))
    both.paste(small, (0, 0))
    alone = read_image(faces[0], REQUIRED).float()
    taken = read_image(both, REQUIRED).float()
    assert (taken - alone).abs().mean() < 12 < (taken - read_image(faces[2], REQUIRED).float()).abs().mean()
    cropped = big.crop((70, 70, 180, 180))  # nothing around the face
    assert read_image(cropped, REQUIRED).shape == (3, 150, 150)
    gray = read_image(big, ImagePreprocessor(150, channels=1, align_faces="required"))
    assert gray.shape == (1, 150, 150)


def test_where_there_is_no_face() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="cannot be read: no face was found in it"):
        read_image(noise, REQUIRED)
    as_it_is = read_image(noise, ImagePreprocessor(150, channels=3))
    assert torch.equal(
        read_image(noise, ImagePreprocessor(150, channels=3, align_faces="when_found")), as_it_is
    )
    for sides in ((1, 1), (1, 300), (3, 2)):
        with pytest.raises(DataError, match="no face was found"):
            read_image(Image.new("RGB", sides), REQUIRED)


def test_a_saved_model_needs_no_package_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vlfew.load("dlib_face_resnet")
    images = torch.randint(0, 256, (2, 3, 150, 150), dtype=torch.uint8)
    save_model(model, tmp_path)
    monkeypatch.setattr(type(DlibFaceResNet.weights), "find", lambda self: None)
    again = vlfew.load(tmp_path)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert again.spec.align_faces == "required" and again.fingerprint == model.fingerprint
    with pytest.raises(ModelError, match=r"face-recognition-models.*is not installed.*vlfew\[faces\]"):
        vlfew.load("dlib_face_resnet")


def test_without_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_alignment, "find_spec", lambda name: None)
    monkeypatch.setattr(face_alignment, "_aligner", None)
    with pytest.raises(
        ModelError, match=r"the package dlib-bin is not installed; pip install \"vlfew\[faces\]\""
    ):
        read_image(Image.new("RGB", (200, 200)), REQUIRED)


@pytest.mark.parametrize(
    "content", [b"\x05con_4", b"\x05con_4\x01\x02\x01\x09\x01\x09\x01\x01\x01\x01abc", b"\x05con_4\x0f"]
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.dat"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"network\.dat: no network as dlib saves them"):
        list(read_layers(path))


def test_check_model_compares_with_dlib(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = check_model("dlib_face_resnet").checks
    assert check.passed and check.what == "image embeddings"
    published = Block.forward

    def forward(self: Block, x: torch.Tensor) -> torch.Tensor:
        return 1.001 * published(self, x)

    monkeypatch.setattr(Block, "forward", forward)
    (check,) = check_model("dlib_face_resnet").checks
    assert not check.passed
