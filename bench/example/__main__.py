"""The worked example: one session on the warehouse with a strong model's recorded answers, and its report.

    python -m bench.example [--folder FOLDER] [--seed N]

A local server gives the answers over HTTP; everything else is a session as any other: real training, screens, gate and
decision. It takes about two minutes on two cores. The report is FOLDER/session.html, the log FOLDER/ledger.db.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

TASK = "rware-tiny-2ag-easy-v2"


def play(folder: Path, seed: int) -> Path:
    """Run the session in ``folder``; its ledger."""
    from bench.example.model import answer
    from bench.session import Silent
    from learning_signal.agents.session.session import run_session
    from learning_signal.marl.settings import RunSettings
    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.roles import ROLES
    from tests.support.scripted_server import serving

    ledger = folder / "ledger.db"

    async def session() -> None:
        async with serving(answer) as server:
            settings = SessionSettings(
                run=RunSettings(task=TASK),
                seed=seed,
                agents=dict.fromkeys(ROLES, f"openai-api/strong-model@{server.address}"),
                agent_sources=dict.fromkeys(ROLES, "command line"),
                rounds=1,
                store=folder / "segments",
                ledger=ledger,
            )
            await run_session(settings, observer=Silent())

    asyncio.run(session())
    return ledger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/example"), help="where the log and the report go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.tools.training.drawn import drawings
    from learning_signal.viewer.page.report import session_page

    ledger = play(arguments.folder, arguments.seed)
    with Reader.open(ledger) as reader:
        page = session_page(reader, "latest", drawings(reader))
    (arguments.folder / "session.html").write_text(page, encoding="utf-8")
    print(arguments.folder / "session.html")


if __name__ == "__main__":
    main()
