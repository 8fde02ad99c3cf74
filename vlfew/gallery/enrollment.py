"""What is to be enrolled: images read, images and texts encoded, and what is odd about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlfew.core.checks import to_list
from vlfew.core.errors import DataError
from vlfew.core.paths import user_path
from vlfew.core.plurals import first_names
from vlfew.data.threads import map_in_threads
from vlfew.gallery.encoding import encode_images, to_rows, unit_length
from vlfew.gallery.images import ReadImage, file_digest
from vlfew.gallery.names import checked_name
from vlfew.gallery.store import Enrolled, NewIdentity, NewItem
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import check_texts

WINDOW = 256
"""Images of whole identities that are read, encoded and written at a time."""


@dataclass
class Enrollment:
    """What `enroll_many` did.

    Attributes:
        enrolled: each identity that something was asked for.
        errors: a line for each image that cannot be read; it was left out.
        warnings: a line each.
    """

    enrolled: list[Enrolled] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Request:
    """What is to be enrolled for one identity.

    Attributes:
        name: of the identity.
        images: paths, Pillow images or arrays.
        texts: that describe it.
        key: the idempotency key; "" for none.
        read: the images that could be read, and were not known before.
    """

    name: str
    images: list[Any]
    texts: list[str]
    key: str = ""
    read: list[ReadImage] = field(default_factory=list)


def requests_of(identities: Mapping[str, Iterable[Any]]) -> list[Request]:
    """Requests from names to their items, of which a `str` is a text.

    Raises:
        DataError: a bad name, one that is there twice in Unicode's composed form, or no items.
    """
    requests: dict[str, Request] = {}
    for name, items in identities.items():
        given = to_list(items, "items", f"{name!r}: ")
        texts = check_texts([item for item in given if isinstance(item, str)], f"{name!r}: ")
        own = Request(checked_name(name), [item for item in given if not isinstance(item, str)], texts)
        if not given:
            raise DataError(f"{name!r} has no items; add an image, a text or both")
        if own.name in requests:
            raise DataError(f"the name {own.name!r} is there twice; give each identity one name")
        requests[own.name] = own
    return [*requests.values()]


def windows(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """Requests of about `WINDOW` images together."""
    window: list[Request] = []
    images = 0
    for request in requests:
        window.append(request)
        images += len(request.images) + 1
        if images >= WINDOW:
            yield window
            window, images = [], 0
    if window:
        yield window


def read_images(
    requests: Sequence[Request],
    read: Callable[[Any, int], ReadImage],
    known: Mapping[str, set[bytes]],
    skip_bad: bool,
) -> list[str]:
    """Reads the images of requests; returns a line for each that cannot be read.

    Args:
        requests: whose `read` is filled.
        read: reads an image, given its number.
        known: digests of the files that an identity has already, and that are left out.
        skip_bad: whether to go on after an image that cannot be read.

    Raises:
        DataError: an image that cannot be read, without `skip_bad`.
    """
    jobs = [(request, number, image) for request in requests for number, image in enumerate(request.images)]

    def work(job: tuple[Request, int, Any]) -> ReadImage | DataError | None:
        request, number, image = job
        try:
            own = known.get(request.name)
            if own and isinstance(image, Path) and file_digest(user_path(image)) in own:
                return None
            return read(image, number)
        except DataError as error:
            return error

    errors = []
    for (request, _, _), image in zip(jobs, map_in_threads(work, jobs), strict=True):
        if isinstance(image, ReadImage):
            request.read.append(image)
        elif image is not None and not skip_bad:
            raise image
        elif image is not None:
            errors.append(f"{request.name}: {image}")
    return errors


def encode(requests: Sequence[Request], model: DualStream, replace: bool) -> list[NewIdentity]:
    """What a store takes, from requests whose images were read.

    Raises:
        ModelError: texts for a model without a text encoder, or an embedding that is zero or not finite.
    """
    images = [image for request in requests for image in request.read]
    texts = [text for request in requests for text in request.texts]
    image_rows = iter(to_rows(encode_images(model, images)))
    text_rows = iter(to_rows(unit_length(model.encode_text(texts), texts)) if texts else [])
    identities = []
    for request in requests:
        items = [
            NewItem("image", one.digest, next(image_rows), "", one.source, one.thumbnail, one.content)
            for one in request.read
        ]
        items += [
            NewItem("text", hashlib.sha256(text.encode()).digest(), next(text_rows), text)
            for text in request.texts
        ]
        asked = json.dumps([request.name, replace, [item.digest.hex() for item in items]])
        digest = hashlib.sha256(asked.encode()).digest()
        identities.append(NewIdentity(request.name, items, replace, request.key, digest))
    return identities


def warnings_of(requests: Sequence[Request], holders: Mapping[bytes, list[str]], replace: bool) -> list[str]:
    """A line for each image that is blank, there already, or that of someone else.

    Args:
        requests: whose images were read.
        holders: the names of the identities that have images of a digest.
        replace: whether what the identities have is removed first.
    """
    found, holding = [], {digest: [*names] for digest, names in holders.items()}
    for request in requests:
        own: set[bytes] = set()
        for image in request.read:
            if image.blank:
                found.append(f"{image.name} ({request.name!r}) is blank: every pixel is the same")
            others = [name for name in holding.get(image.digest, ()) if name != request.name]
            if others:
                names = first_names([repr(name) for name in others], 3)
                found.append(f"{image.name} ({request.name!r}) is the same image as one of {names}")
            again = request.name in holding.get(image.digest, ()) and not replace and not request.key
            if image.digest in own or again:
                how = "twice" if image.digest in own else "already"
                found.append(f"{image.name} is {how} in {request.name!r}; it counts once")
            own.add(image.digest)
        for digest in own:
            holding.setdefault(digest, []).append(request.name)
    return found
