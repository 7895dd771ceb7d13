"""``log prune``: free the room of checkpoints that finished sessions no longer need."""

from __future__ import annotations

from typing import Annotated

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, whole
from learning_signal.viewer.cli.terminal import err, out, plain_data, show_json, tell


def log_prune(
    sessions: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]...", help="Finished sessions. [all but the newest --keep]")
    ] = None,
    keep: Annotated[int, typer.Option(parser=whole, metavar="N", help="Newest sessions that keep everything.")] = 10,
    heads: Annotated[bool, typer.Option("--heads", help="Also the policies that they ended on.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only what would go is listed.")] = False,
    store: options.StoredStore = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Free the room of checkpoints that finished sessions no longer need. The log itself is never shortened.

    Each keeps the policy that it ended on. Episodes of removed branches can no longer be drawn.
    """
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.tools.consent import Consent
    from learning_signal.tools.training.pruning import prunable, prune
    from learning_signal.viewer.live.bar import bar
    from learning_signal.viewer.reports.log import render_pruning

    if keep < 0:
        raise typer.BadParameter(f"found --keep {keep}, expected 0 or more")
    with Reader.open(ledger) as reader:
        if sessions:
            chosen = list(dict.fromkeys(reader.session_id(each) for each in sessions))
        else:
            rows = reader.sessions(limit=None)
            chosen = [each.id for each in rows[keep:] if each.status == "done"]
        plans = prunable(reader, chosen, heads, Consent(store=store, trust=trust, tell=tell))
    if yes:
        with bar(err, "removing") as report:
            prune(plans, report)
    if as_json:
        return show_json({"removed": yes, "sessions": plain_data(plans)})
    out.print(render_pruning(plans, removed=yes))
    return 0
