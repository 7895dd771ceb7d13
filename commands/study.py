"""``study``: arms compared at equal env steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from learning_signal.commands.running import compare
from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import AsJson, Plain, Verbose, option, whole
from learning_signal.viewer.cli.terminal import out, show_json, waiting


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
    checked: options.Checked = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and run nothing.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Compare arms at equal total env steps of training. The same command resumes an interrupted study."""
    from learning_signal.agents.model.specs import parse_assignments, resolve_specs
    from learning_signal.tools.plan.runnable import refuse_wrong_run
    from learning_signal.tools.plan.sources import gather
    from learning_signal.tools.study.study import SESSION_ARMS, plan, session_settings, study_settings

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
    names: list[str | None] = list(task) if task else [None]
    for name in names:
        given = gather({**common, "task": name}, os.environ, config)
        backends = resolve_specs(parse_assignments(agent or []), os.environ, given.agents)
        tasks.append(
            given.settings(
                {role: each.text for role, each in backends.items()},
                {role: each.source for role, each in backends.items()},
            )
        )
        with waiting("checking the settings ...") as told:
            refuse_wrong_run(tasks[-1], tasks[-1].workers, told)
    settings = study_settings(arms, tasks, seeds, env_steps, to)
    planned = plan(settings)
    if dry_run:
        if as_json:
            return show_json(planned)
        from learning_signal.viewer.reports.plan import render_plan

        out.print(render_plan(planned))
        return 0
    if checked:
        from learning_signal.commands.checking import refuse_unusable

        sessions = [cell for cell in settings.cells if cell.arm in SESSION_ARMS]
        refuse_unusable(*(session_settings(settings, cell).agents for cell in sessions))
    return compare(settings, planned, as_json=as_json, plain=plain, verbose=verbose)
