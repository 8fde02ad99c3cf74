"""The web page, and what watches over a server: health, readiness, metrics."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, PlainTextResponse, Response

from vlfew.serving.problems import busy
from vlfew.serving.schemas import StatusBody, problems
from vlfew.serving.state import Server

PAGE = Path(__file__).parent.parent / "page"


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        index = PAGE / "index.html"
        if not index.is_file():
            return PlainTextResponse("vlfew gallery; the interface is described in /openapi.json")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False))

    @app.get("/healthz", response_model=StatusBody)
    async def health() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=StatusBody, responses=problems())
    async def ready() -> dict[str, str]:
        """Whether it can answer: 503 where the gallery cannot be read, or images cannot be decoded yet."""
        if server.problem is not None:
            raise busy("the gallery cannot answer; the log of the server says since when")
        if not server.decoders.ready:
            raise busy(
                "no process that decodes images has started; the log of the server says why one cannot"
            )
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses=problems())
    async def metrics() -> Response:
        """Counts and times in the text format of Prometheus."""
        identities, items = await server.call(server.gallery.count)
        server.metrics.identities.set(identities)
        server.metrics.items.set(items)
        server.metrics.waiting.set(server.decoders.queued + server.batcher.waiting)
        server.metrics.restarts.set(server.decoders.restarts)
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
