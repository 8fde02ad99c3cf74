"""Embeddings taken from the mean of the training pictures'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.encoders.conftest import bert_folder  # noqa: F401
from vlfew.errors import ConfigError
from vlfew.models.saved import load, parameter_counts
from vlfew.pipeline import run_pipeline
from vlfew.training.run import RunFolder
from vlfew.training.setup import load_configured_data, read_config

FEW = ["optim.steps=4", "optim.warmup=1", "training.validate_every=2", "training.checkpoint_every=2"]


def train(config: Path, *overrides: str) -> RunFolder:
    return run_pipeline(config, [*FEW, *overrides], config.parent)


@pytest.mark.parametrize("views", ["one", "mirror"])
@pytest.mark.parametrize("chosen", [[], ["select=null"]], ids=["best", "last"])
def test_the_centre_is_the_mean_of_the_kept_weights_embeddings(
    config: Path, views: str, chosen: list[str]
) -> None:
    run = train(config, "image.centred=true", f"image.views={views}", *chosen)
    model = load(str(run.path))
    data = load_configured_data(read_config(run.config))
    pictures = data.images.batch(data.indices("train"))
    centred = model.encode_images(pictures).embedding
    assert centred.mean(0).abs().max() < 1e-6
    centre = model.picture_mean.clone()
    model.picture_mean.zero_()
    plain = model.encode_images(pictures).embedding
    torch.testing.assert_close(centred, normalize(plain, dim=1) - centre)
    assert centre.norm() > 0.05 and plain.shape[1] == len(centre)


def test_a_model_that_is_not_centred_knows_no_centre(config: Path) -> None:
    run = train(config)
    assert not hasattr(load(str(run.path)), "picture_mean")
    centred = train(config, "name=centred", "image.centred=true")
    assert parameter_counts(run.path) == parameter_counts(centred.path)


@pytest.mark.parametrize(
    "other",
    [["similarity=euclidean"], ["image.twins=unshared", "objective=[{loss: contrastive}]"]],
    ids=["distance", "twins"],
)
def test_only_cosines_of_one_backbone_have_a_centre(config: Path, other: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"image\.centred is for similarity: cosine"):
        train(config, "image.centred=true", *other)


def test_a_run_reads_words_by_its_training_classes(config: Path, bert_folder: Path) -> None:  # noqa: F811
    """One word for each class of training, so that at a low temperature a class's word is its mean picture."""
    root = Path(read_config(config).data.root)
    folders = sorted((root / "train").iterdir())
    said = [
        "small cat",
        "green mug",
        "letter dog",
        "cat",
        "dog",
        "treaty",
        "mug photo",
        "photo of the treaty",
    ]
    kept = config.parent / "worded"
    for folder, word in zip(folders, said, strict=True):
        (kept / "train" / word).mkdir(parents=True)
        for picture in folder.iterdir():
            (kept / "train" / word / picture.name).write_bytes(picture.read_bytes())
    run = train(
        config,
        f"data.root={kept}",
        f"text={{encoder: 'hf:{bert_folder}', neighbours: 0.001}}",
        "objective=[{loss: supervised_contrastive}, {loss: alignment_softmax}]",
        "select=null",
        "evaluate=[]",
    )
    model, data = load(str(run.path)), load_configured_data(read_config(run.config))
    index, classes = data.indices("train"), data.classes("train").tolist()
    pictures = normalize(model.encode_images(data.images.batch(index)).embedding, dim=1)
    means = torch.stack([pictures[data.labels[index] == c].mean(0) for c in classes])
    words = model.encode_texts([data.class_texts[c][0] for c in classes])
    torch.testing.assert_close(words, normalize(means, dim=1), atol=1e-3, rtol=0)


def test_only_cosines_read_words_by_classes(config: Path, bert_folder: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match=r"text\.neighbours is for similarity: cosine"):
        train(config, f"text={{encoder: 'hf:{bert_folder}', neighbours: 0.1}}", "similarity=euclidean")
    with pytest.raises(ConfigError, match=r"text\.neighbours.*greater than 0"):
        train(config, "text.neighbours=0")
