"""Galleries in Postgres as a whole: exact search and the index, thresholds, the command line, what `check` finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tests.gallery.conftest import DIM, SETTINGS, connect, id_of, identity
from tests.gallery.postgres_server import PostgresServer
from vlfew.cli import main
from vlfew.core.errors import ConfigError
from vlfew.gallery import postgres_templates
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.index import TemplateIndex
from vlfew.gallery.postgres_store import PostgresStore
from vlfew.gallery.store import NewIdentity, NewItem
from vlfew.models import DualStream


def clustered(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(count // 5, DIM, generator=generator)
    at = torch.randint(len(centers), (count,), generator=generator)
    return normalize(centers[at] + 0.3 * torch.randn(count, DIM, generator=generator), dim=1)


def enroll_vectors(store: PostgresStore, vectors: torch.Tensor, per_identity: int = 1) -> None:
    rows = [row.numpy().astype("<f4").tobytes() for row in vectors]
    items = [NewItem("image", n.to_bytes(32, "big"), row) for n, row in enumerate(rows)]
    identities = [
        NewIdentity(f"n{at // per_identity}", items[at : at + per_identity])
        for at in range(0, len(items), per_identity)
    ]
    store.enroll(identities, "f")


@pytest.mark.parametrize("combine", ["mean", "max"])
def test_exact_search_is_that_in_memory(postgres: str, combine: str) -> None:
    store = PostgresStore.create(postgres, SETTINGS | {"combine": combine, "text_weight": 0.5})
    vectors, queries = clustered(600), clustered(40, seed=1)
    enroll_vectors(store, vectors, per_identity=3)
    index, memory = store.index(), TemplateIndex(store)
    for one in (index, memory):
        one.refresh()
    assert len(index) == len(memory) == 200 and index.kinds() == memory.kinds() == {"image"}
    for k in (1, 7, 200, 500):
        (scores, ids), (expected, expected_ids) = index.search(queries, k), memory.search(queries, k)
        torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
        different = ids != expected_ids
        assert not different.any() or (scores[different] - expected[different]).abs().max() < 1e-5
        assert {index.names[n] for n in ids.flatten().tolist()} <= {*store.names().values()}
    assert index.score(queries[0], 5) == pytest.approx(memory.score(queries[0], 5), abs=1e-5)
    assert index.search(queries[:0], 3)[0].shape == (0, 0)
    store.close()


def test_the_index_finds_nearly_all(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlfew.gallery.postgres_writes.BULK", 1000)  # built after the rows
    options = "&options=-c%20enable_seqscan%3Doff"  # of a small table, all rows would be read otherwise
    store = PostgresStore.create(f"{postgres}{options}", SETTINGS | {"search": "hnsw"})
    vectors, queries = clustered(2000), clustered(50, seed=1)
    enroll_vectors(store, vectors[:1500])
    enroll_vectors_more = [
        NewIdentity(f"m{n}", [NewItem("image", n.to_bytes(32, "big"), row.numpy().astype("<f4").tobytes())])
        for n, row in enumerate(vectors[1500:], 1500)
    ]
    store.enroll(enroll_vectors_more, "f")  # into the index that is there
    assert store.check() == []
    index = store.index()
    index.refresh()
    plan = store._rows(
        "EXPLAIN SELECT identity_id FROM templates ORDER BY rough <#> '[1,0,0,0,0,0,0,0]' LIMIT 10"
    )
    assert any(postgres_templates.INDEX in line for (line,) in plan)
    (_, exact), (_, found) = index.search(queries, 10, exact=True), index.search(queries, 10)
    assert (
        float(
            torch.tensor(
                [len(set(a) & set(b)) / 10 for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
            ).mean()
        )
        > 0.95
    )
    # More than the index looks at by itself.
    index.ef_search = 10
    assert index.search(queries[:2], 1900)[1].shape == (2, 1900)
    store.remove(exact[0].tolist())
    assert not set(index.search(queries[:1], 10)[1][0].tolist()) & set(exact[0].tolist())
    store.close()


def test_an_index_is_for_postgres_and_for_embeddings_that_it_takes(
    postgres: str, tmp_path: Path, model: DualStream
) -> None:
    with pytest.raises(ConfigError, match=r"g\.db does not have: galleries in Postgres do"):
        Gallery.create(tmp_path / "g.db", model, search="hnsw")
    with pytest.raises(ConfigError, match="search is 'fast'; it must be one of exact, hnsw"):
        Gallery.create(postgres, model, search="fast")
    with pytest.raises(ConfigError, match="up to 4,000 numbers, not 5,000"):
        PostgresStore.create(postgres, {"fingerprint": "f", "dim": 5000, "search": "hnsw"})
    with Gallery.create(postgres, model, search="hnsw") as gallery:
        assert gallery.settings["search"] == "hnsw"
    assert not list(tmp_path.iterdir())


def test_check_finds_what_is_wrong(made: PostgresStore, postgres: str, own_server: PostgresServer) -> None:
    made.enroll([identity("ann", 1, 2), identity("bob", 3), identity("cy", 4), identity("dan", 5)], "f")
    assert made.check() == []
    with connect(own_server.url, postgres) as db:
        db.execute("SET session_replication_role = replica")  # which checks no references
        db.execute("DELETE FROM identities WHERE name = 'dan'")
        db.execute("DELETE FROM items WHERE identity_id = 2")
        db.execute("UPDATE templates SET template = '[1,0,0,0,0,0,0,0]' WHERE identity_id = 3")
        problems = made.check()
        for line in (
            "1 row of the table items belong to no identity",
            "1 row of the table templates belong to no identity",
            "identity 'bob' has no item",
            "counted wrongly: (4, 5) where there are (3, 4)",
            "the templates of 1 identity are not those of their items, such as 'cy'",
        ):
            assert any(line in problem for problem in problems), (line, problems)


def test_check_counts_what_cannot_be_vacuumed(made: PostgresStore, postgres: str, database: str) -> None:
    made.enroll([identity("ann", 1), identity("bob", 2)], "f")
    with connect(database, postgres) as db:
        db.autocommit = False
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        db.execute("SELECT * FROM items")
        made.remove([id_of(made, "ann")])
        problems = made.check()
        assert any(
            "1 removed or replaced row of the table items are still there" in line for line in problems
        )
        db.rollback()
    assert made.check() == []


def test_check_without_the_index(postgres: str, database: str) -> None:
    store = PostgresStore.create(postgres, SETTINGS | {"search": "hnsw"})
    with connect(database, postgres) as db:
        db.execute(f"DROP INDEX {postgres_templates.INDEX}".encode())
    assert any("is missing" in line for line in store.check())
    store.close()


def test_thresholds_are_those_of_a_file(postgres: str, tmp_path: Path, model: DualStream) -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(40, DIM, generator=generator).repeat_interleave(3, 0)
    vectors = centers + 0.5 * torch.randn(120, DIM, generator=generator)
    names = [f"n{n // 3}" for n in range(120)]
    found = []
    for place in (postgres, tmp_path / "g.db"):
        with Gallery.create(place, model) as gallery:
            gallery.enroll_embeddings(names, vectors)
            thresholds = gallery.calibrate(far=0.05)
            matches = gallery.identify_embeddings(vectors[:20], k=3)
        with Gallery.open(place, model) as again:
            assert again.thresholds["image"]["value"] == thresholds["image"].value
        found.append((thresholds["image"].value, [[(m.name, m.accepted) for m in own] for own in matches]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6) and found[0][1] == found[1][1]


def test_the_command_line_takes_a_url_and_prints_no_password(
    own_server: PostgresServer,
    postgres: str,
    run_folder: Path,
    people: dict[str, list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, ann = postgres.replace("postgres:@", "postgres:s3cret@"), str(people["ann"][0])
    assert url != postgres
    for arguments, status, expected in (
        (["list", url], 2, "there is no such gallery"),
        (["create", url, "--model", str(run_folder), "--search", "hnsw"], 0, "8 numbers per embedding"),
        (["create", url, "--model", str(run_folder)], 2, "exists; choose another name"),
        (["identify", url, ann], 2, "nobody is enrolled"),
        (["enroll", url, "--folder", str(tmp_path / "people")], 0, "6 items of 3 identities added"),
        (["identify", url, ann, "-k", "1"], 0, "ann"),
        (["verify", url, "zzz", ann], 2, "there is no identity 'zzz'"),
        (["export", url, str(tmp_path / "out")], 0, "gallery.json"),
        (["import", url, str(tmp_path / "out"), "--search", "exact"], 2, "--search is for a new gallery"),
        (["remove", url, "bob"], 0, "removed with 2 items"),
        (["import", url, str(tmp_path / "out")], 0, "2 items of 3 identities added"),
        (["check", url], 0, "3 identities with 6 items; all is well"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["gallery", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == status, (arguments, out, err)
        assert expected in out + err and "s3cret" not in out + err, (arguments, out, err)


def test_import_makes_a_gallery_of_either_search(
    postgres: str, tmp_path: Path, model: DualStream, people: dict[str, list[Path]]
) -> None:
    with Gallery.create(tmp_path / "g.db", model) as gallery:
        gallery.enroll_many(people)
        gallery.export(tmp_path / "out")
    with Gallery.restore(postgres, tmp_path / "out", search="hnsw") as made:
        made.export(tmp_path / "again")
        assert made.settings["search"] == "hnsw" and made.check() == []
    with Gallery.restore(tmp_path / "h.db", tmp_path / "again") as back:
        assert back.settings["search"] == "exact"
        assert [row.name for row in back.list()] == ["ann", "bob", "cy"]
