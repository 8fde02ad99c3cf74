"""Keeps a figure and its interval on one line in the documentation's pages."""

from __future__ import annotations

from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """Puts non-breaking spaces around each plus-minus sign."""
    return html.replace(" ± ", "\u00a0±\u00a0")
