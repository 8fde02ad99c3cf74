"""Names of identities."""

from __future__ import annotations

import unicodedata

from vlfew.core.errors import DataError, describe_value

LONGEST = 200


def checked_name(name: object) -> str:
    """The name in Unicode's composed form (NFC), without space around it.

    Slashes, emoji and any script are fine.

    Raises:
        DataError: empty, longer than 200 characters, or with control characters such as NUL or a line break.
    """
    if not isinstance(name, str):
        raise DataError(f"a name must be a str, got {describe_value(name)}")
    composed = unicodedata.normalize("NFC", name).strip()
    if not composed:
        raise DataError("a name is empty; give the identity one")
    if len(composed) > LONGEST:
        raise DataError(
            f"the name {composed[:20]!r}... has {len(composed):,} characters; at most {LONGEST} are taken"
        )
    if composed.isprintable():  # most names
        return composed
    if bad := [c for c in composed if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]:
        raise DataError(f"the name {composed!r} has the control character {bad[0]!r}; leave it out")
    return composed
