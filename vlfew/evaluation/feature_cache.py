"""Features of a split, cached between commands in the user's cache folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vlfew import __version__
from vlfew.core.tensor_file import load_or_make
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.feature_bank import FeatureBank, encode_split, split_indices
from vlfew.models.cache_keys import hash_sample
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import fingerprint_of

SAMPLED_IMAGES = 64
"""Images whose pixels identify how a split was read: its size, colors and crop."""


def cached_split_features(model: DualStream, data: LabeledImages, split: str) -> FeatureBank:
    """`encode_split`, cached for the same model and the same images read in the same way.

    Only embeddings are cached: maps are large, and no method on cached features uses them. A damaged file is
    replaced; without a writable cache, or where images have no hashes, nothing is cached.

    Raises:
        DataError: as `encode_split`.
        ModelError: as `encode_split`.
    """
    if data.images.hashes is None:
        return encode_split(model, data, split)
    path = cache_file(model, data, split)

    def encode() -> FeatureBank:
        bank = encode_split(model, data, split)
        return replace(bank, features=replace(bank.features, map=None))

    return load_or_make(
        path, "features", lambda: FeatureBank.load(path, data), encode, lambda bank: bank.save(path)
    )


def cache_file(model: DualStream, data: LabeledImages, split: str) -> Path:
    """The file in which the features are cached."""
    index = split_indices(data, split)
    model_key = (fingerprint_of(model), model.device.type)
    assert data.images.hashes is not None
    content = [data.images.hashes[index].tolist(), data.labels[index].tolist()]
    pixels = hash_sample(data, index, SAMPLED_IMAGES)
    data_key = (data.name, data.fingerprint, split, data.images.shape, pixels, content)
    return cache_dir() / "features" / f"{digest(__version__, model_key, data_key)}.safetensors"
