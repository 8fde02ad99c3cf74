"""Who is enrolled: list, show, enroll, rename, remove."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from starlette.responses import Response

from vlfew.gallery.directory import Page
from vlfew.gallery.images import ReadImage
from vlfew.gallery.names import checked_name
from vlfew.gallery.store import IdentityRow, NotFound
from vlfew.serving.problems import Problem
from vlfew.serving.routes.recognition import json_response
from vlfew.serving.schemas import (
    FILES,
    TEXTS,
    EnrolledBody,
    Id,
    IdentityBody,
    IdentityWithItemsBody,
    NewName,
    PageBody,
    form,
    problems,
)
from vlfew.serving.state import Server
from vlfew.serving.uploads import Upload, read_form

MOST_TEXTS = 64
ENROLL_FORM = form(
    {"name": {"type": "string"}, "images": FILES, "texts": TEXTS, "replace": {"type": "boolean"}}, ["name"]
)


def identity_json(row: IdentityRow, thumbnails: Mapping[int, int]) -> dict[str, Any]:
    """An identity, with the item whose thumbnail shows it."""
    return {**row._asdict(), "thumbnail": thumbnails.get(row.id)}


async def read_images(server: Server, uploads: list[Upload], *, enrolled: bool) -> list[ReadImage]:
    """Decodes images of which every one is needed.

    Raises:
        Problem: some cannot be read; `errors` has a line for each.
    """
    decoded = await server.decoders.read(uploads, server.decode_settings(enrolled))
    bad = [
        (upload, image) for upload, image in zip(uploads, decoded, strict=True) if isinstance(image, Problem)
    ]
    if bad:
        statuses = {problem.status for _, problem in bad}
        raise Problem(
            statuses.pop() if len(statuses) == 1 else 422,
            bad[0][1].detail if len(bad) == 1 else f"{len(bad)} images cannot be used; nothing was changed",
            bad[0][1].headers,
            errors=[{"image": upload.name, "detail": problem.detail} for upload, problem in bad],
        )
    return [image for image in decoded if isinstance(image, ReadImage)]


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""
    gallery = server.gallery

    async def shown(row: IdentityRow) -> dict[str, Any]:
        return identity_json(row, await server.call(gallery.thumbnails, [row.id]))

    def named(name: str) -> Page:
        try:
            return Page([gallery.find(name)], 1, None)
        except NotFound:
            return Page([], 0, None)

    @app.get("/identities", response_model=PageBody, responses=problems())
    async def list_identities(
        search: Annotated[str, Query(max_length=1000, description="part of the name")] = "",
        after: Annotated[str, Query(max_length=1000, description="`next` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        name: Annotated[str, Query(max_length=1000, description="the one of this name, if any")] = "",
    ) -> Response:
        """The identities by name, some at a time."""
        page = await (server.call(named, name) if name else server.call(gallery.page, search, after, limit))
        thumbnails = await server.call(gallery.thumbnails, [row.id for row in page.identities])
        rows = [identity_json(row, thumbnails) for row in page.identities]
        return json_response({"identities": rows, "total": page.total, "next": page.next})

    @app.get("/identities/{id}", response_model=IdentityWithItemsBody, responses=problems(404))
    async def show(id: Id) -> Response:
        """An identity with its images and texts."""
        row = await server.call(gallery.find, id)
        items = [
            {
                "id": item.id,
                "kind": item.kind,
                "text": item.text,
                "source": PurePath(item.source).name,  # paths of the server are its own
                "created": item.created,
                "thumbnail": item.thumbnail is not None,
            }
            for item in await server.call(gallery.show, id)
        ]
        return json_response({**await shown(row), "items": items})

    @app.post(
        "/identities",
        response_model=EnrolledBody,
        status_code=201,
        responses={200: {"model": EnrolledBody, "description": "added to"}, **problems(409, 415, 507)},
        openapi_extra=ENROLL_FORM,
    )
    async def enroll(
        request: Request, idempotency_key: Annotated[str, Header(max_length=1000)] = ""
    ) -> Response:
        """Enrolls an identity, or adds to one: all of it or nothing, and durable when this answers."""
        form = await read_form(request)
        name = checked_name(form.text("name"))
        uploads = form.images("images", 0, server.options.images)
        texts = form.fields.get("texts", [])
        if len(texts) > MOST_TEXTS:
            raise Problem(413, f"{len(texts)} texts; a request may have {MOST_TEXTS}: send several requests")
        replace = form.flag("replace")
        images = await read_images(server, uploads, enrolled=True)
        done = await server.call(
            gallery.enroll_one, name, images, texts, replace=replace, idempotency_key=idempotency_key
        )
        (one,) = done.enrolled
        row = await server.call(gallery.find, one.name)
        answer = {
            "id": row.id,
            "name": one.name,
            "item_ids": one.item_ids,
            "added": one.added,
            "created": one.created,
            "replayed": one.replayed,
            "images": one.images,
            "texts": one.texts,
            "warnings": done.warnings,
        }
        return json_response(answer, 201 if one.created else 200)

    @app.patch("/identities/{id}", response_model=IdentityBody, responses=problems(404, 409, 507))
    async def rename(id: Id, body: NewName) -> Response:
        """Gives an identity another name."""
        await server.call(gallery.rename, id, body.name)
        return json_response(await shown(await server.call(gallery.find, id)))

    @app.delete("/identities/{id}", status_code=204, responses=problems(404, 507))
    async def remove(id: Id) -> Response:
        """Removes an identity; nothing of it is left in the gallery when this answers."""
        await server.call(gallery.remove, id)
        return Response(status_code=204)

    @app.delete("/items/{id}", status_code=204, responses=problems(404, 507))
    async def remove_item(id: Id) -> Response:
        """Removes an image or a text, and with the last one its identity."""
        await server.call(gallery.remove_item, id)
        return Response(status_code=204)

    @app.get(
        "/items/{id}/thumbnail",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, **problems(404)},
    )
    async def thumbnail(id: Id) -> Response:
        """A small JPEG of an image."""
        content = await server.call(gallery.thumbnail, id)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
