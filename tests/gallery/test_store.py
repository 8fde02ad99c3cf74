"""What every store must do; see `STORES` in conftest."""

from __future__ import annotations

import pytest

from tests.gallery.conftest import id_of, identity, item, vector
from vlfew.core.errors import DataError
from vlfew.gallery.store import Conflict, NewIdentity, NotFound, StaleModel, Store


def test_identities_and_items(store: Store) -> None:
    ann, bob = store.enroll(
        [
            NewIdentity("ann/🦊", [item(1, source="/a.png", thumbnail=b"jpeg", content=b"png"), item(2)]),
            NewIdentity("bob", [item(3, "text", text="a tall man")]),
        ],
        "f",
    )
    assert (ann.created, ann.added, ann.images, ann.texts) == (True, 2, 2, 0)
    assert (bob.created, bob.added, bob.images, bob.texts) == (True, 1, 0, 1)
    assert store.count() == (2, 3)
    assert [(row.name, row.images, row.texts) for row in store.identities()] == [
        ("ann/🦊", 2, 0),
        ("bob", 0, 1),
    ]
    assert [*store.names().values()] == ["ann/🦊", "bob"]
    row = store.find("ann/🦊")
    assert (
        row is not None and store.names([row.id, 99]) == {row.id: "ann/🦊"} and store.find("nobody") is None
    )
    first, second = store.items(row.id)
    assert (first.kind, first.source, first.thumbnail, first.content) == ("image", "/a.png", b"jpeg", b"png")
    assert (second.thumbnail, second.content, second.source) == (None, None, "")
    assert store.content(first.id) == b"png" and store.content(second.id) is None
    assert [i.text for i in store.items()] == ["", "", "a tall man"]
    assert store.digests(row.id) == {item(1).digest, item(2).digest}
    assert store.holders([item(1).digest, item(9).digest]) == {item(1).digest: ["ann/🦊"]}
    assert {(e.item_id, e.kind, e.embedding) for e in store.embeddings()} == {
        (ann.item_ids[0], "image", vector(1)),
        (ann.item_ids[1], "image", vector(2)),
        (bob.item_ids[0], "text", vector(3)),
    }
    assert [e.item_id for e in store.embeddings([row.id])] == ann.item_ids


def test_an_identity_has_each_content_once(store: Store) -> None:
    (first,) = store.enroll([identity("ann", 1, 1)], "f")
    (second,) = store.enroll([identity("ann", 1, 2)], "f")
    assert (first.added, second.added, second.created, second.images) == (1, 1, False, 2)
    assert second.item_ids[0] == first.item_ids[0]


def test_replace_removes_what_was_there(store: Store) -> None:
    store.enroll([identity("ann", 1, 2), identity("bob", 1)], "f")
    (again,) = store.enroll([identity("ann", 3, replace=True)], "f")
    assert (again.created, again.images) == (False, 1)
    assert store.holders([item(1).digest, item(2).digest, item(3).digest]) == {
        item(1).digest: ["bob"],
        item(3).digest: ["ann"],
    }


def test_rename_and_remove(store: Store) -> None:
    ids = store.enroll([identity("ann", 1, 2), identity("bob", 3)], "f")[0].item_ids
    with pytest.raises(Conflict, match="there is an identity 'bob' already"):
        store.rename(id_of(store, "ann"), "bob")
    store.rename(id_of(store, "ann"), "anna")
    assert store.find("ann") is None
    assert store.remove_item(ids[0]) == "anna"
    with pytest.raises(NotFound, match=f"there is no item {ids[0]}"):
        store.remove_item(ids[0])
    assert store.remove_item(ids[1]) == "anna"
    assert store.find("anna") is None  # it had no other item
    bob = id_of(store, "bob")
    assert store.remove([bob]) == 1
    assert store.count() == (0, 0)
    for write in (lambda: store.remove([bob]), lambda: store.rename(bob, "x")):
        with pytest.raises(NotFound, match=f"there is no identity {bob}"):
            write()
    assert store.check() == []


def test_many_are_removed_together_or_none(store: Store) -> None:
    store.enroll([identity("ann", 1, 2), identity("bob", 3), identity("cy", 4)], "f")
    ann, cy = id_of(store, "ann"), id_of(store, "cy")
    start = store.version()
    with pytest.raises(NotFound, match="there is no identity 99"):
        store.remove([ann, 99])
    assert store.count() == (3, 4) and store.version() == start
    assert store.remove([ann, cy, ann]) == 3
    assert [*store.names().values()] == ["bob"] and store.changes(start) == {ann, cy}


def test_ids_are_never_used_again(store: Store) -> None:
    (first,) = store.enroll([identity("ann", 1)], "f")
    store.remove([id_of(store, "ann")])
    (second,) = store.enroll([identity("ann", 1)], "f")
    assert second.item_ids[0] > first.item_ids[0]


def test_an_idempotency_key_enrolls_once(store: Store) -> None:
    request = identity("ann", 1, 2, key="k", request=b"asked")
    (first,) = store.enroll([request], "f")
    store.enroll([identity("ann", 3)], "f")
    (again,) = store.enroll([request], "f")
    assert again.replayed and not first.replayed
    assert (again.item_ids, again.added, again.images) == (first.item_ids, 0, 3)
    with pytest.raises(DataError, match="'k' was used for another request"):
        store.enroll([identity("bob", 4, key="k", request=b"something else")], "f")
    assert store.find("bob") is None
    store.remove_item(first.item_ids[0])
    # A retry that comes late does not bring back what was removed.
    with pytest.raises(DataError, match="'k': what it enrolled was removed since"):
        store.enroll([request], "f")


def test_removing_an_item_keeps_the_keys_of_others(store: Store) -> None:
    one, two = identity("ann", 1, key="1", request=b"1"), identity("ann", 2, key="2", request=b"2")
    ids = [store.enroll([request], "f")[0].item_ids[0] for request in (one, two)]
    store.remove_item(ids[0])
    assert store.enroll([two], "f")[0].replayed


def test_a_write_is_whole_or_not_at_all(store: Store) -> None:
    store.enroll([identity("ann", 1, key="k", request=b"1")], "f")
    with pytest.raises(DataError):
        store.enroll([identity("bob", 2), identity("cy", 3, key="k", request=b"2")], "f")
    assert [row.name for row in store.identities()] == ["ann"]


def test_another_model_is_refused(store: Store) -> None:
    with pytest.raises(StaleModel, match="embedded again by another process"):
        store.enroll([identity("ann", 1)], "g")
    assert store.count() == (0, 0)


def test_versions_and_changes(store: Store) -> None:
    start = store.version()
    store.enroll([identity("ann", 1), identity("bob", 2)], "f")
    ann, bob = store.identities()
    assert store.version() > start
    assert store.changes(start) == {ann.id, bob.id}
    middle = store.version()
    assert store.changes(middle) == set()
    store.rename(id_of(store, "ann"), "anna")
    store.remove([id_of(store, "bob")])
    assert store.changes(middle) == {ann.id, bob.id}
    last = store.version()
    store.write_settings({"thresholds": {"image": {"value": 0.5}}})
    assert store.changes(last) is None
    assert store.settings()["thresholds"] == {"image": {"value": 0.5}}
    assert store.settings()["fingerprint"] == "f"


def test_many_changes_are_noted_as_anything(store: Store) -> None:
    start = store.version()
    store.enroll([identity(f"n{n}", n) for n in range(1500)], "f")
    assert store.changes(start) is None
    ids = [row.id for row in store.identities()]
    assert len(list(store.embeddings(ids))) == 1500
    assert [row.id for row in store.identities(ids[700:1300])] == ids[700:1300]


def test_embeddings_are_replaced_all_or_none(store: Store) -> None:
    ids = store.enroll([identity("ann", 1, 2)], "f")[0].item_ids
    assert store.replace_embeddings({ids[0]: vector(5)}, {"fingerprint": "g"}) == [ids[1]]
    assert store.settings()["fingerprint"] == "f"
    assert store.replace_embeddings({ids[0]: vector(5), ids[1]: vector(6)}, {"fingerprint": "g"}) == []
    assert store.settings()["fingerprint"] == "g"
    assert {row.embedding for row in store.embeddings()} == {vector(5), vector(6)}


def test_a_snapshot_is_one_state(store: Store) -> None:
    store.enroll([identity("ann", 1)], "f")
    with store.snapshot(), store.snapshot():
        assert store.count() == (1, 1)
        assert [row.name for row in store.identities()] == ["ann"]
    store.enroll([identity("bob", 2)], "f")
    assert store.count() == (2, 2)


def test_thumbnails_are_found_by_identity_and_by_item(store: Store) -> None:
    first, second = item(1), item(2, thumbnail=b"small")
    store.enroll([NewIdentity("ann", [first, second]), identity("bob", 3)], "f")
    ann, bob = id_of(store, "ann"), id_of(store, "bob")
    (_, with_one) = store.items(ann)
    assert store.thumbnails([ann, bob, 10**6]) == {ann: with_one.id}
    assert store.thumbnail(with_one.id) == b"small"
    assert store.thumbnail(with_one.id - 1) is None and store.thumbnail(10**6) is None


def test_images_that_several_identities_have(store: Store) -> None:
    enrolled = [identity("ann", 1, 2), identity("bob", 2, 3), identity("cy", 2), identity("dan", 4)]
    store.enroll(enrolled, "f")
    (digest,) = found = store.shared_images()
    assert digest == item(2).digest
    assert [owner for owner, _ in found[digest]] == [id_of(store, name) for name in ("ann", "bob", "cy")]
    assert {number for _, number in found[digest]} == {i.id for i in store.items() if i.digest == digest}
