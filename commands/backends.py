"""``backends``: which language models can be used from here, and how those of a log have done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger
from learning_signal.viewer.cli.terminal import err, log_to, out, plain_data, show_json

SECONDS = 60.0
"""Seconds that each trial call may take, where the spec does not say."""


def backends(
    check: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="Try this backend as a session uses it: two tool calls, one at the end of a long prompt.",
        ),
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="How every backend of the log has done.")] = False,
    session: Annotated[str | None, typer.Option(help="With --record: only this session. [all of the log]")] = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """List the LLM backends, what each needs, and whether it is there; --check tries one; --record: how they did."""
    if record:
        return _record(session, ledger, as_json)
    from learning_signal.agents.model.backends import backend_table
    from learning_signal.viewer.reports.catalogue import render_backends, render_check

    if check is not None:
        import asyncio

        from learning_signal.agents.model.specs import parse_spec
        from learning_signal.agents.model.trial import check as try_backend

        log_to(err)
        result = plain_data(asyncio.run(try_backend(parse_spec(check), timeout=SECONDS, whole=True)))
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


def _record(session: str | None, ledger: Path, as_json: bool) -> int:
    """How every backend has done over the sessions of a log, or in one of them."""
    from learning_signal.ledger.read.across.backends import backend_records
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.backends import render_records

    with Reader.open(ledger) as reader:
        records = backend_records(reader, session)
        sessions = 1 if session else len(reader.sessions(limit=None))
    if as_json:
        return show_json(plain_data(records))
    out.print(render_records(records, sessions))
    return 0
