"""``train``: one run without agents, under one shaping."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from learning_signal.commands.running import train_chain
from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import AsJson, Plain, Verbose, option, whole
from learning_signal.viewer.cli.terminal import out, show_json, waiting


def train(
    task: options.TaskName = None,
    env: options.Environment = None,
    algorithm: options.Algorithm = None,
    shaping: Annotated[Path | None, option("TOML file of a shaping; none when not given.", "FILE")] = None,
    steps: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Env steps to train, rounded up to whole rollouts.")
    ] = 1_000_000,
    segment_steps: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Env steps of a segment: the most that a crash loses.")
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and run nothing.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Train without agents, under one shaping. The same command resumes an interrupted run."""
    from learning_signal.tools.plan.runnable import refuse_wrong_run
    from learning_signal.tools.plan.sources import gather, one_task
    from learning_signal.tools.training.settings import TrainingSettings, plan, read_shaping

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
    with waiting("checking the settings ...") as told:
        refuse_wrong_run(common, on_call=told)
    settings = TrainingSettings.of(common, env_steps=steps, segment_steps=segment_steps, shaping=read_shaping(shaping))
    if dry_run:
        planned = plan(settings)
        if as_json:
            return show_json(planned)
        from learning_signal.viewer.reports.plan import render_plan

        out.print(render_plan(planned))
        return 0
    return train_chain(settings, None, tensorboard, as_json=as_json, plain=plain, verbose=verbose)
