"""The command line: parse, wire, print. Whatever a command needs is imported when it runs.

Exit codes: 0 done, 1 the session failed, 2 bad input, 4 paused, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from loguru import logger
from rich.console import Console
from rich.text import Text
from typer.exceptions import TyperException

from viewer.text import clean

LEDGER = Path("runs/ledger.db")
PACKAGES = {"agents", "tools", "marl", "ledger", "viewer"}
EXIT_CODES = {"done": 0, "failed": 1, "paused": 4, "interrupted": 130}
BAD_INPUT, STOPPED = 2, 130
ABORT_SECONDS = 1.5
"""A second Ctrl-C ends the process after this long, whatever it is doing; what was committed is kept."""

app = typer.Typer(
    help="LLM agents repair the reward shaping of a MARL run; only validated changes are promoted.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
log_app = typer.Typer(help="Read the log: list, show, search or verify sessions.")
app.add_typer(log_app, name="log")


def console(stream: Any) -> Console:
    """A console on standard output or standard error; a pipe gets 100 columns unless COLUMNS says otherwise."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(stderr=stream is sys.stderr, highlight=False, width=width)


out = console(sys.stdout)
err = console(sys.stderr)


def whole(text: str) -> int:
    """A whole number from the command line."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"found {text!r}, expected a whole number") from None


Ledger = Annotated[Path, typer.Option(envvar="LEARNING_SIGNAL_LEDGER", help="The SQLite log.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Agents = Annotated[
    list[str] | None,
    typer.Option(
        "--agent", metavar="ROLE=SPEC", help="Backend of one agent, or all=SPEC; see 'backends'. Repeatable."
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="One line per event instead of the live view.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Also show information and debug messages.")]
ByAgent = Annotated[
    str | None, typer.Option("--agent", help="Only this agent: critic, generator, validator ...")
]
ByRound = Annotated[int | None, typer.Option("--round", parser=whole, metavar="N", help="Only this round.")]
ByKind = Annotated[
    str | None, typer.Option("--kind", help="Only this kind of event: message, tool_call, decision ...")
]


def option(text: str, metavar: str = "N") -> Any:
    """An option whose value is checked with all other settings, so that every wrong one reads alike."""
    return typer.Option(help=text, metavar=metavar, show_default=False)


@app.command()
def session(
    task: Annotated[str | None, option("Task, e.g. spread or 'spread?agents=5'.", "TASK")] = None,
    algorithm: Annotated[str | None, option("mappo or ippo.", "NAME")] = None,
    agent: Agents = None,
    config: Annotated[
        Path | None, option("TOML file of settings; keys as in the settings records.", "FILE")
    ] = None,
    seed: Annotated[str | None, option("Seed of everything.")] = None,
    rounds: Annotated[str | None, option("Deliberations.")] = None,
    stage_steps: Annotated[str | None, option("Env steps of the main run between deliberations.")] = None,
    horizon: Annotated[str | None, option("Env steps of a confirmation branch.")] = None,
    candidates: Annotated[str | None, option("Candidates per proposal.")] = None,
    refinements: Annotated[str | None, option("Second tries per round.")] = None,
    workers: Annotated[str | None, option("Worker processes; one per core when not given.")] = None,
    approve: Annotated[str | None, option("auto, or human to be asked before a promotion.", "WHO")] = None,
    twin: Annotated[
        bool | None, typer.Option("--twin/--no-twin", help="Also train the sparse twin.", show_default=False)
    ] = None,
    ledger: Annotated[Path | None, option("The SQLite log (runs/ledger.db).", "FILE")] = None,
    store: Annotated[Path | None, option("Where checkpoints are kept (runs/segments).", "FOLDER")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Run a supervised session. Settings: command line > environment (LEARNING_SIGNAL_...) > --config > default."""
    from agents.specs import parse_assignments, resolve_specs
    from marl.tasks import make_task
    from tools.sources import SettingsError, gather

    names = "task algorithm seed rounds stage_steps horizon candidates refinements workers approve twin ledger store"
    given_here = locals()
    given = gather({name: given_here[name] for name in names.split()}, os.environ, config)
    backends = resolve_specs(parse_assignments(agent or []), os.environ, given.agents)
    settings = given.settings(
        {role: each.spec.text for role, each in backends.items()},
        {role: each.source for role, each in backends.items()},
    )
    try:
        make_task(settings.run.task, 1)
    except ValueError as error:
        raise SettingsError(str(error)) from None

    if dry_run:
        from agents.outcome import plan

        planned = plan(settings)
        if as_json:
            return show_json(planned)
        from viewer.plan import render_plan

        out.print(render_plan(planned))
        return 0
    from agents.session import run_session

    heading = f"{settings.run.task}, {settings.run.learner.algorithm}, seed {settings.seed}"
    return supervise(
        lambda observer, control: run_session(settings, observer=observer, control=control),
        heading,
        settings.ledger,
        as_json=as_json,
        plain=plain,
        verbose=verbose,
    )


@app.command()
def resume(
    session: Annotated[str, typer.Argument(help="Session id, its beginning, or 'latest'.")],
    agent: Agents = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a session that was paused, stopped or killed."""
    from agents.specs import ROLES, parse_assignments, parse_spec

    assigned = parse_assignments(agent or [])
    agents = {
        role: assigned[role if role in assigned else "all"] for role in ROLES if {role, "all"} & set(assigned)
    }
    for spec in agents.values():
        parse_spec(spec)
    from ledger.reader import Reader

    reader = Reader.open(ledger)
    row = reader.session(session)
    reader.close()
    from agents.session import resume_session

    return supervise(
        lambda observer, control: resume_session(
            ledger, row.id, observer=observer, agents=agents, control=control
        ),
        f"{row.task}, {row.algorithm}, seed {row.seed}, resumed",
        ledger,
        as_json=as_json,
        plain=plain,
        verbose=verbose,
    )


@log_app.command("list")
def log_list(
    ledger: Ledger = LEDGER,
    limit: Annotated[int, typer.Option(parser=whole, metavar="N", help="At most so many sessions.")] = 20,
    as_json: AsJson = False,
) -> int:
    """List the sessions of a log, newest first."""
    from ledger.reader import Reader
    from viewer.log import plain_data, render_sessions

    with Reader.open(ledger) as reader:
        rows = reader.sessions(limit=limit)
    if as_json:
        return show_json(plain_data(rows))
    out.print(render_sessions(rows))
    return 0


@log_app.command("show")
def log_show(
    session: Annotated[str, typer.Argument(help="Session id, its beginning, or 'latest'.")] = "latest",
    agent: ByAgent = None,
    round: ByRound = None,
    kind: ByKind = None,
    full: Annotated[
        bool, typer.Option("--full", "-v", help="Also what was said, the arguments and the results.")
    ] = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Show what happened in a session, one line per event."""
    from ledger.reader import Reader
    from viewer.log import plain_data, render_events

    with Reader.open(ledger) as reader:
        row = reader.session(session)
        events = reader.events(row.id, agent=agent, round=round, kind=kind)
        entries = [reader.entry(event.seq) for event in events] if full else None
    if as_json:
        return show_json(plain_data(entries if full else events))
    out.print(render_events(row, events, entries))
    return 0


@log_app.command("search")
def log_search(
    text: Annotated[str, typer.Argument(help="Words to look for in everything that was said or returned.")],
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    agent: ByAgent = None,
    round: ByRound = None,
    kind: ByKind = None,
    limit: Annotated[int, typer.Option(parser=whole, metavar="N", help="At most so many hits.")] = 20,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Search the messages, arguments and results of all sessions."""
    from ledger.reader import Reader
    from viewer.log import plain_data, render_hits

    with Reader.open(ledger) as reader:
        chosen = reader.session(session).id if session else None
        hits = reader.search(text, session=chosen, agent=agent, round=round, kind=kind, limit=limit)
    if as_json:
        return show_json(plain_data(hits))
    out.print(render_hits(text, hits))
    return 0


@log_app.command("verify")
def log_verify(ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """Recompute every hash and every statistic of a log; exit code 1 where something does not agree."""
    from ledger.reader import Reader
    from ledger.verify import verify
    from tools.recompute import recompute
    from viewer.log import plain_data, render_findings

    with Reader.open(ledger) as reader:
        findings = verify(reader, recompute)
    if as_json:
        show_json(plain_data(findings))
    else:
        out.print(render_findings(ledger, findings))
    return 1 if findings else 0


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(help="SESSION/R2, SESSION/2, or 'latest'.")] = "latest",
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Why a change was made: diagnosis, proposal, branches, statistics, verdict, decision - on one screen."""
    from ledger.reader import Reader
    from viewer.explain import render_decision
    from viewer.log import plain_data

    with Reader.open(ledger) as reader:
        chain = reader.explain(decision)
    if as_json:
        return show_json(plain_data(chain))
    out.print(render_decision(chain))
    return 0


@app.command()
def tasks(as_json: AsJson = False) -> int:
    """List the tasks with their features and directions."""
    import dataclasses

    from marl.tasks import make_task, task_names
    from viewer.catalogue import render_tasks

    specs = [dataclasses.asdict(make_task(name, 1).spec) for name in task_names()]
    if as_json:
        return show_json(specs)
    out.print(render_tasks(specs))
    return 0


@app.command()
def backends(
    check: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Ask this backend for one tiny tool call.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the LLM backends, what each needs, and whether it is there; --check tries one."""
    from agents.backends import backend_table
    from viewer.catalogue import render_backends, render_check
    from viewer.log import plain_data

    if check is not None:
        from agents.backends import check as try_backend
        from agents.specs import parse_spec

        result = plain_data(asyncio.run(try_backend(parse_spec(check))))
        if as_json:
            show_json(result)
        else:
            out.print(render_check(check, result))
        return 0 if result["ok"] else 1
    rows = plain_data(backend_table(os.environ))
    if as_json:
        return show_json(rows)
    out.print(render_backends(rows))
    return 0


def supervise(
    work: Callable[[Any, Any], Awaitable[Any]],
    heading: str,
    ledger: Path,
    *,
    as_json: bool,
    plain: bool,
    verbose: bool,
) -> int:
    """Run a session's coroutine under a view and Ctrl-C, print its report, and return the exit code."""
    from agents.session import SessionControl
    from tools.desk import HumanAnswer
    from viewer.live import LiveView, PlainView
    from viewer.session_end import render_report

    # With --json, standard output carries the outcome alone.
    shown = err if as_json else out
    kind = LiveView if shown.is_terminal and not plain and not as_json else PlainView
    view = kind(
        shown, heading, ledger, lambda approved, reason: HumanAnswer(approved=approved, reason=reason)
    )
    control = SessionControl()
    interrupts = Interrupts(control, view, ledger)

    async def body() -> Any:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupts.interrupt)
        return await work(view, control)

    log_to(shown, verbose)
    try:
        with view:
            outcome = asyncio.run(body())
    finally:
        interrupts.close()
        log_to(err, verbose)
    data = outcome.to_dict()
    if as_json:
        show_json(data)
    else:
        out.print(render_report(data, next_commands(data, ledger)))
    return EXIT_CODES[data["status"]]


class Interrupts:
    """Ctrl-C: the first pauses after the running step, the second stops at once. Both leave a session that resumes."""

    def __init__(self, control: Any, view: Any, ledger: Path) -> None:
        self._control, self._view, self._ledger = control, view, ledger
        self._count = 0
        self._timer: threading.Timer | None = None

    def interrupt(self) -> None:
        """One more Ctrl-C."""
        self._count += 1
        command = resume_command(self._view.board.session or "latest", self._ledger)
        if self._count == 1:
            self._say(
                f"Pausing after the running step; Ctrl-C again stops at once. Go on later with: {command}"
            )
            self._control.request_pause()
        elif self._count == 2:
            self._say(f"Stopping at once. Go on later with: {command}")
            self._timer = threading.Timer(ABORT_SECONDS, self._leave)
            self._timer.daemon = True
            self._timer.start()
            self._control.abort()

    def close(self) -> None:
        """The session has ended by itself: nothing needs to be forced any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _say(self, text: str) -> None:
        self._view.say(Text(text, "bold yellow"))

    def _leave(self) -> NoReturn:
        self._view.stop()
        os._exit(STOPPED)


def resume_command(session_id: str, ledger: Path) -> str:
    """What to type to go on with a session."""
    return f"python run.py resume {session_id}{ledger_option(ledger)}"


def ledger_option(ledger: Path) -> str:
    """The option that finds ``ledger`` again, where it is not the default one."""
    return "" if Path(ledger) == LEDGER else f" --ledger {ledger}"


def next_commands(outcome: Mapping[str, Any], ledger: Path) -> list[tuple[str, str]]:
    """Pairs (what it is for, command) for the end of a session."""
    session_id, where = outcome["session_id"], ledger_option(ledger)
    commands = []
    if outcome["status"] != "done":
        commands.append(("go on with this session", resume_command(session_id, ledger)))
    rounds = [each["round"] for each in (*(outcome.get("promoted") or ()), *(outcome.get("rejected") or ()))]
    for number in sorted(set(rounds))[:2]:
        commands.append(
            (f"why round {number} ended as it did", f"python run.py explain {session_id}/R{number}{where}")
        )
    commands.append(("everything that was said", f"python run.py log show {session_id} -v{where}"))
    commands.append(
        ("another model behind one agent", "python run.py session --agent critic=ollama/qwen3:8b")
    )
    return commands


def show_json(data: Any) -> int:
    """Print ``data`` as JSON on standard output."""
    out.print(json.dumps(data, indent=2, default=str, allow_nan=False), markup=False, soft_wrap=True)
    return 0


def log_to(shown: Console, verbose: bool = False) -> None:
    """Send log messages to ``shown``: above the live area while there is one."""
    logger.remove()
    logger.add(
        lambda message: shown.print(Text(clean(str(message), lines=True).rstrip(), "dim"), soft_wrap=True),
        level="DEBUG" if verbose else "WARNING",
        diagnose=False,
        backtrace=False,
        format="{level.name}: {message}",
    )


def fail(sentence: str) -> int:
    """Print one error sentence and return the exit code of bad input."""
    err.print(Text.assemble(("error: ", "bold red"), clean(sentence)), soft_wrap=True)
    return BAD_INPUT


def for_a_user(error: Exception) -> str | None:
    """The one sentence of an error a user can meet, or None for a fault of the program.

    Exception classes of this project are written for users; of the system's, those about files are.
    """
    if type(error).__module__.partition(".")[0] in PACKAGES:
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "The disk is full; everything committed is kept: free some space, then resume the session."
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used ({(error.strerror or 'unknown reason').lower()}): check the path."
    return None


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    log_to(err)
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="run.py")
        return result if isinstance(result, int) else 0
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):
            return BAD_INPUT
        return fail(f"{message.rstrip('.')}; 'python run.py --help' lists what is known.")
    except (KeyboardInterrupt, typer.Abort):
        err.print()
        return STOPPED
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = for_a_user(error)
        if sentence is None:
            fail(
                f"This is a fault of the program, not of your input ({type(error).__name__}); please report it."
            )
            raise
        return fail(sentence)


def main() -> None:
    """The console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
