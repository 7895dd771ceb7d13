"""How often the gate promotes something where nothing differs: with shared and with own episodes, and in a session."""

from __future__ import annotations

from math import prod

import numpy as np

from bench.support.designs import PAIRS, ranked
from bench.support.trials import GATE, LEVELS
from learning_signal.marl.gate.sequential import design
from learning_signal.tools.plan.settings import SessionSettings

RATIOS = (0.0, 0.14, 0.5, 1.0, 1.5)
"""Variance of a set of episodes over that of seeds, in the difference of two branches."""
HEADER = ("episodes over seeds", "five pairs, one set", "this gate, one set", "this gate, own episodes")


def episodes_shared_or_own(runs: int, seed: int = 0) -> list[list[str]]:
    """Shares of simulated confirmations at level 0.05 that pass where nothing differs, by `RATIOS`.

    Normal branches; where all branches of an arm play one set, what that set happens to be worth to the arm is theirs
    together.
    """
    plan = design(LEVELS[0], GATE.looks)
    decide = ranked(plan.pass_at, plan.stop_at)
    rows = []
    for ratio in RATIOS:
        random = np.random.default_rng(seed)
        control, candidate = random.standard_normal((2, runs, GATE.looks))
        one, own = random.standard_normal((2, 2, runs, GATE.looks)) * np.sqrt(ratio)
        shared = control + one[0, :, :1], candidate + one[1, :, :1]
        apart = control + own[0], candidate + own[1]
        pairs = (shared[1] > shared[0])[:, :PAIRS].all(axis=1)
        passed = (pairs, decide(*shared)[0], decide(*apart)[0])
        rows.append([f"{ratio:g}", *(f"{share.mean():.1%}" for share in passed)])
    return rows


def session_promotes() -> tuple[float, float]:
    """The exact probability that a default session promotes something where nothing differs, with all confirmations
    that it may make; that of version 0.1, whose confirmations had a level of 0.05 each.
    """
    count, spent, sizes = SessionSettings().confirmations, 0.0, []
    for left in range(count, 0, -1):
        sizes.append(design(GATE.level(spent, left), GATE.looks).size)
        spent += sizes[-1]
    return 1 - prod(1 - size for size in sizes), 1 - (1 - 2.0**-PAIRS) ** count


def in_words() -> str:
    """What a default session promises, in one sentence."""
    now, before = session_promotes()
    return (
        f"Where nothing differs, a default session promotes something in at most {now:.1%}, exactly; one of version "
        f"0.1 in {before:.1%}."
    )
