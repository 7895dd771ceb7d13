"""How many episodes a branch should be measured on: what the same precision costs, on the branches of stored trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bench.support.cases import CASES, Case
from bench.support.designs import ranked
from bench.support.stored_trials import Branches, Stored
from bench.support.trials import GATE, LEVELS
from learning_signal.marl.gate.measure import later_half
from learning_signal.marl.gate.sequential import design
from learning_signal.tools.plan.evaluation import branch_episodes

SHARES = (1 / 20, 1 / 10, 1 / 4, 1 / 2, 1.0)
"""Env steps played over those trained that are compared."""


@dataclass(frozen=True)
class Scatter:
    """What branches of one arm differ by, at one parent; both variances are those of one branch or episode."""

    task: str
    parent: str
    measure: str
    branches: int
    of_seeds: float
    """Variance between branches beyond that of their episodes; 0 where episodes explain all of it."""
    of_episodes: float
    """Variance between the episodes of a branch."""
    branch: int
    """Env steps trained in a branch."""
    episode: int
    """Env steps that one of its episodes takes, at all points together."""
    chosen: int
    """Episodes that a session gives it."""

    def episodes(self, share: float) -> float:
        """As many as cost this share of the branch."""
        return share * self.branch / self.episode

    def cost(self, episodes: float) -> float:
        """Env steps, trained and played, that give the mean of an arm a variance of 1, with so many each branch."""
        return (self.branch + episodes * self.episode) * (self.of_seeds + self.of_episodes / episodes)

    @property
    def best_share(self) -> float:
        """The share that costs least (Cochran 1977, section 10.6); infinite where seeds do not differ."""
        if self.of_seeds == 0:
            return math.inf
        return math.sqrt(self.of_episodes / self.of_seeds * self.episode / self.branch)


def scatter(case: Case, parents: Sequence[Stored]) -> list[Scatter]:
    """One row per parent with at least 6 branches, over its arms."""
    rows = []
    for each in parents:
        arms = [arm for arm in each.results if len(arm) > 1]
        if sum(len(arm) for arm in arms) < 6:
            continue
        tables = [_episodes(arm, each.judged) for arm in arms]
        free = sum(len(table) - 1 for table in tables)
        between = sum(float(((table.mean(axis=1) - table.mean()) ** 2).sum()) for table in tables) / free
        within = float(np.mean([row.var(ddof=1) for table in tables for row in table]))
        (of_segment,) = {one.env_steps for arm in arms for one in arm}
        points = len(later_half(arms[0][0].evaluations_of("confirm")))
        rows.append(
            Scatter(
                case.task,
                each.parent,
                each.judged.replace("_", " "),
                sum(len(table) for table in tables),
                max(between - within / tables[0].shape[1], 0.0),
                within,
                of_segment,
                points * case.spec.horizon,
                branch_episodes(case.run, of_segment, case.spec),
            )
        )
    return rows


def _episodes(arm: Branches, measure: str) -> np.ndarray:
    """``[branches, episodes]``: each episode's mean over the points that a branch is measured at."""
    values = []
    for branch in arm:
        later = later_half(branch.evaluations_of("confirm"))
        found = [one.progress if measure == "progress" else one.sparse_returns for one in later]
        values.append(np.mean(np.array(found, float), axis=0))
    return np.array(values)


EPISODES = (64, 128, 256, 640, 1280)
GAINS = (0.0, 0.01, 0.02, 0.03, 0.04)
"""True gains of a candidate, as shares of the maximum."""


def decisions(row: Scatter, maximum: float, runs: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what a confirmation with so many episodes finds and costs, simulated at the first level.

    Normal branches with the variances of ``row``; ``maximum`` is that of its measure.
    """
    plan, random, body = design(LEVELS[1], GATE.looks), np.random.default_rng(seed), []
    decide = ranked(plan.pass_at, plan.stop_at)
    for gain in GAINS:
        control, candidate = random.standard_normal((2, runs, GATE.looks))
        line = [f"{gain * maximum:g}"]
        for episodes in EPISODES:
            deviation = math.sqrt(row.of_seeds + row.of_episodes / episodes)
            passed, branches = decide(control * deviation, gain * maximum + candidate * deviation)
            cost = float(branches.mean()) * (row.branch + episodes * row.episode) / 1e6
            line.append(f"{passed.mean():.2f} [{cost:.2f} M]")
        body.append(line)
    return [f"gain in {row.measure}", *(f"{each} episodes" for each in EPISODES)], body


HEADER = ("parent", "ratio", "best", *(str(Fraction(share).limit_denominator(100)) for share in SHARES), "a session's")


def cells(rows: Sequence[Scatter]) -> list[list[str]]:
    """What the same precision costs at each share, over the cheapest of them; episodes in brackets.

    Before them the ratio of the variances of episodes and seeds and the best share; "-" where seeds do not differ.
    """
    found = []
    for row in rows:
        costs = [row.cost(row.episodes(share)) for share in SHARES]
        differ = row.of_seeds > 0
        found.append(
            [
                f"{row.task}: {row.parent}, {row.branches} branches, {row.measure}",
                f"{row.of_episodes / row.of_seeds:.0f}" if differ else "-",
                f"{row.best_share:.2f}" if differ else "-",
                *(
                    f"{cost / min(costs):.2f} [{row.episodes(share):.0f}]"
                    for share, cost in zip(SHARES, costs, strict=True)
                ),
                f"{row.cost(row.chosen) / min(costs):.2f} [{row.chosen}]",
            ]
        )
    return found


def tables(rows: Sequence[Scatter], runs: int) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, header and rows of each table; none without rows."""
    if not rows:
        return []
    least = max(rows, key=lambda row: row.best_share)
    found = decisions(least, 1.0 if least.measure == "progress" else CASES[least.task].max_return, runs)
    return [
        (
            "episodes of a branch: env steps for the same precision, by the share that they take",
            list(HEADER),
            cells(rows),
        ),
        (f"power of a confirmation and its env steps, {least.task}, {least.parent}", *found),
    ]
