"""A process that decodes images for a server: it may be ended at any time, and takes no more memory than it is given.

`python -m vlfew.serving.decode_worker FD BYTES`; messages come through the socket FD, see `decoding`. What is sent is
not trusted, and neither is what comes out: the server reads JSON and pixels of a known size.
"""

from __future__ import annotations

import io
import json
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from vlfew.core.errors import DataError, first_line
from vlfew.data.decode import BadImage, read_image, reads_heic
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.gallery.images import make_thumbnail

LENGTHS = struct.Struct("!IQ")
"""What a message begins with: lengths of its JSON and of the bytes that follow."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded, by content and not by name; with pillow-heif HEIC too."""


def formats() -> list[str]:
    """What this installation decodes."""
    return [*FORMATS, *(["HEIF"] if reads_heic() else [])]


def settings_message(preprocessor: ImagePreprocessor, thumbnail: bool, most_pixels: int) -> str:
    """How images are decoded, for a message."""
    values = asdict(preprocessor)
    if values["resize_first"] is not None:
        values["resize_first"] = values["resize_first"].model_dump(mode="json")
    return json.dumps({"preprocessor": values, "thumbnail": thumbnail, "most_pixels": most_pixels})


@lru_cache(8)
def _settings(message: str) -> tuple[ImagePreprocessor, bool, int]:
    values = json.loads(message)
    preprocessor = TypeAdapter(ImagePreprocessor).validate_python(values["preprocessor"])
    return preprocessor, values["thumbnail"], values["most_pixels"]


def receive(connection: socket.socket) -> tuple[Any, memoryview]:
    """A message: JSON values and bytes.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: it does not answer.
        ValueError: what came is no message.
    """
    size, more = LENGTHS.unpack(_receive_bytes(connection, LENGTHS.size))
    if size > 2**24 or more > 2**34:
        raise ValueError("not a message")
    return json.loads(bytes(_receive_bytes(connection, size))), _receive_bytes(connection, more)


def _receive_bytes(connection: socket.socket, size: int) -> memoryview:
    whole = memoryview(bytearray(size))
    done = 0
    while done < size:
        count = connection.recv_into(whole[done:])
        if not count:
            raise EOFError
        done += count
    return whole


def send(connection: socket.socket, values: Any, parts: list[Any]) -> None:
    """Sends a message."""
    text = json.dumps(values).encode()
    start = LENGTHS.pack(len(text), sum(map(len, parts))) + text
    if sum(map(len, parts)) < 2**16:  # one call of the system
        connection.sendall(start + b"".join(parts))
        return
    connection.sendall(start)
    for part in parts:
        connection.sendall(part)


def decode(content: memoryview, settings: str) -> tuple[dict[str, Any], list[Any]]:
    """What an image holds, or what is wrong with it: JSON values, and the bytes of pixels and thumbnail."""
    from PIL import Image, UnidentifiedImageError

    preprocessor, thumbnail, most_pixels = _settings(settings)
    try:
        if not len(content):
            raise BadImage("", "the file is empty")
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            if image.width * image.height > most_pixels:
                return {
                    "status": 413,
                    "error": f"{image.width}x{image.height} pixels, above the limit of {most_pixels:,}",
                }, []
            pixels = read_image(image, preprocessor)
        small = b""
        if thumbnail:
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                small = make_thumbnail(image, "")
    except UnidentifiedImageError:
        return {"status": 422, "error": f"not an image of a known kind ({', '.join(formats())})"}, []
    except DataError as error:
        return {"status": 422, "error": str(error).partition("cannot be read: ")[2] or str(error)}, []
    except MemoryError:
        return {"status": 413, "error": "it takes more memory to decode than is allowed"}, []
    except Exception as error:  # Pillow raises all kinds of exceptions on damaged bytes
        return {"status": 422, "error": first_line(error)}, []
    return {"thumbnail": len(small)}, [pixels.contiguous().numpy().tobytes(), small]


def _limit(memory: int) -> None:
    """Allows so many bytes of memory above what the process has, no files to be written and no dumps."""
    try:
        import resource
    except ImportError:  # not Unix
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))


def main() -> None:
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    Image.MAX_IMAGE_PIXELS = None  # the server has its own limit
    connection = socket.socket(fileno=int(sys.argv[1]))
    formats()
    _limit(int(sys.argv[2]))
    send(connection, "ready", [])
    while True:
        try:
            message, content = receive(connection)
        except (EOFError, OSError):  # the server is gone
            return
        at = 0
        for size in message["sizes"]:
            answer, parts = decode(content[at : at + size], message["settings"])
            at += size
            send(connection, answer, parts)  # each at once: the server's patience is for one image


if __name__ == "__main__":
    main()
