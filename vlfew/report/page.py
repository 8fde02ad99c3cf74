"""Self-contained HTML pages from the templates of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import vlfew.report.formatting as formatting
from vlfew.core.plurals import counted
from vlfew.report.charts import embed


def render(page: str, title: str, header: Mapping[str, Any], sections: Mapping[str, Any]) -> str:
    """One HTML file with style, scripts, charts and images inside; it loads nothing from a network.

    Args:
        page: name of the template; it has a macro `header` and one for each section, named like its anchor.
        title: of the browser window.
        header: what the macro `header` takes.
        sections: title to what the macro of that section takes; a plain string is a paragraph of its own,
            and None leaves the section out.
    """
    environment = Environment(
        loader=PackageLoader("vlfew.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    number = count()
    # Templates format values as the terminal does.
    environment.filters |= {name: value for name, value in vars(formatting).items() if callable(value)}
    environment.filters["counted"] = counted
    environment.filters["embed"] = lambda chart: Markup(embed(chart, prefix=f"chart{next(number)}-"))
    return environment.get_template("base.html.j2").render(
        title=title,
        page=environment.get_template(f"{page}.html.j2").module,
        header=header,
        sections={name: part for name, part in sections.items() if part is not None},
        bokeh=Markup("\n".join(Resources("inline", components=["bokeh"], log_level="error").js_raw)),
    )
