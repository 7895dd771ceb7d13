"""``log browse``: the log in a browser on this machine, by Datasette."""

from __future__ import annotations

from typing import Annotated

import typer

from learning_signal.viewer.cli.options import LEDGER, Ledger, whole
from learning_signal.viewer.cli.terminal import out


def log_browse(
    port: Annotated[int, typer.Option(parser=whole, metavar="N", help="Port; 0 takes any that is free.")] = 8001,
    ledger: Ledger = LEDGER,
) -> int:
    """Serve the tables of the log to browsers on this machine, read-only, with what is asked most as queries."""
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.exports.datasette import serve

    Reader.open(ledger).close()  # a log that cannot be read is said before anything is served
    serve(ledger, port, lambda address: out.print(address, markup=False, soft_wrap=True))
    return 0
