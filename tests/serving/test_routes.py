"""What a gallery does, over HTTP: the answers are those of `Gallery`."""

from __future__ import annotations

import errno
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.serving.conftest import Serve, draw, files, problem
from vlfew.core.errors import WriteError
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.store import DamagedStore, StaleModel, StoreUnavailable
from vlfew.models import DualStream
from vlfew.serving.decoding import Decoders

People = dict[str, list[Path]]


def test_identify_answers_as_the_gallery_does(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    images = [paths[1] for paths in people.values()]
    response = http.post("/identify?k=2&threshold=0.25", files=files("images", *images))
    assert response.status_code == 200
    expected = gallery.identify(images, k=2, threshold=0.25)
    for answer, own in zip(response.json()["answers"], expected, strict=True):
        assert answer["image"] == Path(own.image).name and answer["name"] == own.name
        for match, of_gallery in zip(answer["matches"], own.matches, strict=True):
            thumbnail = match.pop("thumbnail")
            assert match.pop("score") == pytest.approx(of_gallery.score, abs=1e-5)
            assert match == {k: v for k, v in of_gallery._asdict().items() if k != "score"}
            assert http.get(f"/items/{thumbnail}/thumbnail").headers["content-type"] == "image/jpeg"


def test_one_bad_image_does_not_fail_the_others(http: httpx2.Client, people: People, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(people["bob"][0].read_bytes()[:80])
    sent = files("images", people["ann"][0], bad, people["cy"][0])
    first, second, third = http.post("/identify", files=sent).json()["answers"]
    assert (first["name"], third["name"]) == ("ann", "cy")
    assert second["image"] == "bad.png" and second["error"]["status"] == 422
    assert "bad.png: cannot be read" in second["error"]["detail"]


def test_an_image_may_be_the_whole_body(http: httpx2.Client, people: People) -> None:
    content = people["cy"][0].read_bytes()
    (answer,) = http.post("/identify", content=content, headers={"Content-Type": "image/png"}).json()[
        "answers"
    ]
    assert answer["name"] == "cy"


def test_search_by_embedding(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    embedding = gallery.model.encode_image([people["bob"][0]]).tolist()
    (found,) = http.post("/search", json={"embeddings": embedding, "k": 1}).json()["answers"]
    assert found[0]["name"] == "bob"
    assert "8 numbers" in problem(http.post("/search", json={"embeddings": [[1.0, 2.0]]}), 422)
    assert "zeros" in problem(http.post("/search", json={"embeddings": [[0.0] * 8]}), 422)


def test_verify(http: httpx2.Client, people: People) -> None:
    ann = http.get("/identities?search=ann").json()["identities"][0]["id"]
    by_id = http.post(f"/identities/{ann}/verify", files=files("image", people["ann"][0])).json()
    by_name = http.post("/verify?name=ann", files=files("image", people["ann"][0])).json()
    assert by_id == by_name and by_id["name"] == "ann" and by_id["score"] > 0.99
    assert "did you mean 'ann'" in problem(
        http.post("/verify?name=anna", files=files("image", people["ann"][0])), 404
    )


def test_pages_of_identities(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    for name in ("Zoë/🦊", "Émile", "bo"):
        gallery.enroll(name, texts=["a text"])
    seen, after = [], ""
    while after is not None:
        page = http.get("/identities", params={"after": after, "limit": 2}).json()
        assert page["total"] == 6 and len(page["identities"]) <= 2
        seen += [one["name"] for one in page["identities"]]
        after = page["next"]
    assert seen == sorted(seen, key=str.casefold) and len(seen) == 6
    found = http.get("/identities", params={"search": "ZOË"}).json()
    assert [one["name"] for one in found["identities"]] == ["Zoë/🦊"] and found["total"] == 1
    assert http.get("/identities", params={"search": "B", "limit": 1}).json()["total"] == 2


def test_the_identity_of_a_name(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    gallery.enroll("Zoë & co", texts=["a text"])
    gallery.enroll("Zoë & co 2", texts=["a text"])
    found = http.get("/identities", params={"name": "Zoe\u0308 & co"}).json()  # in another of Unicode's forms
    assert [one["name"] for one in found["identities"]] == ["Zoë & co"] and found["total"] == 1
    assert http.get("/identities", params={"name": "Zoë"}).json() == {
        "identities": [],
        "total": 0,
        "next": None,
    }
    problem(http.get("/identities", params={"name": "x" * 500}), 422)


def test_enroll_rename_and_remove(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    sent = files("images", people["ann"][0], people["bob"][0])
    response = http.post("/identities", data={"name": "di/ä", "texts": ["tall", "a poet"]}, files=sent)
    made = response.json()
    assert response.status_code == 201 and (made["images"], made["texts"], made["added"]) == (2, 2, 4)
    assert any("ann" in line for line in made["warnings"]) and made["created"] is True
    shown = http.get(f"/identities/{made['id']}").json()
    assert [item["kind"] for item in shown["items"]] == ["image", "image", "text", "text"]
    assert [item["id"] for item in shown["items"]] == made["item_ids"]
    added = http.post("/identities", data={"name": "di/ä", "texts": "fast"})
    assert added.status_code == 200 and added.json()["texts"] == 3
    replaced = http.post("/identities", data={"name": "di/ä", "texts": "fast", "replace": "true"}).json()
    assert (replaced["images"], replaced["texts"]) == (0, 1)

    renamed = http.patch(f"/identities/{made['id']}", json={"name": "dora"})
    assert renamed.json()["name"] == "dora" and gallery.find("dora").id == made["id"]
    assert "already" in problem(http.patch(f"/identities/{made['id']}", json={"name": "ann"}), 409)
    ann = gallery.find("ann").id
    first, _ = gallery.show(ann)
    assert http.delete(f"/items/{first.id}").status_code == 204
    assert http.get(f"/identities/{ann}").json()["images"] == 1
    assert http.delete(f"/identities/{ann}").status_code == 204
    problem(http.delete(f"/identities/{ann}"), 404)
    problem(http.get(f"/items/{first.id}/thumbnail"), 404)
    assert "ann" not in gallery and gallery.check() == []


def test_enroll_is_all_or_nothing(
    http: httpx2.Client, gallery: Gallery, people: People, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    before = gallery.count()
    response = http.post("/identities", data={"name": "eve"}, files=files("images", people["ann"][0], bad))
    assert "bad.jpg" in problem(response, 422)
    assert [error["image"] for error in response.json()["errors"]] == ["bad.jpg"]
    assert "nothing to enroll" in problem(http.post("/identities", data={"name": "eve"}), 422)
    assert gallery.count() == before


def test_an_idempotency_key_enrolls_once(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    def enroll(image: Path) -> httpx2.Response:
        return http.post(
            "/identities",
            data={"name": "fay"},
            files=files("images", image),
            headers={"Idempotency-Key": "one"},
        )

    first, again = enroll(people["ann"][0]).json(), enroll(people["ann"][0]).json()
    assert again["replayed"] and not first["replayed"] and first["item_ids"] == again["item_ids"]
    assert "another request" in problem(enroll(people["bob"][0]), 409)


NAMES = {
    "": 422,
    "a\0b": 422,
    "x" * 10_000: 422,
    "ann/../bob": 201,
    "🦊" * 100: 201,
    "<img src=x>": 201,
    "\n": 422,
}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:12])
def test_names(http: httpx2.Client, gallery: Gallery, name: str) -> None:
    response = http.post("/identities", data={"name": name, "texts": "a text"})
    assert response.status_code == NAMES[name]
    if NAMES[name] == 201:
        identity = response.json()["id"]
        assert http.get(f"/identities/{identity}").json()["name"] == name
        assert http.get("/identities", params={"search": name}).json()["total"] == 1
    else:
        problem(response, 422)
    renamed = http.patch(f"/identities/{gallery.find('ann').id}", json={"name": name + " 2" if name else ""})
    assert renamed.status_code == (200 if NAMES[name] == 201 else 422 if name != "\n" else 200)


def test_an_empty_gallery(tmp_path: Path, model: DualStream, serve: Serve, people: People) -> None:
    with Gallery.create(tmp_path / "empty.db", model) as empty:
        http = serve(empty)
        assert "nobody is enrolled" in problem(
            http.post("/identify", files=files("images", people["ann"][0])), 409
        )
        assert http.get("/identities").json() == {"identities": [], "total": 0, "next": None}
        assert http.get("/settings").json()["identities"] == 0


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf"])
def test_a_threshold_must_be_a_number(http: httpx2.Client, people: People, threshold: str) -> None:
    sent = {"files": files("images", people["ann"][0])}
    assert "finite" in problem(http.post(f"/identify?threshold={threshold}", **sent), 422)
    sent = {"files": files("image", people["ann"][0])}
    assert "finite" in problem(http.post(f"/verify?name=ann&threshold={threshold}", **sent), 422)
    body = (
        f'{{"embeddings": [[1, 1, 1, 1, 1, 1, 1, 1]], "threshold": {threshold.replace("inf", "Infinity")}}}'
    )
    problem(
        http.post(
            "/search", content=body.replace("nan", "NaN"), headers={"Content-Type": "application/json"}
        ),
        422,
    )


def test_a_threshold_of_zero_is_one(http: httpx2.Client, people: People) -> None:
    (answer,) = http.post("/identify?threshold=0", files=files("images", people["ann"][0])).json()["answers"]
    assert [match["threshold"] for match in answer["matches"]] == [0, 0, 0]
    assert all(match["accepted"] is (match["score"] >= 0) for match in answer["matches"])


def test_a_full_disk(http: httpx2.Client, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gallery, "export", fail)
    assert "the disk is full" in problem(http.get("/export"), 507)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"{" * 10_000, b'{"embeddings": [[1e999]]}', b"\xff", b"nul"]
)
def test_json_that_cannot_be_read(http: httpx2.Client, body: bytes) -> None:
    for method, path in (
        ("POST", "/search"),
        ("PATCH", "/identities/1"),
        ("PUT", "/thresholds"),
        ("POST", "/calibrate"),
    ):
        response = http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert problem(response, response.status_code) and 400 <= response.status_code < 500


def test_what_is_not_there(http: httpx2.Client) -> None:
    problem(http.get("/nothing"), 404)
    problem(http.put("/identify"), 405)
    problem(http.get("/identities/77"), 404)
    problem(http.get("/identities/0"), 422)
    problem(http.get(f"/identities/{10**30}"), 422)
    problem(http.get("/identities/x"), 422)
    problem(http.patch("/identities/77", json={"name": "x"}), 404)
    problem(http.patch("/identities/77", content=b"{", headers={"Content-Type": "application/json"}), 400)
    problem(http.patch("/identities/77", json={"name": 3}), 422)


def test_answers_name_the_gallery_without_its_path(http: httpx2.Client, gallery: Gallery) -> None:
    line = problem(http.get("/identities/999"), 404)
    assert Path(gallery.name).is_absolute() and line.startswith(f"{Path(gallery.name).name}: ")


def test_settings_and_thresholds(http: httpx2.Client, gallery: Gallery) -> None:
    settings = http.get("/settings").json()
    assert settings["gallery"] == "people.db" and settings["identities"] == 3 and settings["items"] == 6
    assert settings["scopes"] == ["read", "write"] and settings["dim"] == 8 and settings["has_text"]
    assert "JPEG" in settings["formats"] and settings["limits"]["images"] == 32
    gallery.set_thresholds({"image": {"value": 0.5}})
    assert http.get("/thresholds").json() == {"image": {"value": 0.5, "current": 0.5}}
    assert http.get("/settings").json()["thresholds"]["image"]["value"] == 0.5


def test_another_process_writes(
    http: httpx2.Client, gallery: Gallery, people: People, model: DualStream
) -> None:
    with Gallery.open(gallery.name, model) as other:
        other.enroll("guy", [draw(people["ann"][0].parent / "guy.png", 40)])
        (answer,) = http.post(
            "/identify?k=1", files=files("images", people["ann"][0].parent / "guy.png")
        ).json()["answers"]
        assert answer["name"] == "guy"
        other.remove("guy")
        assert http.get("/identities").json()["total"] == 3
        other.rename("ann", "anna")
        (answer,) = http.post("/identify?k=1", files=files("images", people["ann"][0])).json()["answers"]
        assert answer["name"] == "anna"


def test_another_model_is_a_conflict(
    http: httpx2.Client, gallery: Gallery, people: People, model: DualStream, other_run: Path
) -> None:
    with Gallery.open(gallery.name, model) as other:
        other.re_embed(other_run)
    sent = {"files": files("images", people["ann"][0])}
    assert "fingerprint" in problem(http.post("/identify", **sent), 409)
    sent = {"data": {"name": "ann"}, "files": files("images", people["bob"][0])}
    problem(http.post("/identities", **sent), 409)


def test_a_read_only_file(
    gallery: Gallery, serve: Serve, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.store.read_only = (
        True  # as a file without write bits: the tests may run as root, who may write all
    )
    http = serve(gallery)
    assert http.get("/settings").json()["read_only"] is True
    sent = {"data": {"name": "hal"}, "files": files("images", people["ann"][0])}
    assert "read-only" in problem(http.post("/identities", **sent), 403)
    assert http.post("/identify", files=files("images", people["ann"][0])).status_code == 200


def test_health_metrics_and_description(
    http: httpx2.Client, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
    with monkeypatch.context() as patch:
        patch.setattr(Decoders, "ready", False)
        assert "decodes images" in problem(http.get("/readyz"), 503)
        assert http.get("/healthz").status_code == 200
    http.post("/identify", files=files("images", *people["ann"]))
    text = http.get("/metrics").text
    assert "vlfew_identities 3.0" in text and "vlfew_items 6.0" in text
    assert 'vlfew_requests_total{method="POST",route="/identify",status="200"} 1.0' in text
    assert "vlfew_batch_images_sum 2.0" in text and "ann" not in text
    described = http.get("/openapi.json").json()
    assert "/identities/{id}/verify" in described["paths"] and "ProblemBody" in json.dumps(
        described["components"]
    )
    assert http.get("/").status_code == 200


def test_a_gallery_that_is_busy_does_not_keep_the_server_from_answering(
    gallery: Gallery, serve: Serve, people: People
) -> None:
    http = serve(gallery)
    sent = {"files": files("images", people["ann"][0])}
    assert http.post("/identify", **sent).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        with gallery._lock:  # as while a removal rewrites the file
            waiting = pool.submit(lambda: http.post("/identify", **sent))
            for _ in range(5):
                assert http.get("/healthz", timeout=20).status_code == 200
            assert http.get("/identities/x").status_code == 422
            assert not waiting.done()
        assert waiting.result().json()["answers"][0]["name"] == "ann"


ERRORS: dict[type[Exception], int] = {
    StoreUnavailable: 503,
    WriteError: 507,
    DamagedStore: 500,
    StaleModel: 409,
}


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_stores(
    http: httpx2.Client, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("the line")

    monkeypatch.setattr(gallery, "enroll_one", fail)
    response = http.post("/identities", data={"name": "x", "texts": "y"})
    assert problem(response, ERRORS[error]) == "the line"
    assert ("retry-after" in response.headers) is (ERRORS[error] == 503)


def test_a_gallery_in_postgres(postgres: str, model: DualStream, serve: Serve, people: People) -> None:
    with Gallery.create(postgres, model) as gallery:
        http = serve(gallery)
        made = http.post("/identities", data={"name": "ann/ä"}, files=files("images", *people["ann"])).json()
        http.post("/identities", data={"name": "bob"}, files=files("images", *people["bob"]))
        (answer,) = http.post("/identify?k=2", files=files("images", people["ann"][0])).json()["answers"]
        assert answer["name"] == "ann/ä" and [match["name"] for match in answer["matches"]] == [
            "ann/ä",
            "bob",
        ]
        assert http.get("/identities?search=ANN").json()["total"] == 1
        assert len(http.get("/look-alikes").json()["pairs"]) == 1
        assert http.get("/duplicates").json()["same_image"] == []
        assert http.delete(f"/identities/{made['id']}").status_code == 204
        assert http.get("/settings").json()["identities"] == 1
