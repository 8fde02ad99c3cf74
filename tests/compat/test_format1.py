"""Models saved in format 1 (by commit f80da2f) load and give what they gave.

`format1/` holds tiny run folders as that commit wrote them: an image-only run and one with text with all their files,
of the others the model alone. `format1_components.json` describes further models, one for each component that has
weights; theirs are made here, from the names that the weights had. `format1_expected.json` holds what all of them
gave for inputs that are made here, too.

All names of the package are used in the first section alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

# ---------------------------------------------------------------- the package's API
import vlfew

if TYPE_CHECKING:
    from vlfew import DualStream
    from vlfew.core.features import Features


def image_features(model: DualStream, images: Tensor) -> Features:
    """Of uint8 images at the model's size."""
    return model.image_features(images)


def text_embedding(model: DualStream, texts: list[str]) -> Tensor:
    return model.encode_text(texts)


def similarities(model: DualStream, first: Features, second: Features) -> Tensor:
    """Similarity `[M]` of M pairs, by what the model was trained for."""
    return model.similarity.pairwise(first, second)


def preprocessed(model: DualStream, image: Image.Image) -> Tensor:
    """uint8 `[C, H, W]`."""
    return model.preprocess([image])[0]


def input_shape(model: DualStream) -> tuple[int, int]:
    """Channels, and height (or width) in pixels."""
    return model.spec.channels, model.spec.image_size


def metadata(model: DualStream) -> dict[str, Any]:
    return model.metadata


def path_of(model: DualStream) -> Path | None:
    return model.path


def outside_data(model: DualStream) -> str:
    return model.spec.outside_data


# ---------------------------------------------------------------- inputs

HERE = Path(__file__).parent
RUNS = sorted(p.name for p in (HERE / "format1").iterdir())
COMPONENTS: dict[str, Any] = json.loads((HERE / "format1_components.json").read_text("utf-8"))
EXPECTED: dict[str, Any] = json.loads((HERE / "format1_expected.json").read_text("utf-8"))
TEXTS = ["small cat", "a green dog", "letter of a mug", "photo", "treaty"]


def images(channels: int, size: int, count: int = 4) -> Tensor:
    """uint8 `[count, channels, size, size]`, by integers alone."""
    n, c, y, x = torch.meshgrid(*(torch.arange(s) for s in (count, channels, size, size)), indexing="ij")
    # Blotches of several pixels and a gradient: differences that pooling does not level.
    blotches = (37 * (x * (n + 2) // 5) + 59 * (y * (3 + n % 2) // 4) + 83 * n + 29 * c) % 160
    return (blotches + (95 * (x + y)) // (2 * size)).to(torch.uint8)


def photo() -> Image.Image:
    """An RGB image of 40 x 30 pixels."""
    y, x, c = np.mgrid[0:30, 0:40, 0:3]
    return Image.fromarray(((5 * x + 3 * y * (c + 1) + (x // 10) * 40) % 256).astype(np.uint8))


def filled(name: str, shape: list[int]) -> Tensor:
    """Weights that depend on their name alone."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.Generator(np.random.Philox(key=key))
    if name.endswith(("running_var", "pixel_std", "deviation")):
        values = rng.uniform(0.5, 1.5, shape) * (50 if name == "pixel_std" else 1)
    elif name == "pixel_mean":
        values = rng.uniform(100, 150, shape)
    elif len(shape) > 1:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    else:
        values = rng.uniform(0.5, 1.5, shape) if name.endswith("weight") else 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def write_component(name: str, folder: Path) -> None:
    """A model of format 1 with made-up weights."""
    described = COMPONENTS[name]
    weights = folder / "model.safetensors"
    tensors = {key: filled(key, shape) for key, shape in described["tensors"].items()}
    for key in [key for key in tensors if key.endswith(".running_mean")]:
        tensors[key.replace("running_mean", "num_batches_tracked")] = torch.tensor(0)
    save_file(tensors, weights)
    content = {
        "format": 1,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "about": {"trained_parameters": 1, "trained_on": "folder/train"},
        "model": described["model"],
    }
    (folder / "model.json").write_text(json.dumps(content), "utf-8")


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_what_it_gave(name: str) -> None:
    check_model(name, vlfew.load(HERE / "format1" / name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_gives_what_it_gave(name: str, tmp_path: Path) -> None:
    write_component(name, tmp_path)
    check_model(name, vlfew.load(tmp_path))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_knows_its_metadata(name: str) -> None:
    folder = HERE / "format1" / name
    model = vlfew.load(folder)
    written = json.loads((folder / "model.json").read_text("utf-8"))
    found = metadata(model)
    for key in ("trained_parameters", "trained_on", "data_fingerprint", "best_step", "precision", "notes"):
        assert found[key] == written["about"][key], key
    assert found["trained_on"] == "folder/train"
    assert path_of(model) == folder
    assert outside_data(model) == ("not known" if name == "started_from_another" else "")  # was true or false
    assert model.has_text == (written["model"]["text"] is not None)


def test_fingerprints_differ_and_stay() -> None:
    """Cached features are found again by them."""
    first, second = ([vlfew.load(HERE / "format1" / name).fingerprint for name in RUNS] for _ in range(2))
    assert first == second
    assert None not in first and len(set(first)) == len(RUNS)


def test_stored_files_are_untouched() -> None:
    """A search-and-replace over the repository must not reach what an older version wrote."""
    folder = HERE / "format1"
    for name, digest in EXPECTED["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16] == digest, f"{name} was changed"


def outputs(model: DualStream) -> dict[str, Tensor]:
    """What a model gives for images, pairs of images, texts and a photo, in small tensors."""
    model.eval()
    pixels = images(*input_shape(model))
    features = image_features(model, pixels)
    first, second = (image_features(model, pixels[part]) for part in ([0, 0, 1, 2], [0, 1, 3, 3]))
    found = {
        "embedding": summary(features.embedding),
        "similarities": similarities(model, first, second),
        "preprocessed": torch.nn.functional.adaptive_avg_pool2d(preprocessed(model, photo()).double(), 4),
    }
    if model.has_text:
        found["text"] = summary(text_embedding(model, TEXTS))
    return {key: value.detach().double().cpu() for key, value in found.items()}


def summary(embedding: Tensor) -> Tensor:
    """Long vectors `[B, D]` as eight fixed projections, `[B, 8]`; others as they are."""
    dim = embedding.shape[1]
    if dim <= 8:
        return embedding
    weights = filled("summary", [8, dim]).double() * dim**0.5
    return embedding.double() @ weights.T / dim**0.5


def check_model(name: str, model: DualStream) -> None:
    """Holds its outputs to those expected, by norm relative to their own variation (and a little of the whole)."""
    found = outputs(model)
    assert found.keys() == EXPECTED["outputs"][name].keys()
    for key, values in EXPECTED["outputs"][name].items():
        expected = torch.tensor(values, dtype=torch.float64)
        assert found[key].shape == expected.shape, f"{name}: {key}"
        mean = expected.mean() if key == "preprocessed" else expected.mean(0)
        # Image libraries may round a pixel another way.
        share = 0.02 if key == "preprocessed" else 1e-3
        allowed = share * (expected - mean).norm() + 1e-5 * expected.norm()
        off = (found[key] - expected).norm()
        assert off <= allowed, f"{name}: {key} is off by {off:.2g}, and {allowed:.2g} is allowed"
