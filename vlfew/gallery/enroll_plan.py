"""What a request to enroll changes in a store: new identities and items, answers to remember. It knows no database."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vlfew.gallery.store import Conflict, Enrolled, NewIdentity, NewItem

Content = tuple[str, bytes]
"""The kind and the digest of an item; an identity has each once."""


class Answer(NamedTuple):
    """What was enrolled under an idempotency key.

    Attributes:
        request: SHA-256 of what was asked for; None where it was removed since.
        item_ids: JSON list; None where it was removed since.
        name: of the identity; None where it was removed since.
    """

    request: bytes | None
    item_ids: str | None
    name: str | None


@dataclass
class KnownIdentity:
    """An identity that is there, and the ids of its items."""

    id: int
    items: dict[Content, int] = field(default_factory=dict)


class NewAnswer(NamedTuple):
    """An answer to remember; all but the key is None where it is void already."""

    key: bytes
    request: bytes | None
    item_ids: str | None
    identity_id: int | None


class EnrollPlan:
    """The changes that requests make, one after another.

    Attributes:
        results: the answer to each request.
        new_identities: names by id.
        new_items: of each identity, with the ids they will have.
        emptied: identities of the store whose items are removed first, and whose answers are void.
        removed_items: how many these are.
        answers: to remember.
        changed: ids of all identities that something is enrolled for.

    Args:
        known: by name, the identities of the store that the requests and the answers name.
        answers: of the store, by `request_key`.
        last_identity, last_item: the highest ids that were ever used.
    """

    def __init__(
        self,
        known: Mapping[str, KnownIdentity],
        answers: Mapping[bytes, Answer],
        last_identity: int,
        last_item: int,
    ) -> None:
        self._known, self._answers = dict(known), dict(answers)
        self.last_identity, self.last_item = last_identity, last_item
        self.results: list[Enrolled] = []
        self.new_identities: dict[int, str] = {}
        self.new_items: dict[int, list[tuple[int, NewItem]]] = {}
        self.emptied: set[int] = set()
        self.removed_items, self._first_new = 0, last_item + 1
        self.answers: list[NewAnswer] = []
        self.changed: dict[int, None] = {}

    @property
    def added_items(self) -> int:
        return sum(map(len, self.new_items.values()))

    def add(self, requests: Iterable[NewIdentity]) -> EnrollPlan:
        """
        Raises:
            Conflict: an idempotency key that was used for another request, or whose enrollment was removed.
        """
        for new in requests:
            replayed = self._answered(new)
            self.results.append(self._enroll(new) if replayed is None else replayed)
        return self

    def _answered(self, new: NewIdentity) -> Enrolled | None:
        """The answer of the same request before, by its idempotency key."""
        if not new.key or (answer := self._answers.get(request_key(new.key))) is None:
            return None
        if answer.name is None or answer.item_ids is None:
            raise Conflict(f"idempotency key {new.key!r}: what it enrolled was removed since; use a new key")
        if answer.request != new.request:
            raise Conflict(
                f"idempotency key {new.key!r} was used for another request; use a new key for each request"
            )
        contents = self._known[answer.name].items
        images = sum(kind == "image" for kind, _ in contents)
        return Enrolled(
            answer.name, json.loads(answer.item_ids), 0, False, True, images, len(contents) - images
        )

    def _enroll(self, new: NewIdentity) -> Enrolled:
        identity = self._known.get(new.name)
        created = identity is None
        if identity is None:
            self.last_identity += 1
            identity = self._known[new.name] = KnownIdentity(self.last_identity)
            self.new_identities[identity.id] = new.name
        elif new.replace:
            self._empty(new.name, identity)
        before, ids = len(identity.items), []
        added = self.new_items.setdefault(identity.id, [])
        for item in new.items:
            content = item.kind, item.digest
            if content not in identity.items:
                self.last_item += 1
                identity.items[content] = self.last_item
                added.append((self.last_item, item))
            ids.append(identity.items[content])
        self.changed[identity.id] = None
        if new.key:
            key, item_ids = request_key(new.key), json.dumps(ids)
            self._answers[key] = Answer(new.request, item_ids, new.name)
            self.answers.append(NewAnswer(key, new.request, item_ids, identity.id))
        images = sum(kind == "image" for kind, _ in identity.items)
        texts = len(identity.items) - images
        return Enrolled(new.name, ids, len(identity.items) - before, created, False, images, texts)

    def _empty(self, name: str, identity: KnownIdentity) -> None:
        """Removes the items of an identity, those of this plan included; a late retry does not bring them back."""
        self.removed_items += sum(item_id < self._first_new for item_id in identity.items.values())
        identity.items.clear()
        self.new_items.pop(identity.id, None)
        if identity.id not in self.new_identities:
            self.emptied.add(identity.id)
        void = Answer(None, None, None)
        self._answers = {key: void if one.name == name else one for key, one in self._answers.items()}
        self.answers = [
            NewAnswer(one.key, None, None, None) if one.identity_id == identity.id else one
            for one in self.answers
        ]


def keys_of(requests: Sequence[NewIdentity]) -> list[bytes]:
    """What is kept of the idempotency keys of requests."""
    return [request_key(new.key) for new in requests if new.key]


def request_key(key: str) -> bytes:
    """What is kept of an idempotency key, which a client may have made from a name."""
    return hashlib.sha256(key.encode()).digest()


def now() -> str:
    """UTC, for readers; nothing depends on its order."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
