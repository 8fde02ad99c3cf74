"""The recipes that bring frozen pretrained towers together by captions, on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlfew
from vlfew.workflows.train import train

SMALL = ["sampling.classes_per_batch=4", "optim.steps=2", "optim.warmup_steps=0", "training.eval_every=2"]
SIZE = ["data.image_size=64"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve captioned images in the form of Flickr8k, and six described classes in that of mini-ImageNet."""
    rng, root = np.random.default_rng(0), tmp_path / "data"

    def save(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)

    listed = []
    for number in range(12):
        save(root / "flickr8k" / "images" / f"{number}.jpg")
        sentences = [{"raw": f"{word} number {number} on the grass ."} for word in ("a dog", "an animal")]
        split = ("train", "train", "val", "test")[number % 4]
        listed.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences})
    (root / "flickr8k" / "dataset_flickr8k.json").write_text(json.dumps({"images": listed}))
    classes = ["n01532829", "n01558993", "n01704323", "n01749939", "n01770081", "n01843383"]
    for split, of in zip(("train", "val", "test"), (classes[:2], classes[2:4], classes[4:]), strict=True):
        rows = ["filename,label"]
        for wnid in of:
            for number in range(3):
                name = f"{wnid}0000000{number}.jpg"
                save(root / "mini_imagenet" / "images" / name)
                rows.append(f"{name},{wnid}")
        (root / "mini_imagenet" / f"{split}.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("VLFEW_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


@pytest.mark.parametrize("recipe", ["captions_photos", "pocket", "studies/captions_photos_sweep"])
def test_a_recipe_trains_and_its_model_knows_names(recipe: str, data: Path, tmp_path: Path) -> None:
    run = train(recipe, [*SMALL, *SIZE], tmp_path / "runs")
    (result,) = json.loads(run.results.read_text())
    assert result["protocol"] == "retrieval" and "ImageNet-1k" in result["outside_data"]
    assert result["data"] == ("combined" if recipe == "pocket" else "flickr8k")
    classifier = vlfew.FewShotClassifier.from_classes(run.path, {"dog": "a dog", "car": "a car"})
    (found,) = classifier.classify([Image.new("RGB", (80, 60), (200, 30, 30))])
    assert found.label in ("dog", "car")
