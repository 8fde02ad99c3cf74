"""Sessions, settings and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

import vlfew
from vlfew.evaluation.thresholds import Support
from vlfew.gallery.calibration import Calibration
from vlfew.serving.decode_worker import formats
from vlfew.serving.gate import Access, session_of
from vlfew.serving.keys import find_key
from vlfew.serving.problems import Problem
from vlfew.serving.routes.recognition import json_response
from vlfew.serving.schemas import KeyBody, SettingsBody, ThresholdsBody, problems
from vlfew.serving.sessions import COOKIE, SECONDS
from vlfew.serving.state import Server


def thresholds_json(
    thresholds: Mapping[Support, Mapping[str, Any]], gallery_size: int
) -> dict[str, dict[str, Any]]:
    """Thresholds with a line that says what each stands for, and its value for this size of the gallery."""
    found: dict[str, dict[str, Any]] = {}
    for support, stored in thresholds.items():
        calibration = Calibration.from_json(stored)
        if calibration is None:
            value = float(stored["value"])
            found[support] = {"value": value, "current": value}
            continue
        threshold = calibration.threshold
        found[support] = {
            **threshold.model_dump(mode="json"),
            "current": calibration.value(gallery_size),
            "summary": threshold.describe(),
            "notes": threshold.notes,
        }
    return found


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""
    gallery, options = server.gallery, server.options

    def current_thresholds() -> dict[str, dict[str, Any]]:
        gallery.refresh()
        return thresholds_json(gallery.thresholds, len(gallery))

    @app.post("/session", status_code=204, responses=problems())
    async def begin_session(body: KeyBody) -> Response:
        """Begins a session of the web page: a cookie takes the place of the key."""
        key = find_key(server.keys, body.key.strip())
        if key is None:
            raise Problem(401, "the key is not one of this gallery, or was revoked")
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE,
            server.sessions.begin(key),
            max_age=SECONDS,
            path="/",
            secure=options.secure,
            httponly=True,
            samesite="strict",
        )
        return response

    @app.delete("/session", status_code=204, responses=problems())
    async def end_session(request: Request) -> Response:
        """Ends the session."""
        server.sessions.end(session_of(request.headers.get("cookie", "")))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/", secure=options.secure, httponly=True, samesite="strict")
        return response

    @app.get("/settings", response_model=SettingsBody, responses=problems())
    async def settings(request: Request) -> Response:
        """What the gallery is, and what the server allows; without a key whether one is needed."""
        access: Access = request.state.access
        answer: dict[str, Any] = {
            "key_required": options.key_required,
            "signed_in": access.signed_in,
            "version": vlfew.__version__,
        }
        if not access.signed_in or "read" not in access.scopes:
            return json_response(answer)
        thresholds = await server.call(current_thresholds)
        identities, items = await server.call(gallery.count)
        known = gallery.settings
        answer |= {
            "gallery": gallery.name.rpartition("/")[2],
            "identities": identities,
            "items": items,
            "model": known["model"].rstrip("/").rpartition("/")[2],
            "fingerprint": known["fingerprint"],
            "dim": known["dim"],
            "combine": known["combine"],
            "text_weight": known["text_weight"],
            "has_text": gallery.model.has_text,
            "read_only": gallery.store.read_only,
            "scopes": access.scopes,
            "thresholds": thresholds,
            "limits": {
                "bytes": options.image_bytes,
                "pixels": options.image_pixels,
                "images": options.images,
            },
            "formats": formats(),
        }
        return json_response(answer)

    @app.get("/thresholds", response_model=ThresholdsBody, responses=problems())
    async def thresholds() -> Response:
        """The thresholds, one for each kind of support, with what they stand for."""
        return json_response({"thresholds": await server.call(current_thresholds), "warnings": []})
