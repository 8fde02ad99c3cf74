"""The vectors of classes said in many prompts, kept between starts by model and texts.

A thousand classes in eighty prompts are 80,000 texts, minutes on a processor, for 1.5 MB of vectors.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence

from torch import Tensor

from vlfew import __version__
from vlfew.core.files import atomic_file
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import digest

_log = logging.getLogger(__name__)
LEAST = 1000
"""Fewer texts are encoded sooner than looked for."""


def cached_text_embeddings(
    model: str | None, texts: Sequence[Sequence[str]], make: Callable[[], Tensor]
) -> Tensor:
    """What `make` gives, from the user's cache where the same model read the same texts before.

    A damaged file is made anew; a cache that cannot be written is done without.

    Args:
        model: its fingerprint; None for one that may still change, for which nothing is kept.
        texts: of each class.
        make: gives the vectors `[C, D]` of the classes.
    """
    if model is None or sum(map(len, texts)) < LEAST:
        return make()
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    path = cache_dir() / "words" / f"{digest(__version__, model, [list(own) for own in texts])}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            words: Tensor = file.get_tensor("words")
            if file.metadata()["crc32"] != _crc32(words):
                raise ValueError("checksum differs")
            return words
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        _log.info("words in %s are encoded anew: %s", path, error)
    words = make().contiguous()
    try:
        with atomic_file(path) as temporary:
            save_file({"words": words}, temporary, {"crc32": _crc32(words)})
    except (SafetensorError, OSError) as error:
        _log.info("words are not kept in %s: %s", path, error)
    return words


def _crc32(words: Tensor) -> str:
    return str(zlib.crc32(words.numpy().tobytes()))
