"""What is particular to galleries in Postgres: URLs, versions, several servers, outages, the search by an index."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import torch

from tests.gallery.conftest import DIM, SETTINGS, connect, gallery_url, id_of, identity, item, schema_of
from tests.gallery.postgres_server import PostgresServer
from vlfew.core.errors import ConfigError, DataError, WriteError
from vlfew.gallery import postgres_schema, postgres_templates
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.postgres_connection import Address
from vlfew.gallery.postgres_store import PostgresStore
from vlfew.gallery.store import NewIdentity, StoreUnavailable


def test_urls() -> None:
    address = Address.parse(
        "postgresql://me:s%40cret@host:5433/faces?gallery=staff&sslmode=require&ef_search=40"
    )
    assert (address.gallery, address.ef_search) == ("staff", 40)
    assert address.name == "postgresql://me@host:5433/faces?sslmode=require&gallery=staff"
    assert address.url == "postgresql://me:s%40cret@host:5433/faces?sslmode=require"
    assert Address.parse("postgres:///faces").name == "postgres:///faces?gallery=gallery"
    hidden = Address.parse("postgresql://host/faces?user=me&password=s3cret").name
    assert "s3cret" not in hidden and "user=me" in hidden


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://me:s3cret@ho st/d?gallery", "cannot be read"),
        ("postgresql://me:s3cret#@host/d", "cannot be read"),
        ("postgresql://me:s3cret%zz@host/d", "cannot be read"),
        ("postgresql://me:s3cret@host:x/d?nothing=1", "cannot be read"),
        ("postgresql://me:s3cret@host/d?gallery=A-b", "lower-case letters"),
        ("postgresql://me:s3cret@host/d?gallery=pg_x", "lower-case letters"),
        ("postgresql://me:s3cret@host/d?gallery=public", "a schema of Postgres itself"),
        ("postgresql://me:s3cret@host/d?ef_search=1001", "from 1 to 1000"),
        (f"postgresql://me:s3cret@host/d?gallery={'x' * 64}", "up to 63"),
    ],
)
def test_wrong_urls_are_one_line_without_the_password(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        PostgresStore(url)
    assert "s3cret" not in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_url_as_a_path_is_named() -> None:
    with pytest.raises(ConfigError, match="give it as a str"):
        Gallery.open(Path("postgresql://me@host/d"))


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlfew.gallery.stores.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs psycopg: pip install 'vlfew\[postgres\]'"):
        Gallery.open("postgresql://me@host/d")


def test_nothing_answers(tmp_path: Path) -> None:
    for host in (str(tmp_path), "127.0.0.1"):
        with pytest.raises(StoreUnavailable, match="does not answer") as error:
            PostgresStore(f"postgresql://me:s3cret@/d?host={host}&port=1")
        assert "s3cret" not in str(error.value)


def test_the_server_refuses(own_server: PostgresServer) -> None:
    with pytest.raises(
        StoreUnavailable, match='the server refuses the connection: database "nothing" does not exist'
    ):
        PostgresStore(own_server.url.replace("/postgres?", "/nothing?"))


def test_there_is_no_such_gallery(database: str, postgres: str) -> None:
    with pytest.raises(
        DataError, match=r"there is no such gallery; make one with vlfew gallery create '.*gallery=g"
    ):
        PostgresStore(postgres)
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {schema_of(postgres)}".encode())
        with pytest.raises(DataError, match="is no gallery: there is another schema"):
            PostgresStore.create(postgres, SETTINGS)
        with pytest.raises(DataError, match="there is no such gallery"):
            PostgresStore(postgres)


def test_create_overwrites_nothing(made: PostgresStore, postgres: str) -> None:
    made.enroll([identity("ann", 1)], "f")
    with pytest.raises(DataError, match="exists; choose another name, or enroll into it"):
        PostgresStore.create(postgres, SETTINGS)
    assert made.count() == (1, 1)


def test_galleries_of_one_database_know_nothing_of_each_other(made: PostgresStore, database: str) -> None:
    other = PostgresStore.create(gallery_url(database), SETTINGS)
    made.enroll([identity("ann", 1)], "f")
    assert other.count() == (0, 0) and made.count() == (1, 1)
    other.destroy()
    assert made.check() == []


def test_many_create_it_at_once_and_one_does(postgres: str) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            PostgresStore.create(postgres, SETTINGS).close()
            outcomes.append("")
        except DataError as error:
            outcomes.append(str(error))

    in_threads([create] * 6)
    assert sorted(outcomes)[0] == "" and all("exists; choose" in line for line in sorted(outcomes)[1:])
    assert len(outcomes) == 6


def test_a_database_without_pgvector(own_server: PostgresServer) -> None:
    """Its owner, who is no superuser, is told what is missing and who can add it."""
    with psycopg.connect(own_server.url, autocommit=True) as db:
        db.execute("CREATE ROLE plain LOGIN")
        db.execute("CREATE DATABASE bare OWNER plain")
        url = own_server.url.replace("postgres:@/postgres?", "plain@/bare?")
        try:
            with pytest.raises(DataError, match="a superuser of it must run once: CREATE EXTENSION vector"):
                PostgresStore.create(url, SETTINGS)
            with psycopg.connect(own_server.url, dbname="bare", autocommit=True) as bare:
                bare.execute("CREATE EXTENSION vector")
            store = PostgresStore.create(url, SETTINGS)
            store.enroll([identity("ann", 1)], "f")
            assert store.check() == []
            store.close()
        finally:
            db.execute("DROP DATABASE bare WITH (FORCE)")
            db.execute("DROP ROLE plain")


def test_another_encoding_is_refused(own_server: PostgresServer) -> None:
    with psycopg.connect(own_server.url, autocommit=True) as db:
        db.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            with pytest.raises(DataError, match="encoding is LATIN1"):
                PostgresStore.create(own_server.url.replace("/postgres?", "/latin?"), SETTINGS)
        finally:
            db.execute("DROP DATABASE latin WITH (FORCE)")


def test_a_later_version_is_refused(made: PostgresStore, postgres: str, database: str) -> None:
    with connect(database, postgres) as db:
        db.execute("UPDATE gallery SET schema_version = 99")
    with pytest.raises(DataError, match="schema version 99; this vlfew reads up to 1: update vlfew"):
        PostgresStore(postgres)


def test_an_earlier_version_is_migrated_once(
    made: PostgresStore, postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (
        *postgres_schema.MIGRATIONS,
        "ALTER TABLE items ADD COLUMN note TEXT NOT NULL DEFAULT 'new'; SELECT 1",
    )
    made.enroll([identity("ann", 1)], "f")
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", more)
    in_threads([lambda: PostgresStore(postgres).close()] * 4)
    with connect(database, postgres) as db:
        assert db.execute("SELECT note FROM items").fetchall() == [("new",)]
        assert db.execute("SELECT schema_version FROM gallery").fetchall() == [(2,)]


def test_a_failed_migration_changes_nothing(
    made: PostgresStore, postgres: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = (*postgres_schema.MIGRATIONS, "CREATE TABLE more (x int); INSERT INTO nothing VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "MIGRATIONS", bad)
        with pytest.raises(DataError):
            PostgresStore(postgres)
    with connect(database, postgres) as db:
        assert db.execute("SELECT to_regclass('more')").fetchone() == (None,)
    PostgresStore(postgres).close()


def test_a_role_that_may_only_read(made: PostgresStore, postgres: str, own_server: PostgresServer) -> None:
    made.enroll([identity("ann", 1)], "f")
    with psycopg.connect(own_server.url, autocommit=True) as db:
        schema = schema_of(postgres)
        db.execute("CREATE ROLE reader LOGIN")
        db.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader".encode())
        db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader".encode())
        try:
            reader = PostgresStore(postgres.replace("postgres:@", "reader@"))
            assert reader.read_only and reader.names() == made.names()
            index = reader.index()
            index.refresh()
            assert index.search(torch.ones(1, DIM) / DIM**0.5, 5)[1].tolist() == [[id_of(made, "ann")]]
            with pytest.raises(WriteError, match="permission denied"):
                reader.enroll([identity("bob", 2)], "f")
            assert reader.check() == []
            reader.close()
        finally:
            db.execute("DROP OWNED BY reader")
            db.execute("DROP ROLE reader")


def test_two_stores_enroll_at_once(made: PostgresStore, postgres: str) -> None:
    """Into the same identities, from several threads and connections: nothing is lost, nothing is there twice."""
    other = PostgresStore(postgres)

    def enroll(store: PostgresStore, start: int) -> Callable[[], None]:
        def work() -> None:
            for n in range(8):
                store.enroll([identity(f"n{n % 3}", 100 + n), identity(f"n{n % 3}", start + n)], "f")

        return work

    in_threads([enroll(store, 1000 * at) for at, store in enumerate([made, other, made, other], 1)])
    assert made.count() == other.count() == (3, 8 + 4 * 8)
    assert made.check() == []
    other.close()


def test_a_writer_that_stays_is_named(made: PostgresStore, postgres: str, database: str, monkeypatch) -> None:
    monkeypatch.setattr("vlfew.gallery.postgres_connection.WAIT_SECONDS", 0.1)
    with connect(database, postgres) as db:
        db.autocommit = False
        db.execute("SELECT * FROM gallery FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="another client has been writing to it"):
            made.enroll([identity("ann", 1)], "f")
        db.rollback()
    made.enroll([identity("ann", 1)], "f")


def test_a_text_that_postgres_cannot_keep_is_one_line(made: PostgresStore) -> None:
    for text in ("a\0b", "\ud800"):
        with pytest.raises(DataError) as error:
            made.enroll([NewIdentity("ann", [item(1, "text", text=text)])], "f")
        assert len(str(error.value).splitlines()) == 1
    assert made.count() == (0, 0)


def test_a_server_that_goes_and_comes_back() -> None:
    with PostgresServer() as server:
        store = PostgresStore.create(gallery_url(server.url), SETTINGS)
        store.enroll([identity("ann", 1, key="1", request=b"1")], "f")
        server.stop()
        for call in (store.version, lambda: store.enroll([identity("bob", 2)], "f"), store.count):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
        server.start()
        assert store.enroll([identity("ann", 1, key="1", request=b"1")], "f")[0].replayed
        server.stop()
        server.start()
        assert store.count() == (1, 1)  # a connection that ended in between is made again without an error
        ended, entered = threading.Event(), threading.Event()
        found: list[Exception] = []

        def long_read() -> None:
            try:
                with store._connection.use() as db:
                    entered.set()
                    db.execute("SELECT pg_sleep(60)")
            except DataError as error:
                found.append(error)
            ended.set()

        thread = threading.Thread(target=long_read)
        thread.start()
        entered.wait()
        server.stop()  # in the middle of a request
        assert ended.wait(30) and isinstance(found[0], StoreUnavailable)
        thread.join()
        server.start()
        store.enroll([identity("bob", 2)], "f")
        assert store.count() == (2, 2) and store.check() == []
        store.close()


def test_a_connection_that_is_ended_in_a_write(made: PostgresStore, database: str, monkeypatch) -> None:
    """The write is there as a whole or not at all; the next one finds a new connection."""
    original = postgres_templates.write_templates

    def ended(*arguments: object, **options: object) -> None:
        connection = made._connection._connection
        assert connection is not None
        with psycopg.connect(database, autocommit=True) as db:
            db.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        original(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("vlfew.gallery.postgres_writes.write_templates", ended)
        with pytest.raises(
            StoreUnavailable, match="as a whole or not at all: try again, with the same idempotency"
        ):
            made.enroll([identity("ann", 1)], "f")
    assert made.count() == (0, 0)
    made.enroll([identity("ann", 1)], "f")
    assert made.check() == []


def test_a_gallery_that_is_deleted_while_it_is_open(
    made: PostgresStore, postgres: str, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(f"DROP SCHEMA {schema_of(postgres)} CASCADE".encode())
    with pytest.raises(DataError, match="there is no such gallery any more"):
        made.count()


def in_threads(work: list[Callable[[], None]]) -> None:
    """Runs functions at the same time.

    Raises:
        BaseException: the first error of any.
    """
    problems: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
