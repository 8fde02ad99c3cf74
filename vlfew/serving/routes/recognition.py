"""Who is in an image: identify, verify, and search by embedding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from vlfew.gallery.images import ReadImage
from vlfew.gallery.matches import Match, check_threshold
from vlfew.serving.batching import Found, resolve
from vlfew.serving.decoding import Decoded
from vlfew.serving.problems import Problem
from vlfew.serving.schemas import (
    FILE,
    FILES,
    AnswersBody,
    FoundBody,
    Id,
    MatchBody,
    SearchBody,
    ThresholdQuery,
    form,
    problems,
)
from vlfew.serving.state import Server
from vlfew.serving.uploads import Upload, read_form

IMAGE_FORM = form({"image": FILE}, ["image"])


def match_json(match: Match, thumbnails: Mapping[int, int]) -> dict[str, Any]:
    """A match, with the item whose thumbnail shows the identity."""
    return {
        "id": match.id,
        "name": match.name,
        "score": match.score,
        "support": match.support,
        "accepted": match.accepted,
        "threshold": match.threshold,
        "probability": match.probability,
        "thumbnail": thumbnails.get(match.id),
    }


def json_response(values: Any, status: int = 200) -> Response:
    """JSON, without the checks of FastAPI's own: the values are ours."""
    return Response(
        json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(),
        status,
        None,
        "application/json",
    )


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""

    @app.post(
        "/identify",
        response_model=AnswersBody,
        responses=problems(409, 415),
        openapi_extra=form({"images": FILES}, ["images"]),
    )
    async def identify(
        request: Request,
        k: Annotated[int, Query(ge=1, le=100)] = 5,
        threshold: ThresholdQuery = None,
    ) -> Response:
        """The k best identities of each image, or why it cannot be read. The body may be one image alone, too."""
        check_threshold(threshold)
        form = await read_form(request)
        uploads = form.images("images", 1, server.options.images)
        read, found = await _identify(server, request, uploads, k, threshold)
        rows = iter(found.matches)
        answers: list[dict[str, Any]] = []
        for upload, image in zip(uploads, read, strict=True):
            if isinstance(image, Problem):
                answers.append({"image": upload.name, "error": image.to_json()})
                continue
            matches = next(rows)
            name = next((match.name for match in matches if match.accepted is not False), None)
            shown = [match_json(match, found.thumbnails) for match in matches]
            answers.append({"image": upload.name, "name": name, "matches": shown})
        return json_response({"answers": answers})

    @app.post("/search", response_model=FoundBody, responses=problems(409))
    async def search(body: SearchBody) -> Response:
        """The k best identities of each embedding of the gallery's model."""
        check_threshold(body.threshold)
        sizes = {len(row) for row in body.embeddings}
        if sizes != {server.gallery.settings["dim"]}:
            raise Problem(
                422, f"an embedding has {server.gallery.settings['dim']} numbers, got {sorted(sizes)[:5]}"
            )
        queries = torch.tensor(body.embeddings)
        found = await server.batcher.identify(queries, body.k, body.threshold)
        return json_response(
            {"answers": [[match_json(m, found.thumbnails) for m in matches] for matches in found.matches]}
        )

    @app.post(
        "/identities/{id}/verify",
        response_model=MatchBody,
        responses=problems(404, 409, 415),
        openapi_extra=IMAGE_FORM,
    )
    async def verify(request: Request, id: Id, threshold: ThresholdQuery = None) -> Response:
        """Compares an image with one identity."""
        return await _verify(server, request, id, threshold)

    @app.post(
        "/verify", response_model=MatchBody, responses=problems(404, 409, 415), openapi_extra=IMAGE_FORM
    )
    async def verify_by_name(request: Request, name: str, threshold: ThresholdQuery = None) -> Response:
        """Compares an image with one identity, by its name."""
        return await _verify(server, request, name, threshold)


async def _identify(
    server: Server, request: Request, uploads: list[Upload], k: int, threshold: float | None
) -> tuple[list[Decoded], Found]:
    """Decodes images and hands them on to the batcher at once, without a detour through the event loop.

    Raises:
        Problem: too many images are waiting.
        ClientDisconnect: the client is gone.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Found] = loop.create_future()
    read: list[Decoded] = []

    def finish(found: Found | Exception) -> None:
        loop.call_soon_threadsafe(resolve, future, found)

    def decoded(images: list[Decoded]) -> None:
        read.extend(images)
        good = [image for image in images if isinstance(image, ReadImage)]
        if good:
            server.batcher.submit(good, k, threshold, finish, future.cancelled)
        else:
            finish(Found([], {}))

    server.decoders.submit(uploads, server.decode_settings(enrolled=False), decoded, future.cancelled)
    return read, await _unless_gone(request, future)


async def _unless_gone(request: Request, future: asyncio.Future[Found]) -> Found:
    """What a future gives; nothing more is done for a client that does not wait for it.

    Raises:
        ClientDisconnect: the client is gone.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watching = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((future, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        future.cancel()  # nothing happens where it is done
    if future.cancelled():
        raise ClientDisconnect
    return future.result()


async def _verify(server: Server, request: Request, who: str | int, threshold: float | None) -> Response:
    check_threshold(threshold)
    form = await read_form(request, "image")
    await server.call(server.gallery.find, who)
    (image,) = await server.decoders.read(form.images("image", 1, 1), server.decode_settings(enrolled=False))
    if isinstance(image, Problem):
        raise image
    probe: Any = image
    match = await server.call(server.gallery.verify, who, probe, threshold)
    return json_response(match_json(match, await server.call(server.gallery.thumbnails, [match.id])))
