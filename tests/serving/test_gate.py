"""Who may come in: keys and scopes, sessions, hosts, origins, proxies, and what every answer says of itself."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path

import httpx2
import pytest

from tests.serving.conftest import Serve, files, problem
from vlfew.core.errors import ConfigError, DataError
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.store import Conflict
from vlfew.models import DualStream
from vlfew.serving.keys import add_key, find_key, list_keys, revoke_key
from vlfew.serving.logs import JsonLines
from vlfew.serving.options import ServeOptions, is_loopback, served_hosts
from vlfew.serving.run import check_keys

People = dict[str, list[Path]]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:80", "", "[::2]:80"])
def test_another_host_is_refused(http: httpx2.Client, host: str) -> None:
    for path in ("/settings", "/", "/healthz", "/static/x"):
        assert "not called" in problem(http.get(path, headers={"Host": host}), 421)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LocalHost"])
def test_names_of_this_machine_are_its_own(http: httpx2.Client, host: str) -> None:
    assert http.get("/settings", headers={"Host": host}).status_code == 200


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_requests_of_other_sites_are_refused(
    http: httpx2.Client, gallery: Gallery, headers: dict[str, str]
) -> None:
    ann = gallery.find("ann").id
    assert "another site" in problem(http.delete(f"/identities/{ann}", headers=headers), 403)
    assert "another site" in problem(http.get("/identities", headers=headers), 403)
    sent = {"data": {"name": "ann", "texts": "x"}, "headers": headers}
    problem(http.post("/identities", **sent), 403)
    assert gallery.count() == (3, 6)


def test_the_page_itself_may(http: httpx2.Client) -> None:
    own = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert http.post("/identities", data={"name": "x", "texts": "y"}, headers=own).status_code == 201
    assert http.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link to it


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
def test_forwarded_requests_are_refused_without_keys(http: httpx2.Client, name: str) -> None:
    assert "proxy" in problem(http.get("/settings", headers={name: "1.2.3.4"}), 400)


def test_a_header_that_is_there_twice(http: httpx2.Client) -> None:
    headers = [("Origin", "http://a"), ("Origin", str(http.base_url))]
    problem(http.get("/settings", headers=headers), 400)


def test_every_answer_protects_the_page(http: httpx2.Client) -> None:
    for response in (http.get("/"), http.get("/nothing"), http.get("/settings", headers={"Host": "evil"})):
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers


@pytest.fixture
def tokens(gallery: Gallery) -> dict[str, str]:
    return {
        "read": add_key(gallery, "reader", ["read"])[1],
        "write": add_key(gallery, "writer", ["write"])[1],
        "both": add_key(gallery, "both", ["read", "write"])[1],
    }


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_keys_and_scopes(gallery: Gallery, serve: Serve, tokens: dict[str, str], people: People) -> None:
    http = serve(gallery, key_required=True, hosts=None)
    closed = http.get("/settings").json()
    assert (
        closed["key_required"]
        and not closed["signed_in"]
        and set(closed) == {"key_required", "signed_in", "version"}
    )
    assert "a key is needed" in problem(http.get("/identities"), 401)
    for wrong in ("x", tokens["read"][:-1], tokens["read"] + "x", "vlfew_"):
        response = http.get("/identities", headers=bearer(wrong))
        problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        assert http.get(path).status_code == 200
    problem(http.get("/metrics"), 401)
    sent = {"files": files("images", people["ann"][0])}
    reads = {"read": 200, "both": 200, "write": 403}
    writes = {"read": 403, "both": 201, "write": 200}
    for scope in ("read", "both", "write"):
        headers = bearer(tokens[scope])
        assert http.get("/identities", headers=headers).status_code == reads[scope]
        assert http.post("/identify", headers=headers, **sent).status_code == reads[scope]
        enrolled = http.post("/identities", headers=headers, data={"name": "new", "texts": "a"})
        assert enrolled.status_code == writes[scope]
    ann = gallery.find("ann").id
    for method, path in (
        ("DELETE", f"/identities/{ann}"),
        ("PATCH", f"/identities/{ann}"),
        ("POST", "/check"),
        ("GET", "/export"),  # all embeddings and images, at once
        ("HEAD", "/export"),
    ):
        if method == "HEAD":
            assert http.head(path, headers=bearer(tokens["read"])).status_code == 403
            continue
        assert "no scope 'write'" in problem(http.request(method, path, headers=bearer(tokens["read"])), 403)
    assert http.get("/export", headers=bearer(tokens["write"])).status_code == 200
    assert http.get("/settings", headers=bearer(tokens["read"])).json()["scopes"] == ["read"]


LARGE = [
    ("/session", "application/json", 2**16 + 1),  # which needs no key
    ("/search", "Application/JSON; charset=utf-8", 16 * 2**20 + 1),
    ("/search", "", 16 * 2**20 + 1),
    ("/identify", "multipart/form-data; boundary=b", 20 * 2**20 + 1),
    ("/identify", "image/png", 20 * 2**20 + 1),
]


@pytest.mark.parametrize(("path", "kind", "size"), LARGE)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_limited(
    gallery: Gallery, serve: Serve, path: str, kind: str, size: int, chunked: bool
) -> None:
    http = serve(gallery, request_bytes=20 * 2**20)
    address = (http.base_url.host, http.base_url.port)
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{how}\r\n\r\n"
    with socket.create_connection(address, 60) as connection:
        connection.sendall(head.encode())
        if chunked:  # the end never comes: the first byte too many is refused
            connection.sendall(f"{size:x}\r\n".encode() + b"0" * size)
        assert b" 413 " in connection.recv(1000).split(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/session", "/search", "/identify", "/identities", "/import", "/calibrate"])
def test_bodies_that_do_not_arrive(gallery: Gallery, serve: Serve, path: str) -> None:
    http = serve(gallery, body_seconds=0.2)
    address = (http.base_url.host, http.base_url.port)
    kind = "application/json" if path in ("/session", "/search", "/calibrate") else "application/zip"
    kind = "image/png" if path in ("/identify", "/identities") else kind
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection(address, 60) as connection:
        connection.sendall(head.encode() + b"{")
        assert b" 408 " in connection.recv(1000).split(b"\r\n")[0]


def test_behind_a_proxy_that_ends_https(gallery: Gallery, serve: Serve, tokens: dict[str, str]) -> None:
    http = serve(gallery, key_required=True, hosts=served_hosts("127.0.0.1", ("gallery.example",)))
    headers = bearer(tokens["both"]) | {"Host": "gallery.example", "X-Forwarded-For": "1.2.3.4"}
    own = {"Origin": "https://gallery.example", "Sec-Fetch-Site": "same-origin"}
    assert (
        http.post("/identities", data={"name": "x", "texts": "y"}, headers=headers | own).status_code == 201
    )
    begun = http.post("/session", json={"key": tokens["both"]}, headers=headers | own)
    assert "Secure" in begun.headers["set-cookie"]
    problem(http.get("/identities", headers=headers | {"Origin": "https://other.example"}), 403)
    problem(http.get("/identities", headers=headers | {"Host": "other.example"}), 421)


def test_a_revoked_key_is_refused(
    gallery: Gallery, serve: Serve, tokens: dict[str, str], model: DualStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlfew.serving.state.FOLLOW_SECONDS", 0.05)
    http = serve(gallery, key_required=True)
    http.post("/session", json={"key": tokens["read"]})
    assert http.get("/identities").status_code == 200
    with Gallery.open(gallery.name, model) as other:
        revoke_key(other, "reader")
    for _ in range(200):
        if http.get("/identities").status_code == 401:
            break
    problem(http.get("/identities"), 401)
    problem(http.get("/identities", headers=bearer(tokens["read"])), 401)
    problem(http.post("/session", json={"key": tokens["read"]}), 401)
    assert http.get("/identities", headers=bearer(tokens["both"])).status_code == 200


def test_sessions(gallery: Gallery, serve: Serve, tokens: dict[str, str]) -> None:
    http = serve(gallery, key_required=True, secure=False)
    problem(http.post("/session", json={"key": "wrong"}), 401)
    begun = http.post("/session", json={"key": tokens["read"]})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert tokens["read"] not in cookie
    assert http.get("/identities").status_code == 200 and http.get("/settings").json()["signed_in"]
    problem(http.post("/identities", data={"name": "x", "texts": "y"}), 403)  # the scopes of its key
    (kept,) = http.cookies.jar
    assert http.delete("/session").status_code == 204
    problem(http.get("/identities", headers={"Cookie": f"{kept.name}={kept.value}"}), 401)
    secure = serve(gallery, key_required=True, secure=True)
    assert "Secure" in secure.post("/session", json={"key": tokens["read"]}).headers["set-cookie"]


def test_the_gallery_keeps_no_token(gallery: Gallery, tokens: dict[str, str]) -> None:
    stored = json.dumps(gallery.stored_settings())
    assert not any(token in stored or token.removeprefix("vlfew_") in stored for token in tokens.values())
    keys = list_keys(gallery)
    assert [key.name for key in keys] == ["both", "reader", "writer"]
    assert find_key(keys, tokens["both"]) == keys[0] and find_key(keys, "") is None
    with pytest.raises(Conflict, match="already"):
        add_key(gallery, "reader", ["read"])
    with pytest.raises(DataError, match="did you mean 'reader'"):
        revoke_key(gallery, "raeder")
    with pytest.raises(ConfigError, match="scope"):
        add_key(gallery, "x", ["admin"])
    assert revoke_key(gallery, keys[1].id).name == "reader" and len(list_keys(gallery)) == 2


def test_where_a_key_is_needed(gallery: Gallery) -> None:
    assert (
        is_loopback("127.0.0.1")
        and is_loopback("::1")
        and is_loopback("localhost")
        and is_loopback("127.8.8.8")
    )
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.4", "example.org", "")))
    assert served_hosts("0.0.0.0", ()) is None and "mugs.local" in served_hosts("0.0.0.0", ("Mugs.local",))
    assert served_hosts("127.0.0.1", ()) == {"localhost", "127.0.0.1", "::1"}
    with pytest.raises(ConfigError, match="vlfew gallery key add"):
        check_keys(gallery, "0.0.0.0", ServeOptions(key_required=True))
    add_key(gallery, "one", ["read"])
    check_keys(gallery, "0.0.0.0", ServeOptions(key_required=True))


def test_logs_hold_no_names(
    http: httpx2.Client, people: People, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vlfew.serving")
    http.post("/identities", data={"name": "Secret Name"}, files=files("images", people["ann"][0]))
    http.post("/verify?name=Secret%20Name", files=files("image", people["ann"][0]))
    http.get("/identities?search=Secret")
    http.get("/Secret")
    until = time.monotonic() + 30  # a line is written after its answer
    while len(caplog.records) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    lines = [JsonLines().format(record) for record in caplog.records]
    requests = [json.loads(line) for line in lines if json.loads(line)["event"] == "request"]
    assert {line["route"] for line in requests} >= {"/identities", "/verify", "other"}
    assert all({"method", "status", "ms", "time", "level"} <= set(line) for line in requests)
    assert not any("Secret" in line or "ann" in line or "127.0.0.1" in line for line in lines)


def test_a_failure_is_a_problem_and_logged_without_its_message(
    http: httpx2.Client, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of Secret Name")

    monkeypatch.setattr(gallery, "page", fail)
    assert "Secret" not in problem(http.get("/identities"), 500)
    (line,) = [JsonLines().format(r) for r in caplog.records if r.levelname == "ERROR"]
    assert "RuntimeError at" in line and "fail" in line and "Secret" not in line
