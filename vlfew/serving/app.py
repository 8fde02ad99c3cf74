"""The application: a gallery over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import vlfew
from vlfew.gallery.gallery import Gallery
from vlfew.serving.decoding import Decoders
from vlfew.serving.gate import Gate
from vlfew.serving.options import ServeOptions
from vlfew.serving.problems import Problem
from vlfew.serving.routes import identities, maintenance, page, recognition, review, settings
from vlfew.serving.schemas import ProblemBody
from vlfew.serving.state import Server

NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
WHAT = {404: "there is no such page", 405: "this method is not for this path"}


def make_app(
    gallery: Gallery, options: ServeOptions | None = None, decoders: Decoders | None = None
) -> FastAPI:
    """An ASGI application over a gallery.

    Args:
        gallery: open; who opened it closes it, after the application has ended.
        options: what is allowed; by default what a server that only this machine can reach may allow.
        decoders: processes that decode images, which several applications may share; by default its own.
    """
    server = Server(gallery, options or ServeOptions(), decoders)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        try:
            yield
        finally:
            await server.stop()

    app = FastAPI(
        title="vlfew gallery",
        version=vlfew.__version__,
        summary="Enroll identities once, recognize them ever after.",
        lifespan=lifespan,
        docs_url=None,  # its scripts would come from another site
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        redirect_slashes=False,
    )
    app.add_middleware(Gate, server=server)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    recognition.add_routes(app, server)
    identities.add_routes(app, server)
    settings.add_routes(app, server)
    review.add_routes(app, server)
    maintenance.add_routes(app, server)
    page.add_routes(app, server)
    _describe_problems(app)
    app.state.server = server
    return app


async def _invalid(request: Request, error: Exception) -> Response:
    """A parameter or a JSON body that is not what it should be."""
    assert isinstance(error, RequestValidationError)
    lines = []
    for one in error.errors()[:5]:
        where = ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0])
        lines.append(f"{where}: {one['msg']}")
    broken = any(one["type"] == "json_invalid" for one in error.errors())
    return Problem(400 if broken else 422, "; ".join(lines)).response()


async def _refused(request: Request, error: Exception) -> Response:
    """No such path, or method."""
    assert isinstance(error, HTTPException)
    return Problem(
        error.status_code, WHAT.get(error.status_code, str(error.detail)), error.headers
    ).response()


def _describe_problems(app: FastAPI) -> None:
    """Adds the schema of problems to the OpenAPI description, which routes refer to."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        described = plain()
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas.setdefault("ProblemBody", ProblemBody.model_json_schema())
        return described

    app.openapi = openapi  # type: ignore[method-assign]
