"""The options and arguments that several commands share, and how a value of one is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from learning_signal.ledger.wording import LEDGER as LEDGER  # the default of the option below


def whole(text: str) -> int:
    """A whole number from the command line."""
    try:
        number = int(text)
    except ValueError:
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise typer.BadParameter(f"found {shown!r}, expected a whole number") from None
    if abs(number) >= 2**63:
        raise typer.BadParameter(f"found {text}, expected a whole number below 2^63")
    return number


def option(text: str, metavar: str = "N") -> Any:
    """An option whose value is checked with all other settings, so that their errors read alike."""
    return typer.Option(help=text, metavar=metavar, show_default=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        from learning_signal.viewer.cli.versions import versions

        typer.echo(versions())
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_show_version, help="Print the versions: this, Python, torch."),
]
Ledger = Annotated[Path, typer.Option(envvar="LEARNING_SIGNAL_LEDGER", help="The SQLite log.")]
Session = Annotated[str, typer.Argument(help="Session id, its beginning, or 'latest'.")]
First = Annotated[str, typer.Argument(help="Session id, its beginning, or 'latest'.")]
Second = Annotated[str, typer.Argument(help="Another session of the same log.")]
Place = Annotated[str, typer.Argument(help="SESSION, SESSION/R2 (a round) or SESSION#286 (an event).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Plain = Annotated[bool, typer.Option("--plain", help="One line per event instead of the live view.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Also show information and debug messages.")]
ByAgent = Annotated[str | None, typer.Option("--agent", help="Only this agent: critic, generator, validator ...")]
ByRound = Annotated[int | None, typer.Option("--round", parser=whole, metavar="N", help="Only this round.")]
ByKind = Annotated[str | None, typer.Option("--kind", help="Only this kind of event: message, tool_call, decision ...")]
Agents = Annotated[
    list[str] | None,
    typer.Option("--agent", metavar="ROLE=SPEC", help="Backend of one agent, or all=SPEC; see 'backends'. Repeatable."),
]
Shadows = Annotated[
    list[str] | None,
    typer.Option(
        "--shadow", metavar="ROLE=SPEC", help="Ask another backend what an agent is asked, and only log it. Repeatable."
    ),
]
Begin = Annotated[
    str | None,
    typer.Option("--from", metavar="SESSION|FOLDER", help="Begin with a run of the log, or an exported policy."),
]
TaskName = Annotated[str | None, option("Task, e.g. 'spread?agents=5', Foraging-8x8-2p-2f-coop-v3 [spread]", "TASK")]
Environment = Annotated[str | None, option("A PettingZoo ParallelEnv of yours, in place of --task.", "MODULE:FACTORY")]
StoredEnvironment = Annotated[
    str | None, option("Confirms the environment that a received session or policy names.", "MODULE:FACTORY")
]
StoredStore = Annotated[Path | None, option("Confirms the store that a received session names.", "FOLDER")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Allow all that a received session or policy would contact, execute and write.")
]
Checked = Annotated[
    bool, typer.Option("--check/--no-check", help="Try every model backend before training. [yes]", show_default=False)
]
Algorithm = Annotated[str | None, option("mappo, ippo, qmix or vdn. [mappo]", "NAME")]
StageSteps = Annotated[str | None, option("Env steps of a stage of the main run; some tasks have their own. [150000]")]
BranchSteps = Annotated[str | None, option("Env steps of a confirmation branch; some tasks have their own. [125000]")]
Workers = Annotated[str | None, option("Worker processes. [one per core]")]
Device = Annotated[str | None, option("Where networks are trained: cpu or cuda. [cpu]", "NAME")]
Executor = Annotated[str | None, option("Where segments are computed: local processes, or ray. [local]", "NAME")]
Address = Annotated[str | None, option("HOST:PORT of a Ray cluster, or auto. [start one here]", "PLACE")]
Share = Annotated[str | None, option("How Ray shares checkpoints: objects, or a common folder. [objects]", "NAME")]
Config = Annotated[Path | None, option("TOML file of settings; keys as in the settings records.", "FILE")]
Prices = Annotated[Path | None, option("TOML file; only its model prices, [prices], are read.", "FILE")]
Seed = Annotated[str | None, option("Seed of everything. [0]")]
Budget = Annotated[
    str | None, option("Limits of the whole session: env-steps=5M,tokens=200k,time=1h30m,usd=2.50.", "LIMITS")
]
LedgerSetting = Annotated[Path | None, option("The SQLite log. [runs/ledger.db]", "FILE")]
Store = Annotated[Path | None, option("Where checkpoints are kept. [runs/segments]", "FOLDER")]
