"""The frame of a page: one file, its own style, no network, no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from vlfew.report.markup import Html, element, join, section


def write_page(title: str, header: Html, parts: Mapping[str, Html]) -> str:
    """A whole page: links to its parts, its head, and the parts under their titles."""
    links = (element("a", name, href="#" + _anchor(name)) for name in parts)
    sections = (section(_anchor(name), name, part) for name, part in parts.items())
    style = files("vlfew.report").joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    body = element("main", join(element("nav", *links), header, *sections))
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
