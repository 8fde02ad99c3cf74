"""Everything drawn at random is what it was at commit f80da2f, whose hashes `golden.json` holds.

Batches, augmentations, episodes, support sets, galleries, pairs, splits and initial weights are functions of a seed.
If one of them changed, saved runs would resume with other batches, and published figures could not be reproduced.
Integers are compared by hash; floating-point results by relative norm, so that the tests pass on any processor.

All names of the package are used in the first section alone, most of them where they are imported, so that a part that
does not import fails its own tests alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

# ---------------------------------------------------------------- the package's API
from vlfew.core.config import AugmentConfig, SamplingConfig
from vlfew.core.random import generator_at, seed_at
from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.augmentation import BatchAugment
from vlfew.data.class_split import read_class_list
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.data.pairs import Pairs
from vlfew.data.samplers import make_sampler
from vlfew.data.sources.glyphs import GlyphSet
from vlfew.data.sources.glyphs import _split as split_glyphs
from vlfew.data.splits import split_by_class


def make_labeled_images(labels: Tensor, **options: Any) -> LabeledImages:
    """A data set of blank images."""
    names = tuple(f"thing {c}" for c in range(int(labels.max()) + 1))
    return LabeledImages(
        name="golden",
        images=InMemory(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8)),
        labels=labels,
        class_names=names,
        fingerprint="golden",
        **({"class_texts": tuple((name,) for name in names)} | options),
    )


def batches(data: LabeledImages, seed: int, numbers: Iterable[int], **options: Any) -> list[Tensor]:
    """Tensors of some batches of the training split: images, labels, classes of the texts, texts, pairs."""
    sampler = make_sampler(data, "train", SamplingConfig(**options), seed)
    drawn = [sampler.batch(number) for number in numbers]
    return [t for b in drawn for t in (b.index, b.labels, b.text_classes, b.text_choice, *(b.pairs or ()))]


def augmented(images: Tensor, seed: int, step: int, total: int, start: int, **options: Any) -> Tensor:
    return BatchAugment(AugmentConfig(**options), seed)(images, step, total, start)


def episode_tensors(episodes: Any) -> list[Tensor]:
    return [episodes.support, episodes.query, episodes.classes]


def random_episodes(labels: Tensor, episodes: int, seed: int, **options: Any) -> list[Tensor]:
    from vlfew.evaluation.episodes import sample_episodes

    return episode_tensors(sample_episodes(labels, episodes=episodes, seed=seed, **options))


def each_image_as_support(labels: Tensor, queries: int | str, seed: int) -> list[Tensor]:
    from vlfew.evaluation.episodes import enumerate_supports

    return episode_tensors(enumerate_supports(labels, "all", 1, queries, seed))  # type: ignore[arg-type]


def episodes_across_labels(support: Tensor, query: Tensor, seed: int, **options: Any) -> list[Tensor]:
    """Episodes of which support and queries come from different images."""
    from vlfew.evaluation.episodes import sample_cross_split

    return episode_tensors(sample_cross_split(support, query, episodes=30, seed=seed, **options))


def trials(data: LabeledImages, split: str, ways: int, seed: int) -> list[Tensor]:
    """Of Omniglot: within an alphabet, by two drawers."""
    from vlfew.evaluation.episodes import sample_omniglot_trials

    index = data.splits[split]
    assert data.class_group is not None and data.source_id is not None
    drawn = sample_omniglot_trials(
        data.labels[index], data.class_group, data.source_id[index], ways, 30, seed
    )
    return episode_tensors(drawn)


def episodes_without_small_classes(data: LabeledImages, seed: int) -> list[Tensor]:
    from vlfew.evaluation.split_episodes import split_episodes

    return episode_tensors(split_episodes(data, "test", 3, 2, 2, 20, seed, None, "skip", None))


def episodes_across_splits(data: LabeledImages, seed: int) -> list[Tensor]:
    from vlfew.evaluation.split_episodes import split_episodes

    return episode_tensors(split_episodes(data, "test", "all", 1, "all", 20, seed, None, "error", "train"))


def support_set(
    data: LabeledImages, support: str, query: str, shots: int, held: int, ways: int, seed: int
) -> list[Tensor]:
    """Classes (`ways` of those with enough images), support, held-out images, queries and their classes."""
    from vlfew.evaluation.adaptation.support_sampling import (
        Splits,
        classes_with_enough,
        draw_classes,
        draw_images,
    )

    splits = Splits(data, support, query)
    classes = draw_classes(classes_with_enough(splits, shots, held, "skip"), ways, seed)
    draw = draw_images(splits, classes, shots, held, seed, 30)
    return [draw.classes, draw.support, draw.held_out, draw.query, draw.target]


def gallery(data: LabeledImages, size: int | str, shots: int, seed: int, number: int) -> list[Tensor]:
    from vlfew.evaluation.protocols.identification import _draw_gallery

    drawn = _draw_gallery(data, "test", size, shots, seed, number)  # type: ignore[arg-type]
    return [drawn.support, drawn.probes, drawn.target, drawn.unknown]


def verification_pairs(data: LabeledImages, count: int, folds: int, seed: int) -> list[Tensor]:
    from vlfew.evaluation.pairs import sample_pairs

    pairs = sample_pairs(data, "test", count, folds, seed)
    return [pairs.i, pairs.j, pairs.same, pairs.fold]


def anchors(data: LabeledImages, count: int, seed: int) -> Tensor:
    """Of ASIF."""
    from vlfew.evaluation.protocols.asif import anchor_images

    return anchor_images(data, "test", count, 5, 2.0, seed)


def load_folder(root: Path, seed: int) -> LabeledImages:
    return load_data("folder", root, ImagePreprocessor(image_size=8, seed=seed))


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Of an untrained model."""
    from vlfew.models import DualStream, ModelSpec

    torch.manual_seed(seed)
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
    return dict(DualStream.from_spec(spec).named_parameters())


TRAINING = """
name: short
seed: 3
data: {name: folder, image_size: 16, channels: 1}
image: {backbone: conv4, width: 4, norm: group, dropout: 0.2}
text: {encoder: null}
embedding_dim: 8
objective: [{loss: supervised_contrastive}, {loss: contrastive, weight: 0.5}]
sampling: {classes_per_batch: 3, images_per_class: 2}
augment: {rotate: 10, translate: 0.1}
optim: {name: sgd, lr: 0.05, steps: 6, warmup_steps: 2}
training: {mixed_precision: 'no', gradient_accumulation_steps: 2, eval_every: 3, log_every: 1}
model_selection: {protocol: few-shot, split: val, ways: 2, queries: 2, episodes: 20}
evaluate: []
"""
TEXT_TRAINING = """
text: {projection: mlp, hidden: 8, dropout: 0.3}
objective: [{loss: supervised_contrastive}, {loss: alignment_softmax}]
sampling: {classes_per_batch: 3, images_per_class: 2, extra_text_negatives: 2}
"""


def training_losses(config: Path, runs: Path) -> list[float]:
    """Trains; the loss of each step."""
    from vlfew.workflows.train import train

    run = train(config, [], runs)
    return [entry["loss"] for entry in run.read_log() if "loss" in entry]


# ---------------------------------------------------------------- what is drawn

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))


def hash_of(values: Iterable[Tensor | np.ndarray | int]) -> str:
    """16 hex digits over shapes and integers."""
    digest = hashlib.sha256()
    for value in values:
        array = np.asarray(value)
        assert array.dtype.kind in "iub", "only integers have a hash that holds on any processor"
        digest.update(repr((array.shape, array.astype(np.int64).ravel().tolist())).encode())
    return digest.hexdigest()[:16]


def even_data() -> LabeledImages:
    """36 classes of 6 images in three splits, with four groups, six sources, one to three texts for each class."""
    labels = torch.arange(36).repeat_interleave(6)
    part = (torch.arange(36) % 3)[labels]
    return make_labeled_images(
        labels,
        splits={s: (part == n).nonzero().flatten() for n, s in enumerate(("train", "val", "test"))},
        class_texts=tuple(("a", "b", "c")[: 1 + c % 3] for c in range(36)),
        class_group=torch.arange(36) // 3 % 4,
        group_names=("one", "two", "three", "four"),
        source_id=torch.arange(6).repeat(36),
    )


def uneven_data() -> LabeledImages:
    """16 classes of one to nine images in `train`, 16 others in `test`; two groups, two sources; shuffled."""
    sizes = torch.arange(32) % 9 + 1
    labels = torch.arange(32).repeat_interleave(sizes)
    labels = labels[torch.from_numpy(np.random.Generator(np.random.Philox(key=5)).permutation(len(labels)))]
    return make_labeled_images(
        labels,
        splits={"train": (labels < 16).nonzero().flatten(), "test": (labels >= 16).nonzero().flatten()},
        class_group=torch.arange(32) % 2,
        group_names=("one", "two"),
        source_id=torch.arange(len(labels)) % 2,
    )


def split_by_image_data() -> LabeledImages:
    """Ten classes of eight images, of which `train` has five and `test` three; no groups and no sources."""
    labels = torch.arange(10).repeat(8)
    return make_labeled_images(
        labels,
        splits={"train": torch.arange(50), "test": torch.arange(50, 80)},
        split_by="image",
    )


def annotated_data() -> LabeledImages:
    """Ten training pairs of one class and fourteen of two."""
    numbers = torch.arange(24)
    same = numbers < 10
    pairs = Pairs(numbers, numbers + 24, same, torch.zeros(24, 2, dtype=torch.int64))
    return make_labeled_images(
        torch.arange(48) % 6,
        splits={"train": torch.arange(48)},
        pairs={"train": pairs},
    )


DATA = {
    "even": even_data,
    "uneven": uneven_data,
    "by image": split_by_image_data,
    "annotated": annotated_data,
}
BATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "classes": ("even", {"classes_per_batch": 4, "images_per_class": 3}),
    "classes, images repeated": ("even", {"classes_per_batch": 10, "images_per_class": 9}),
    "classes of groups": ("even", {"classes_per_batch": 6, "images_per_class": 2, "groups_per_batch": 2}),
    "classes of all groups": (
        "even",
        {"classes_per_batch": 12, "images_per_class": 2, "groups_per_batch": 4},
    ),
    "classes, more texts": (
        "even",
        {"classes_per_batch": 5, "images_per_class": 4, "extra_text_negatives": 4},
    ),
    "classes, all texts": (
        "even",
        {"classes_per_batch": 5, "images_per_class": 4, "extra_text_negatives": 99},
    ),
    "classes, any source": (
        "even",
        {"classes_per_batch": 5, "images_per_class": 4, "distinct_sources": False},
    ),
    "classes without groups": ("by image", {"classes_per_batch": 4, "images_per_class": 3}),
    "uneven classes": ("uneven", {"classes_per_batch": 8, "images_per_class": 4}),
    "uneven classes of groups": (
        "uneven",
        {"classes_per_batch": 8, "images_per_class": 3, "groups_per_batch": 2},
    ),
    "uneven classes, large ones": (
        "uneven",
        {
            "classes_per_batch": 4,
            "images_per_class": 4,
            "min_images_per_class": 5,
            "extra_text_negatives": 3,
        },
    ),
    "pairs": ("even", {"pairs_per_batch": 12}),
    "pairs of groups, more texts": (
        "even",
        {"pairs_per_batch": 12, "groups_per_batch": 2, "extra_text_negatives": 3},
    ),
    "pairs, any source": ("even", {"pairs_per_batch": 8, "distinct_sources": False}),
    "pairs of uneven classes": ("uneven", {"pairs_per_batch": 20}),
    "pairs of large classes": ("uneven", {"pairs_per_batch": 20, "min_images_per_class": 4}),
    "episodes": ("even", {"episodes_per_batch": 3, "ways": 5}),
    "episodes of groups": ("even", {"episodes_per_batch": 4, "ways": 3, "groups_per_batch": 2}),
    "episodes, any source, more texts": (
        "even",
        {"episodes_per_batch": 3, "ways": 5, "distinct_sources": False, "extra_text_negatives": 2},
    ),
    "episodes of uneven classes": (
        "uneven",
        {"episodes_per_batch": 4, "ways": 4, "groups_per_batch": 2, "min_images_per_class": 2},
    ),
    "annotated pairs": ("annotated", {"annotated_pairs_per_batch": 8}),
    "all annotated pairs": ("annotated", {"annotated_pairs_per_batch": 20}),
}
NUMBERS = (*range(8), 1000, 123_456)
SEEDS = (0, 7)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", BATCHES)
def test_batches(name: str, seed: int) -> None:
    kind, options = BATCHES[name]
    check_hash(f"batches: {name}, seed {seed}", batches(DATA[kind](), seed, NUMBERS, **options))


def test_a_batch_does_not_depend_on_those_before() -> None:
    kind, options = BATCHES["pairs of groups, more texts"]
    later = batches(DATA[kind](), 7, [5], **options)
    after = batches(DATA[kind](), 7, range(6), **options)[-len(later) :]
    assert hash_of(later) == hash_of(after)


KOCH = {"rotate": 10, "shear": 17.2, "shear_y": 17.2, "scale": 0.2, "translate": 0.019, "apply_prob": 0.5}
AUGMENTATIONS: dict[str, dict[str, float]] = {
    "rotate": {"rotate": 20},
    "shear": {"shear": 15},
    "shear_y": {"shear_y": 15},
    "scale": {"scale": 0.3},
    "translate": {"translate": 0.2},
    "elastic": {"elastic": 0.1},
    "hflip": {"hflip": 0.5},
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.5},
    "random_erasing": {"random_erasing": 0.7},
    "Koch 2015": KOCH,
    "quickstart": {"rotate": 6, "shear": 8, "scale": 0.1, "translate": 0.04},
    "all": {
        **KOCH,
        "elastic": 0.05,
        "hflip": 0.5,
        "brightness": 0.2,
        "contrast": 0.2,
        "random_erasing": 0.5,
    },
}
PLACES = ((0, 0, 5, 0), (7, 3, 9, 2), (7, 4000, 9, 4))
"""Seed, step, images in the batch, and place of the first one."""


def waves() -> Tensor:
    """Five images of smooth waves, uint8 `[5, 3, 16, 16]`, no two rows or columns alike."""
    n, c, y, x = torch.meshgrid(
        *(torch.arange(s, dtype=torch.float64) for s in (5, 3, 16, 16)), indexing="ij"
    )
    values = torch.sin(x * (0.3 + 0.1 * n) + c) + torch.cos(y * (0.2 + 0.07 * n) - 0.05 * x * c)
    return (127.5 + 60 * values).round().clamp(0, 255).to(torch.uint8)


def pooled(images: Tensor) -> Tensor:
    """Means over blocks of 4x4 pixels and, with unequal weights, over channels: `[B, 16]`, float64."""
    blocks = torch.nn.functional.avg_pool2d(images.double(), 4).flatten(2)
    return (torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64) @ blocks).squeeze(1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations(name: str) -> None:
    before = pooled(waves())
    for number, (seed, step, total, start) in enumerate(PLACES):
        found = pooled(augmented(waves(), seed, step, total, start, **AUGMENTATIONS[name]))
        check_summary(f"augmentation: {name}, {number}", found - before, 1e-3)


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(augmented(waves(), 0, 0, 5, 0), waves().float())


def test_an_image_is_augmented_by_its_place_in_the_batch() -> None:
    """Whatever process it lands on."""
    images = waves()
    whole = augmented(images, 7, 3, 5, 0, **AUGMENTATIONS["all"])
    part = augmented(images[2:], 7, 3, 5, 2, **AUGMENTATIONS["all"])
    assert (whole[2:] - part).norm() < 1e-4 * whole.norm()


PLACES_OF_RANDOM_NUMBERS: tuple[tuple[int | str, ...], ...] = (
    ("batch", 0),
    ("pairs", 3),
    ("tasks", 3),
    ("given pairs", 3),
    ("augment", 1200),
    ("affine parts", 1200),
    ("elastic", 1200),
    ("dropout", 17),
    ("dropout", 17, 1),
    ("suggestion", 4),
    ("episodes",),
    ("episodes apart", 5),
    ("each",),
    ("trials",),
    ("gallery", 2),
    ("anchors",),
    ("adapt", "classes"),
    ("adapt", "base"),
    ("adapt", "train", 3),
    ("lora",),
    ("lora batch", 2),
    ("lora dropout", 2),
    ("mnist", "train", 9),
    ("fold", 12),
    ("one-picture", "test"),
    ("report", "names"),
)
"""Every key under which random numbers are drawn; texts in it are never renamed."""


def test_random_numbers() -> None:
    drawn = [
        value
        for seed in (0, 7, 2**40)
        for place in PLACES_OF_RANDOM_NUMBERS
        for value in (seed_at(seed, *place), generator_at(seed, *place).integers(2**62, size=4))
    ]
    check_hash("random numbers", drawn)


EPISODES: dict[str, dict[str, Any]] = {
    "5-way 1-shot": {"ways": 5, "shots": 1, "queries": 2},
    "5-way 3-shot": {"ways": 5, "shots": 3, "queries": 3},
    "all ways": {"ways": "all", "shots": 1, "queries": 4},
    "all queries": {"ways": 4, "shots": 2, "queries": "all"},
    "all of all": {"ways": "all", "shots": 1, "queries": "all"},
    "no shots": {"ways": 6, "shots": 0, "queries": 3},
}


def labels_of_test_split(kind: str) -> Tensor:
    """Labels of the test split, or of its classes of three images or more."""
    data = DATA[kind]()
    labels = data.labels[data.splits["test"]]
    return labels if kind == "even" else labels[(labels.bincount() >= 3)[labels]]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", EPISODES)
def test_episodes(name: str, seed: int) -> None:
    kinds = ("even",) if name in ("5-way 3-shot", "all ways") else ("even", "uneven")
    for kind in kinds:
        drawn = random_episodes(labels_of_test_split(kind), 40, seed, **EPISODES[name])
        check_hash(f"episodes: {name}, {kind}, seed {seed}", drawn)


def test_the_first_episodes_do_not_depend_on_how_many_are_drawn() -> None:
    labels, options = labels_of_test_split("even"), EPISODES["5-way 1-shot"]
    few, many = (random_episodes(labels, count, 0, **options) for count in (10, 5000))
    assert hash_of(few) == hash_of(t[:10] for t in many)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("queries", [2, "all"])
def test_episodes_with_each_image_in_turn_as_support(queries: Any, seed: int) -> None:
    for kind in ("even", "uneven"):
        drawn = each_image_as_support(labels_of_test_split(kind), queries, seed)
        check_hash(f"each image as support: {kind}, queries {queries}, seed {seed}", drawn)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["5-way 1-shot", "all ways", "all queries", "all of all"])
def test_episodes_across_splits(name: str, seed: int) -> None:
    data = split_by_image_data()
    options = EPISODES[name] | ({"queries": 2} if EPISODES[name]["queries"] == 4 else {})
    train, test = (data.labels[data.splits[split]] for split in ("train", "test"))
    drawn = episodes_across_labels(train, test, seed, **options)
    check_hash(f"episodes across splits: {name}, seed {seed}", drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_episodes_of_a_data_set(seed: int) -> None:
    small = episodes_without_small_classes(uneven_data(), seed)
    check_hash(f"episodes without small classes, seed {seed}", small)
    across = episodes_across_splits(split_by_image_data(), seed)
    check_hash(f"episodes of a data set across splits, seed {seed}", across)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ways", [2, 3])
def test_omniglot_trials(ways: int, seed: int) -> None:
    check_hash(f"omniglot trials: {ways}-way, seed {seed}", trials(even_data(), "test", ways, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_support_sets(seed: int) -> None:
    """Of the comparison of few-shot methods."""
    for kind, support, query, shots, held, ways in (
        ("even", "test", "test", 2, 1, 5),
        ("even", "test", "test", 4, 0, 99),
        ("uneven", "test", "test", 3, 2, 4),
        ("by image", "train", "test", 3, 2, 7),
    ):
        drawn = support_set(DATA[kind](), support, query, shots, held, ways, seed)
        check_hash(f"support sets: {kind}, {shots} shots, {held} held out, seed {seed}", drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_galleries(seed: int) -> None:
    for kind, size, shots in (("even", "all", 1), ("even", 5, 2), ("uneven", "all", 2), ("uneven", 6, 1)):
        drawn = [t for n in range(3) for t in gallery(DATA[kind](), size, shots, seed, n)]
        check_hash(f"galleries: {kind}, {size} enrolled, {shots} shots, seed {seed}", drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_verification_pairs(seed: int) -> None:
    for kind, count, folds in (("even", 40, 3), ("even", 6000, 10), ("uneven", 60, 1), ("uneven", 400, 5)):
        drawn = verification_pairs(DATA[kind](), count, folds, seed)
        check_hash(f"verification pairs: {kind}, {count} in {folds} folds, seed {seed}", drawn)


@pytest.mark.parametrize("seed", SEEDS)
def test_anchors(seed: int) -> None:
    for kind, count in (("even", 20), ("uneven", 40)):
        check_hash(f"ASIF anchors: {kind}, {count}, seed {seed}", [anchors(DATA[kind](), count, seed)])


@pytest.mark.parametrize("seed", SEEDS)
def test_splits_by_class(seed: int) -> None:
    names = [f"class {c} é" for c in range(40)]
    labels = torch.arange(40).repeat(3)
    for fractions in ({}, {"val_fraction": 0.1, "test_fraction": 0.3}, {"val_fraction": 0.0}):
        splits = split_by_class(labels, names, seed=seed, **fractions)
        check_hash(f"split by class: {fractions}, seed {seed}", splits_of(splits))


@pytest.mark.parametrize("seed", SEEDS)
def test_glyph_split(seed: int) -> None:
    """By the first character of a class; the images depend on the installed fonts and font renderer."""
    classes = [[code, code + 1] for code in range(0x21, 0x2000, 7)]
    splits = split_glyphs(GlyphSet([], classes, []), torch.arange(len(classes)), seed)
    check_hash(f"glyph split, seed {seed}", splits_of(splits))


@pytest.mark.parametrize("name", ["cifar_fs", "fc100"])
def test_published_class_lists(name: str) -> None:
    text = repr([tuple(entry) for entry in read_class_list(name)]).encode()
    check_hash(f"class list: {name}", [np.frombuffer(text, np.uint8)])


def splits_of(splits: Mapping[str, Tensor]) -> list[Tensor]:
    """Splits by name, and the numbers in each."""
    return [part for s in sorted(splits) for part in (torch.tensor([*s.encode()]), splits[s])]


def draw_image(c: int, number: int) -> Image.Image:
    """A grayscale image of class `c`, 16x16."""
    y, x = np.mgrid[0:16, 0:16]
    noise = np.random.Generator(np.random.Philox(key=100 * c + number)).integers(0, 40, (16, 16))
    pattern = 100 * (1 + np.sin(0.5 * x * (1 + c % 4) + 0.3 * y * (1 + c // 4)))
    return Image.fromarray((pattern + noise).round().clip(0, 255).astype(np.uint8))


def write_folder(root: Path, classes: int = 12, images: int = 4) -> Path:
    """Class folders of images; `.bmp`, since sizes of compressed files depend on the compressor."""
    for c in range(classes):
        for number in range(images):
            path = root / f"{'abcdefghijkl'[c]} thing" / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_image(c, number).save(path)
    return root


@pytest.mark.parametrize("seed", SEEDS)
def test_folder(tmp_path: Path, seed: int) -> None:
    data = load_folder(write_folder(tmp_path / "images"), seed)
    check_hash(f"folder, seed {seed}", [*splits_of(data.splits), data.labels])


@pytest.mark.parametrize("seed", SEEDS)
def test_initial_weights(seed: int) -> None:
    """Sum and norm of each parameter, in their order."""
    weights = {name: w.detach() for name, w in initial_weights(seed).items()}
    found = torch.tensor([[w.double().sum(), w.double().norm()] for w in weights.values()])
    check_summary(f"initial weights, seed {seed}", found, 1e-4)


def write_text_encoder(folder: Path) -> Path:
    """A tiny BERT that tells the classes of `write_folder` apart."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "thing", *"abcdefghijkl"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    size = len(vocabulary)
    config = BertConfig(vocab_size=size, max_position_embeddings=8, initializer_range=0.5, **sizes)
    BertModel(config).save_pretrained(folder)
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("with_text", [False, True], ids=["images", "images and text"])
def test_training(tmp_path: Path, with_text: bool) -> None:
    """Batches, augmentation, dropout, gradient accumulation and optimizer together: losses of six steps."""
    settings = yaml.safe_load(TRAINING)
    settings["data"]["root"] = str(write_folder(tmp_path / "images"))
    if with_text:
        settings |= yaml.safe_load(TEXT_TRAINING)
        settings["text"]["encoder"] = f"hf:{write_text_encoder(tmp_path / 'encoder')}"
    config = tmp_path / "short.yaml"
    config.write_text(yaml.safe_dump(settings), "utf-8")
    found = torch.tensor(training_losses(config, tmp_path / "runs"))
    check_summary("losses of a short training" + with_text * " with text", found, 1e-3)


# ---------------------------------------------------------------- how it is compared


def check_hash(name: str, values: Iterable[Any]) -> None:
    assert hash_of(values) == GOLDEN["hashes"][name], f"{name}: not what it was"


def check_summary(name: str, found: Tensor, tolerance: float) -> None:
    """By relative norm."""
    expected = torch.tensor(GOLDEN["summaries"][name], dtype=torch.float64)
    assert found.shape == expected.shape
    off = float((found.double() - expected).norm() / expected.norm())
    assert off <= tolerance, f"{name}: relative difference {off:.2g}"
