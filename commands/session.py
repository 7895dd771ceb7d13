"""``session`` and ``resume``: settings, consent and the work are gathered; ``running`` does the rest."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from learning_signal.commands.running import supervise, train_chain
from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, Plain, Verbose, option
from learning_signal.viewer.cli.terminal import out, show_json, tell, waiting


def session(
    task: options.TaskName = None,
    env: options.Environment = None,
    algorithm: options.Algorithm = None,
    begin: options.Begin = None,
    agent: options.Agents = None,
    shadow: options.Shadows = None,
    config: options.Config = None,
    seed: options.Seed = None,
    rounds: Annotated[str | None, option("Most deliberations. [3]")] = None,
    stages: Annotated[str | None, option("Most stages of the main run. [4 for every round]")] = None,
    stage_steps: options.StageSteps = None,
    every: Annotated[str | None, option("Deliberate at least every N stages (1: after each).")] = None,
    branch_steps: options.BranchSteps = None,
    candidates: Annotated[str | None, option("Candidates per proposal. [3]")] = None,
    refinements: Annotated[str | None, option("Refinements (second proposals) per round. [1]")] = None,
    family_alpha: Annotated[
        str | None, option("Upper bound on the chance of any false promotion in the session.", "X")
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
    checked: options.Checked = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and run nothing.")] = False,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Run a supervised session. Settings: command line > environment (LEARNING_SIGNAL_...) > --config > default."""
    from learning_signal.agents.model.specs import parse_assignments, parse_shadows, resolve_specs
    from learning_signal.tools.plan.runnable import refuse_wrong_run
    from learning_signal.tools.plan.sources import OPTIONS, gather, one_task

    given_here = {**locals(), "task": one_task(task, env)}
    given = gather({name: given_here[name] for name in OPTIONS}, os.environ, config)
    source = None
    if begin is not None:
        from learning_signal.tools.training.root import as_source, source_of

        source = source_of(begin, ledger or LEDGER)
        given = as_source(given, source)
    backends = resolve_specs(parse_assignments(agent or []), os.environ, given.agents)
    settings = given.settings(
        {role: each.text for role, each in backends.items()}, {role: each.source for role, each in backends.items()}
    )
    settings = settings.model_copy(update={"shadows": parse_shadows(shadow or [])})
    with waiting("checking the settings ...") as told:
        refuse_wrong_run(settings, settings.workers, told)

    if dry_run:
        from learning_signal.agents.session.plan import plan

        planned = plan(settings)
        if as_json:
            return show_json(planned)
        from learning_signal.viewer.reports.plan import render_plan

        out.print(render_plan(planned))
        return 0
    from learning_signal.commands.checking import refuse_absent, refuse_unusable

    refuse_absent(settings.agents)
    if checked:
        refuse_unusable(settings.agents, settings.shadows)
    from learning_signal.agents.session.session import run_session

    if source is not None:
        from learning_signal.tools.training.root import rooted

        settings = rooted(settings, source)
    heading = f"{settings.run.task}, {settings.run.learner.algorithm}, seed {settings.seed}"
    return supervise(
        lambda observer, control: run_session(settings, observer=observer, control=control),
        heading,
        settings.ledger,
        as_json=as_json,
        plain=plain,
        verbose=verbose,
    )


def resume(
    session: options.Session,
    agent: options.Agents = None,
    shadow: options.Shadows = None,
    budget: options.Budget = None,
    config: options.Prices = None,
    executor: options.Executor = None,
    address: options.Address = None,
    share: options.Share = None,
    env: options.StoredEnvironment = None,
    store: options.StoredStore = None,
    trust: options.Trust = False,
    checked: options.Checked = True,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
    plain: Plain = False,
    verbose: Verbose = False,
) -> int:
    """Resume a session or a training run that was paused, stopped or killed.

    One that you did not begin on this machine contacts, executes and writes only what you confirm, by option or
    --trust.
    """
    from learning_signal.agents.model.specs import ROLES, parse_assignments, parse_chain, parse_shadows

    shadows = parse_shadows(shadow or [])
    assigned = parse_assignments(agent or [])
    agents: dict[str, str] = {
        role: assigned[role if role in assigned else "all"] for role in ROLES if {role, "all"} & set(assigned)
    }
    for spec in agents.values():
        parse_chain(spec)
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.tools.consent import Consent, admit
    from learning_signal.tools.plan.budget import parse_budget
    from learning_signal.tools.plan.sources import changed_executor, prices_of

    limits = parse_budget(budget) if budget is not None else {}
    prices = prices_of(config) if config is not None else {}
    consent = Consent(env=env, store=store, address=address, agents=frozenset(agents), trust=trust, tell=tell)

    with Reader.open(ledger) as reader:
        row = reader.session(session)
        changed = changed_executor(reader.config(row.id), kind=executor, address=address, share=share)
        changes = {"executor": changed, "shadows": shadows}
        if row.kind == "training":
            from learning_signal.tools.training.settings import TrainingError, stored_settings

            if agents or shadows:
                option = "--agent" if agents else "--shadow"
                raise TrainingError(f"Session {row.id} is a training run and has no agents: leave {option} out.")
            if limits:
                raise TrainingError(f"Session {row.id} is a training run and has no budget: leave --budget out.")
            if prices:
                raise TrainingError(f"Session {row.id} is a training run and calls no model: leave --config out.")
            settings = stored_settings(reader, row.id, changed, consent)
            return train_chain(settings, row.id, as_json=as_json, plain=plain, verbose=verbose)
        from learning_signal.agents.session.consent import uses_of_session
        from learning_signal.agents.session.session import resume_session, to_resume

        # Before the live view begins: what is trusted is shown.
        stored = to_resume(reader, row.id, agents, changes)
        admit(reader, row.id, uses_of_session(reader, row.id, stored, consent), consent)
    from learning_signal.commands.checking import refuse_absent, refuse_unusable

    refuse_absent(stored.agents)
    if checked:
        refuse_unusable(stored.agents, stored.shadows)

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
