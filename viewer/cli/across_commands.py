"""``log tail``, ``scan``, ``stats``, ``diff`` and ``backup``: events as they come, and whole sessions at a glance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, First, Ledger, Second, Session, whole
from learning_signal.viewer.cli.terminal import err, out, plain_data, show_json

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader

POLL = 0.25
"""Seconds between two looks at a log that is written."""
BEING_MADE = 5.0
"""Seconds for which a new log may be no log yet."""
Sessions = Annotated[
    list[str] | None, typer.Argument(metavar="[SESSION]...", help="Ids or their beginnings; every session without one.")
]


def log_tail(
    session: Session = "latest",
    lines: Annotated[int, typer.Option("-n", "--lines", parser=whole, metavar="N", help="Events to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the session ends.")] = False,
    ledger: Ledger = LEDGER,
) -> int:
    """Show the last events of a session; with -f also those that come, until it ends. It may run in another shell."""
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.transcript.lines import event_line

    if lines < 0:
        raise typer.BadParameter(f"found --lines {lines}, expected 0 or more")
    if follow and session == "latest":
        _wait_for_a_session(ledger)
    with Reader.open(ledger) as reader:
        chosen = reader.session_id(session)
        last = _begin(reader, chosen, lines)
        while True:
            # Whether it runs is asked first: what it wrote before its end is then among the events.
            running = reader.session(chosen).status == "running"
            for event in reader.events(chosen, after_seq=last):
                out.print(event_line(event))
                last = event.seq
            if not (follow and running):
                break
            time.sleep(POLL)
        row = reader.session(chosen)
        if follow:
            why = f": {row.stop_reason}" if row.stop_reason else ""
            err.print(f"session {row.id} is {row.status}{why}", markup=False, soft_wrap=True)
        return 0


def _wait_for_a_session(ledger: Path) -> None:
    """Wait until the log has a session. ``LedgerError`` where a file stands there that does not become a log."""
    from learning_signal.ledger.errors import LedgerError
    from learning_signal.ledger.read.reader import Reader

    told, broken_since = False, None
    while True:
        try:
            with Reader.open(ledger) as reader:
                if reader.sessions(limit=1):
                    return
            broken_since = None
        except LedgerError:
            broken_since = (broken_since or time.monotonic()) if ledger.exists() else None
            if broken_since is not None and time.monotonic() - broken_since > BEING_MADE:
                raise
        if not told:
            err.print(f"waiting for a session in {ledger} ...", markup=False, soft_wrap=True)
        told = True
        time.sleep(POLL)


def _begin(reader: Reader, session: str, lines: int) -> int:
    """The event behind which the last ``lines`` events stand."""
    rows = reader.rows(
        "SELECT seq FROM events WHERE session_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?", (session, lines)
    )
    return int(rows[0]["seq"]) if rows else 0


def log_scan(
    sessions: Sessions = None,
    only: Annotated[list[str] | None, typer.Option(metavar="SCANNER", help="Only this one. Repeatable.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the scanners.")] = False,
    fail: Annotated[bool, typer.Option("--fail-on-findings", help="Exit code 1 where anything is found.")] = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Look through sessions by rules: unsupported claims, wrong forecasts, refused calls, cut replies, and more."""
    from learning_signal.ledger.read.across.scan import SCANNERS, scan
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.across.scan import render_scan, render_scanners

    if listed:
        if as_json:
            return show_json({name: each.looks_for for name, each in SCANNERS.items()})
        out.print(render_scanners())
        return 0
    with Reader.open(ledger) as reader:
        with err.status("scanning ..."):
            chosen = _chosen(reader, sessions)
            found = scan(reader, chosen, only or ())
        if as_json:
            show_json([{**vars(each), "place": each.place} for each in found])
        else:
            out.print(render_scan(found, len(chosen)))
        return 1 if fail and found else 0


def log_stats(sessions: Sessions = None, ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """What each agent did, by backend: replies, tokens, latency, price, refusals, forecasts, evidence."""
    from learning_signal.ledger.read.across.stats import agent_stats
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.across.stats import render_stats

    with Reader.open(ledger) as reader:
        with err.status("reading ..."):
            chosen = _chosen(reader, sessions)
            found = agent_stats(reader, chosen)
        if as_json:
            return show_json(plain_data(found))
        out.print(render_stats(found, len(chosen)))
        return 0


def log_diff(first: First, second: Second, ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """Where two sessions part: their configurations, the first event that differs, decisions and costs side by side."""
    from learning_signal.ledger.read.across.compare import compare_sessions
    from learning_signal.ledger.read.across.parting import parting
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.across.parting import render_parting

    with Reader.open(ledger) as reader:
        sides = compare_sessions(reader, first, second)
        found = parting(reader, sides.first.session, sides.second.session)
        if as_json:
            return show_json({"divergence": plain_data(found), "sides": plain_data(sides)})
        out.print(render_parting(found, sides))
        return 0


def log_backup(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; nothing is overwritten.")],
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Copy a log as it stands, also while a session writes it."""
    from learning_signal.ledger.write.backup import backup

    with err.status("copying ...") as status:
        size = backup(ledger, to, lambda done, of: status.update(f"copying ... {done} of {of} pages"))
    if as_json:
        return show_json({"ledger": str(ledger), "backup": str(to), "bytes": size})
    out.print(f"{to}  {size:,} bytes", markup=False, soft_wrap=True)
    return 0


def _chosen(reader: Reader, sessions: list[str] | None) -> list[str]:
    """The ids that are meant, oldest first where none is named."""
    if not sessions:
        return [each.id for each in reversed(reader.sessions(limit=None)) if each.kind == "run"]
    return list(dict.fromkeys(reader.session_id(each) for each in sessions))
