"""``log export``: a session as one page, as JSON, or as tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Session
from learning_signal.viewer.cli.places import place_for, refused
from learning_signal.viewer.cli.terminal import out, plain_data, show_json
from learning_signal.viewer.text import visible

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader


class Form(StrEnum):
    """What a session is exported as."""

    HTML = "html"
    DATA = "data"
    CSV = "csv"


def log_export(
    session: Session = "latest",
    form: Annotated[
        Form,
        typer.Option("--as", help="html: a report in one file; data: everything as JSON; csv: tables, in a folder."),
    ] = Form.HTML,
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File, or folder of tables. [in the session's folder beside the log]"),
    ] = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Write a session as a report to read anywhere, or as data for other programs."""
    from learning_signal.ledger.read.reader import Reader

    with Reader.open(ledger) as reader:
        chosen = reader.session_id(session)
        place = place_for(ledger, chosen, _NAMES[form], to)
        try:
            _WRITERS[form](reader, chosen, place)
        except PermissionError as error:
            raise refused(place, error) from error
    if as_json:
        return show_json({"session": chosen, "as": form.value, "path": str(place)})
    out.print(str(place), markup=False, soft_wrap=True)
    return 0


def _page(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.page.report import session_page

    place.write_text(session_page(reader, session), encoding="utf-8", errors="replace")


def _data(reader: Reader, session: str, place: Path) -> None:
    """Every record of the session: its row, configuration, agents, events with their bodies, decisions, evaluations."""
    everything = {
        "session": plain_data(reader.session(session)),
        "configuration": reader.config(session),
        "agents": plain_data(reader.agents(session)),
        "events": plain_data([reader.entry(each.seq) for each in reader.events(session)]),
        "decisions": plain_data(reader.decisions(session)),
        "comparisons": plain_data(reader.comparisons(session)),
        "verdicts": plain_data(reader.verdicts(session)),
        "segments": plain_data(list(reader.segments(session).values())),
        "main_run": plain_data(reader.main_run(session)),
        "evaluations": plain_data(reader.evaluations(session)),
        "costs": plain_data(reader.costs(session)),
    }
    place.write_text(json.dumps(everything, indent=1, default=str, allow_nan=False), encoding="ascii")


def _tables(reader: Reader, session: str, place: Path) -> None:
    """A CSV file for each table; a missing value is empty."""
    from learning_signal.ledger.read.tables.columns import TABLES
    from learning_signal.ledger.read.tables.tables import table

    place.mkdir(exist_ok=True)
    for name, columns in TABLES.items():
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8", errors="replace") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows([_cell(each) for each in row.values()] for row in table(reader, name, session))


def _cell(value: Any) -> Any:
    """A value in a table without what a terminal acts on; what a spreadsheet would take for a formula is quoted."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


_NAMES = {Form.HTML: "report.html", Form.DATA: "session.json", Form.CSV: "tables"}
_WRITERS: dict[Form, Callable[[Reader, str, Path], None]] = {Form.HTML: _page, Form.DATA: _data, Form.CSV: _tables}
