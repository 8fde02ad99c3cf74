"""Who may come in: every request passes here first, and is counted and logged here at its end.

Without keys, the server trusts who can reach it, that is programs of this machine; but a web page from elsewhere, open
in a browser of this machine, can reach it too. Its requests carry a foreign `Origin` or `Sec-Fetch-Site`, or after DNS
rebinding a foreign `Host`, and are refused. So are forwarded requests, which come from who knows where.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from vlfew.core.errors import VlfewError
from vlfew.core.files import NO_SPACE
from vlfew.serving.keys import SCOPES, Key, find_key
from vlfew.serving.logs import describe_exception, log_event, logger
from vlfew.serving.options import MIB, ServeOptions
from vlfew.serving.problems import Problem, problem_of
from vlfew.serving.sessions import COOKIE
from vlfew.serving.state import Server
from vlfew.serving.uploads import too_large

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = re.compile(r"/|/static/.*|/healthz|/readyz|/session|/settings|/openapi\.json|/favicon\.ico")
"""Paths that need no key; `/settings` says less without."""
READING = re.compile(r"/identify|/search|/verify|/identities/\d+/verify")
"""Paths whose POST changes nothing."""
SAFE = ("GET", "HEAD", "OPTIONS")
WHOLE = ("/export",)
"""Paths that give embeddings and images themselves, and need `write` for looking too."""
OPEN_BYTES = 2**16
"""Largest body of a path that needs no key."""
JSON_BYTES = 16 * MIB
"""Largest body that is neither a form with files nor an image."""
FILE_TYPES = (b"multipart/", b"image/", b"application/octet-stream", b"application/zip")
SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
CLOSED_BY_CLIENT = 499


@dataclass(frozen=True)
class Access:
    """What a request may do.

    Attributes:
        scopes: see `SCOPES`.
        signed_in: whether it has a good key or session, or needs none.
    """

    scopes: tuple[str, ...]
    signed_in: bool


class Gate:
    """ASGI middleware.

    Args:
        app: what follows.
        server: whose keys and options count.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        begin, status, started = time.perf_counter(), 500, False
        body = _Body(receive, self._server.options, scope)

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                if body.problem is not None:  # which FastAPI took for a body of JSON that cannot be read
                    raise body.problem
                status, started = message["status"], True
                headers = [*message.get("headers", ()), *SECURITY_HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            try:
                scope.setdefault("state", {})["access"] = self._admit(scope)
                body.check_length()
                await self._app(scope, body.receive, answer)
            except VlfewError as error:
                raise problem_of(error, self._server.gallery.name) from None
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                raise Problem(507, f"{NO_SPACE[error.errno]}; make space where the server runs") from None
        except Problem as problem:
            body.problem = None
            if not started:
                await problem.response()(scope, receive, answer)
        except ClientDisconnect:
            status = CLOSED_BY_CLIENT
        except Exception as error:
            status = 500
            logger.error("request failed", extra={"fields": {"error": describe_exception(error)}})
            if not started:
                failed = Problem(500, "the server failed at this request; its log says where")
                await failed.response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begin
            route = getattr(scope.get("route"), "path", "other")
            self._server.metrics.observe(scope["method"], route, status, seconds)
            log_event(
                "request",
                method=scope["method"][:10],
                route=route,
                status=status,
                ms=round(1e3 * seconds, 1),
            )

    def _admit(self, scope: Scope) -> Access:
        """What a request may do.

        Raises:
            Problem: nothing.
        """
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in (b"host", b"origin", b"authorization", b"content-length"):
                raise Problem(400, f"the header {name.decode('latin-1')} is there twice")
            headers[name] = value
        self._check_origin(scope, headers)
        method, path = scope["method"], scope["path"]
        access = self._access(headers)
        if OPEN.fullmatch(path):
            return access
        if not access.signed_in:
            detail = (
                "the key is not one of this gallery, or was revoked"
                if b"authorization" in headers or b"cookie" in headers
                else "a key is needed: send Authorization: Bearer KEY; vlfew gallery key add DB makes one"
            )
            raise Problem(401, detail, {"WWW-Authenticate": "Bearer"})
        looks = method in SAFE and path not in WHOLE
        needed = "read" if looks or (method == "POST" and READING.fullmatch(path)) else "write"
        if needed not in access.scopes:
            raise Problem(
                403, f"the key has no scope {needed!r}; vlfew gallery key add DB makes one that has"
            )
        return access

    def _check_origin(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """
        Raises:
            Problem: called by another name, from another site, or through a proxy.
        """
        options = self._server.options
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if options.hosts is not None and _without_port(host) not in options.hosts:
            raise Problem(
                421,
                f"this server is not called {_without_port(host)[:80]!r}; see vlfew gallery serve --allow-host",
            )
        if not options.key_required:
            for name in headers:
                if name == b"forwarded" or name.startswith(b"x-forwarded-") or name == b"x-real-ip":
                    raise Problem(
                        400,
                        "the request was forwarded by a proxy, and this server asks for no key; serve it with a key: "
                        "vlfew gallery serve --require-key",
                    )
        origin = headers.get(b"origin")
        if origin is not None:
            # A server without TLS may have a proxy before it that has.
            allowed = [
                f"{scheme}://{host}" for scheme in (("https",) if options.secure else ("https", "http"))
            ]
            if origin.decode("latin-1").lower() not in allowed:
                raise Problem(403, "the request comes from a page of another site")
        site = headers.get(b"sec-fetch-site", b"none")
        if site not in (b"none", b"same-origin") and scope["path"] != "/":
            raise Problem(403, "the request comes from a page of another site")

    def _access(self, headers: dict[bytes, bytes]) -> Access:
        if not self._server.options.key_required:
            return Access(SCOPES, True)
        key: Key | None = None
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() == "bearer":
            key = find_key(self._server.keys, token.strip())
        elif cookie := session_of(headers.get(b"cookie", b"").decode("latin-1")):
            key = self._server.sessions.find(cookie, self._server.keys)
        return Access((), False) if key is None else Access(key.scopes, True)


class _Body:
    """The body of a request, no larger than its route may take, which must arrive in time.

    Args:
        receive: gives its parts.
        options: with the limits.
        scope: of the request.
    """

    def __init__(self, receive: Receive, options: ServeOptions, scope: Scope) -> None:
        self._receive, self._size, self._done = receive, 0, False
        self._seconds, self._until = options.body_seconds, 0.0
        self._length = b""
        self.problem: Problem | None = None
        """What was wrong with it; raised already, but the app may have taken it for something else."""
        kind = b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._length = value
            elif name == b"content-type":
                kind = value.strip().lower()
        self._whole = scope["path"] != "/import"
        """Whether the time is for all of it; an import may be large, and has it for each part."""
        self._most = options.request_bytes if self._whole else options.import_bytes
        if not kind.startswith(FILE_TYPES):
            self._most = min(self._most, JSON_BYTES)
        if OPEN.fullmatch(scope["path"]):
            self._most = min(self._most, OPEN_BYTES)

    def check_length(self) -> None:
        """
        Raises:
            Problem: the request says that it is too large.
        """
        if self._length.isdigit() and int(self._length) > self._most:
            raise too_large(self._most)

    async def receive(self) -> Message:
        """The next part; after the last one, that the client is gone.

        Raises:
            Problem: it is too large, or takes too long.
        """
        if self._done:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        if not self._whole or not self._until:
            self._until = now + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.problem = Problem(
                408,
                f"the request took more than {self._seconds:g} s to arrive; send it again",
                {"Connection": "close"},
            )
            raise self.problem from None
        self._size += len(message.get("body", b""))
        self._done = not message.get("more_body", False)
        if self._size > self._most:
            self.problem = too_large(self._most)
            raise self.problem
        return message


def session_of(cookies: str) -> str:
    """The session's token among the cookies of a request; "" for none."""
    if COOKIE not in cookies:
        return ""
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _without_port(host: str) -> str:
    """`localhost:8000` to `localhost`, `[::1]:8000` to `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
