"""Embeddings of many texts, cached between commands by model and texts.

A thousand classes with eighty prompts are 80,000 texts, and a data set of captions has 30,000: minutes on a CPU, for a
few megabytes of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from vlfew import __version__
from vlfew.core.tensor_file import load_or_make, load_tensors, save_tensors
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import digest
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.cache_keys import hash_weights

MIN_TEXTS = 1000
"""Fewer texts are encoded faster than looked up."""


def cached_text_embeddings(
    fingerprint: str | None, texts: Sequence[Sequence[str]], encode: Callable[[], Tensor]
) -> Tensor:
    """The result of `encode`, from the user's cache where the same model encoded the same texts before.

    A damaged file is replaced; without a writable cache nothing is cached.

    Args:
        fingerprint: of the model; None for one that may still change, for which nothing is cached.
        texts: of each class.
        encode: gives the embeddings on the CPU, `[C, D]` of the classes or `[T, D]` of the texts.
    """
    if fingerprint is None or sum(map(len, texts)) < MIN_TEXTS:
        return encode()
    key = digest(__version__, fingerprint, [list(of_class) for of_class in texts])
    path = cache_dir() / "text" / f"{key}.safetensors"
    content = "text embeddings"
    return load_or_make(
        path,
        content,
        lambda: load_tensors(path, content)[0]["embeddings"],
        encode,
        lambda embeddings: save_tensors(path, {"embeddings": embeddings}, {}),
    )


def hash_text_encoder(encoder: TextEncoder) -> str:
    """16 hex digits over weights, architecture, tokenizer and pooling: what decides the embedding of a text."""
    return digest(hash_weights(encoder), encoder.saved_config())


def encode_once(encoder: TextEncoder | None, texts: Sequence[str]) -> Tensor:
    """Embeddings `[T, D]` by an encoder whose weights are fixed; those of many texts are cached."""
    assert encoder is not None
    if len(texts) < MIN_TEXTS:
        return encoder.encode(texts).cpu()
    return cached_text_embeddings(hash_text_encoder(encoder), [texts], lambda: encoder.encode(texts).cpu())
