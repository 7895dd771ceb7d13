"""The arms of a study that are no sessions: sparse twin, static shaping, clones, population based training.

Whatever they select, they select on the screen episodes; what is reported is measured on the confirm episodes.
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
from learning_signal.tools.round.briefs import rise_on
from learning_signal.tools.study.cell import Trainee, all_failed, trained
from learning_signal.tools.study.study import GENERATIONS, MEMBERS, cost_of

RESAMPLED = 0.25
"""Share of copied members whose shaping is drawn anew; the others' is perturbed."""


async def twin(trainee: Trainee) -> None:
    """No shaping, all env steps."""
    head = await _first_stage(trainee)
    await to_the_end(trainee, head.id, ShapingConfig.none())


async def to_the_end(trainee: Trainee, head: str | None, shaping: ShapingConfig) -> None:
    """Train on from ``head`` under ``shaping`` until nothing is left, a stage at a time."""
    seed = trainee.settings.seed
    while trainee.left:
        steps = min(_stage(trainee), trainee.left)
        spec = trainee.spec(head, shaping, steps, derive(seed, "rest", trainee.spent))
        head = (await trainee.follow(spec)).id


async def static(trainee: Trainee) -> None:
    """Successive halving (Karnin et al. 2013) from scratch: each rung costs the same, its better half goes on."""
    task, seed = _task(trainee), trainee.settings.seed
    rng = np.random.default_rng(derive(seed, "static"))
    alive: list[tuple[ShapingConfig, str | None]] = [
        (shaping, None) for shaping in (ShapingConfig.none(), *_draws(trainee, task, rng, MEMBERS - 1))
    ]
    rung_steps = trainee.left / (MEMBERS.bit_length())  # 8, 4, 2, 1: one rung more than halvings
    while len(alive) > 1:
        steps = trainee.whole(rung_steps / len(alive))
        rung_seed = derive(seed, "static", len(alive))
        results = await trainee.train(
            [trainee.spec(parent, shaping, steps, rung_seed, "search") for shaping, parent in alive]
        )
        order = trainee.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        trainee.jump(trained(results[order[0]]), alive[order[0]][0])
        alive = [(alive[index][0], trained(results[index]).id) for index in order[: len(alive) // 2]]
    shaping, head = alive[0]
    await to_the_end(trainee, head, shaping)


async def clones(trainee: Trainee) -> None:
    """Stages and rounds of what a supervised round costs, spent on clones of HEAD; the best of them goes on."""
    settings, task, none = trainee.settings, _task(trainee), ShapingConfig.none()
    head = await _first_stage(trainee)
    branch_steps, cost = round_up(settings.run, settings.branch_steps), cost_of(settings).first
    number = 0
    while trainee.left >= cost:
        number += 1
        seeds = [derive(settings.seed, "clone", number, index) for index in range(max(cost // branch_steps, 1))]
        results = await trainee.train([trainee.spec(head.id, none, branch_steps, seed, "search") for seed in seeds])
        order = trainee.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        head = trained(results[order[0]])
        trainee.jump(head, none)
        if trainee.left < _stage(trainee):
            break
        seed = derive(settings.seed, "stage", number)
        head = await trainee.follow(trainee.spec(head.id, none, _stage(trainee), seed))
    await to_the_end(trainee, head.id, none)


@dataclass(frozen=True)
class Member:
    """One of a population: where its weights come from and the shaping it trains under next."""

    parent: str | None
    shaping: ShapingConfig


async def pbt(trainee: Trainee) -> None:
    """Population based training (Jaderberg et al. 2017, arXiv 1711.09846) over weights and shapings, in step.

    After every interval the worst quarter copies the weights of members of the best quarter and explores from their
    shaping. What remains at the end trains the best member.
    """
    task, seed = _task(trainee), trainee.settings.seed
    rng = np.random.default_rng(derive(seed, "pbt"))
    drawn = _draws(trainee, task, rng, MEMBERS - 1)
    members = [Member(None, shaping) for shaping in (ShapingConfig.none(), *drawn)]
    steps = trainee.whole(min(trainee.settings.branch_steps / 2, trainee.left / (MEMBERS * GENERATIONS)))
    steps = max(steps, round_up(trainee.run, 1))
    generation = 0
    while True:
        specs = [
            trainee.spec(each.parent, each.shaping, steps, derive(seed, "pbt", generation, index), "search")
            for index, each in enumerate(members)
        ]
        results = await trainee.train(specs)
        order = trainee.ranked(results, task.largest_return)
        if not order:
            raise all_failed(results)
        best, shaping = trained(results[order[0]]), members[order[0]].shaping
        trainee.jump(best, shaping)
        if trainee.left < MEMBERS * steps:
            break
        members = exploited(members, results, order, lambda: draw_for(task, _rise(trainee, task), rng), rng)
        generation += 1
    await to_the_end(trainee, best.id, shaping)


def exploited(
    members: list[Member],
    results: list[SegmentResult | SegmentFailed],
    order: list[int],
    draw: Callable[[], ShapingConfig],
    rng: np.random.Generator,
) -> list[Member]:
    """The next generation: everyone goes on from its own end, but the worst quarter, and whoever failed, copies.

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


SEARCHES: dict[str, Callable[[Trainee], Awaitable[None]]] = {
    "twin": twin,
    "static": static,
    "clones": clones,
    "pbt": pbt,
}
"""The arms that are no sessions."""


async def _first_stage(trainee: Trainee) -> SegmentResult:
    """The stage with which a session of this seed begins as well: it is computed once for all of them."""
    seed = derive(trainee.settings.seed, "stage", 0)
    return await trainee.follow(trainee.spec(None, ShapingConfig.none(), min(_stage(trainee), trainee.left), seed))


def _stage(trainee: Trainee) -> int:
    return round_up(trainee.run, trainee.settings.stage_steps)


def _task(trainee: Trainee) -> TaskSpec:
    return make_task(trainee.run.task, 1).spec


def _rise(trainee: Trainee, task: TaskSpec) -> float:
    return rise_on(task, trainee.run.learner.discount)


def _draws(trainee: Trainee, task: TaskSpec, rng: np.random.Generator, count: int) -> list[ShapingConfig]:
    return [draw_for(task, _rise(trainee, task), rng) for _ in range(count)]
