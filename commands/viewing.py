"""``view``: the log in a browser, as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, Ledger, whole

if TYPE_CHECKING:
    from learning_signal.ledger.read.reader import Reader


def view(
    session: Annotated[str | None, typer.Argument(help="Session to open: id, its beginning, or 'latest'.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need --auth-token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(parser=whole, metavar="N", help="Port; 0 takes any that is free.")] = 8642,
    auth_token: Annotated[
        str | None,
        typer.Option(envvar="LEARNING_SIGNAL_VIEW_TOKEN", metavar="TOKEN", help="Asked of every reader, once."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Also open it in the browser.")] = False,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
) -> int:
    """Serve the log as live pages on this machine: sessions, transcripts, decisions; questions can be answered there.

    It only reads the log: closing it, or a page, changes nothing.
    """
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.viewer.cli.terminal import err, out, tell
    from learning_signal.viewer.web.server import serve

    with Reader.open(ledger) as reader:  # a log that cannot be read is said before anything is served
        chosen = None if session is None else reader.session_id(session)

    def drawings_of(reader: Reader, of: str) -> dict[str, Any]:
        from learning_signal.tools.consent import Consent
        from learning_signal.tools.training.drawn import drawings

        return drawings(reader, of, Consent(env=env, trust=trust, tell=tell))

    def ready(address: str) -> None:
        place, _, query = address.partition("?")
        opened = f"{place}session/{chosen}" if chosen else place
        opened += f"?{query}" if query else ""
        out.print(opened, markup=False, soft_wrap=True)
        err.print("Whoever has this address can answer questions of sessions. Ctrl-C ends it.", style="dim")
        if browser:
            typer.launch(opened)

    serve(ledger, drawings_of, host, port, auth_token, ready)
    return 0
