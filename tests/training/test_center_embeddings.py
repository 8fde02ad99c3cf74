"""Embeddings minus the mean of the training images, and texts mapped by class neighbors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.compare import assert_close
from tests.encoders.conftest import bert_folder  # noqa: F401
from vlfew.core.errors import ConfigError
from vlfew.models.loading import load
from vlfew.models.serialization import parameter_counts
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.assemble import load_data_of, read_config
from vlfew.workflows.train import train as train_run

FEW = ["optim.steps=4", "optim.warmup_steps=1", "training.eval_every=2", "training.save_every=2"]


def train(config: Path, *overrides: str) -> RunFolder:
    return train_run(config, [*FEW, *overrides], config.parent)


@pytest.mark.parametrize("tta", ["none", "hflip"])
@pytest.mark.parametrize("chosen", [[], ["model_selection=null"]], ids=["best", "last"])
def test_the_center_is_the_mean_embedding_under_the_saved_weights(
    config: Path, tta: str, chosen: list[str]
) -> None:
    run = train(config, "image.center_embeddings=true", f"image.tta={tta}", *chosen)
    model = load(str(run.path))
    data = load_data_of(read_config(run.config))
    images = data.images.batch(data.indices("train"))
    centered = model.encode_image(images)
    assert centered.mean(0).abs().max() < 1e-6
    center = model.image_mean.clone()
    model.image_mean.zero_()
    plain = model.encode_image(images)
    assert_close(centered, normalize(plain, dim=1) - center)
    assert center.norm() > 0.05 and plain.shape[1] == len(center)


def test_a_model_without_centering_has_no_center(config: Path) -> None:
    run = train(config)
    assert not hasattr(load(str(run.path)), "image_mean")
    centered = train(config, "name=centered", "image.center_embeddings=true")
    assert parameter_counts(run.path) == parameter_counts(centered.path)


@pytest.mark.parametrize(
    "other",
    [["similarity=euclidean"], ["image.share_weights=false", "objective=[{loss: contrastive}]"]],
    ids=["similarity", "unshared"],
)
def test_only_cosines_of_one_backbone_have_a_center(config: Path, other: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"image\.center_embeddings needs similarity: cosine"):
        train(config, "image.center_embeddings=true", *other)


def test_texts_are_mapped_by_class_neighbors(config: Path, bert_folder: Path) -> None:  # noqa: F811
    """One text per training class: at a low temperature it becomes the mean image of its class."""
    root = Path(read_config(config).data.root)
    folders = sorted((root / "train").iterdir())
    names = [
        "small cat",
        "green mug",
        "letter dog",
        "cat",
        "dog",
        "treaty",
        "mug photo",
        "photo of the treaty",
    ]
    named = config.parent / "named"
    for folder, name in zip(folders, names, strict=True):
        (named / "train" / name).mkdir(parents=True)
        for image in folder.iterdir():
            (named / "train" / name / image.name).write_bytes(image.read_bytes())
    run = train(
        config,
        f"data.root={named}",
        f"text={{encoder: 'hf:{bert_folder}', class_neighbors: {{temperature: 0.001}}}}",
        "objective=[{loss: supervised_contrastive}, {loss: alignment_softmax}]",
        "model_selection=null",
        "evaluate=[]",
    )
    model, data = load(str(run.path)), load_data_of(read_config(run.config))
    index, classes = data.indices("train"), data.classes("train").tolist()
    images = normalize(model.encode_image(data.images.batch(index)), dim=1)
    means = torch.stack([images[data.labels[index] == c].mean(0) for c in classes])
    texts = model.encode_text([data.class_texts[c][0] for c in classes])
    assert_close(texts, normalize(means, dim=1), tolerance=1e-2)


def test_class_neighbors_need_cosines(config: Path, bert_folder: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match=r"text\.class_neighbors needs similarity: cosine"):
        train(
            config,
            f"text={{encoder: 'hf:{bert_folder}', class_neighbors: {{temperature: 0.1}}}}",
            "similarity=euclidean",
        )
    with pytest.raises(ConfigError, match=r"text\.class_neighbors.*greater than 0"):
        train(config, "text.class_neighbors.temperature=0")
