"""Features of a split kept between commands, in the user's cache folder."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError

from vlfew import __version__
from vlfew.core.errors import DataError
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.feature_bank import FeatureBank, encode_split, split_images
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import fingerprint_of

_log = logging.getLogger(__name__)
LOOKED_AT = 64
"""Images by which it is told how a split was read: its size, its colors, how it was framed."""


def cached_split_features(model: DualStream, data: LabeledImages, split: str) -> FeatureBank:
    """`encode_split`, from the cache where the same model saw the same images, read in the same way.

    Embeddings alone: maps are large, and no method on kept features reads them. A damaged file is made
    anew; a cache that cannot be written is done without.

    Raises:
        DataError, ModelError: as `encode_split`.
    """
    path = bank_file(model, data, split)
    try:
        return FeatureBank.load(path, data)
    except DataError as error:
        if path.exists():
            _log.info("features are encoded anew: %s", error)
    bank = encode_split(model, data, split)
    bank = replace(bank, features=replace(bank.features, map=None))
    try:
        bank.save(path)
    except (OSError, SafetensorError) as error:
        _log.info("features are not kept in %s: %s", path, error)
    return bank


def bank_file(model: DualStream, data: LabeledImages, split: str) -> Path:
    """Where the features are kept.

    Fingerprints of data tell their files and splits, not always how images were read from them; so
    some images, as they were read, have their part in the name.
    """
    index = split_images(data, split)
    shown = index[torch.linspace(0, len(index) - 1, min(LOOKED_AT, len(index))).long()]
    pixels = hashlib.sha256(data.images.batch(shown).numpy().tobytes()).hexdigest()
    how = (model.fingerprint or fingerprint_of(model), model.device.type)
    which = (data.name, data.fingerprint, split, data.images.shape, pixels)
    return cache_dir() / "features" / f"{digest(__version__, how, which)}.safetensors"
