"""``log export``: a session as one page, or as data for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.export_commands import Form
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Session

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader


def log_export(
    session: Session = "latest",
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="html, markdown: a report in one file; data: everything as JSON; csv, parquet: tables, in a folder; "
            "atif: an agent trajectory; otlp: OpenTelemetry spans; tensorboard: curves and decisions, in a folder.",
        ),
    ] = Form.HTML,
    to: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="File, or folder of tables. [in the session's folder beside the log]"),
    ] = None,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Write a session as a report to read anywhere, or as data for other programs."""
    from learning_signal.viewer.cli.export_commands import export

    def drawings_of(reader: Reader, chosen: str) -> dict[str, Any]:
        from learning_signal.tools.consent import Consent
        from learning_signal.tools.training.drawn import drawings
        from learning_signal.viewer.cli.terminal import err, tell

        with err.status("playing recorded episodes again ..."):
            return drawings(reader, chosen, Consent(env=env, trust=trust, tell=tell))

    return export(ledger, session, form, to, drawings_of, as_json=as_json)
