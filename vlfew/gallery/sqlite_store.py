"""A gallery in one SQLite file.

Which identities were changed is noted in a table, from which other processes bring their own memory up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.plurals import counted
from vlfew.gallery.enroll_plan import Answer, EnrollPlan, KnownIdentity, keys_of, now
from vlfew.gallery.sqlite_file import PURGE, SQLiteFile, delete_file, make_file
from vlfew.gallery.sqlite_pages import unclean_free_pages
from vlfew.gallery.store import (
    KEPT_CHANGES,
    MANY,
    SHARED_IMAGES,
    EmbeddingRow,
    Enrolled,
    IdentityRow,
    ItemRow,
    NewIdentity,
    by_digest,
    check_expected,
    name_taken,
    no_identity,
    no_item,
    stale_model,
)

if TYPE_CHECKING:
    from vlfew.gallery.index import TemplateIndex


class SQLiteStore(SQLiteFile):
    """A `Store` in a file; see there for what its methods do.

    Args:
        path: of an existing gallery; `create` makes a new one.

    Raises:
        DataError: missing, damaged, of another program, or of a later version.
    """

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> SQLiteStore:
        """A new gallery.

        Raises:
            DataError: the file exists.
            WriteError: it cannot be written.
        """
        make_file(path)
        try:
            store = cls(path)
            try:
                store.write_settings(settings)
            except BaseException:
                store.close()
                raise
            return store
        except BaseException:
            delete_file(path)
            raise

    def settings(self) -> dict[str, Any]:
        rows = self._rows("SELECT key, value FROM settings WHERE key != ?", (PURGE,))
        return {key: json.loads(value) for key, value in rows}

    def write_settings(
        self,
        settings: Mapping[str, Any],
        *,
        purge: bool = False,
        expected: Mapping[str, Any] | None = None,
    ) -> None:
        with self._write():
            check_expected(self.settings(), expected, self.name)
            self._set(settings)
            if purge:
                self._plan_purge()
        if purge:
            self._purge()

    def _set(self, settings: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in settings.items()]
        self.db.executemany(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", rows
        )
        self._note([None])

    def _note(self, identity_ids: Sequence[int | None]) -> None:
        """Notes that identities have changed; None for anything."""
        if len(identity_ids) > MANY:
            identity_ids = [None]
        self.db.executemany("INSERT INTO changes (identity_id) VALUES (?)", [(n,) for n in identity_ids])
        self.db.execute(
            "DELETE FROM changes WHERE version <= (SELECT max(version) FROM changes) - ?", (KEPT_CHANGES,)
        )

    def version(self) -> int:
        self._follow_file()
        return int(self._rows("SELECT coalesce(max(version), 0) FROM changes")[0][0])

    def changes(self, since: int) -> set[int] | None:
        rows = self._rows("SELECT version, identity_id FROM changes WHERE version > ?", (since,))
        missed = rows and min(version for version, _ in rows) != since + 1
        if missed or any(identity is None for _, identity in rows):
            return None
        return {identity for _, identity in rows}

    def count(self) -> tuple[int, int]:
        (row,) = self._rows("SELECT (SELECT count(*) FROM identities), (SELECT count(*) FROM items)")
        return row[0], row[1]

    def identities(self, ids: Sequence[int] | None = None) -> list[IdentityRow]:
        rows = self._all_rows(f"{_IDENTITIES}", ids, "i.id", "i.id")
        return [IdentityRow(*row) for row in rows]

    def names(self, ids: Sequence[int] | None = None) -> dict[int, str]:
        return dict(self._all_rows("SELECT id, name FROM identities", ids, "id", "id"))

    def find(self, name: str) -> IdentityRow | None:
        rows = self._rows(f"{_IDENTITIES} WHERE i.name = ?", (name,))
        return IdentityRow(*rows[0]) if rows else None

    def items(self, identity_id: int | None = None) -> Iterator[ItemRow]:
        query = (
            "SELECT t.id, t.identity_id, t.kind, t.digest, t.text, t.source, t.created, p.thumbnail, p.content "
            "FROM items t LEFT JOIN images p ON p.item_id = t.id"
        )
        ids = None if identity_id is None else [identity_id]
        for row in self._all_rows(query, ids, "t.identity_id", "t.id"):
            yield ItemRow(*row)

    def content(self, item_id: int) -> bytes | None:
        rows = self._rows("SELECT content FROM images WHERE item_id = ?", (item_id,))
        return rows[0][0] if rows else None

    def thumbnail(self, item_id: int) -> bytes | None:
        rows = self._rows("SELECT thumbnail FROM images WHERE item_id = ?", (item_id,))
        return rows[0][0] if rows else None

    def thumbnails(self, identity_ids: Sequence[int]) -> dict[int, int]:
        query = (
            "SELECT t.id FROM items t JOIN images p ON p.item_id = t.id WHERE t.identity_id = ? AND t.kind = 'image' "
            "AND p.thumbnail IS NOT NULL ORDER BY t.id LIMIT 1"
        )
        found = ((identity, self._rows(query, (identity,))) for identity in set(identity_ids))
        return {identity: rows[0][0] for identity, rows in found if rows}

    def digests(self, identity_id: int) -> set[bytes]:
        query = "SELECT digest FROM items WHERE identity_id = ? AND kind = 'image'"
        return {digest for (digest,) in self._rows(query, (identity_id,))}

    def embeddings(self, ids: Sequence[int] | None = None) -> Iterator[EmbeddingRow]:
        query = "SELECT identity_id, id, kind, embedding FROM items"
        # By id where all are wanted: sorting gigabytes by identity would take longer than all the rest.
        for row in self._all_rows(query, ids, "identity_id", "id" if ids is None else "identity_id, id"):
            yield EmbeddingRow(*row)

    def holders(self, digests: Iterable[bytes]) -> dict[bytes, list[str]]:
        names: dict[bytes, list[str]] = {}
        query = (
            "SELECT t.digest, i.name FROM items t JOIN identities i ON i.id = t.identity_id "
            "WHERE t.digest = ? AND t.kind = 'image' ORDER BY i.name"
        )
        for digest in set(digests):
            for found, name in self._rows(query, (digest,)):
                names.setdefault(found, []).append(name)
        return names

    def shared_images(self) -> dict[bytes, list[tuple[int, int]]]:
        return by_digest(self._rows(SHARED_IMAGES))

    def enroll(self, identities: Sequence[NewIdentity], fingerprint: str) -> list[Enrolled]:
        with self._write():
            self._check_fingerprint(fingerprint)
            answers = self._answers(keys_of(identities))
            names = {new.name for new in identities} | {one.name for one in answers.values() if one.name}
            last_ids = self._last_ids()
            plan = EnrollPlan(self._known(sorted(names)), answers, *last_ids).add(identities)
            for identity_id in plan.emptied:
                self.db.execute("DELETE FROM items WHERE identity_id = ?", (identity_id,))
                self._forget_requests(identity_id)
            self._insert(plan)
            if plan.changed:
                self._note([*plan.changed])
            if plan.emptied:
                self._plan_purge()
        if plan.emptied:
            self._purge()
        return plan.results

    def _check_fingerprint(self, fingerprint: str) -> None:
        rows = self.db.execute("SELECT value FROM settings WHERE key = 'fingerprint'").fetchall()
        if not rows or json.loads(rows[0][0]) != fingerprint:
            raise stale_model(self.name)

    def _answers(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """What was enrolled under idempotency keys."""
        query = (
            "SELECT k.key, k.request, k.result, i.name FROM idempotency_keys k LEFT JOIN identities i "
            "ON i.id = k.identity_id"
        )
        return {key: Answer(*row) for key, *row in self._all_rows(query, keys, "k.key", "k.key")}

    def _last_ids(self) -> tuple[int, int]:
        """The highest ids that identities and items ever had."""
        last = dict(self.db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        return last.get("identities", 0), last.get("items", 0)

    def _known(self, names: Sequence[str]) -> dict[str, KnownIdentity]:
        """Those identities of the names that are there, with their items."""
        query = (
            "SELECT i.name, i.id, t.kind, t.digest, t.id FROM identities i "
            "LEFT JOIN items t ON t.identity_id = i.id"
        )
        known: dict[str, KnownIdentity] = {}
        for name, identity_id, kind, digest, item_id in self._all_rows(query, names, "i.name", "i.id"):
            identity = known.setdefault(name, KnownIdentity(identity_id))
            if item_id is not None:
                identity.items[kind, digest] = item_id
        return known

    def _insert(self, plan: EnrollPlan) -> None:
        since = now()
        self.db.executemany(
            "INSERT INTO identities (id, name, created) VALUES (?, ?, ?)",
            ((n, name, since) for n, name in plan.new_identities.items()),
        )
        rows = [(identity_id, *new) for identity_id, own in plan.new_items.items() for new in own]
        self.db.executemany(
            "INSERT INTO items (id, identity_id, kind, digest, text, source, created, embedding) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((n, of, i.kind, i.digest, i.text, i.source, since, i.embedding) for of, n, i in rows),
        )
        self.db.executemany(
            "INSERT INTO images (item_id, thumbnail, content) VALUES (?, ?, ?)",
            (
                (n, i.thumbnail, i.content)
                for _, n, i in rows
                if not (i.thumbnail is None and i.content is None)
            ),
        )
        self.db.executemany("INSERT INTO idempotency_keys VALUES (?, ?, ?, ?)", plan.answers)

    def _forget_requests(self, identity_id: int, item_id: int | None = None) -> None:
        """Empties the idempotency keys of an identity, or of one item: a late retry does not bring it back."""
        of_item = "EXISTS (SELECT 1 FROM json_each(result) WHERE value = ?2)"
        self.db.execute(
            "UPDATE idempotency_keys SET request = NULL, result = NULL, identity_id = NULL "
            f"WHERE identity_id = ?1 AND (?2 IS NULL OR {of_item})",
            (identity_id, item_id),
        )

    def rename(self, identity_id: int, new: str) -> None:
        with self._write():
            rows = self.db.execute("SELECT id FROM identities WHERE name = ?", (new,)).fetchall()
            if rows and rows != [(identity_id,)]:
                raise name_taken(new, self.name)
            if not self.db.execute(
                "UPDATE identities SET name = ? WHERE id = ?", (new, identity_id)
            ).rowcount:
                raise no_identity(identity_id, self.name)
            self._note([identity_id])
            self._plan_purge()
        self._purge()

    def remove(self, identity_ids: Sequence[int]) -> int:
        with self._write():
            removed = sum(self._remove(identity_id) for identity_id in set(identity_ids))
            self._note(sorted(set(identity_ids)))
            self._plan_purge()
        self._purge()
        return removed

    def _remove(self, identity_id: int) -> int:
        self._forget_requests(identity_id)
        (count,) = self.db.execute(
            "SELECT count(*) FROM items WHERE identity_id = ?", (identity_id,)
        ).fetchone()
        if not self.db.execute("DELETE FROM identities WHERE id = ?", (identity_id,)).rowcount:
            raise no_identity(identity_id, self.name)
        return int(count)

    def remove_item(self, item_id: int) -> str:
        with self._write():
            row = self.db.execute(
                "SELECT i.id, i.name FROM items t JOIN identities i ON i.id = t.identity_id WHERE t.id = ?",
                (item_id,),
            ).fetchone()
            if row is None:
                raise no_item(item_id, self.name)
            self.db.execute("DELETE FROM items WHERE id = ?", (item_id,))
            self._forget_requests(row[0], item_id)
            if not self.db.execute("SELECT 1 FROM items WHERE identity_id = ?", (row[0],)).fetchone():
                self._remove(row[0])
            self._note([row[0]])
            self._plan_purge()
        self._purge()
        return str(row[1])

    def replace_embeddings(self, embeddings: Mapping[int, bytes], settings: Mapping[str, Any]) -> list[int]:
        with self._write():
            ids = [row[0] for row in self.db.execute("SELECT id FROM items")]
            if missing := [item_id for item_id in ids if item_id not in embeddings]:
                return missing
            self.db.executemany(
                "UPDATE items SET embedding = ? WHERE id = ?", ((embeddings[n], n) for n in ids)
            )
            self._set(settings)
            self._plan_purge()
        self._purge()
        return []

    def check(self) -> list[str]:
        problems = [line for (line,) in self._rows("PRAGMA integrity_check") if line != "ok"]
        for table, row, parent, _ in self._rows("PRAGMA foreign_key_check"):
            problems.append(f"row {row} of {table} belongs to nothing in {parent}")
        empty = self._rows(
            "SELECT name FROM identities i WHERE NOT EXISTS (SELECT 1 FROM items WHERE identity_id = i.id)"
        )
        problems += [f"identity {name!r} has no item" for (name,) in empty]
        if not self.read_only and not problems:
            if self._purge_pending():
                self._purge()
            else:
                self._empty_log()
        if self._purge_pending():
            problems.append("what was removed last is still in the file: open it where it can be written")
        try:
            with self._errors():
                unclean = unclean_free_pages(self.db.serialize())
        except (
            MemoryError
        ):  # above 2 GiB, SQLite does not hand it out; removals have rewritten it all the same
            unclean = []
        if unclean:
            problems.append(f"{counted(len(unclean), 'free page')} hold bytes of what was removed")
        return problems

    def index(self) -> TemplateIndex:
        from vlfew.gallery.index import TemplateIndex  # and torch, which those who only write do without

        return TemplateIndex(self)


_IDENTITIES = """
    SELECT i.id, i.name, i.created,
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'image'),
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'text')
    FROM identities i
"""
