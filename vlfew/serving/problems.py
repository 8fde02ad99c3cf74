"""Errors as answers: `application/problem+json` (RFC 9457), with the one clear line as its `detail`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from vlfew.core.errors import VlfewError, one_line
from vlfew.serving.error_codes import STATUS, code_of

RETRY_SECONDS = 1


class Problem(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP.
        detail: one line that says what is wrong, and the way out.
        headers: of the answer.
        extra: further members.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.extra = status, one_line(detail), headers or {}, extra

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": _title(self.status),
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }

    def response(self) -> Response:
        content = json.dumps(self.to_json(), ensure_ascii=False).encode(errors="backslashreplace")
        return Response(content, self.status, self.headers, "application/problem+json")


def problem_of(error: VlfewError, gallery: str) -> Problem:
    """The answer of an error that a user can fix.

    Args:
        error: what is wrong.
        gallery: path or URL of the gallery; answers have the last part of it, since paths of the server are its own.
    """
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    detail = "; ".join(str(error).splitlines()).replace(gallery, last_part(gallery))
    return Problem(status, detail, headers, code=code_of(error))


def last_part(gallery: str) -> str:
    """`things.db` of `/home/ann/things.db`."""
    return gallery.rpartition("/")[2]


def busy(detail: str) -> Problem:
    """Try again later."""
    return Problem(503, detail, {"Retry-After": str(RETRY_SECONDS)})


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
