"""The command line: parse, wire, print. Whatever a command needs is imported when it runs.

Exit codes: 0 done, 1 the session failed or a check found errors, 2 bad input, 4 paused, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from learning_signal.viewer.cli import log_commands as reading
from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.interrupts import ABORT_SECONDS, STOPPED, watch
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Plain, Verbose, option, whole
from learning_signal.viewer.cli.terminal import (
    BAD_INPUT,
    err,
    fail,
    for_a_user,
    log_to,
    out,
    show_json,
    show_traceback,
    tell,
)

__all__ = ["ABORT_SECONDS", "BAD_INPUT", "LEDGER", "STOPPED", "app", "for_a_user", "main", "run"]

EXIT_CODES = {"done": 0, "failed": 1, "paused": 4, "interrupted": STOPPED}

app = typer.Typer(
    help="LLM agents repair the reward shaping of a MARL run; only validated changes are promoted.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
log_app = typer.Typer(help="Read the log: list, show, search or verify sessions.")
app.add_typer(log_app, name="log")


@app.command()
def session(
    task: options.TaskName = None,
    env: options.Environment = None,
    algorithm: options.Algorithm = None,
    agent: options.Agents = None,
    config: options.Config = None,
    seed: options.Seed = None,
    rounds: Annotated[str | None, option("Most deliberations. [3]")] = None,
    stages: Annotated[str | None, option("Most stages of the main run. [4 for every round]")] = None,
    stage_steps: options.StageSteps = None,
    every: Annotated[str | None, option("Deliberate after so many stages at the latest (1: after each).")] = None,
    branch_steps: options.BranchSteps = None,
    candidates: Annotated[str | None, option("Candidates per proposal. [3]")] = None,
    refinements: Annotated[str | None, option("Second tries per round. [1]")] = None,
    family_alpha: Annotated[
        str | None, option("Upper bound of the chance of any false promotion in the session.", "X")
    ] = None,
    workers: options.Workers = None,
    executor: options.Executor = None,
    address: options.Address = None,
    share: options.Share = None,
    device: options.Device = None,
    approve: Annotated[str | None, option("auto, or human to be asked before a promotion. [auto]", "WHO")] = None,
    twin: Annotated[
        bool | None, typer.Option("--twin/--no-twin", help="Also train the sparse twin. [no]", show_default=False)
    ] = None,
    speculate: Annotated[
        bool | None,
        typer.Option("--speculate/--no-speculate", help="Train control while agents talk. [yes]", show_default=False),
    ] = None,
    budget: options.Budget = None,
    ledger: options.LedgerSetting = None,
    store: options.Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Run a supervised session. Settings: command line > environment (LEARNING_SIGNAL_...) > --config > default."""
    from learning_signal.agents.model.specs import parse_assignments, resolve_specs
    from learning_signal.tools.plan.sources import OPTIONS, gather, one_task, refuse_wrong_run

    given_here = {**locals(), "task": one_task(task, env)}
    given = gather({name: given_here[name] for name in OPTIONS}, os.environ, config)
    backends = resolve_specs(parse_assignments(agent or []), os.environ, given.agents)
    settings = given.settings(
        {role: each.spec.text for role, each in backends.items()},
        {role: each.source for role, each in backends.items()},
    )
    refuse_wrong_run(settings.run)

    if dry_run:
        from learning_signal.agents.session.outcome import plan

        planned = plan(settings)
        if as_json:
            return show_json(planned)
        from learning_signal.viewer.reports.plan import render_plan

        out.print(render_plan(planned))
        return 0
    from learning_signal.agents.session.session import run_session

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
    session: options.Session,
    agent: options.Agents = None,
    budget: options.Budget = None,
    config: options.Prices = None,
    executor: options.Executor = None,
    address: options.Address = None,
    share: options.Share = None,
    env: options.StoredEnvironment = None,
    store: options.StoredStore = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a session or a training run that was paused, stopped or killed.

    One that you did not begin on this machine contacts, executes and writes only what you name again, or --trust.
    """
    from learning_signal.agents.model.specs import ROLES, parse_assignments, parse_spec

    assigned = parse_assignments(agent or [])
    agents = {role: assigned[role if role in assigned else "all"] for role in ROLES if {role, "all"} & set(assigned)}
    for spec in agents.values():
        parse_spec(spec)
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.tools.consent import Consent, admit
    from learning_signal.tools.plan.budget import parse_budget
    from learning_signal.tools.plan.sources import changed_executor, prices_of

    limits = parse_budget(budget) if budget is not None else {}
    prices = prices_of(config) if config is not None else {}
    consent = Consent(env=env, store=store, address=address, agents=frozenset(agents), trust=trust, tell=tell)

    with Reader.open(ledger) as reader:
        row = reader.session(session)
        changes = {"executor": changed_executor(reader.config(row.id), kind=executor, address=address, share=share)}
        if row.kind == "training":
            from learning_signal.tools.training.settings import TrainingError, stored_settings

            if agents:
                raise TrainingError(f"Session {row.id} is a training run and has no agents: leave --agent out.")
            if limits:
                raise TrainingError(f"Session {row.id} is a training run and has no budget: leave --budget out.")
            if prices:
                raise TrainingError(f"Session {row.id} is a training run and pays no model: leave --config out.")
            settings = stored_settings(reader, row.id, changes["executor"], consent)
            return train_chain(settings, row.id, as_json=as_json, plain=plain, verbose=verbose)
        from learning_signal.agents.session.consent import uses_of_session
        from learning_signal.agents.session.session import resume_session, to_resume

        # Before the live view begins: what is trusted is shown.
        uses = uses_of_session(reader, row.id, to_resume(reader, row.id, agents, changes), consent)
        admit(reader, row.id, uses, consent)

    return supervise(
        lambda observer, control: resume_session(
            ledger,
            row.id,
            observer=observer,
            agents=agents,
            changes=changes,
            budget=limits,
            prices=prices,
            control=control,
            consent=consent,
        ),
        f"{row.task}, {row.algorithm}, seed {row.seed}, resumed",
        ledger,
        as_json=as_json,
        plain=plain,
        verbose=verbose,
    )


@app.command()
def train(
    task: options.TaskName = None,
    env: options.Environment = None,
    algorithm: options.Algorithm = None,
    shaping: Annotated[Path | None, option("TOML file of a shaping; none when not given.", "FILE")] = None,
    steps: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Env steps to train, rounded up to whole rollouts.")
    ] = 1_000_000,
    segment_steps: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Env steps of a segment: what a crash loses at most.")
    ] = 100_000,
    config: options.Config = None,
    seed: options.Seed = None,
    device: options.Device = None,
    executor: options.Executor = None,
    address: options.Address = None,
    share: options.Share = None,
    tensorboard: Annotated[Path | None, option("Also write the curves for TensorBoard there.", "FOLDER")] = None,
    ledger: options.LedgerSetting = None,
    store: options.Store = None,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Train without agents, under one shaping. The same command goes on where an interrupted run stopped."""
    from learning_signal.tools.plan.sources import gather, one_task, refuse_wrong_run
    from learning_signal.tools.training.settings import TrainingSettings, read_shaping

    set_here = {
        "task": one_task(task, env),
        "algorithm": algorithm,
        "seed": seed,
        "device": device,
        "ledger": ledger,
        "store": store,
        "executor": executor,
        "address": address,
        "share": share,
    }
    common = gather(set_here, os.environ, config).settings({}, {})
    refuse_wrong_run(common.run)
    settings = TrainingSettings.of(common, env_steps=steps, segment_steps=segment_steps, shaping=read_shaping(shaping))
    return train_chain(settings, None, tensorboard, as_json=as_json, plain=plain, verbose=verbose)


@app.command()
def study(
    arms: Annotated[
        str, typer.Option(metavar="NAMES", help="What to compare, separated by commas; --dry-run explains each.")
    ] = "supervised,twin",
    task: Annotated[list[str] | None, typer.Option(metavar="TASK", help="Task; repeatable. [spread]")] = None,
    env_steps: Annotated[str, typer.Option(metavar="N", help="Env steps of every run, branches included.")] = "4M",
    seeds: Annotated[int, typer.Option(parser=whole, metavar="N", help="Seeds of every arm and task.")] = 3,
    seed: Annotated[str | None, option("The first of the seeds. [0]")] = None,
    algorithm: options.Algorithm = None,
    agent: options.Agents = None,
    config: options.Config = None,
    stage_steps: options.StageSteps = None,
    branch_steps: options.BranchSteps = None,
    workers: options.Workers = None,
    executor: options.Executor = None,
    address: options.Address = None,
    share: options.Share = None,
    store: options.Store = None,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where its log and its results go.")] = Path("runs/study"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Compare arms at equal total env steps. The same command goes on where an interrupted study stopped."""
    from learning_signal.agents.model.specs import parse_assignments, resolve_specs
    from learning_signal.tools.plan.sources import gather, refuse_wrong_run
    from learning_signal.tools.study.study import plan, study_settings

    common = {
        "seed": seed,
        "algorithm": algorithm,
        "stage_steps": stage_steps,
        "branch_steps": branch_steps,
        "workers": workers,
        "executor": executor,
        "address": address,
        "share": share,
        "store": store,
    }
    tasks = []
    for name in task or [None]:
        given = gather({**common, "task": name}, os.environ, config)
        backends = resolve_specs(parse_assignments(agent or []), os.environ, given.agents)
        tasks.append(
            given.settings(
                {role: each.spec.text for role, each in backends.items()},
                {role: each.source for role, each in backends.items()},
            )
        )
        refuse_wrong_run(tasks[-1].run)
    settings = study_settings(arms, tasks, seeds, env_steps, to)
    planned = plan(settings)
    if dry_run:
        if as_json:
            return show_json(planned)
        from learning_signal.viewer.reports.plan import render_plan

        out.print(render_plan(planned))
        return 0
    return compare(settings, planned, as_json=as_json, plain=plain, verbose=verbose)


@app.command()
def export(
    session: options.Session,
    to: Annotated[Path | None, option("Where to [runs/policies/SESSION].", "FOLDER")] = None,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Write the policy of a session as safetensors, with a JSON description beside it."""
    from learning_signal.tools.consent import Consent
    from learning_signal.tools.training.policies import export_policy

    folder = export_policy(ledger, session, to, Consent(env=env, trust=trust, tell=tell))
    if as_json:
        return show_json({"folder": str(folder)})
    out.print(f"{folder}/policy.safetensors and policy.json", markup=False, soft_wrap=True)
    return 0


@app.command()
def play(
    policy: Annotated[
        str | None, typer.Argument(metavar="SESSION|FOLDER", help="A session of the log, or an exported policy.")
    ] = None,
    heuristic: Annotated[bool, typer.Option("--heuristic", help="Play the heuristic of --task instead.")] = False,
    task: Annotated[str | None, option("Task of --heuristic, a name or MODULE:FACTORY.", "TASK")] = None,
    episodes: Annotated[int, typer.Option(parser=whole, metavar="N", help="Fresh episodes to play.")] = 128,
    sampled: Annotated[
        bool, typer.Option("--sampled/--greedy", help="Draw actions, or take the most probable ones.")
    ] = False,
    seed: Annotated[int, typer.Option(parser=whole, metavar="N", help="Seed of episodes and draws.")] = 0,
    to: Annotated[Path | None, option("Where animations go [beside the policy].", "FOLDER")] = None,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Play a policy: what it scores, and an animation (GIF) of its best and its median episode."""
    from learning_signal.tools.consent import Consent
    from learning_signal.tools.plan.sources import SettingsError
    from learning_signal.tools.training.policies import play_heuristic, play_policy
    from learning_signal.viewer.reports.playing import bar, render_play

    if heuristic == (policy is not None) or heuristic != (task is not None):
        raise SettingsError("Found no one thing to play: give SESSION, or FOLDER, or --heuristic with --task TASK.")
    if heuristic and (env is not None or trust):
        raise SettingsError("Found --env or --trust with --heuristic, which reads no file: name the task with --task.")
    if heuristic and sampled:
        raise SettingsError("Found --sampled with --heuristic, which acts in one way only: leave --sampled out.")
    with bar(err, "playing") as report:
        if task is not None:
            shown = play_heuristic(task, episodes, seed, to, report)
        else:
            shown = play_policy(
                policy, ledger, episodes, seed, sampled, to, report, Consent(env=env, trust=trust, tell=tell)
            )
    if as_json:
        return show_json(shown)
    out.print(render_play(shown))
    return 0


@app.command()
def check_env(
    name: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="Where a PettingZoo ParallelEnv is made.")],
    episodes: Annotated[int, typer.Option(parser=whole, metavar="N", help="Random episodes to play.")] = 10,
    as_json: AsJson = False,
) -> int:
    """Check an environment of yours against the contract of a task; exit code 1 where something is wrong."""
    from learning_signal.marl.tasks import make_task
    from learning_signal.marl.tasks.foreign.contract import check_environment
    from learning_signal.viewer.reports.environment import render_environment

    with err.status("playing random episodes ..."):
        findings = [dataclasses.asdict(each) for each in check_environment(name, episodes)]
    wrong = any(each["level"] == "error" for each in findings)
    spec = None if wrong else dataclasses.asdict(make_task(name, 1).spec)
    if as_json:
        show_json({"environment": name, "findings": findings, "task": spec})
    else:
        out.print(render_environment(name, findings, spec))
    return 1 if wrong else 0


log_app.command("list")(reading.log_list)
log_app.command("show")(reading.log_show)
log_app.command("search")(reading.log_search)
log_app.command("plot")(reading.log_plot)
app.command()(reading.explain)


@log_app.command("verify")
def log_verify(ledger: Ledger = LEDGER, as_json: AsJson = False) -> int:
    """Recompute every hash and every statistic of a log; exit code 1 where something does not agree."""
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.ledger.read.verify import verify
    from learning_signal.marl.gate.recompute import recompute
    from learning_signal.viewer.reports.log import plain_data, render_findings

    with Reader.open(ledger) as reader:
        findings = verify(reader, recompute)
    if as_json:
        show_json(plain_data(findings))
    else:
        out.print(render_findings(ledger, findings))
    return 1 if findings else 0


@app.command()
def tasks(as_json: AsJson = False) -> int:
    """List the tasks with their features and directions."""
    from learning_signal.marl.tasks import make_task, task_names
    from learning_signal.viewer.reports.catalogue import render_tasks

    specs = [dataclasses.asdict(make_task(name, 1).spec) for name in task_names()]
    if as_json:
        return show_json(specs)
    out.print(render_tasks(specs))
    return 0


@app.command()
def backends(
    check: Annotated[str | None, typer.Option(metavar="SPEC", help="Ask this backend for one tiny tool call.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the LLM backends, what each needs, and whether it is there; --check tries one."""
    from learning_signal.agents.model.backends import backend_table
    from learning_signal.viewer.reports.catalogue import render_backends, render_check
    from learning_signal.viewer.reports.log import plain_data

    if check is not None:
        from learning_signal.agents.model.specs import parse_spec
        from learning_signal.agents.model.trial import check as try_backend

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
    work: Callable[[Any, Any], Awaitable[Any]], heading: str, ledger: Path, *, as_json: bool, plain: bool, verbose: bool
) -> int:
    """Run a session's coroutine under its view, print its report, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.tools.context import HumanAnswer
    from learning_signal.viewer.live.view import LiveView, PlainView
    from learning_signal.viewer.reports.next_steps import after_session
    from learning_signal.viewer.reports.session_end import render_report

    # With --json, standard output carries the outcome alone.
    shown = err if as_json else out
    kind = LiveView if shown.is_terminal and not plain and not as_json else PlainView
    view = kind(shown, heading, ledger, lambda approved, reason: HumanAnswer(approved=approved, reason=reason))
    outcome = watch(work, view, SessionControl(), ledger, verbose)
    return ended(outcome, lambda data: render_report(data, after_session(data, ledger)), as_json)


def train_chain(
    settings: Any, session: str | None, tensorboard: Path | None = None, *, as_json: bool, plain: bool, verbose: bool
) -> int:
    """Run a training run under its view, print its report, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.marl.segments.segment import round_up
    from learning_signal.tools.training.run import train as run_training
    from learning_signal.viewer.live.training import TrainingView, render_training
    from learning_signal.viewer.reports.next_steps import after_training

    curves = None
    if tensorboard is not None:
        from learning_signal.marl.policies.curves import Curves

        curves = Curves(tensorboard)
    shown = err if as_json else out
    heading = f"{settings.run.task}, {settings.run.learner.algorithm}, seed {settings.seed}"
    total = round_up(settings.run, settings.env_steps)
    view = TrainingView(shown, heading, total, plain=plain or as_json or not shown.is_terminal)
    on_segment = None if curves is None else curves.add
    try:
        outcome = watch(
            lambda observer, control: run_training(
                settings, observer=observer, control=control, on_segment=on_segment, session=session
            ),
            view,
            SessionControl(),
            settings.ledger,
            verbose,
        )
    finally:
        if curves is not None:
            curves.close()
    return ended(outcome, lambda data: render_training(data, after_training(data, settings.ledger)), as_json)


def compare(settings: Any, planned: Mapping[str, Any], *, as_json: bool, plain: bool, verbose: bool) -> int:
    """Run a study under its view, write its plot, print its table, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.agents.session.study import run_study
    from learning_signal.tools.study.study import write_whole
    from learning_signal.viewer.live.study import StudyView, render_study
    from learning_signal.viewer.reports.study_plot import draw

    shown = err if as_json else out
    heading = f"{planned['cells']} run{'s' if planned['cells'] > 1 else ''}: {', '.join(settings.arms)}"
    view = StudyView(
        shown, heading, planned["cells"], planned["env_steps_in_all"], plain=plain or as_json or not shown.is_terminal
    )
    control, command = SessionControl(), shlex.join(["python", "run.py", *sys.argv[1:]])
    report = watch(
        lambda observer, control: run_study(settings, observer=observer, control=control, command=command),
        view,
        control,
        settings.folder / "ledger.db",
        verbose,
        again="the same command",
    )
    plot = settings.folder / "study.svg"
    write_whole(plot, draw(report))
    if as_json:
        show_json(report)
    else:
        out.print(render_study(report, [f"{settings.folder / 'study.json'}", f"{plot}"]))
    outcomes = {cell["outcome"] for cell in report["cells"]}
    if control.aborted:
        return STOPPED
    return EXIT_CODES["paused"] if "stopped" in outcomes else EXIT_CODES["failed"] if "failed" in outcomes else 0


def ended(outcome: Any, report: Callable[[Mapping[str, Any]], Any], as_json: bool) -> int:
    """Print what a session came to, and return the exit code."""
    data = outcome.to_dict()
    if as_json:
        show_json(data)
    else:
        out.print(report(data))
    return EXIT_CODES[data["status"]]


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    log_to(err)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a user's environment is; worker processes inherit it
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="run.py")
        return result if isinstance(result, int) else 0
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):
            return BAD_INPUT
        message = re.sub(r"[.;]? Did you mean (.+)\?$", r" (did you mean \1?)", message.rstrip("."))
        return fail(f"{message}; 'python {_command_of(error)} --help' lists what is known.")
    except (KeyboardInterrupt, typer.Abort):
        err.print()
        return STOPPED
    except BrokenPipeError:
        # The reader of a pipe, such as head, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        sentence = for_a_user(error)
        tell(getattr(error, "details", ()))
        if sentence is None:
            fail(f"This is a fault of the program, not of your input ({type(error).__name__}); please report it.")
            raise
        return fail(sentence)


def _command_of(error: TyperException) -> str:
    """The command whose options or arguments ``error`` is about."""
    context = getattr(error, "ctx", None)
    return "run.py" if context is None else context.command_path


def main() -> None:
    """The console script."""
    try:
        sys.exit(run())
    except Exception:  # noqa: BLE001 - a fault of the program, which ``run`` has named: its text may come from a log
        show_traceback()
        sys.exit(1)


if __name__ == "__main__":
    main()
