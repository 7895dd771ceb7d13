"""The templates of pages: everything that is put into them is escaped, and what is missing is an error."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from learning_signal.viewer.page.markup import line, markup


def environment(*packages: str) -> Environment:
    """The templates of these packages, the first one's before the others'.

    Their filter ``markup`` takes a renderable, ``line`` a text.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made.filters["markup"] = _markup
    made.filters["line"] = _line
    return made


def _markup(shown: Any) -> Markup:
    return Markup(markup(shown))  # noqa: S704 - markup escapes all it is given


def _line(shown: Any) -> Markup:
    return Markup(line(shown))  # noqa: S704 - as above
