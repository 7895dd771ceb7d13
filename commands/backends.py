"""``backends``: which language models can be used from here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import AsJson
from learning_signal.viewer.cli.terminal import err, log_to, out, plain_data, show_json


def backends(
    check: Annotated[str | None, typer.Option(metavar="SPEC", help="Ask this backend for one tiny tool call.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the LLM backends, what each needs, and whether it is there; --check tries one."""
    from learning_signal.agents.model.backends import backend_table
    from learning_signal.viewer.reports.catalogue import render_backends, render_check

    if check is not None:
        import asyncio

        from learning_signal.agents.model.specs import parse_spec
        from learning_signal.agents.model.trial import check as try_backend

        log_to(err)
        result = plain_data(asyncio.run(try_backend(parse_spec(check))))
        if as_json:
            show_json(result)
        else:
            out.print(render_check(check, result))
        return 0 if result["ok"] else 1
    rows = plain_data(backend_table(os.environ))
    if as_json:
        return show_json(rows)
    out.print(render_backends(rows))
    return 0
