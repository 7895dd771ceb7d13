"""The arms of a study that are not sessions: sparse twin, static shaping, clones, population based training.

They select on the screen episodes; what they report is measured on the report episodes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.segment import SegmentResult, round_up
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.shaping.random import draw_for, perturb
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import TaskSpec
from learning_signal.tools.plan.rise import rise_on
from learning_signal.tools.study.cell import CellTrainer, all_failed, trained
from learning_signal.tools.study.study import GENERATIONS, MEMBERS, cost_of

RESAMPLED = 0.25
"""Share of copied members whose shaping is drawn anew; the others' is perturbed."""


async def twin(trainer: CellTrainer) -> None:
    """No shaping, all env steps."""
    head = await _first_stage(trainer)
    await to_the_end(trainer, head.id, ShapingConfig.none())


async def to_the_end(trainer: CellTrainer, head: str | None, shaping: ShapingConfig) -> None:
    """Train on from ``head`` under ``shaping`` until the budget is used up, one stage at a time."""
    seed = trainer.settings.seed
    while trainer.left:
        steps = min(_stage(trainer), trainer.left)
        spec = trainer.spec(head, shaping, steps, derive(seed, "rest", trainer.spent))
        head = (await trainer.follow(spec)).id


async def static(trainer: CellTrainer) -> None:
    """Successive halving (Karnin et al. 2013) from scratch: each rung costs the same, its better half goes on."""
    task, seed = _task(trainer), trainer.settings.seed
    rng = np.random.default_rng(derive(seed, "static"))
    alive: list[tuple[ShapingConfig, str | None]] = [
        (shaping, None) for shaping in (ShapingConfig.none(), *_draws(trainer, task, rng, MEMBERS - 1))
    ]
    rung_steps = trainer.left / (MEMBERS.bit_length())  # 8, 4, 2, 1: one rung more than halvings
    while len(alive) > 1:
        steps = trainer.whole(rung_steps / len(alive))
        rung_seed = derive(seed, "static", len(alive))
        results = await trainer.train(
            [trainer.spec(parent, shaping, steps, rung_seed, "search") for shaping, parent in alive]
        )
        order = trainer.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        trainer.jump(trained(results[order[0]]), alive[order[0]][0])
        alive = [(alive[index][0], trained(results[index]).id) for index in order[: len(alive) // 2]]
    shaping, head = alive[0]
    await to_the_end(trainer, head, shaping)


async def clones(trainer: CellTrainer) -> None:
    """Stages, and between them clones of HEAD that cost as much as a supervised round; the best clone becomes HEAD."""
    settings, task, none = trainer.settings, _task(trainer), ShapingConfig.none()
    head = await _first_stage(trainer)
    branch_steps, cost = round_up(settings.run, settings.branch_steps), cost_of(settings).first
    number = 0
    while trainer.left >= cost:
        number += 1
        seeds = [derive(settings.seed, "clone", number, index) for index in range(max(cost // branch_steps, 1))]
        results = await trainer.train([trainer.spec(head.id, none, branch_steps, seed, "search") for seed in seeds])
        order = trainer.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        head = trained(results[order[0]])
        trainer.jump(head, none)
        if trainer.left < _stage(trainer):
            break
        seed = derive(settings.seed, "stage", number)
        head = await trainer.follow(trainer.spec(head.id, none, _stage(trainer), seed))
    await to_the_end(trainer, head.id, none)


@dataclass(frozen=True)
class Member:
    """One of a population: where its weights come from and the shaping it trains under next."""

    parent: str | None
    shaping: ShapingConfig


async def pbt(trainer: CellTrainer) -> None:
    """Population based training (Jaderberg et al. 2017, arXiv 1711.09846) over weights and shapings, in step.

    After every interval the worst quarter copies the weights of members of the best quarter and explores from their
    shaping. The env steps that remain at the end train the best member.
    """
    task, seed = _task(trainer), trainer.settings.seed
    rng = np.random.default_rng(derive(seed, "pbt"))
    drawn = _draws(trainer, task, rng, MEMBERS - 1)
    members = [Member(None, shaping) for shaping in (ShapingConfig.none(), *drawn)]
    steps = trainer.whole(min(trainer.settings.branch_steps / 2, trainer.left / (MEMBERS * GENERATIONS)))
    steps = max(steps, round_up(trainer.run, 1))
    generation = 0
    while True:
        specs = [
            trainer.spec(each.parent, each.shaping, steps, derive(seed, "pbt", generation, index), "search")
            for index, each in enumerate(members)
        ]
        results = await trainer.train(specs)
        order = trainer.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        best, shaping = trained(results[order[0]]), members[order[0]].shaping
        trainer.jump(best, shaping)
        if trainer.left < MEMBERS * steps:
            break
        members = exploited(members, results, order, lambda: draw_for(task, _rise(trainer, task), rng), rng)
        generation += 1
    await to_the_end(trainer, best.id, shaping)


def exploited(
    members: list[Member],
    results: list[SegmentResult | SegmentFailed],
    order: list[int],
    draw: Callable[[], ShapingConfig],
    rng: np.random.Generator,
) -> list[Member]:
    """The next generation: members continue from their own end; the worst quarter and failed members copy.

    A copy has the donor's weights and a *new* shaping, which it trains under from now on.
    """
    quarter = max(len(members) // 4, 1)
    best = order[:quarter]
    worst = {index for index in range(len(members)) if index not in order} | set(order[quarter:][-quarter:])
    following = []
    for index, member in enumerate(members):
        if index in worst:
            donor = best[int(rng.integers(len(best)))]
            copied = members[donor].shaping
            anew = copied.is_none or rng.uniform() < RESAMPLED
            following.append(Member(trained(results[donor]).id, draw() if anew else perturb(copied, rng)))
        else:
            following.append(replace(member, parent=trained(results[index]).id))
    return following


SEARCHES: dict[str, Callable[[CellTrainer], Awaitable[None]]] = {
    "twin": twin,
    "static": static,
    "clones": clones,
    "pbt": pbt,
}
"""The arms that are not sessions."""


async def _first_stage(trainer: CellTrainer) -> SegmentResult:
    """The first stage, which sessions of this seed share, so that it is computed once."""
    seed = derive(trainer.settings.seed, "stage", 0)
    return await trainer.follow(trainer.spec(None, ShapingConfig.none(), min(_stage(trainer), trainer.left), seed))


def _stage(trainer: CellTrainer) -> int:
    return round_up(trainer.run, trainer.settings.stage_steps)


def _task(trainer: CellTrainer) -> TaskSpec:
    return make_task(trainer.run.task, 1).spec


def _rise(trainer: CellTrainer, task: TaskSpec) -> float:
    return rise_on(task, trainer.run.learner.discount)


def _draws(trainer: CellTrainer, task: TaskSpec, rng: np.random.Generator, count: int) -> list[ShapingConfig]:
    return [draw_for(task, _rise(trainer, task), rng) for _ in range(count)]
