"""``tasks`` and ``check-env``: what can be trained on."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from learning_signal.viewer.cli.options import AsJson, whole
from learning_signal.viewer.cli.terminal import out, show_json, waiting


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
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=86_400, help="Seconds that one call of its code may take.")
    ] = 60.0,
    as_json: AsJson = False,
) -> int:
    """Check an environment of yours against the contract of a task; exit code 1 where something is wrong."""
    from learning_signal.marl.tasks.foreign.apart import check_apart
    from learning_signal.marl.tasks.foreign.contract import refuse_episodes
    from learning_signal.viewer.reports.environment import render_environment

    refuse_episodes(episodes)
    with waiting("playing random episodes ...") as told:
        checked = check_apart(name, episodes, patience, told)
    findings = [dataclasses.asdict(each) for each in checked.findings]
    if as_json:
        show_json({"environment": name, "findings": findings, "task": checked.task, "printed": checked.printed})
    else:
        out.print(render_environment(name, findings, checked.task, checked.printed))
    return 0 if checked.task is not None else 1
