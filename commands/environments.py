"""``tasks`` and ``check-env``: what can be trained on."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import AsJson, whole
from learning_signal.viewer.cli.terminal import err, out, show_json


def tasks(as_json: AsJson = False) -> int:
    """List the tasks with their features and directions."""
    from learning_signal.marl.tasks import make_task, task_names
    from learning_signal.viewer.reports.catalogue import render_tasks

    specs = [dataclasses.asdict(make_task(name, 1).spec) for name in task_names()]
    if as_json:
        return show_json(specs)
    out.print(render_tasks(specs))
    return 0


def check_env(
    name: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="The factory of a PettingZoo ParallelEnv.")],
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
