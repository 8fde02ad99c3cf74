"""Sessions, settings and thresholds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.responses import Response

import vlfew
from vlfew.evaluation.templates import Support
from vlfew.gallery.calibration import Calibration
from vlfew.serving.decode_worker import formats
from vlfew.serving.gate import Access, session_of
from vlfew.serving.keys import find_key
from vlfew.serving.options import ServeOptions
from vlfew.serving.problems import Problem, last_part
from vlfew.serving.routes.identities import read_images
from vlfew.serving.routes.recognition import json_response
from vlfew.serving.schemas import (
    FILES,
    KeyBody,
    RatesBody,
    SettingsBody,
    ThresholdMap,
    ThresholdsBody,
    ValueBody,
    form,
    problems,
)
from vlfew.serving.sessions import COOKIE, SECONDS
from vlfew.serving.state import Server
from vlfew.serving.uploads import Upload, read_form

IMPOSTORS = 8
"""Images of strangers, in multiples of the images that a request may have otherwise."""
CALIBRATE_BODY = form({"far": {"type": "number"}, "fpir": {"type": "number"}, "impostors": FILES}, [])
CALIBRATE_BODY["requestBody"]["content"]["application/json"] = {"schema": RatesBody.model_json_schema()}


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

    def over_https(request: Request) -> bool:
        """Whether the page came over HTTPS, be it by a proxy that ends it: then the cookie is for HTTPS alone."""
        return options.secure or request.headers.get("origin", "").lower().startswith("https:")

    @app.post("/session", status_code=204, responses=problems())
    async def begin_session(request: Request, body: KeyBody) -> Response:
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
            secure=over_https(request),
            httponly=True,
            samesite="strict",
        )
        return response

    @app.delete("/session", status_code=204, responses=problems())
    async def end_session(request: Request) -> Response:
        """Ends the session."""
        server.sessions.end(session_of(request.headers.get("cookie", "")))
        response = Response(status_code=204)
        response.delete_cookie(COOKIE, path="/", secure=over_https(request), httponly=True, samesite="strict")
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
            "gallery": last_part(gallery.name),
            "identities": identities,
            "items": items,
            "model": known["model"].rstrip("/").rpartition("/")[2],
            "fingerprint": known["fingerprint"],
            "dim": known["dim"],
            "combine": known["combine"],
            "text_weight": known["text_weight"],
            "has_text": server.has_text,
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

    @app.get("/thresholds", response_model=ThresholdMap, responses=problems())
    async def thresholds() -> Response:
        """The thresholds, one for each kind of support, with what they stand for."""
        return json_response(await server.call(current_thresholds))

    @app.put("/thresholds", response_model=ThresholdMap, responses=problems(507))
    async def set_thresholds(body: dict[Support, ValueBody | None]) -> Response:
        """Sets thresholds by hand, or removes those that are null; kinds that are not given stay as they are."""

        def change() -> dict[str, dict[str, Any]]:
            gallery.refresh()
            changed: dict[Support, Mapping[str, Any]] = {**gallery.thresholds}
            for support, given in body.items():
                if given is None:
                    changed.pop(support, None)
                else:
                    changed[support] = {"value": given.value}
            gallery.set_thresholds(changed)
            return current_thresholds()

        return json_response(await server.call(change))

    @app.post(
        "/calibrate",
        response_model=ThresholdsBody,
        responses=problems(409, 415, 507),
        openapi_extra=CALIBRATE_BODY,
    )
    async def calibrate(request: Request) -> Response:
        """Sets the thresholds for a FAR or an FPIR, from the gallery's own images and those of strangers."""
        rates, uploads = await _rates(request, options)
        impostors: list[Any] = [*await read_images(server, uploads, enrolled=False)]
        warnings: list[str] = []
        await server.call(
            gallery.calibrate,
            far=rates.far,
            fpir=rates.fpir,
            impostors=impostors,
            validation=options.validation,
            on_problem=warnings.append,
        )
        return json_response({"thresholds": await server.call(current_thresholds), "warnings": warnings})


async def _rates(request: Request, options: ServeOptions) -> tuple[RatesBody, list[Upload]]:
    """The rates that are asked for, and the images of strangers.

    Raises:
        Problem: neither JSON nor a form of that kind.
    """
    uploads: list[Upload] = []
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        content: bytes | str = await request.body()
    else:
        form = await read_form(request, "impostors")
        uploads = form.images("impostors", 0, IMPOSTORS * options.images)
        rates = {key: form.text(key) for key in ("far", "fpir") if form.text(key)}
        content = json.dumps(rates)
    try:
        return RatesBody.model_validate_json(content), uploads
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors()[:5]]
        raise Problem(422, "; ".join(lines)) from None
