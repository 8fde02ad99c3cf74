"""`vlfew gallery serve`: two servers on one file, and an end that loses nothing; what is refused at the start."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

import vlfew
from tests.serving.conftest import files, problem
from vlfew.cli import main
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream


@contextmanager
def command(db: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and the address that it says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vlfew.cli",
            "gallery",
            "serve",
            db,
            "--port",
            "0",
            "--decoders",
            "1",
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r" at (https?://\S+)", line):
                break
        else:
            pytest.fail("the server ended at once")
        yield process, found[1]
    finally:
        process.kill()
        process.wait()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    )
    command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=True
    )
    return certificate, key


def test_two_servers_on_one_file_and_a_graceful_end(
    gallery: Gallery, people: dict[str, list[Path]], model: DualStream, tmp_path: Path
) -> None:
    options: list[tuple[str, ...]] = [(), ()]
    if shutil.which("openssl"):
        trusted, key = certificate(tmp_path)
        options[1] = ("--ssl-certfile", str(trusted), "--ssl-keyfile", str(key))
    with ExitStack() as stack:
        with ThreadPoolExecutor(2) as pool:
            started = [*pool.map(lambda own: stack.enter_context(command(gallery.name, *own)), options)]
        clients = [
            stack.enter_context(httpx2.Client(base_url=url, timeout=60, trust_env=False, verify=False))
            for _, url in started
        ]
        if options[1]:
            check_https(started[1][1], trusted, clients[1])
        for number, client in enumerate(clients):
            sent = {"data": {"name": f"by {number}"}, "files": files("images", people["ann"][number])}
            assert client.post("/identities", **sent).status_code == 201
        for client in clients:
            assert client.get("/identities").json()["total"] == 5
        ann = gallery.find("ann").id
        assert clients[0].delete(f"/identities/{ann}").status_code == 204
        answers = clients[1].post("/identify?k=9", files=files("images", people["ann"][0])).json()["answers"]
        assert "ann" not in {match["name"] for match in answers[0]["matches"]}

        acknowledged: list[str] = []

        def enroll(client: httpx2.Client, who: int) -> None:
            for number in range(10**6):
                name = f"{who}-{number}"
                try:
                    response = client.post("/identities", data={"name": name, "texts": f"text {name}"})
                except httpx2.TransportError:
                    return
                if response.status_code != 201:
                    return
                acknowledged.append(name)

        writers = [threading.Thread(target=enroll, args=(clients[n % 2], n)) for n in range(4)]
        for writer in writers:
            writer.start()
        until = time.monotonic() + 30
        while len(acknowledged) < 40 and time.monotonic() < until:
            time.sleep(0.02)
        for process, _ in started:
            process.send_signal(signal.SIGTERM)
        for writer in writers:
            writer.join(60)
        logs = [process.communicate(timeout=60)[1] for process, _ in started]
        assert [process.returncode for process, _ in started] == [0, 0]
        for log in logs:
            lines = [json.loads(line) for line in log.splitlines()]
            assert lines[-1]["event"] == "stopped" and all(line["level"] == "info" for line in lines)
            assert "by 0" not in log and "ann" not in log
    assert len(acknowledged) >= 40
    with Gallery.open(gallery.name, model) as after:
        assert set(acknowledged) <= {row.name for row in after.list()}
        assert after.check() == []


def check_https(url: str, trusted: Path, page: httpx2.Client) -> None:
    assert url.startswith("https://")
    with vlfew.GalleryClient(url, verify=trusted) as client:
        assert len(client) == 3
    own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
    assert page.get("/identities", headers=own).status_code == 200
    problem(page.get("/identities", headers={"Origin": url.replace("https", "http")}), 403)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["gallery", *arguments])
    return int(ended.value.code or 0)


def test_what_is_refused_at_the_start(
    gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = gallery.name
    pem = tmp_path / "x.pem"
    pem.write_text("no certificate")
    refused = {
        ("--host", "0.0.0.0"): "vlfew gallery key add",
        ("--require-key",): "vlfew gallery key add",
        ("--ssl-certfile", str(pem)): "both of",
        ("--ssl-certfile", str(pem), "--ssl-keyfile", str(pem)): "cannot be used",
        ("--host", "192.0.2.1", "--require-key"): "vlfew gallery key add",
        ("--host", "no.such.host.invalid."): "needs a key",
    }
    for options, said in refused.items():
        assert run("serve", db, "--port", "0", *options) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line, options
    assert run("key", "add", db, "phone", "--scope", "read") == 0
    token = capsys.readouterr().out.strip()
    assert token.startswith("vlfew_")
    assert run("serve", db, "--port", "0", "--host", "192.0.2.1") == 2  # an address of documentation
    assert "cannot listen at 192.0.2.1" in capsys.readouterr().err
    assert run("key", "list", db) == 0
    listed = capsys.readouterr().out
    assert "phone" in listed and token not in listed
    assert run("show", db, "--json") == 0
    assert "phone" not in capsys.readouterr().out
    assert run("key", "revoke", db, "phone") == 0
    assert run("key", "revoke", db, "phone") == 2
    assert "no key 'phone'" in capsys.readouterr().err


def test_a_port_that_is_taken(
    gallery: Gallery, http: httpx2.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(http.base_url).rstrip("/").rpartition(":")[2]
    assert run("serve", gallery.name, "--port", port) == 2
    assert "in use" in capsys.readouterr().err
