"""Keys of a gallery's server: random tokens, of which the gallery keeps the SHA-256 alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vlfew.core.checks import check_one_of
from vlfew.core.errors import DataError, did_you_mean
from vlfew.gallery.exchange import PRIVATE
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.names import checked_name
from vlfew.gallery.store import Conflict

Scope = Literal["read", "write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Key:
    """Who may use a gallery's server.

    Attributes:
        id: short, for `revoke`.
        name: what it is for.
        scopes: `read` to identify and look, `write` to enroll, change and export.
        created: UTC.
        sha256: of the token, hexadecimal.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    created: str
    sha256: str


def add_key(gallery: Gallery, name: str, scopes: Sequence[str]) -> tuple[Key, str]:
    """A new key and its token, which is nowhere else.

    Raises:
        Conflict: there is a key of this name.
        ConfigError: another scope.
    """
    name = checked_name(name)
    for scope in scopes:
        check_one_of("the scope", scope, Scope)
    if any(key.name == name for key in list_keys(gallery)):
        raise Conflict(f"there is a key {name!r} already; revoke it first, or use another name")
    token = f"vlfew_{secrets.token_urlsafe(32)}"
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    key = Key(secrets.token_hex(4), name, tuple(dict.fromkeys(scopes)), created, token_hash(token))
    gallery.write_settings({PRIVATE + key.id: asdict(key)})
    return key, token


def list_keys(gallery: Gallery) -> list[Key]:
    """All keys, by name."""
    return keys_of(gallery.stored_settings())


def keys_of(settings: Mapping[str, Any]) -> list[Key]:
    """The keys in a gallery's settings, by name; those that were revoked are empty."""
    stored = [value for name, value in settings.items() if name.startswith(PRIVATE) and value]
    keys = [Key(**{**value, "scopes": tuple(value["scopes"])}) for value in stored]
    return sorted(keys, key=lambda key: key.name)


def revoke_key(gallery: Gallery, name: str) -> Key:
    """Makes a key worthless, by its name or id.

    Raises:
        DataError: there is none.
    """
    keys = list_keys(gallery)
    found = next((key for key in keys if name in (key.id, key.name)), None)
    if found is None:
        raise DataError(f"there is no key {name!r}{did_you_mean(name, [key.name for key in keys])}")
    gallery.write_settings({PRIVATE + found.id: None})
    return found


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def find_key(keys: Sequence[Key], token: str) -> Key | None:
    """The key of a token; how long it takes does not depend on which one it is, or how much of it is right."""
    given, found = token_hash(token), None
    for key in keys:
        if hmac.compare_digest(key.sha256, given):
            found = key
    return found
