"""HTML that cannot be malformed: plain strings are escaped, tags are always closed."""

from __future__ import annotations

from html import escape

VOID = {"img", "meta"}


class Html(str):
    """Text that is markup already."""


Child = str | None
Value = str | int | float | bool | None


def element(tag: str, *children: Child, **attributes: Value) -> Html:
    """`<tag attributes>children</tag>`.

    Args:
        tag: its name; inline SVG needs no namespace.
        children: escaped, unless they are `Html`; None is left out.
        attributes: `class_` stands for `class`, `stroke_width` for `stroke-width`; None and False are
            left out, floats keep one decimal.
    """
    opening = tag
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        said = f"{value:.1f}" if isinstance(value, float) else str(value)
        name = name.rstrip("_").replace("_", "-")
        opening += f" {name}" if value is True else f' {name}="{escape(said)}"'
    if tag in VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Children side by side, escaped unless they are `Html`."""
    return Html("".join(c if isinstance(c, Html) else escape(c) for c in children if c is not None))


def paragraph(*children: Child) -> Html:
    return element("p", *children)


def section(name: str, title: str, *children: Child) -> Html:
    """A part of the page; `name` is what links point to."""
    return element("section", element("h2", title), *children, id=name)
