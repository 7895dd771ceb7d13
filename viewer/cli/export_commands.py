"""What ``log export`` writes: a session as a report, as data, as tables, and in the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learning_signal.viewer.cli.places import place_for, refused
from learning_signal.viewer.cli.terminal import out, plain_data, show_json

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader


PAGE = "report.html"


class Form(StrEnum):
    """What a session is exported as."""

    HTML = "html"
    MARKDOWN = "markdown"
    DATA = "data"
    CSV = "csv"
    PARQUET = "parquet"
    ATIF = "atif"
    OTLP = "otlp"
    TENSORBOARD = "tensorboard"


Drawings = Callable[["Reader", str], Mapping[str, Any]]
"""What a page draws of a session besides its log; see ``viewer.page.report``."""


def export(ledger: Path, session: str, form: Form, to: Path | None, drawings: Drawings, *, as_json: bool) -> int:
    """Write a session to ``to``, or to its usual place beside the log; only a page asks for ``drawings``."""
    from learning_signal.ledger.read.reader import Reader

    with Reader.open(ledger) as reader:
        chosen = reader.session_id(session)
        place = place_for(ledger, chosen, PAGE if form is Form.HTML else _FORMS[form].name, to)
        try:
            if form is Form.HTML:
                _page(reader, chosen, place, drawings(reader, chosen))
            else:
                _FORMS[form].write(reader, chosen, place)
        except PermissionError as error:
            raise refused(place, error) from error
    if as_json:
        return show_json({"session": chosen, "as": form.value, "path": str(place)})
    out.print(str(place), markup=False, soft_wrap=True)
    return 0


def _page(reader: Reader, session: str, place: Path, drawn: Mapping[str, Any]) -> None:
    from learning_signal.viewer.page.report import session_page

    place.write_text(session_page(reader, session, drawn), encoding="utf-8", errors="replace")


def _markdown(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.markdown import session_markdown

    place.write_text(session_markdown(reader, session), encoding="utf-8", errors="replace")


def _data(reader: Reader, session: str, place: Path) -> None:
    """Every record of the session: its row, configuration, agents, events with their bodies, decisions, evaluations."""
    from learning_signal.viewer.exports.files import write_json

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
    write_json(place, everything)


def _csv(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.tables import write_csv

    write_csv(reader, session, place)


def _parquet(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.tables import write_parquet

    write_parquet(reader, session, place)


def _atif(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.atif import trajectory
    from learning_signal.viewer.exports.files import write_json

    write_json(place, trajectory(reader, session))


def _spans(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.files import write_json
    from learning_signal.viewer.exports.spans import spans

    write_json(place, spans(reader, session), one_line=True)


def _tensorboard(reader: Reader, session: str, place: Path) -> None:
    from learning_signal.viewer.exports.tensorboard import write_tensorboard

    write_tensorboard(reader, session, place)


@dataclass(frozen=True)
class _Form:
    """How a session is written that is no page."""

    name: str
    """Of the file or folder, in the session's folder."""
    write: Callable[[Reader, str, Path], None]


_FORMS = {
    Form.MARKDOWN: _Form("report.md", _markdown),
    Form.DATA: _Form("session.json", _data),
    Form.CSV: _Form("tables", _csv),
    Form.PARQUET: _Form("parquet", _parquet),
    Form.ATIF: _Form("trajectory.json", _atif),
    Form.OTLP: _Form("spans.json", _spans),
    Form.TENSORBOARD: _Form("tensorboard", _tensorboard),
}
