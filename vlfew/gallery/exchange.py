"""A gallery as `gallery.safetensors` and `gallery.json`: embeddings and images there, everything else here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlfew.core.errors import DataError, ModelError
from vlfew.core.files import sha256, write_tensors
from vlfew.gallery.encoding import to_rows, unit_length
from vlfew.gallery.names import checked_name
from vlfew.gallery.store import Kind, NewIdentity, NewItem, Store

FORMAT = 1
WEIGHTS, DESCRIPTION = "gallery.safetensors", "gallery.json"
PRIVATE = "key:"
"""Of the names of settings that stay with the gallery: who may use its server."""


def write(store: Store, folder: Path) -> Path:
    """Writes everything of a store, within one snapshot of it; returns the path of the description.

    Raises:
        WriteError: it cannot be written; nothing was.
    """
    settings = {key: value for key, value in store.settings().items() if not key.startswith(PRIVATE)}
    embeddings = {row.item_id: row.embedding for row in store.embeddings()}
    names = {row.id: row.name for row in store.identities()}
    items, thumbnails, contents = [], [], []
    for item in store.items():
        items.append(
            {
                "name": names[item.identity_id],
                "kind": item.kind,
                "digest": item.digest.hex(),
                "text": item.text,
                "source": item.source,
                "thumbnail": None if item.thumbnail is None else len(item.thumbnail),
                "content": None if item.content is None else len(item.content),
            }
        )
        thumbnails.append(item.thumbnail or b"")
        contents.append(item.content or b"")
    joined = b"".join(embeddings[item_id] for item_id in sorted(embeddings))
    tensors = {
        "embedding": _floats(joined).reshape(-1, settings["dim"]),
        "thumbnail": _bytes(b"".join(thumbnails)),
        "content": _bytes(b"".join(contents)),
    }
    description = {"format": FORMAT, "settings": settings, "items": items}
    write_tensors(folder / WEIGHTS, tensors, description=description)
    return folder / DESCRIPTION


def read(folder: Path, replace: bool) -> tuple[dict[str, Any], list[NewIdentity]]:
    """The settings and the identities of an export.

    Raises:
        DataError: missing, damaged, or of another format.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_bytes())
        tensors = load_file(folder / WEIGHTS)
    except OSError as error:
        raise DataError(
            f"{folder} holds no exported gallery: {error.filename or path}: {error.strerror}"
        ) from None
    except (ValueError, SafetensorError) as error:
        raise DataError(f"the export in {folder} is damaged: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise DataError(f"{path} is not an exported gallery that this version can read")
    if description.get("sha256") != sha256(folder / WEIGHTS):
        raise DataError(
            f"{folder / WEIGHTS} is damaged, or of another export: its SHA-256 is not the one in {path}"
        )
    try:
        settings = {
            key: value for key, value in description["settings"].items() if not key.startswith(PRIVATE)
        }
        return settings, _identities(description["items"], tensors, settings["dim"], replace)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error!r}") from None
    except ModelError as error:
        raise DataError(f"{folder / WEIGHTS} is damaged: {error}") from None


def _identities(
    items: list[dict[str, Any]], tensors: dict[str, Tensor], dim: int, replace: bool
) -> list[NewIdentity]:
    """
    Raises:
        ValueError, TypeError, KeyError: items of another form.
        ModelError: an embedding that is zero or not finite.
    """
    if tensors["embedding"].shape != (len(items), dim):
        raise ValueError(
            f"embeddings of shape {list(tensors['embedding'].shape)} for {len(items)} items x {dim}"
        )
    embedding = unit_length(tensors["embedding"], [f"item {n}" for n in range(len(items))])
    found: dict[str, list[NewItem]] = {}
    at = {"thumbnail": 0, "content": 0}

    def take(part: str, length: int | None) -> bytes | None:
        if length is None:
            return None
        start = at[part]
        at[part] += length
        return tensors[part][start : at[part]].numpy().tobytes()

    for item, row in zip(items, to_rows(embedding), strict=True):
        if item["kind"] not in get_args(Kind) or not all(
            isinstance(item[k], str) for k in ("text", "source")
        ):
            raise ValueError(
                f"an item of kind {item['kind']!r}, text {item['text']!r}, source {item['source']!r}"
            )
        new = NewItem(
            item["kind"],
            bytes.fromhex(item["digest"]),
            row,
            item["text"],
            item["source"],
            take("thumbnail", item["thumbnail"]),
            take("content", item["content"]),
        )
        found.setdefault(checked_name(item["name"]), []).append(new)
    return [NewIdentity(name, own, replace) for name, own in found.items()]


def _floats(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32))


def _bytes(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())
