"""``mcp``: the log for programs, over the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from learning_signal.viewer.cli.options import LEDGER, Ledger
from learning_signal.viewer.cli.terminal import err, fail, log_to, plain_data

ALLOWED = ("propose", "launch", "approve")
"""What a client may be allowed besides reading."""


def mcp(
    allow: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Comma-separated. propose: also shapings, which join the next round; launch: also ask for that round; "
            "approve: also answer questions and say something to agents.",
        ),
    ] = None,
    ledger: Ledger = LEDGER,
) -> int:
    """Serve the log to programs over the Model Context Protocol (stdio): read-only unless --allow says otherwise."""
    allowed = frozenset(word.strip() for word in (allow or "").split(",") if word.strip())
    if unknown := sorted(allowed - set(ALLOWED)):
        known = f"{', '.join(ALLOWED[:-1])} or {ALLOWED[-1]}"
        return fail(f"Found --allow {unknown[0]}, expected {known}, or nothing to read alone.")
    log_to(err)
    try:
        from learning_signal.viewer.outside.server import serve
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "mcp":
            raise
        return fail("The package mcp is not installed, expected it for this command: run pip install '.[mcp]'.")
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.cli.versions import versions

    Reader.open(ledger).close()  # a ledger that cannot be read is said before a client waits
    serve(ledger, _verified, allowed, versions())
    return 0


def _verified(reader: Any) -> Any:
    """What does not agree in a log; the gate is loaded for the first call, not for the start of the server."""
    from learning_signal.ledger.read.verify import verify
    from learning_signal.marl.gate.recompute import recompute
    from learning_signal.tools.plan.settings import session_rules

    return plain_data(verify(reader, recompute, session_rules))
