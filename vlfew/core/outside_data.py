"""The images, other than those of the training split, that the weights of a model were trained on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

NOT_KNOWN = "not known"
"""The data of weights that come without a record of them."""


def named(value: Any) -> Any:
    """Data by name; earlier files say `true` or `false`."""
    if value is None or isinstance(value, bool):
        return NOT_KNOWN if value else ""
    return value


OutsideData = Annotated[str, BeforeValidator(named)]
"""Names of data sets joined by ` + `, in the order of training; `not known`; or empty, for none."""
