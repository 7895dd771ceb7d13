"""``log recover``: what can be read of a damaged log, in a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import AsJson
from learning_signal.viewer.cli.terminal import err, out, plain_data, show_json


def log_recover(
    ledger: Annotated[Path, typer.Argument(metavar="LEDGER", help="The damaged log; it is only read.")],
    to: Annotated[Path, typer.Option(metavar="NEW", help="Where the new log goes; nothing is overwritten.")],
    as_json: AsJson = False,
) -> int:
    """Copy every row that can be read of a damaged log to a new one, which is unsealed; say what is lost."""
    from learning_signal.ledger.write.recover import recover
    from learning_signal.viewer.across.recovered import render_recovered

    with err.status("recovering ..."):
        kept = recover(ledger, to)
    if as_json:
        return show_json({"ledger": str(ledger), "to": str(to), "tables": plain_data(kept)})
    out.print(render_recovered(kept, ledger, to))
    return 0
