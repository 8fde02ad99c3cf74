"""`vlfew gallery` from creation to removal, and its one-line errors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gallery.conftest import draw
from tests.test_cli import fails, succeeds
from tests.training.conftest import ENVIRONMENT
from vlfew.cli import main

People = dict[str, list[Path]]


@pytest.fixture
def db(tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    out, _ = succeeds(capsys, "gallery", "create", str(tmp_path / "g.db"), "--model", str(run_folder))
    assert "8 numbers per embedding" in out
    return str(tmp_path / "g.db")


def partly(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Run `vlfew ...`, expect exit status 1."""
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    captured = capsys.readouterr()
    assert error.value.code == 1, captured.err
    return captured.out, captured.err


def test_from_creation_to_removal(db: str, people: People, tmp_path: Path, capsys) -> None:
    ann, bob = ([str(path) for path in people[name]] for name in ("ann", "bob"))
    assert "nobody is enrolled" in fails(capsys, "gallery", "identify", db, ann[0])
    out, _ = succeeds(capsys, "gallery", "enroll", db, "ann", *ann, "--text", "a tall woman")
    assert out == "ann: new; 3 items added, has 2 images and 1 text now\n"
    out, err = succeeds(capsys, "gallery", "enroll", db, "bob", bob[0], ann[0])
    assert "has 2 images now" in out and "warning" in err and "is the same image as one of 'ann'" in err
    out, _ = succeeds(capsys, "gallery", "enroll", db, "bob", str(people["bob"][0].parent), "--replace")
    assert out == "bob: replaced; 2 items added, has 2 images now\n"
    out, err = succeeds(capsys, "gallery", "identify", db, *bob, "-k", "1")
    assert out.count("bob") >= 2 and "there is no threshold" in err
    out, err = succeeds(capsys, "gallery", "identify", db, bob[0], "--threshold", "0.99", "--json")
    (answer,) = json.loads(out)
    assert answer["name"] == "bob" and answer["matches"][0]["accepted"] is True and not err
    assert answer["matches"][0].keys() == {"name", "score", "support", "accepted", "threshold", "probability"}
    out, _ = succeeds(capsys, "gallery", "identify", db, bob[0], "--threshold", "2", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["accepted"] for row in rows] == ["False", "False"] and rows[0]["rank"] == "1"
    out, _ = succeeds(capsys, "gallery", "identify", db, bob[0], "--threshold", "2")
    assert "unknown" in out and "accepted" not in out
    out, _ = succeeds(capsys, "gallery", "verify", db, "bob", bob[0], "--threshold", "0")
    assert "against 0.0000: accepted" in out
    out, _ = partly(capsys, "gallery", "verify", db, "bob", bob[0], "--threshold", "2", "--json")
    assert json.loads(out)["accepted"] is False
    out, _ = succeeds(capsys, "gallery", "list", db, "--json")
    assert [(row["name"], row["images"], row["texts"]) for row in json.loads(out)] == [
        ("ann", 2, 1),
        ("bob", 2, 0),
    ]
    out, _ = succeeds(capsys, "gallery", "list", db)
    assert "ann" in out
    out, _ = succeeds(capsys, "gallery", "show", db, "ann")
    assert "a tall woman" in out and ann[0] in out
    out, _ = succeeds(capsys, "gallery", "show", db, "ann", "--json")
    item = json.loads(out)[0]
    out, _ = succeeds(capsys, "gallery", "show", db, "--json")
    assert json.loads(out)["combine"] == "mean" and json.loads(out)["identities"] == 2
    assert "fingerprint" in succeeds(capsys, "gallery", "show", db)[0]
    succeeds(capsys, "gallery", "rename", db, "ann", "anna 🦊")
    out, _ = succeeds(capsys, "gallery", "remove", db, "--item", str(item["id"]))
    assert "anna 🦊" in out
    out, _ = succeeds(capsys, "gallery", "export", db, str(tmp_path / "out"))
    out, _ = succeeds(capsys, "gallery", "remove", db, "anna 🦊")
    assert "removed with 2 items" in out
    out, _ = succeeds(capsys, "gallery", "import", db, str(tmp_path / "out"))
    assert out == "2 items of 2 identities added\n"
    out, _ = succeeds(capsys, "gallery", "import", str(tmp_path / "new.db"), str(tmp_path / "out"))
    assert "2 identities" in out
    out, _ = succeeds(capsys, "gallery", "check", str(tmp_path / "new.db"))
    assert "2 identities with 4 items; all is well" in out


def test_enroll_a_folder_again_and_again(db: str, people: People, tmp_path: Path, capsys) -> None:
    folder = str(tmp_path / "people")
    out, _ = succeeds(capsys, "gallery", "enroll", db, "--folder", folder)
    assert out == "6 items of 3 identities added\n"
    draw(tmp_path / "people/dan/0.png", 40)
    (tmp_path / "people/dan/1.png").write_bytes(b"no image")
    (tmp_path / "people/eve").mkdir()
    (tmp_path / "people/eve/1.png").write_bytes(b"")
    out, err = partly(capsys, "gallery", "enroll", db, "--folder", folder)
    assert out == "1 item of 5 identities added, 6 were there already\n"
    assert [line.split(": ")[1] for line in err.splitlines()] == ["dan", "eve"]
    out, _ = succeeds(capsys, "gallery", "list", db, "--json")
    assert [row["name"] for row in json.loads(out)] == ["ann", "bob", "cy", "dan"]
    draw(tmp_path / "people/lonely.png", 41)
    assert "lonely.png is in no folder of an identity" in fails(
        capsys, "gallery", "enroll", db, "--folder", folder
    )


def test_enroll_a_table(db: str, people: People, tmp_path: Path, capsys) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "name,image,text\nann,people/ann/0.png,\nann,people/ann/1.png,a tall woman\nmug,,a red mug\n"
    )
    out, _ = succeeds(capsys, "gallery", "enroll", db, "--csv", str(table))
    assert out == "4 items of 2 identities added\n"
    table.write_text("name,image\nann,none.png\nbob,people/bob/0.png\n")
    out, err = partly(capsys, "gallery", "enroll", db, "--csv", str(table))
    assert out == "1 item of 2 identities added\n" and "none.png" in err
    for text, why in (
        ("name,image\nann,\n", "t.csv:2: neither an image nor a text"),
        ("image\na.png\n", "no 'name'"),
        ("name,image\n", "there is nobody in it"),
    ):
        table.write_text(text)
        assert why in fails(capsys, "gallery", "enroll", db, "--csv", str(table))


def test_images_that_cannot_be_read_are_named(db: str, people: People, tmp_path: Path, capsys) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad, ann = str(tmp_path / "bad.png"), str(people["ann"][0])
    assert "bad.png: cannot be read" in fails(capsys, "gallery", "enroll", db, "ann", ann, bad)
    succeeds(capsys, "gallery", "enroll", db, "ann", ann)
    out, err = partly(capsys, "gallery", "identify", db, bad, ann, "--threshold", "0")
    assert "accepted" in out and "bad.png: cannot be read" in err


def test_one_line_errors(db: str, people: People, other_run: Path, tmp_path: Path, capsys) -> None:
    ann = str(people["ann"][0])
    succeeds(capsys, "gallery", "enroll", db, "ann", ann)
    (tmp_path / "x.db").write_bytes(b"no gallery")
    for arguments, why in (
        (["create", db, "--model", str(other_run)], "g.db exists; choose another name"),
        (["create", str(tmp_path / "n.db"), "--model", "runs/none"], "there is no model"),
        (["enroll", db], "give one of NAME with images or texts, --folder and --csv"),
        (["enroll", db, "bob"], "there is nothing to enroll for 'bob'"),
        (["enroll", db, "", ann], "a name is empty"),
        (["enroll", db, "x" * 201, ann], "201 characters"),
        (["enroll", db, "bob", str(tmp_path / "none.png")], "none.png: no such image"),
        (["enroll", db, "--folder", str(tmp_path), "--csv", "t.csv"], "give one of"),
        (["enroll", db, "--folder", str(tmp_path / "none")], "there is no such folder"),
        (["enroll", db, "bob", ann, "--model", str(other_run)], "re-embed"),
        (["identify", db, ann, "--threshold", "nan"], "threshold is nan"),
        (["identify", db, ann, "--json", "--csv"], "one of --json and --csv"),
        (["verify", db, "ana", ann], "did you mean 'ann'"),
        (["verify", db, "zzz", ann], "there is no identity 'zzz'"),
        (["remove", db], "give one of NAME... and --item ID"),
        (["remove", db, "--item", "99"], "there is no item 99"),
        (["show", db, "zzz"], "there is no identity 'zzz'"),
        (["import", db, str(tmp_path / "none")], "holds no exported gallery"),
        (["import", str(tmp_path / "n.db"), str(tmp_path / "none")], "holds no exported gallery"),
        (["list", str(tmp_path / "n.db")], "there is no such gallery"),
        (["list", str(tmp_path / "x.db")], "is no gallery"),
        (["check", str(tmp_path / "x.db")], "is no gallery"),
    ):
        assert why in fails(capsys, "gallery", *arguments), arguments
    assert not (tmp_path / "n.db").exists()


def test_re_embed(db: str, people: People, other_run: Path, capsys) -> None:
    succeeds(capsys, "gallery", "enroll", db, "--folder", str(people["ann"][0].parent.parent))
    out, _ = succeeds(capsys, "gallery", "re-embed", db, "--model", str(other_run))
    assert "6 items embedded again" in out
    out, _ = succeeds(capsys, "gallery", "identify", db, str(people["cy"][0]), "--json")
    assert json.loads(out)[0]["name"] == "cy"


def test_check_has_a_status(db: str, people: People, capsys) -> None:
    import sqlite3

    succeeds(capsys, "gallery", "enroll", db, "ann", str(people["ann"][0]))
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE items SET embedding = zeroblob(32)")
    connection.close()
    out, err = partly(capsys, "gallery", "check", db)
    assert not out and "1 embedding not finite or not of unit length" in err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from vlfew.cli import main\n"
        "try: main(['gallery', 'identify', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'sqlite3'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and "--threshold" in done.stdout, done.stderr
