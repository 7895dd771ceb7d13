"""A study: its arms, its cells (arm, task, seed), the budget of each, and the file that it resumes from."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from learning_signal.ledger.wording import short
from learning_signal.marl.files import read_text
from learning_signal.marl.gate.judge import Judge
from learning_signal.marl.gate.judges import ALWAYS, PAIRED, SINGLE_RUN
from learning_signal.marl.paths import inside
from learning_signal.marl.segments.segment import rollout_size, round_up
from learning_signal.marl.segments.version import training_version
from learning_signal.marl.settings import Frozen
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.budget import BudgetError, parse_budget
from learning_signal.tools.plan.cost import RoundCost, round_cost
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.suitability import refuse_unsuitable

MEMBERS = 8
"""Shapings that the search for a static one begins with, and members of a population."""
GENERATIONS = 8
"""Generations of a population at least."""
SESSION_ARMS: dict[str, dict[str, Any]] = {
    "supervised": {},
    "random": {"agents": {"generator": "random"}, "agent_sources": {"generator": "the arm"}},
    "always": {"gate": dict(ALWAYS.settings)},
    "critic-off": {"deliberation": {"critic": False}},
    "evidence-off": {"deliberation": {"behaviour": False}},
    "code-chooses": {"deliberation": {"choice": False}},
    "paired": {"gate": dict(PAIRED.settings)},
    "usual": {"gate": dict(SINGLE_RUN.settings)},
}
"""The arms that are sessions, and how their settings differ from the supervised one's."""
JUDGES: dict[str, Judge] = {"always": ALWAYS, "paired": PAIRED, "usual": SINGLE_RUN}
"""The arms with a judge of their own, whatever a configuration says."""
ARMS = {
    "supervised": "a session as it is configured",
    "twin": "no shaping: the sparse reward alone",
    "static": f"the best of {MEMBERS} fixed shapings (none and random ones) by successive halving",
    "clones": "after every stage the best of unchanged clones that cost as much as a round's branches",
    "random": "a session whose proposals are drawn at random, through the same gate",
    "always": "a session with the gate off: what the screen chose is promoted, and nothing is undone",
    "critic-off": "a session without the Critic",
    "evidence-off": "a session whose Critic sees metrics but no behaviour",
    "code-chooses": "a session in which the screen's ranking, not the agents, chooses what is confirmed",
    "paired": "a session with the gate of version 0.1: five pairs in every confirmation",
    "usual": "the usual practice: one run per branch, the best is promoted if clearly above control",
    "pbt": f"population based training of {MEMBERS} members over the same space of shapings",
}
"""Every arm in a few words."""
BASELINE = "twin"
"""The arm the others are compared with."""


MOST_SEEDS = 1_000


class StudyError(ValueError):
    """A study cannot start or go on; one sentence."""


@dataclass(frozen=True)
class Cell:
    """One run of one arm."""

    arm: str
    task: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}, {self.task}, seed {self.seed}"


class StudySettings(Frozen):
    """A study, completely."""

    arms: tuple[str, ...]
    tasks: tuple[SessionSettings, ...]
    """The settings of the supervised arm, one per task; every other arm derives from them."""
    seeds: tuple[int, ...]
    env_steps: int
    """Env steps of each cell, branches and everything else included (rounded up to whole rollouts)."""
    folder: Path
    """The folder of the ledger, the results and the manifest."""

    @property
    def cells(self) -> list[Cell]:
        """Every cell, seed by seed, so that an interrupted study has all arms of some seeds."""
        tasks = [settings.run.task for settings in self.tasks]
        return [Cell(arm, task, seed) for seed in self.seeds for task in tasks for arm in self.arms]

    def base(self, cell: Cell) -> SessionSettings:
        """The supervised settings of a cell's task with the cell's seed and the study's ledger."""
        settings = next(each for each in self.tasks if each.run.task == cell.task)
        return settings.model_copy(update={"seed": cell.seed, "ledger": self.folder / "ledger.db"})

    def budget(self, cell: Cell) -> int:
        """Env steps of the cell in whole rollouts."""
        return round_up(self.base(cell).run, self.env_steps)


def parse_arms(text: str) -> tuple[str, ...]:
    """The arms in ``supervised,twin``; ``StudyError`` for an unknown one, none, or one given twice."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in ARMS:
            raise StudyError(f"Found the arm {name!r}, expected some of {', '.join(ARMS)}: correct --arms.")
        if names.count(name) > 1:
            raise StudyError(f"Found the arm {name} twice, expected each arm once: leave one out of --arms.")
    if not names:
        raise StudyError(f"Found no arm, expected some of {', '.join(ARMS)}: name them with --arms.")
    return names


def parse_env_steps(text: str) -> int:
    """Env steps written as 4000000, 4e6, 4M or 800k; ``StudyError`` for anything else."""
    try:
        return int(parse_budget(f"env-steps={text}")["env_steps"])
    except BudgetError:
        raise StudyError(
            f"Found --env-steps {text}, expected a whole number above 0 such as 4M, 4e6 or 800k: correct it."
        ) from None


def study_settings(arms: str, tasks: list[SessionSettings], seeds: int, env_steps: str, folder: Path) -> StudySettings:
    """The settings of a study from its options; ``StudyError`` where it cannot be run."""
    names = [settings.run.task for settings in tasks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StudyError(f"Found the task {twice} twice, expected each task once: leave one --task out.")
    if not 1 <= seeds <= MOST_SEEDS:
        raise StudyError(f"Found --seeds {seeds}, expected 1 to {MOST_SEEDS:,}: give the number of seeds.")
    first = tasks[0].seed
    study = StudySettings(
        arms=parse_arms(arms),
        tasks=tuple(tasks),
        seeds=tuple(range(first, first + seeds)),
        env_steps=parse_env_steps(env_steps),
        folder=folder,
    )
    for settings in tasks:
        rollout = rollout_size(settings.run)
        if study.env_steps < rollout:
            raise StudyError(
                f"Found {study.env_steps:,} env steps for each run, expected at least one rollout of "
                f"{settings.run.task} ({rollout:,} env steps): raise --env-steps."
            )
    # The most expensive arm first: what suffices for it suffices for all.
    for cell in sorted(study.cells, key=lambda each: -least_env_steps(each.arm, study.base(each))):
        needed, found = least_env_steps(cell.arm, study.base(cell)), study.budget(cell)
        if found < needed:
            raise StudyError(
                f"Found {found:,} env steps for each run, expected at least {needed:,} for the arm "
                f"{cell.arm} on {cell.task}: raise --env-steps, lower branch_steps or stage_steps, "
                "or leave that arm out."
            )
    return study


def session_settings(study: StudySettings, cell: Cell) -> SessionSettings:
    """The settings of a cell that is a session.

    It may have as many rounds as the budget could cover, and no limits of its own: the study's budget ends it.
    Speculation is off, because the segments that it would cancel depend on timing, and cells tell each other nothing.
    """
    base, changes = study.base(cell), SESSION_ARMS[cell.arm]
    data = base.model_dump()
    for name, changed in changes.items():
        data[name] = {**data[name], **changed}
    data["deliberation"]["earlier"] = False
    data |= {"twin": False, "speculate": False, "approve": "auto", "budget": {}, "stages": None}
    try:
        settings = SessionSettings.model_validate(data)
        rounds = study.budget(cell) // (_stage(settings) + cost_of(settings).first)
        stages = study.budget(cell) // _stage(settings) + 2
        most = settings.gate.judge.most_confirmations(settings.gate) // (1 + settings.deliberation.refinements)
        limits = {"rounds": max(1, min(rounds, most, 100)), "stages": max(2, stages)}
        return SessionSettings.model_validate(settings.model_dump() | limits)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise StudyError(f"The arm {cell.arm} cannot be run with these settings: {reason}.") from None


def cost_of(settings: SessionSettings) -> RoundCost:
    """The cost of a round of ``settings``."""
    return round_cost(settings, make_task(settings.run.task, 1).spec)


def least_env_steps(arm: str, settings: SessionSettings) -> int:
    """The fewest env steps that an arm makes sense with: a stage and a round, or every rung of a search."""
    if arm in ("static", "pbt"):
        return MEMBERS * GENERATIONS * rollout_size(settings.run)
    if arm == "twin":
        return rollout_size(settings.run)
    cost = cost_of(
        SessionSettings.model_validate(
            settings.model_dump() | {"gate": settings.gate.model_dump() | SESSION_ARMS.get(arm, {}).get("gate", {})}
        )
    )
    return _stage(settings) + cost.first


def plan(study: StudySettings) -> dict[str, Any]:
    """The plan of a study, without running anything; ``Unsuitable`` where an arm cannot be run on a task."""
    arms = []
    for name in study.arms:
        row: dict[str, Any] = {"arm": name, "what": ARMS[name], "rounds_at_most": None}
        for settings in study.tasks:
            refuse_unsuitable(settings, make_task(settings.run.task, 1).spec)
            if name in SESSION_ARMS:
                row["rounds_at_most"] = session_settings(study, Cell(name, settings.run.task, study.seeds[0])).rounds
        arms.append(row)
    return {
        "arms": arms,
        "tasks": [settings.run.task for settings in study.tasks],
        "seeds": list(study.seeds),
        "env_steps": study.env_steps,
        "cells": len(study.cells),
        "env_steps_in_all": sum(study.budget(cell) for cell in study.cells),
        "folder": str(study.folder),
        "store": str(study.tasks[0].store),
    }


def _stage(settings: SessionSettings) -> int:
    return round_up(settings.run, settings.stage_steps)


class Record:
    """The manifest of the study in a folder, ``manifest.json``: its settings, and the session of each cell."""

    def __init__(self, study: StudySettings) -> None:
        """Raises ``StudyError`` where the folder holds another study or a record that cannot be read."""
        self.path = inside(study.folder, "manifest.json")
        same_in_all = {"seed", "ledger", "store", "workers", "executor", "agent_sources"}
        known: dict[str, Any] = {"env_steps": None, "code": None, "tasks": {}, "cells": {}}
        if self.path.exists():
            try:
                known |= json.loads(read_text(self.path))
            except (OSError, ValueError, TypeError, RecursionError) as error:
                raise StudyError(
                    f"{self.path} cannot be read ({type(error).__name__}): give another folder with --to."
                ) from None
        identity = {"env_steps": study.env_steps, "code": training_version()}
        tasks = {each.run.task: each.model_dump(mode="json", exclude=same_in_all) for each in study.tasks}
        for name, value in identity.items():
            if known[name] not in (None, value):
                what = "trained by other code" if name == "code" else f"of {short(known[name])} env steps"
                raise StudyError(f"{study.folder} holds a study {what}: give another folder with --to.")
        for task, value in tasks.items():
            if known["tasks"].get(task, value) != value:
                raise StudyError(
                    f"{study.folder} holds a study of {task} with other settings: give another folder with --to."
                )
        self.data = known | identity | {"tasks": known["tasks"] | tasks}

    def session(self, cell: Cell) -> dict[str, Any] | None:
        """``{"session": id, "over": why it ended or None}``, or None before the cell has a session."""
        found: dict[str, Any] | None = self.data["cells"].get(str(cell))
        return found

    def note(self, cell: Cell, session: str, over: str | None) -> None:
        """Write down a cell's session, and why it is over once it is."""
        self.data["cells"][str(cell)] = {"session": session, "over": over}
        self.save()

    def save(self) -> None:
        """Write the file atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(self.data, indent=1))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """``StudyError`` where another process runs the study in ``folder``; a process that dies leaves it free."""
    folder.mkdir(parents=True, exist_ok=True)
    inside(folder, "ledger.db")  # SQLite would follow a link, and make what it leads to
    with inside(folder, "running.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyError(
                f"Another process runs the study in {folder}: wait until it has ended, or give another with --to."
            ) from None
        yield


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    partial = inside(path.parent, path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
