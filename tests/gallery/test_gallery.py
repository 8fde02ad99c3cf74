"""`Gallery` with a tiny model: what is enrolled is found, and what is wrong is one line."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

import vlfew
from tests.gallery.conftest import DIM, draw, tiny_model
from vlfew.cli import main
from vlfew.core.errors import ConfigError, DataError, ModelError, WriteError
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.index import TemplateIndex
from vlfew.gallery.sqlite_store import SQLiteStore
from vlfew.gallery.store import StaleModel
from vlfew.models import DualStream, ModelSpec, save_model

People = dict[str, list[Path]]


@pytest.fixture
def gallery(place: str | Path, model: DualStream):
    """An empty one, of each kind of store."""
    with Gallery.create(place, model) as made:
        yield made


@pytest.fixture
def in_file(tmp_path: Path, model: DualStream, people: People):
    """One with three people in an SQLite file."""
    with Gallery.create(tmp_path / "g.db", model) as made:
        for name, images in people.items():
            made.enroll(name, images)
        yield made


@pytest.fixture
def filled(gallery: Gallery, people: People) -> Gallery:
    for name, images in people.items():
        gallery.enroll(name, images)
    return gallery


def test_it_is_part_of_the_package() -> None:
    assert vlfew.Gallery is Gallery


def test_enroll_and_identify(filled: Gallery, people: People, model: DualStream) -> None:
    probe = draw(people["ann"][0].parent.parent / "probe.png", 99)
    answers = filled.identify([people["bob"][0], probe, Image.open(probe)], k=2)
    assert len(answers) == 3 and [len(a.matches) for a in answers] == [2, 2, 2]
    templates = {
        name: normalize(model.encode_image(images, normalize=True).mean(0), dim=0)
        for name, images in people.items()
    }
    for answer, image in zip(answers[:2], (people["bob"][0], probe), strict=True):
        query = model.encode_image([image], normalize=True)[0]
        expected = sorted(((float(query @ t), name) for name, t in templates.items()), reverse=True)[:2]
        assert [match.name for match in answer.matches] == [name for _, name in expected]
        assert [match.score for match in answer.matches] == pytest.approx([s for s, _ in expected], abs=1e-5)
        assert answer.image == str(image) and answer.name == expected[0][1]
        assert {match.accepted for match in answer.matches} == {None}
    assert answers[1].matches == answers[2].matches  # a file, or the same image in memory


def test_thresholds(filled: Gallery, people: People) -> None:
    image = [people["ann"][0]]
    scores = [match.score for match in filled.identify(image, 3)[0].matches]
    (answer,) = filled.identify(image, 3, threshold=scores[1])
    assert [match.accepted for match in answer.matches] == [True, True, False]  # at the threshold, too
    (nobody,) = filled.identify(image, 3, threshold=1.5)
    assert nobody.name is None and nobody.matches[0].accepted is False
    filled.set_thresholds({"image": {"value": 1.5, "source": "a test"}})
    assert filled.identify(image)[0].name is None
    (zero,) = filled.identify(image, 3, threshold=0)
    assert [m.accepted for m in zero.matches] == [score >= 0 for score in scores] and zero.matches[
        0
    ].threshold == 0
    assert filled.verify("ann", image[0]).accepted is False
    for bad in (float("nan"), float("inf"), "0.5", True):
        with pytest.raises(ConfigError, match=r"threshold is .* finite number"):
            filled.identify(image, threshold=bad)
        with pytest.raises(ConfigError, match="threshold is"):
            filled.verify("ann", image[0], threshold=bad)
        with pytest.raises(ConfigError, match="threshold is"):
            filled.set_thresholds({"image": {"value": bad}})
    with pytest.raises(ConfigError, match="one of image, text, both"):
        filled.set_thresholds({"images": {"value": 0.5}})
    with pytest.raises(ConfigError, match="k is 0"):
        filled.identify(image, 0)


def test_the_threshold_is_that_of_the_kind_of_support(filled: Gallery, people: People) -> None:
    filled.enroll("by text", texts=["a red mug"])
    filled.set_thresholds({"text": {"value": -1.0}})
    (answer,) = filled.identify([people["ann"][0]], 9)
    assert {m.name: (m.support, m.accepted) for m in answer.matches} == {
        "ann": ("image", None),
        "bob": ("image", None),
        "cy": ("image", None),
        "by text": ("text", True),
    }


def test_texts_and_both(gallery: Gallery, people: People, model: DualStream) -> None:
    gallery.enroll("both", people["ann"], ["a red mug", "a cup"])
    gallery.enroll("text", texts=["an old boot"])
    (answer,) = gallery.identify([people["bob"][0]])
    scores = {match.name: (match.score, match.support) for match in answer.matches}
    query = model.encode_image([people["bob"][0]], normalize=True)[0]
    images = normalize(model.encode_image(people["ann"], normalize=True).mean(0), dim=0)
    texts = normalize(model.encode_text(["a red mug", "a cup"], normalize=True).mean(0), dim=0)
    boot = model.encode_text(["an old boot"], normalize=True)[0]
    assert scores["both"] == (
        pytest.approx(float(query @ normalize(images + texts, dim=0)), abs=1e-5),
        "both",
    )
    assert scores["text"] == (pytest.approx(float(query @ boot), abs=1e-5), "text")


def test_max_takes_the_most_similar_image(place: str | Path, people: People, model: DualStream) -> None:
    with Gallery.create(place, model, combine="max") as gallery:
        gallery.enroll_many(people)
        (answer,) = gallery.identify([people["cy"][1]])
        assert answer.matches[0].name == "cy" and answer.matches[0].score == pytest.approx(1, abs=1e-5)
        expected = (
            model.encode_image(people["ann"], normalize=True) @ model.encode_image([people["cy"][1]], True).T
        ).max()
        assert gallery.verify("ann", people["cy"][1]).score == pytest.approx(float(expected), abs=1e-5)
        assert len(answer.matches) == 3


def test_verify(filled: Gallery, people: People) -> None:
    match = filled.verify("bob", people["bob"][0], threshold=-1)
    assert match.name == "bob" and match.accepted is True
    same = {m.name: m.score for m in filled.identify([people["bob"][0]])[0].matches}
    assert match.score == pytest.approx(same["bob"], abs=1e-6)
    with pytest.raises(DataError, match="there is no identity 'bobb'; did you mean 'bob'"):
        filled.verify("bobb", people["bob"][0])


def test_list_show_rename_remove(filled: Gallery, people: People) -> None:
    assert [(row.name, row.images, row.texts) for row in filled.list()] == [
        ("ann", 2, 0),
        ("bob", 2, 0),
        ("cy", 2, 0),
    ]
    items = filled.show("ann")
    assert [item.source for item in items] == [str(path.absolute()) for path in people["ann"]]
    for item, path in zip(items, people["ann"], strict=True):
        assert item.thumbnail is not None and item.content is None
        small = Image.open(io.BytesIO(item.thumbnail))
        assert small.format == "JPEG" and small.size == (96, 96)
        assert item.digest == hashlib.sha256(path.read_bytes()).digest()
    assert len(filled) == 3 and "ann" in filled and "nobody" not in filled
    filled.rename("ann", "Änne/🦊")
    assert filled.identify([people["ann"][0]], 1)[0].name == "Änne/🦊"
    assert filled.remove_item(items[0].id) == "Änne/🦊"
    assert filled.verify("Änne/🦊", people["ann"][1]).score == pytest.approx(1, abs=1e-5)
    assert filled.remove("Änne/🦊") == 1
    assert {match.name for match in filled.identify([people["ann"][0]])[0].matches} == {"bob", "cy"}
    assert filled.check() == []


def test_adding_and_replacing(filled: Gallery, people: People, tmp_path: Path) -> None:
    more = draw(tmp_path / "more.png", 50)
    added = filled.enroll("ann", [more], ["the boss"])
    assert (added.created, added.added, added.images, added.texts) == (False, 2, 3, 1)
    replaced = filled.enroll("ann", [more], replace=True)
    assert (replaced.images, replaced.texts) == (1, 0)
    assert filled.verify("ann", more).score == pytest.approx(1, abs=1e-5)


def test_names_are_composed_and_checked(gallery: Gallery, people: People) -> None:
    gallery.enroll("  Ame\u0301lie/🙂 ", people["ann"])
    assert [row.name for row in gallery.list()] == ["Am\u00e9lie/🙂"] and "Ame\u0301lie/🙂" in gallery
    gallery.enroll("x" * 200, people["bob"])
    for bad, why in (
        ("", "empty"),
        (" \t", "empty"),
        ("a\0b", r"control character '\\x00'"),
        ("a\nb", "control"),
        ("\ud800", "control"),
        ("x" * 201, "201 characters; at most 200"),
        ("x" * 10_000, "10,000 characters"),
        (3, "must be a str"),
    ):
        with pytest.raises(DataError, match=why) as error:
            gallery.enroll(bad, people["cy"])
        assert len(str(error.value)) < 200
        with pytest.raises(DataError, match=why):
            gallery.rename("x" * 200, bad)
    assert len(gallery) == 2


def test_warnings(gallery: Gallery, people: People, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gallery.enroll("ann", people["ann"])
    image = people["ann"][0]
    with pytest.warns(UserWarning, match=r"0\.png \('bob'\) is the same image as one of 'ann'"):
        gallery.enroll("bob", [image])
    with pytest.warns(UserWarning) as caught:
        assert gallery.enroll("ann", [image]).images == 2
    assert [str(one.message).partition("0.png ")[2] for one in caught] == [
        "('ann') is the same image as one of 'bob'",
        "is already in 'ann'; it counts once",
    ]
    with pytest.warns(UserWarning, match=r"0\.png is twice in 'cy'"):
        assert gallery.enroll("cy", [people["cy"][0]] * 2).images == 1
    Image.new("RGB", (30, 20), (9, 9, 9)).save(tmp_path / "blank.png")
    with pytest.warns(UserWarning, match=r"blank\.png \('dot'\) is blank"):
        gallery.enroll("dot", [tmp_path / "blank.png"])
    done = gallery.enroll_many({"e": [draw(tmp_path / "e.png", 901)], "f": [tmp_path / "e.png"]})
    assert [line.partition("e.png ")[2] for line in done.warnings] == [
        "('f') is the same image as one of 'e'"
    ]


def test_errors(gallery: Gallery, people: People, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nobody is enrolled"):
        gallery.identify([people["ann"][0]])
    with pytest.raises(DataError, match="there is nothing to enroll for 'ann'"):
        gallery.enroll("ann")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png: cannot be read"):
        gallery.enroll("ann", [*people["ann"], tmp_path / "bad.png"])
    for images, why in ((["none.png"], "none.png"), ([tmp_path], "is a folder"), ([3], "must be a path")):
        with pytest.raises(DataError, match=why):
            gallery.enroll("ann", images)
    with pytest.raises(DataError, match="expected a list of images"):
        gallery.enroll("ann", people["ann"][0])
    with pytest.raises(DataError, match="single text"):
        gallery.enroll("ann", texts="a tall woman")
    assert len(gallery) == 0 and gallery.check() == []


@pytest.mark.parametrize(
    ("value", "why"), [(0.0, "an embedding of zeros"), (float("nan"), "NaN or infinity")]
)
def test_unusable_embeddings(
    filled: Gallery, people: People, value: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        DualStream, "encode_image", lambda self, images: torch.full((len(images), DIM), value)
    )
    for call in (lambda: filled.enroll("new", people["ann"]), lambda: filled.identify(people["ann"])):
        with pytest.raises(ModelError, match=f"{why} for .*0.png"):
            call()
    with pytest.raises(ModelError, match=f"{why} for embedding 1"):
        filled.enroll_embeddings(["a", "b"], torch.tensor([[1.0] * DIM, [value] * DIM]))
    assert "new" not in filled


def test_a_model_without_texts(tmp_path: Path, people: People) -> None:
    with Gallery.create(tmp_path / "i.db", tiny_model(text=False)) as gallery:
        with pytest.raises(ModelError, match="no text stream"):
            gallery.enroll("ann", people["ann"], ["a text"])
        assert len(gallery) == 0
        gallery.enroll("ann", people["ann"])


def test_idempotency_keys(gallery: Gallery, people: People) -> None:
    first = gallery.enroll("ann", people["ann"], ["a text"], idempotency_key="k")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = gallery.enroll("ann", people["ann"], ["a text"], idempotency_key="k")
    assert again.replayed and again.item_ids == first.item_ids and not first.replayed
    with pytest.raises(DataError, match="'k' was used for another request"):
        gallery.enroll("ann", people["bob"], idempotency_key="k")


def test_another_model_is_refused_with_both_fingerprints(
    filled: Gallery,
    place: str | Path,
    model: DualStream,
    run_folder: Path,
    other_model: DualStream,
    people: People,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = other_model
    with pytest.raises(ModelError) as error:
        Gallery.open(place, other)
    assert model.fingerprint in str(error.value) and other.fingerprint in str(error.value)
    assert f"vlfew gallery re-embed {filled.store.name} --model RUN" in str(error.value)
    with Gallery.open(place) as again:  # by the name in the gallery
        assert again.settings["model"] == str(run_folder)
        assert again.identify([people["ann"][0]], 1)[0].name == "ann"
    monkeypatch.setattr(model.spec, "center_crop", 0.5)
    with pytest.raises(ModelError, match="preprocessing"):
        Gallery.open(place, model)


def test_a_model_that_is_gone_or_was_trained_again(tmp_path: Path, people: People, other_run: Path) -> None:
    from vlfew.models import save_model

    save_model(tiny_model(), tmp_path / "run", {})
    Gallery.create(tmp_path / "g.db", tmp_path / "run").close()
    save_model(tiny_model(seed=5), tmp_path / "run", {})
    with Gallery.open(tmp_path / "g.db") as gallery, pytest.raises(ModelError, match="of fingerprint"):
        gallery.enroll("ann", people["ann"])
    (tmp_path / "run").rename(tmp_path / "moved")
    with Gallery.open(tmp_path / "g.db") as gallery:
        assert gallery.list() == []
        with pytest.raises(ModelError, match=r"the model of .*g\.db: there is no model .*or give the model"):
            gallery.enroll("ann", people["ann"])


def test_re_embed(
    filled: Gallery, place: str | Path, people: People, model: DualStream, other_model: DualStream
) -> None:
    filled.enroll("ann", texts=["a tall woman"])
    filled.identify([people["ann"][0]])
    filled.set_thresholds({"image": {"value": 0.5}})
    other = other_model
    with Gallery.open(place, model) as second:
        second.identify([people["ann"][0]])
        assert filled.re_embed(other) == 7
        assert filled.thresholds == {} and filled.settings["fingerprint"] == other.fingerprint
        expected = normalize(other.encode_image(people["bob"], normalize=True).mean(0), dim=0)
        query = other.encode_image([people["cy"][0]], normalize=True)[0]
        assert filled.verify("bob", people["cy"][0]).score == pytest.approx(float(query @ expected), abs=1e-5)
        # Another process notices, before it answers or enrolls.
        with pytest.raises(ModelError, match="of fingerprint"):
            second.identify([people["ann"][0]])
        for _ in range(2):
            with pytest.raises(DataError, match="embedded again by another process"):
                second.enroll("dan", people["ann"])
        assert len(second) == 3
    assert filled.check() == []


def test_re_embed_needs_the_same_images(in_file: Gallery, people: People, other_model: DualStream) -> None:
    filled = in_file
    people["ann"][0].unlink()
    draw(people["bob"][0], 77)
    assert filled.verify("ann", people["ann"][1]).score > 0.9
    with pytest.raises(
        DataError, match="2 images cannot be embedded again, and nothing was changed"
    ) as error:
        filled.re_embed(other_model)
    assert "has changed since" in str(error.value) and str(people["ann"][0]) in str(error.value)
    assert filled.verify("ann", people["ann"][1]).score > 0.9


def test_stored_images_are_embedded_again_without_their_files(
    place: str | Path, model: DualStream, people: People, other_model: DualStream
) -> None:
    with Gallery.create(place, model, store_images=True, thumbnails=False) as gallery:
        gallery.enroll("ann", people["ann"])
        gallery.enroll("array", [np.asarray(Image.open(people["bob"][0]))])
        assert [item.thumbnail for item in gallery.show("ann")] == [None, None]
        assert gallery.show("ann")[0].content == people["ann"][0].read_bytes()
        expected = other_model.encode_image(people["bob"][:1], normalize=True)[0]
        for path in people["ann"]:
            path.unlink()
        assert gallery.re_embed(other_model) == 3
        assert gallery.verify("array", people["bob"][0]).score == pytest.approx(1, abs=1e-5)
        assert float(expected @ expected) == pytest.approx(1)
        assert gallery.check() == []


def test_what_has_no_source_cannot_be_embedded_again(
    gallery: Gallery, other_model: DualStream, people: People
) -> None:
    gallery.enroll("ann", [Image.open(people["ann"][0])])
    with pytest.raises(DataError, match="it was not enrolled from a file"):
        gallery.re_embed(other_model)
    gallery.remove("ann")
    gallery.enroll_embeddings(["a"], torch.ones(1, DIM), kind="text")
    with pytest.raises(DataError, match=r"enrolled as an embedding.*--item"):
        gallery.re_embed(other_model)


def test_enroll_many_is_resumable(gallery: Gallery, people: People, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("vlfew.gallery.enrollment.WINDOW", 3)
    calls, write = [], gallery.store.enroll

    def interrupted(*arguments):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(arguments)
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(gallery.store, "enroll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gallery.enroll_many(people)
    assert [(row.name, row.images) for row in gallery.list()] == [("ann", 2)]
    read, encode = [], DualStream.encode_image
    monkeypatch.setattr(DualStream, "encode_image", lambda self, x: read.append(len(x)) or encode(self, x))
    done = gallery.enroll_many(people)
    assert sum(read) == 4 and sum(one.added for one in done.enrolled) == 4 and not done.warnings
    assert [(row.name, row.images) for row in gallery.list()] == [("ann", 2), ("bob", 2), ("cy", 2)]


def test_enroll_many_and_bad_images(gallery: Gallery, people: People, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    given = people | {"bad": [tmp_path / "bad.png"], "half": [tmp_path / "bad.png", "a text"]}
    with pytest.raises(DataError, match=r"bad\.png: cannot be read"):
        gallery.enroll_many(given)
    assert len(gallery) == 0
    done = gallery.enroll_many(given, on_bad_image="skip")
    assert [line.partition(":")[0] for line in done.errors] == ["bad", "half"]
    assert {row.name: (row.images, row.texts) for row in gallery.list()}["half"] == (
        0,
        1,
    ) and "bad" not in gallery
    with pytest.raises(DataError, match="'é' is there twice"):
        gallery.enroll_many({"e\u0301": ["x"], "é": ["y"]})
    with pytest.raises(DataError, match="'nobody' has no items"):
        gallery.enroll_many({"nobody": []})


def test_enroll_embeddings(gallery: Gallery, people: People) -> None:
    vectors = torch.randn(4, DIM, generator=torch.Generator().manual_seed(0))
    done = gallery.enroll_embeddings(["a", "b", "a", "c"], 5 * vectors)
    assert [(one.name, one.images) for one in done] == [("a", 2), ("b", 1), ("c", 1)]
    with pytest.raises(DataError, match=r"expected embeddings \[1, 8\] for 1 name, got \[1, 3\]"):
        gallery.enroll_embeddings(["a"], torch.ones(1, 3))
    with pytest.raises(ConfigError, match="kind is 'picture'"):
        gallery.enroll_embeddings(["a"], torch.ones(1, DIM), kind="picture")


def test_export_import_and_restore(
    filled: Gallery, other_place: str | Path, model: DualStream, people: People, tmp_path: Path
) -> None:
    filled.enroll("ann", texts=["a tall woman"])
    filled.set_thresholds({"image": {"value": 0.25}})
    written = filled.export(tmp_path / "out")
    assert sorted(path.name for path in written.parent.iterdir()) == ["gallery.json", "gallery.safetensors"]
    with Gallery.restore(other_place, tmp_path / "out") as copy:
        assert copy.settings == filled.settings
        for name in people:
            for one, two in zip(filled.show(name), copy.show(name), strict=True):
                assert (one.kind, one.digest, one.text, one.source, one.thumbnail) == (
                    two.kind,
                    two.digest,
                    two.text,
                    two.source,
                    two.thumbnail,
                )
        both = [one.identify(people["bob"][:1], threshold=0)[0].matches for one in (copy, filled)]
        assert [m._replace(score=0) for m in both[0]] == [m._replace(score=0) for m in both[1]]
        assert [m.score for m in both[0]] == pytest.approx([m.score for m in both[1]], abs=1e-6)
        copy.remove("bob")
        assert [one.added for one in copy.import_(tmp_path / "out")] == [0, 2, 0]
        copy.enroll("ann", texts=["another text"])
        copy.import_(tmp_path / "out", replace=True)
        assert [item.text for item in copy.show("ann")] == ["", "", "a tall woman"]
        assert copy.check() == []
    with pytest.raises(DataError, match="exists"):
        Gallery.restore(other_place, tmp_path / "out")
    with (
        Gallery.create(tmp_path / "o.db", tiny_model(seed=3)) as other,
        pytest.raises(ModelError, match="exported"),
    ):
        other.import_(tmp_path / "out")


def test_damaged_exports(in_file: Gallery, tmp_path: Path) -> None:
    filled = in_file
    filled.export(tmp_path / "out")
    weights, description = tmp_path / "out/gallery.safetensors", tmp_path / "out/gallery.json"
    whole, text = weights.read_bytes(), description.read_text()
    for content, words, why in (
        (whole[:-1], text, "damaged"),
        (whole[:-4] + b"\1\1\1\1", text, "its SHA-256 is not the one"),
        (whole, text[:-20], "damaged"),
        (whole, json.dumps({"format": 9}), "not an exported gallery"),
        (whole, text.replace('"kind"', '"kid"'), "damaged"),
        (whole, text.replace('"name": "ann"', '"name": ""'), "name is empty"),
    ):
        weights.write_bytes(content)
        description.write_text(words)
        with pytest.raises(DataError, match=why):
            filled.import_(tmp_path / "out")
        with pytest.raises(DataError, match=why):
            Gallery.restore(tmp_path / "new.db", tmp_path / "out")
        assert not list(tmp_path.glob("new.db*"))
    weights.unlink()
    with pytest.raises(DataError, match="holds no exported gallery"):
        filled.import_(tmp_path / "out")
    assert len(filled) == 3


def test_check_looks_at_embeddings(in_file: Gallery) -> None:
    filled, store = in_file, in_file.store
    assert isinstance(store, SQLiteStore)
    store.db.execute("UPDATE items SET embedding = zeroblob(32) WHERE id = 1")
    assert any("1 embedding not finite or not of unit length" in line for line in filled.check())
    store.db.execute("UPDATE items SET embedding = x'00' WHERE id = 1")
    assert any("item 1: its embedding has another size" in line for line in filled.check())
    with (
        Gallery.open(store.name) as again,
        pytest.raises(DataError, match=r"item 1 has 1 bytes, not 32: see vlfew"),
    ):
        again.identify([filled.show("bob")[0].source])


def test_removal_reaches_memory_and_other_galleries(
    filled: Gallery, place: str | Path, people: People
) -> None:
    with Gallery.open(place) as other:
        query = [people["ann"][0]]
        assert other.identify(query, 1)[0].name == filled.identify(query, 1)[0].name == "ann"
        rows = filled._index._search if isinstance(filled._index, TemplateIndex) else None
        ann = None if rows is None else rows.rows_of(filled.store.find("ann").id).clone()
        filled.remove("ann")
        assert rows is None or not (rows._vectors == ann[0]).all(1).any()
        assert "ann" not in {match.name for match in other.identify(query)[0].matches}
        other.enroll("dan", query)
        assert filled.identify(query, 1)[0].name == "dan"
        other.rename("dan", "daniel")
        other.enroll("daniel", texts=["a man"])
        (best,) = filled.identify(query, 1)
        assert (best.matches[0].name, best.matches[0].support) in {
            ("daniel", "both"),
            ("bob", "image"),
            ("cy", "image"),
        }
        assert filled.verify("daniel", query[0]).support == "both"


def test_threads_share_a_gallery(filled: Gallery, people: People, tmp_path: Path) -> None:
    images = [draw(tmp_path / "more" / f"{n}.png", 500 + n) for n in range(12)]
    problems: list[BaseException] = []

    def enroll(numbers: range) -> None:
        try:
            for n in numbers:
                filled.enroll(f"n{n}", [images[n]])
                assert filled.identify([images[n]], 1)[0].name == f"n{n}"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=enroll, args=(range(at, at + 4),)) for at in (0, 4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and len(filled) == 15 and filled.check() == []


def test_an_interrupted_creation_is_named(tmp_path: Path) -> None:
    SQLiteStore.create(tmp_path / "g.db", {}).close()
    with pytest.raises(DataError, match="is incomplete: its creation was interrupted"):
        Gallery.open(tmp_path / "g.db")


def test_unshared_backbones_are_refused(tmp_path: Path) -> None:
    model = tiny_model(text=False)
    model.spec.share_weights = False
    with pytest.raises(ModelError, match="share_weights: false"):
        Gallery.create(tmp_path / "g.db", model)
    assert not list(tmp_path.iterdir())


def test_a_gallery_that_is_only_read(
    in_file: Gallery, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_file.store.name
    in_file.close()
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        reader = Gallery.open(path)
    assert reader.identify([people["bob"][0]], 1)[0].name == "bob"
    with pytest.raises(WriteError, match="is read-only"):
        reader.enroll("dan", people["cy"])
    for _ in range(2):
        with Gallery.open(path) as writer:
            writer.remove(writer.list()[0].name)
        left = {match.name for match in reader.identify([people["bob"][0]])[0].matches}
        assert left == {row.name for row in reader.list()} and "ann" not in left
    assert left == {"cy"}
    reader.close()


def test_a_model_of_another_similarity_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    options = {"backbone": "conv4", "backbone_options": {"width": 4}, "embedding_dim": 8, "image_size": 16}
    save_model(DualStream.from_spec(ModelSpec(**options, similarity="euclidean")), tmp_path / "run", {})
    with pytest.warns(UserWarning, match="compare images by euclidean"):
        Gallery.create(tmp_path / "a.db", tmp_path / "run").close()
    with pytest.raises(SystemExit):
        main(["gallery", "create", str(tmp_path / "b.db"), "--model", str(tmp_path / "run")])
    assert "warning: the model was trained to compare images by euclidean" in capsys.readouterr().err


def test_embeddings_are_identified_as_their_images(filled: Gallery, people: People) -> None:
    gallery = filled
    images = [paths[0] for paths in people.values()]
    by_image = gallery.identify(images, k=2)
    by_embedding = gallery.identify_embeddings(3 * gallery.model.encode_image(images), k=2)
    for image, matches in zip(by_image, by_embedding, strict=True):
        assert [match.id for match in matches] == [match.id for match in image.matches]
        assert [match.score for match in matches] == pytest.approx([match.score for match in image.matches])
        assert [gallery.find(match.id).name for match in matches] == [match.name for match in matches]
    with pytest.raises(DataError, match=r"expected embeddings \[Q, 8\]"):
        gallery.identify_embeddings(torch.ones(1, 9))
    with pytest.raises(ModelError, match="zeros"):
        gallery.identify_embeddings(torch.zeros(1, 8))


def test_keys_of_a_server_are_not_exported(gallery: Gallery, tmp_path: Path) -> None:
    gallery.store.write_settings({"key:ab": {"name": "phone"}})
    assert "phone" not in gallery.export(tmp_path / "out").read_text()


def test_what_another_model_has_encoded_is_not_stored(
    gallery: Gallery, other_run: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread embeds the gallery again between encoding and writing."""
    gallery.enroll("ann", people["ann"])
    write = type(gallery)._write

    def meanwhile(self: Gallery, *arguments: Any) -> Any:
        monkeypatch.undo()
        self.re_embed(other_run)
        return write(self, *arguments)

    monkeypatch.setattr(type(gallery), "_write", meanwhile)
    with pytest.raises(StaleModel, match="embedded again"):
        gallery.enroll("bob", people["bob"])
    assert "bob" not in gallery and gallery.check() == []
    assert gallery.identify(people["ann"][:1])[0].matches[0].score == pytest.approx(1, abs=0.1)
    embeddings = torch.eye(DIM)[:1]
    with pytest.raises(StaleModel, match="embedded again"):
        gallery.identify_embeddings(embeddings, fingerprint="another")


def test_an_export_from_elsewhere_is_checked(filled: Gallery, tmp_path: Path) -> None:
    filled.write_settings({"key:1": {"sha256": "x"}})
    folder = tmp_path / "export"
    filled.export(folder)
    description = json.loads((folder / "gallery.json").read_text())
    assert "key:1" not in description["settings"]
    description["settings"]["key:2"] = {"sha256": "planted"}
    (folder / "gallery.json").write_text(json.dumps(description))
    with Gallery.restore(tmp_path / "restored.db", folder) as restored:
        assert not any(key.startswith("key:") for key in restored.settings)
    for change in (
        lambda d: d["items"][0].update(kind="video"),
        lambda d: d["items"][0].update(source=None),
        lambda d: d["settings"].update(dim=3),
        lambda d: d.update(items=5),
    ):
        broken = json.loads(json.dumps(description))
        change(broken)
        (folder / "gallery.json").write_text(json.dumps(broken))
        with pytest.raises(DataError, match=r"gallery\.json is damaged"):
            Gallery.restore(tmp_path / "broken.db", folder)
    tensors = load_file(folder / "gallery.safetensors")
    tensors["embedding"][0] = torch.nan
    save_file(tensors, folder / "gallery.safetensors")
    description["sha256"] = hashlib.sha256((folder / "gallery.safetensors").read_bytes()).hexdigest()
    (folder / "gallery.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="NaN or infinity"):
        Gallery.restore(tmp_path / "broken.db", folder)
    assert not (tmp_path / "broken.db").exists()
