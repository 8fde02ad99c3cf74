"""Two servers over one gallery in Postgres, which goes away and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2

from tests.gallery.conftest import gallery_url
from tests.gallery.postgres_server import PostgresServer
from tests.serving.conftest import Serve, files, problem
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream


def names(http: httpx2.Client, image: Path) -> list[str]:
    """The names in the answer to an image, best first."""
    response = http.post("/identify", files=files("images", image))
    assert response.status_code == 200, response.text
    return [match["name"] for match in response.json()["answers"][0]["matches"]]


def test_two_servers_and_an_outage(serve: Serve, model: DualStream, people: dict[str, list[Path]]) -> None:
    with PostgresServer() as database:
        url = gallery_url(database.url)
        with Gallery.create(url, model) as made, Gallery.open(url, model) as other:
            one, two = serve(made), serve(other)
            for name, images in people.items():
                answer = one.post("/identities", data={"name": name}, files=files("images", *images))
                assert answer.status_code == 201, answer.text
            assert names(two, people["bob"][0])[0] == "bob"
            assert two.delete(f"/identities/{answer.json()['id']}").status_code == 204
            assert sorted(names(one, people["cy"][0])) == ["ann", "bob"]
            database.stop()
            bob = {"data": {"name": "bob"}, "files": files("images", people["cy"][0])}
            key = {"Idempotency-Key": "again"}
            assert "does not answer" in problem(one.post("/identities", **bob, headers=key), 503)
            assert "does not answer" in problem(
                two.post("/identify", files=files("images", people["bob"][0])), 503
            )
            until = time.monotonic() + 30
            while one.get("/readyz").status_code != 503:
                assert time.monotonic() < until
                time.sleep(0.1)
            assert one.get("/healthz").status_code == 200
            database.start()
            answers = [server.post("/identities", **bob, headers=key).json() for server in (one, two, one)]
            assert [answer["replayed"] for answer in answers] == [False, True, True]
            assert {answer["images"] for answer in answers} == {3}
            assert names(two, people["bob"][0])[0] == "bob"
            while one.get("/readyz").status_code != 200:
                assert time.monotonic() < until
                time.sleep(0.1)
            assert made.check() == []
