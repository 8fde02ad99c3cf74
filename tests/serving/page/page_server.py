"""A gallery of colored patterns for tests of the web page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vlfew
from vlfew.models import DualStream, ModelSpec

SIZE = 28
PEOPLE = 10
"""Names are `person 0` to `person 9`; each has three images."""


def colors_of(person: int) -> np.ndarray:
    """`[3, 3, 3]`, the colors of the pattern of a person."""
    return np.random.default_rng(person).integers(0, 255, (3, 3, 3))


def draw(path: Path, person: int, shot: int = 0) -> Path:
    """An image of a person's pattern, a little different in every shot."""
    noise = np.random.default_rng(1000 * person + shot).normal(0, 9, (3, 3, 3))
    pixels = np.clip(colors_of(person) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((64, 64)).save(path)
    return path


def pattern_model() -> DualStream:
    """An untrained network that tells colored patterns apart, since what they have in common is subtracted."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone="lenet", embedding_dim=32, image_size=SIZE, channels=3, center_embeddings=True)
    model = DualStream.from_spec(spec)
    rng = np.random.default_rng(0)
    patterns = [Image.fromarray(rng.integers(0, 255, (3, 3, 3)).astype(np.uint8)) for _ in range(64)]
    pixels = np.stack([np.asarray(image.resize((64, 64)).resize((SIZE, SIZE))) for image in patterns])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    model.fit_training_means([images], torch.zeros(64, dtype=torch.int64), [["pattern"]])
    return model


def enroll_people(gallery: vlfew.Gallery, folder: Path, count: int = PEOPLE) -> None:
    """Enrolls `person 0`, `person 1` ... and sets a threshold between their scores and that of `stranger`."""
    for person in range(count):
        name = f"person {person}"
        gallery.enroll(name, [draw(folder / name / f"{shot}.png", person, shot) for shot in range(3)])
    known, unknown = gallery.identify([probe(folder), stranger(folder)])
    assert known.matches[0].name == "person 0"
    gallery.set_thresholds({"image": {"value": (known.matches[0].score + unknown.matches[0].score) / 2}})


def enrolled(gallery: vlfew.Gallery, folder: Path, name: str, person: int) -> int:
    """Enrolls somebody; returns the id."""
    gallery.enroll(name, [draw(folder / f"{person}.png", person)])
    return next(row.id for row in gallery.list() if row.name == name)


def probe(folder: Path) -> Path:
    """Another image of `person 0`."""
    return draw(folder / "probe.png", 0, 9)


def stranger(folder: Path) -> Path:
    """An image of nobody enrolled."""
    return draw(folder / "stranger.png", 777)
