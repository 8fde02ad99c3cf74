"""What a server allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MIB = 2**20


@dataclass(frozen=True)
class ServeOptions:
    """What a server allows.

    Attributes:
        key_required: whether a request needs a key; without, the server must not be reachable from elsewhere.
        hosts: names that a request may call the server by (its `Host`); None for any, where keys are required.
        secure: whether it speaks TLS, so that cookies are for that alone.
        image_bytes: largest image file.
        image_pixels: most pixels of an image, of whatever size its file.
        images: most images of a request.
        request_bytes: largest request.
        import_bytes: largest file to be imported.
        queued_images: so many images may wait to be decoded, and so many to be identified; more are refused with 503.
        queued_bytes: so many bytes of files may wait to be decoded.
        decoders: processes that decode images.
        decode_seconds: how long one image may take before its process is ended.
        decode_memory: bytes that decoding may take, above what the process needs itself.
        body_seconds: how long a request may take to arrive.
        re_embed_models: names of models that a request may embed the gallery again with.
        validation: gives embeddings and labels of validation images for `Gallery.calibrate`.
    """

    key_required: bool = False
    hosts: frozenset[str] | None = frozenset(LOOPBACK)
    secure: bool = False
    image_bytes: int = 20 * MIB
    image_pixels: int = 50_000_000
    images: int = 32
    request_bytes: int = 100 * MIB
    import_bytes: int = 4096 * MIB
    queued_images: int = 1024
    queued_bytes: int = 512 * MIB
    decoders: int = 2
    decode_seconds: float = 10.0
    decode_memory: int = 1024 * MIB
    body_seconds: float = 60.0
    re_embed_models: tuple[str, ...] = ()
    validation: Callable[[], Any] | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def served_hosts(host: str, allowed: tuple[str, ...]) -> frozenset[str] | None:
    """Names that requests may call a server by: see `ServeOptions.hosts`.

    Args:
        host: address that it listens at.
        allowed: further names.
    """
    if is_loopback(host) or allowed:
        return frozenset(name.lower() for name in (*LOOPBACK, host, *allowed))
    return None
