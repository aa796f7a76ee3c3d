"""Builds pages: templates, one style, one script, and a policy that allows only these.

Data and replies of teachers and models reach a page as text: the templates escape everything, and
the content security policy lets only our own script and style run (named by their hashes) and
nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from caft.report import wording

if TYPE_CHECKING:
    from jinja2 import Environment

_FILTERS = ("percent", "percent_between", "points_between", "area_between", "reason_of",
            "p_in_words", "usd", "duration", "memory", "short_count", "count_of", "write_number",
            "name_estimator", "name_routing", "capitalise", "clip", "tell_batches")  # fmt: skip
# Data cannot look like one: it is escaped.
_SECTION = re.compile(
    r'<section id="(?P<id>[\w-]+)"(?P<rest>[^>]*)>\s*<h2[^>]*>(?P<heading>.*?)</h2>', re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Section:
    """A line of the contents list. `on_screen`: it is not printed."""

    id: str
    heading: Markup
    on_screen: bool


def list_sections(body: str) -> list[Section]:
    """The sections of a page's body, as their headings name them."""
    return [
        Section(found["id"], Markup(found["heading"]), 'class="screen"' in found["rest"])
        for found in _SECTION.finditer(body)
    ]


def render_page(template: str, scripts: Sequence[str], values: Mapping[str, object]) -> str:
    """One self-contained page in valid UTF-8; `scripts` are names of files in templates/."""
    style = read_template("report.css")
    script = "\n".join(read_template(name) for name in scripts)
    text = render_fragment(
        template,
        {
            **values,
            "style": Markup(style),
            "script": Markup(script),
            "policy": f"default-src 'none'; style-src '{_hash_source(style)}'; "
            f"script-src '{_hash_source(script)}'; base-uri 'none'; form-action 'none'",
        },
    )
    # Half a surrogate pair from broken data cannot be written as UTF-8.
    return text.strip().encode("utf-8", "replace").decode("utf-8") + "\n"


def render_fragment(template: str, values: Mapping[str, object]) -> Markup:
    """A piece of a page, escaped like all of them."""
    return Markup(_environment().get_template(template).render(values))


def render_text(template: str, values: Mapping[str, object]) -> str:
    """A document that is no HTML: nothing in it is escaped."""
    return _environment(autoescape=False).get_template(template).render(values).strip() + "\n"


@cache  # with its compiled templates
def _environment(*, autoescape: bool = True) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("caft.report", "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    environment.filters["list_sections"] = list_sections
    return environment


def read_template(name: str) -> str:
    """The text of a file in templates/."""
    return (files("caft.report") / "templates" / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
