"""``export`` and ``play``: what a session trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, option, whole
from learning_signal.viewer.cli.terminal import err, out, show_json, tell


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
    from learning_signal.viewer.live.bar import bar
    from learning_signal.viewer.reports.playing import render_play

    played, other = (task, policy) if heuristic else (policy, task)
    if played is None or other is not None:
        given = {policy: policy, "--heuristic": heuristic, f"--task {task}": task}
        found = " with ".join(str(name) for name, is_given in given.items() if is_given) or "nothing"
        raise SettingsError(
            f"Found {found} to play, expected SESSION, or FOLDER, or --heuristic with --task TASK: give one of them."
        )
    if heuristic and (env is not None or trust):
        raise SettingsError("Found --env or --trust with --heuristic, which reads no file: name the task with --task.")
    if heuristic and sampled:
        raise SettingsError("Found --sampled with --heuristic, which acts in one way only: leave --sampled out.")
    with bar(err, "playing") as report:
        if heuristic:
            result = play_heuristic(played, episodes, seed, to, report)
        else:
            result = play_policy(
                played, ledger, episodes, seed, sampled, to, report, Consent(env=env, trust=trust, tell=tell)
            )
    if as_json:
        return show_json(result)
    out.print(render_play(result))
    return 0
