"""The gallery as a whole: check, export, import, embed again."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, cast

from fastapi import FastAPI, Query, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.responses import Response, StreamingResponse

from vlfew.gallery.exchange import DESCRIPTION, WEIGHTS
from vlfew.gallery.gallery import Gallery
from vlfew.serving.options import ServeOptions
from vlfew.serving.problems import Problem
from vlfew.serving.routes.recognition import json_response
from vlfew.serving.schemas import FILE, CountBody, ModelBody, ProblemsBody, form, problems
from vlfew.serving.state import Server
from vlfew.serving.uploads import too_large

FILES = (DESCRIPTION, WEIGHTS)
ZIP = b"application/zip"
CHUNK = 2**18
"""Bytes of an export that are sent at a time."""


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""
    gallery, options = server.gallery, server.options

    @app.post("/check", response_model=ProblemsBody, responses=problems())
    async def check() -> Response:
        """What is wrong with the gallery, a line each; also where removed content could still be read."""
        return json_response({"problems": await server.call(gallery.check)})

    @app.get(
        "/export",
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}}, **problems(507)},
    )
    async def export() -> Response:
        """All of the gallery: a zip of safetensors and JSON, without the server's keys. Needs the scope `write`."""

        file = await server.call(_pack, gallery)
        headers = {
            "Content-Length": str(file.seek(0, os.SEEK_END)),
            "Content-Disposition": 'attachment; filename="gallery.zip"',
        }
        return StreamingResponse(_chunks(file), headers=headers, media_type=ZIP.decode())

    @app.post(
        "/import",
        response_model=CountBody,
        responses=problems(409, 415, 507),
        openapi_extra=form({"file": FILE}, ["file"]),
    )
    async def import_(
        request: Request,
        replace: Annotated[
            bool, Query(description="remove what identities of the same names have first")
        ] = False,
    ) -> Response:
        """Enrolls what `export` gave, in one transaction."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="vlfew-import-"))
        try:
            with open(folder / "gallery.zip", "wb") as file:
                await _receive_file(request, file, options)
            await server.call(_unpack, folder, options.import_bytes)
            enrolled = await server.call(gallery.import_, folder, replace=replace)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return json_response({"items": sum(one.added for one in enrolled), "identities": len(enrolled)})

    @app.post("/re-embed", response_model=CountBody, responses=problems(409, 507))
    async def re_embed(body: ModelBody) -> Response:
        """Embeds everything again with another model, one of those that the server was started with."""
        if body.model not in options.re_embed_models:
            raise Problem(
                403,
                "this server does not load that model; start it with --re-embed-model, or use vlfew gallery re-embed",
            )
        count = await server.re_embed(body.model)
        return json_response({"items": count, "fingerprint": gallery.settings["fingerprint"]})


def _pack(gallery: Gallery) -> BinaryIO:
    """The zip of an export, in a file without a name: whatever becomes of the answer, nothing stays on the disk."""
    file = cast("BinaryIO", tempfile.TemporaryFile(prefix="vlfew-export-"))  # noqa: SIM115 (the answer closes it)
    try:
        with tempfile.TemporaryDirectory(prefix="vlfew-export-") as folder:
            gallery.export(folder)
            with zipfile.ZipFile(file, "w") as packed:
                for name in FILES:
                    packed.write(Path(folder) / name, name)
                    (Path(folder) / name).unlink()
    except BaseException:
        file.close()
        raise
    return file


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The whole file, which is closed at the end."""
    with file:
        file.seek(0)
        while part := file.read(CHUNK):
            yield part


async def _receive_file(request: Request, file: BinaryIO, options: ServeOptions) -> None:
    """Writes the zip of a request to a file: the whole body, or the field `file` of a form.

    Raises:
        Problem: another type of content, too much of it, or a form that cannot be read.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    whole = kind in (ZIP, b"application/octet-stream")
    if not whole and (kind != b"multipart/form-data" or not parameters.get(b"boundary")):
        raise Problem(415, "send the zip that /export gives, as application/zip or the file of a form")
    parts = 0

    def begin() -> None:
        nonlocal parts
        parts += 1
        if parts > 1:
            raise Problem(422, "the form has several parts; send one file")

    def write(data: bytes, start: int, stop: int) -> None:
        file.write(data[start:stop])

    try:
        parser = None
        if not whole:
            parser = MultipartParser(
                parameters[b"boundary"],
                {"on_part_begin": begin, "on_part_data": write},
            )
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > options.import_bytes:
                raise too_large(options.import_bytes)
            if parser is None:
                file.write(chunk)
            else:
                parser.write(chunk)
        if parser is not None:
            parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"the form cannot be read: {error}") from None


def _unpack(folder: Path, most: int) -> None:
    """Unpacks the two files of an export, and nothing else.

    Raises:
        Problem: no such zip, or one that becomes too large.
    """
    try:
        with zipfile.ZipFile(folder / "gallery.zip") as packed:
            if missing := [name for name in FILES if name not in packed.namelist()]:
                raise Problem(422, f"the zip has no {missing[0]}; send what /export gives")
            left = most
            for name in FILES:
                with packed.open(name) as source, open(folder / name, "wb") as target:
                    while part := source.read(2**20):
                        left -= len(part)
                        if left < 0:
                            raise too_large(most)
                        target.write(part)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise Problem(422, f"the file is no zip that can be read: {error}") from None
