"""Images and texts of a request: `multipart/form-data`, or one image as the whole body. `Gate` limits its size."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vlfew.core.errors import one_line
from vlfew.serving.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

MOST_FIELDS = 256
FIELD_BYTES = 65536
LONGEST_NAME = 120
"""Of a file, for messages."""
ON_THE_LOOP = 2**20
"""Larger bodies are parsed in a thread."""


@dataclass(frozen=True)
class Upload:
    """A file of a request."""

    name: str
    content: bytes = field(repr=False)


@dataclass
class Form:
    """What a request holds.

    Attributes:
        fields: texts by the name of the field.
        files: files by the name of the field.
    """

    fields: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    files: dict[str, list[Upload]] = field(default_factory=lambda: defaultdict(list))

    def images(self, name: str, least: int, most: int) -> list[Upload]:
        """The images of a field.

        Raises:
            Problem: too few or too many.
        """
        if name in self.fields:
            raise Problem(422, f"the field {name!r} holds a text; send image files, each with a file name")
        found = self.files.get(name, [])
        if len(found) < least:
            raise Problem(422, f"there is no image in the field {name!r}; send at least {least}")
        if len(found) > most:
            raise Problem(
                413, f"{len(found)} images in {name!r}; a request may have {most}: send several requests"
            )
        return found

    def text(self, name: str, default: str = "") -> str:
        """The one text of a field.

        Raises:
            Problem: it is there twice.
        """
        found = self.fields.get(name, [default])
        if len(found) > 1:
            raise Problem(422, f"the field {name!r} is there {len(found)} times; send it once")
        return found[0]

    def flag(self, name: str) -> bool:
        """A field that is true or false.

        Raises:
            Problem: something else.
        """
        text = self.text(name, "false").lower()
        if text not in ("true", "false", "1", "0", "on", ""):
            raise Problem(422, f"the field {name!r} is {text[:20]!r}; it must be true or false")
        return text in ("true", "1", "on")


def too_large(most: int) -> Problem:
    return Problem(
        413,
        f"the request is larger than {most:,} bytes; send fewer or smaller images",
        {"Connection": "close"},
    )


async def read_form(request: Request, whole: str = "images") -> Form:
    """The fields and files of a request.

    Args:
        request: not yet read.
        whole: name of the field for a body that is one image (`Content-Type: image/...`).

    Raises:
        Problem: another type of content, too much of it, or a form that cannot be read.
    """
    header = request.headers.get("content-type", "")
    kind, parameters = parse_options_header(header)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        return Form(files={whole: [Upload("image", await request.body())]})
    if kind == b"application/x-www-form-urlencoded":
        return _parse_fields(await request.body())
    if kind != b"multipart/form-data" or not parameters.get(b"boundary"):
        raise Problem(
            415,
            f"the content type is {header[:60]!r}; send multipart/form-data, or one image as image/jpeg and the like",
        )
    body = await request.body()
    if len(body) > ON_THE_LOOP:
        return await asyncio.to_thread(parse_form, body, parameters[b"boundary"])
    return parse_form(body, parameters[b"boundary"])


def parse_form(body: bytes, boundary: bytes) -> Form:
    """A `multipart/form-data` body.

    Raises:
        Problem: it cannot be read, or has too many or too long fields.
    """
    form, headers, parts = Form(), dict[bytes, bytes](), list[bytes]()
    name, value = bytearray(), bytearray()
    count = 0
    ended = False

    def begin() -> None:
        headers.clear()
        parts.clear()

    def end_header() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def end_part() -> None:
        nonlocal count
        count += 1
        if count > MOST_FIELDS:
            raise Problem(413, f"the form has more than {MOST_FIELDS} parts; send several requests")
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        _add(form, options, content)

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: MultipartCallbacks = {
        "on_part_begin": begin,
        "on_part_data": lambda data, start, stop: parts.append(data[start:stop]),
        "on_part_end": end_part,
        "on_header_field": lambda data, start, stop: name.extend(data[start:stop]),
        "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
        "on_header_end": end_header,
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"the form cannot be read: {error}") from None
    if not ended:
        raise Problem(400, "the form ends in the middle; send all of it")
    return form


def _parse_fields(body: bytes) -> Form:
    """An `application/x-www-form-urlencoded` body, which holds no files.

    Raises:
        Problem: it cannot be read, or has too many or too long fields.
    """
    form = Form()
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "a field of the form is not UTF-8") from None
    except ValueError as error:
        raise Problem(413, f"the form cannot be read: {error}") from None
    for name, text in pairs:
        if len(text) > FIELD_BYTES:
            raise Problem(413, f"the field {name[:40]!r} has more than {FIELD_BYTES:,} characters")
        form.fields[name].append(text)
    return form


def _add(form: Form, options: dict[bytes, bytes], content: bytes) -> None:
    """Adds a part to a form."""
    if b"name" not in options:
        raise Problem(400, "a part of the form has no name")
    try:
        field_name = options[b"name"].decode()
        if b"filename" in options:
            if options[b"filename"] or content:  # a file input that was left empty is sent without a name
                shown = one_line(options[b"filename"].decode(errors="replace"))[-LONGEST_NAME:] or "image"
                form.files[field_name].append(Upload(shown, content))
            return
        if len(content) > FIELD_BYTES:
            raise Problem(413, f"the field {field_name[:40]!r} has more than {FIELD_BYTES:,} bytes")
        form.fields[field_name].append(content.decode())
    except UnicodeDecodeError:
        raise Problem(400, "a field of the form is not UTF-8") from None
