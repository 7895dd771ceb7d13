"""``replay``: a recorded session once more, without a model and without a network."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, option
from learning_signal.viewer.cli.terminal import err, out, plain_data, show_json, tell


def replay(
    session: options.Session = "latest",
    to: Annotated[Path | None, option("Keep the log of the replay. [a file that is deleted]", "FILE")] = None,
    store: Annotated[Path | None, option("Where the segments are now. [where the session had them]", "FOLDER")] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train segments again that the store lacks.")] = False,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Play a session again from its log, without model and network, and compare: exit code 1 where it is another.

    Answers come from the log, training from the store; every request, verdict and decision must be the same.
    """
    import asyncio

    from learning_signal.agents.replay.original import Original
    from learning_signal.agents.replay.restoring import restore
    from learning_signal.agents.replay.session import replay_session
    from learning_signal.tools.consent import Consent
    from learning_signal.viewer.replays.replay import render_replay

    original = Original(ledger, session, store, Consent(env=env, trust=trust, tell=tell), trains=retrain)
    if retrain and (missing := len(original.missing())):
        err.print(f"{missing} segments are trained again")
        asyncio.run(restore(original))
    with TemporaryDirectory(prefix="learning-signal-") as scratch:
        result = asyncio.run(replay_session(original, to or Path(scratch) / "replay.db"))
    if as_json:
        show_json(plain_data(result) | {"ledger": None if to is None else str(to)})
    else:
        out.print(render_replay(plain_data(result), None if to is None else str(to)))
    return 0 if result.divergence is None else 1
