"""What errors are called over HTTP: `GalleryClient` raises what the gallery raised."""

from __future__ import annotations

import re

from vlfew.core.errors import ConfigError, DataError, ModelError, VlfewError, WriteError
from vlfew.gallery.contract import OtherModel
from vlfew.gallery.score_review import TooFewImages
from vlfew.gallery.store import (
    Conflict,
    DamagedStore,
    EmptyGallery,
    NotFound,
    ReadOnlyStore,
    StaleModel,
    StoreUnavailable,
)

STATUS: tuple[tuple[type[VlfewError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (EmptyGallery, 409),
    (StaleModel, 409),
    (OtherModel, 409),
    (TooFewImages, 409),
    (StoreUnavailable, 503),
    (ReadOnlyStore, 403),
    (WriteError, 507),
    (DamagedStore, 500),
    (ConfigError, 422),
    (ModelError, 422),
    (DataError, 422),
    (VlfewError, 422),
)
"""Of each kind of error, the first that fits."""


def _code(kind: type[VlfewError]) -> str:
    """`too_few_images` of `TooFewImages`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


KINDS: dict[str, type[VlfewError]] = {_code(kind): kind for kind, _ in STATUS}
"""The kinds of errors by their codes."""


def code_of(error: VlfewError) -> str:
    """The code of an error: of the first kind that fits."""
    return next(code for code, kind in KINDS.items() if isinstance(error, kind))
