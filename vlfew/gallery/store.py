"""What a gallery needs of the place that keeps it.

A store knows rows and transactions, neither models nor scores: embeddings are bytes, settings are JSON values. Every
method that writes is one transaction, which is there as a whole or not at all, and durable when the method returns.
Every write is noted under a version, so that each process finds what the others have changed. The index that a store
gives scores: from memory, or in a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from vlfew.core.errors import DataError, WriteError

if TYPE_CHECKING:
    from torch import Tensor

    from vlfew.evaluation.templates import Support

Kind = Literal["image", "text"]
KEPT_CHANGES = 100_000
"""Changes that are kept; who has missed more reads everything again."""
MANY = 1000
"""From so many identities in a transaction, it is noted that anything may have changed."""


class StaleModel(DataError):
    """The gallery's model was changed by another process since it was opened."""


class StaleSettings(DataError):
    """What a write is based on was changed by another process since it was read."""


class NotFound(DataError):
    """No such identity or item."""


class Conflict(DataError):
    """What is asked for contradicts what is there: a name that is taken, an idempotency key of another request."""


class EmptyGallery(DataError):
    """Nobody is enrolled."""


class StoreUnavailable(DataError):
    """The store does not answer for now: it is locked by another process, or its server is gone; try again."""


class DamagedStore(DataError):
    """The store cannot be read; it is left as it is."""


class ReadOnlyStore(WriteError):
    """The store cannot be written here."""


class NewItem(NamedTuple):
    """An image or a text to be enrolled.

    Attributes:
        kind: `image` or `text`.
        digest: SHA-256 of the file, of the pixels or of the text; an identity has each content once.
        embedding: float32 bytes, little endian.
        text: of a text.
        source: absolute path of the image file; "" where there is none.
        thumbnail: JPEG of an image; None for none.
        content: the bytes of the image file, where the gallery keeps them.
    """

    kind: Kind
    digest: bytes
    embedding: bytes
    text: str = ""
    source: str = ""
    thumbnail: bytes | None = None
    content: bytes | None = None


@dataclass
class NewIdentity:
    """An identity to be enrolled, or to be added to.

    Attributes:
        name: of the identity.
        items: its images and texts.
        replace: whether the items that are there are removed first.
        key: the idempotency key of the request; "" for none.
        request: SHA-256 of what is asked for; the same key with another request is an error.
    """

    name: str
    items: Sequence[NewItem]
    replace: bool = False
    key: str = ""
    request: bytes = b""


@dataclass
class Enrolled:
    """What became of a `NewIdentity`.

    Attributes:
        name: of the identity.
        item_ids: of the added items, and of those of the same content that were there.
        added: number of items that are new.
        created: whether the identity is new.
        replayed: whether the request was answered before, under its idempotency key.
        images, texts: number of items that the identity has now.
    """

    name: str
    item_ids: list[int]
    added: int
    created: bool
    replayed: bool = False
    images: int = 0
    texts: int = 0


class IdentityRow(NamedTuple):
    """An identity and how many items it has."""

    id: int
    name: str
    created: str
    images: int
    texts: int


@dataclass
class ItemRow:
    """An item without its embedding; images have a source, a thumbnail and content where the gallery keeps them."""

    id: int
    identity_id: int
    kind: Kind
    digest: bytes
    text: str
    source: str
    created: str
    thumbnail: bytes | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)


class EmbeddingRow(NamedTuple):
    """The embedding of an item."""

    identity_id: int
    item_id: int
    kind: Kind
    embedding: bytes


SHARED_IMAGES = (
    "SELECT digest, identity_id, id FROM items WHERE kind = 'image' AND digest IN (SELECT digest FROM items "
    "WHERE kind = 'image' GROUP BY digest HAVING count(*) > 1) ORDER BY digest, identity_id"
)
"""Images of which an identity has each content once: a content that is there twice is shared. SQL of any store."""


class Store(Protocol):
    """Where a gallery is kept."""

    name: str
    """Path or URL, for messages."""
    read_only: bool

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads of the block see one state, whatever others write."""

    def settings(self) -> dict[str, Any]:
        """The gallery's settings."""

    def write_settings(
        self,
        settings: Mapping[str, Any],
        *,
        purge: bool = False,
        expected: Mapping[str, Any] | None = None,
    ) -> None:
        """Sets these settings and keeps the others.

        Args:
            settings: JSON values.
            purge: whether nothing may stay of the values that they had.
            expected: others, and the values that they must have (None where they are not set).

        Raises:
            StaleSettings: another process has changed one of those.
        """

    def version(self) -> int:
        """Increases with every write of any process."""

    def changes(self, since: int) -> set[int] | None:
        """Identities that were changed, added or removed after a version; None for any of them, and the settings."""

    def count(self) -> tuple[int, int]:
        """Numbers of identities and of items."""

    def identities(self, ids: Sequence[int] | None = None) -> list[IdentityRow]:
        """All identities, or those of the ids that are there, in the order of their ids."""

    def names(self, ids: Sequence[int] | None = None) -> dict[int, str]:
        """The names of all identities, or of those of the ids that are there, in the order of their ids."""

    def find(self, name: str) -> IdentityRow | None:
        """The identity of this name."""

    def items(self, identity_id: int | None = None) -> Iterator[ItemRow]:
        """The items of an identity, or all, by id."""

    def content(self, item_id: int) -> bytes | None:
        """The image of an item, where the gallery keeps it."""

    def thumbnail(self, item_id: int) -> bytes | None:
        """The thumbnail of an item, where it has one."""

    def thumbnails(self, identity_ids: Sequence[int]) -> dict[int, int]:
        """The first item with a thumbnail of each of these identities that has any."""

    def digests(self, identity_id: int) -> set[bytes]:
        """The digests of the images of an identity."""

    def embeddings(self, ids: Sequence[int] | None = None) -> Iterator[EmbeddingRow]:
        """The embeddings of all identities or of these, identity by identity."""

    def holders(self, digests: Iterable[bytes]) -> dict[bytes, list[str]]:
        """The names of the identities that have images of these digests."""

    def shared_images(self) -> dict[bytes, list[tuple[int, int]]]:
        """The images that several identities have, by their digests: ids of the identities and of their items."""

    def enroll(self, identities: Sequence[NewIdentity], fingerprint: str) -> list[Enrolled]:
        """Adds identities and their items in one transaction.

        Raises:
            StaleModel: the gallery has another fingerprint by now.
            Conflict: an idempotency key that was used for another request, or whose enrollment was removed.
        """

    def rename(self, identity_id: int, new: str) -> None:
        """
        Raises:
            NotFound: no such identity.
            Conflict: another one has the new name.
        """

    def remove(self, identity_ids: Sequence[int]) -> int:
        """Removes identities with all of their items, of which nothing stays; returns the number of items.

        Raises:
            NotFound: one of them is not there; then none is removed.
        """

    def remove_item(self, item_id: int) -> str:
        """Removes an item, and with the last one its identity; returns the name of that.

        Raises:
            NotFound: no such item.
        """

    def replace_embeddings(self, embeddings: Mapping[int, bytes], settings: Mapping[str, Any]) -> list[int]:
        """Sets the embedding of every item, and settings; where items are missing, returns their ids instead."""

    def check(self) -> list[str]:
        """What is wrong with the store, a line each; also what is left of removed content, as far as it can be told."""

    def index(self) -> Index:
        """What is searched."""

    def close(self) -> None: ...

    def destroy(self) -> None:
        """Closes and deletes the whole gallery."""


class Index(Protocol):
    """The search among a gallery's identities.

    Attributes:
        settings: those of the gallery at the last refresh; empty before.
        names, support: of identities by their ids; at least of those in the last answer.
    """

    settings: dict[str, Any]
    names: dict[int, str]
    support: dict[int, Support]

    def __len__(self) -> int:
        """Number of identities at the last refresh."""

    def refresh(self) -> None:
        """Takes over what this or another process has written since the last time."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores and ids `[Q, k]` of the best identities, for queries `[Q, D]` of unit length."""

    def score(self, query: Tensor, identity: int) -> float:
        """Of a query `[D]` and an identity."""

    def templates(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What identities are compared by: templates `[T, D]`, and which of the ids each is of `[T]`, 0 to N-1.

        Those that were removed since the last refresh have none.
        """

    def kinds(self) -> set[Support]:
        """What the identities are made of."""


def no_identity(identity: str | int, store: str) -> NotFound:
    """Of a name or an id."""
    return NotFound(f"{store}: there is no identity {identity!r}; vlfew gallery list shows those there are")


def nobody(store: str) -> EmptyGallery:
    return EmptyGallery(f"{store}: nobody is enrolled; vlfew gallery enroll adds an identity")


def no_item(item_id: int, store: str) -> NotFound:
    return NotFound(
        f"{store}: there is no item {item_id}; vlfew gallery show NAME lists the items of an identity"
    )


def name_taken(name: str, store: str) -> Conflict:
    return Conflict(f"{store}: there is an identity {name!r} already; remove it first, or use another name")


def stale_model(store: str) -> StaleModel:
    return StaleModel(
        f"{store} was embedded again by another process, with another model; open it again with that one"
    )


def check_expected(found: Mapping[str, Any], expected: Mapping[str, Any] | None, store: str) -> None:
    """
    Raises:
        StaleSettings: an expected setting has another value.
    """
    for key, value in (expected or {}).items():
        if found.get(key) != value:
            raise StaleSettings(
                f"{store}: its {key} was changed by another process meanwhile; nothing is set, do it again"
            )


def by_digest(rows: Iterable[tuple[Any, ...]]) -> dict[bytes, list[tuple[int, int]]]:
    """Of rows of `SHARED_IMAGES`."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for digest, identity, item in rows:
        found.setdefault(bytes(digest), []).append((identity, item))
    return found
