"""Stacked branches: what each gives is what it gives alone, to the bit, whoever was trained beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from marl.segment import (
    SegmentFailed,
    SegmentImpossible,
    SegmentResult,
    SegmentSpec,
    SegmentStopped,
    SegmentStore,
)
from marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from marl.shaping import Anneal, ShapingConfig, Term
from marl.stacked import run_stacked
from marl.stacking import can_stack, worthwhile
from marl.tasks import make_task
from marl.training import run_segment
from tests.sanity_tasks import make_sanity_task


def make(name: str, environments: int):
    known = name in ("spread", "foraging")
    return make_task(name, environments) if known else make_sanity_task(name, environments)


def run_of(task: str = "spread", **changes) -> RunSettings:
    learner = {"hidden": (16, 16), "environments": 8, "epochs": 2, "minibatches": 2, "memory": "none"}
    return RunSettings(
        task=task, learner=LearnerSettings(**(learner | changes)), evaluation=EvaluationSettings(episodes=4, points=2)
    )


def shapings(task: str) -> list[ShapingConfig]:
    """None, a team potential that is annealed, and two others."""
    features = make(task, 1).spec.features

    def one(feature, weight: float, anneal: Anneal | None = None) -> ShapingConfig:
        term = Term(potential=feature.name, weight=weight, scope=feature.scope)
        return ShapingConfig(terms=(term,), beta=1.0, anneal=anneal)

    return [
        ShapingConfig.none(), one(features[0], -1.0, Anneal(start=10, end=2000)), one(features[-1], 1.0),
        one(features[0], 2.0),
    ]  # fmt: skip


def branches(run: RunSettings, updates: int = 3, parents=(None,)) -> list[SegmentSpec]:
    """Four branches, of two seeds and four shapings."""
    settings = run.learner
    size = settings.environments * (settings.rollout_steps or make(run.task, 1).spec.horizon)
    return [
        SegmentSpec(
            run=run, parent=parents[k % len(parents)], shaping=shaping, env_steps=updates * size, seed=k // 2
        )
        for k, shaping in enumerate(shapings(run.task))
    ]  # fmt: skip


def contents(store: SegmentStore, segment: str) -> dict[str, object]:
    """Everything a stored segment holds but its seconds, in comparable form."""
    result, behaviour = store.load_result(segment), store.behaviour(segment)
    held: dict[str, object] = {
        "result": result.model_dump(exclude={"wall_seconds", "timings", "reused"}),
        "actions": behaviour.actions.tobytes(),
        "rewards": behaviour.rewards.tobytes(),
    }
    held |= {f"feature {name}": values.tobytes() for name, values in behaviour.features.items()}
    payload = torch.load(store.checkpoint_path(segment), weights_only=True)
    for name, value in payload.pop("learner").items():
        held[name] = value.numpy().tobytes() if isinstance(value, torch.Tensor) else value
    return held | payload


def both(specs: list[SegmentSpec], folder: Path) -> tuple[SegmentStore, SegmentStore, list]:
    """The same segments alone and stacked, in two stores."""
    alone, stacked = SegmentStore(folder / "alone"), SegmentStore(folder / "stacked")
    for spec in specs:
        run_segment(spec, alone, make_task=make)
    return alone, stacked, run_stacked(specs, stacked, make_task=make)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("spread", {}),
        ("spread", {"algorithm": "ippo", "hidden": (24, 16)}),
        ("foraging", {"minibatches": 3}),  # batches of odd sizes, episodes that end early
        ("number-varied", {}),  # continuous actions
        ("crew-varied", {"algorithm": "ippo"}),  # several groups
        ("crew-varied-terminates", {"minibatches": 3}),
        ("cue-varied", {"rollout_steps": 11}),  # episodes cut inside a rollout
    ],
)
def test_a_branch_gives_what_it_gives_alone(task: str, changes: dict, tmp_path: Path) -> None:
    specs = branches(run_of(task, **changes))
    alone, stacked, results = both(specs, tmp_path)
    for spec, result in zip(specs, results, strict=True):
        assert result == stacked.load_result(spec.id)
        assert contents(alone, spec.id) == contents(stacked, spec.id)


def test_default_sizes_to_the_bit(tmp_path: Path) -> None:
    """1200 rows of a minibatch are no whole number of vectors of 32: sums over actions go branch by branch."""
    specs = branches(
        RunSettings(task="spread", evaluation=EvaluationSettings(episodes=4, points=2)), updates=2
    )[:2]
    alone, stacked, _ = both(specs, tmp_path)
    assert all(contents(alone, spec.id) == contents(stacked, spec.id) for spec in specs)


@pytest.mark.parametrize("what", ["shaping", "seed"])
def test_swapped_branches_are_noticed(what: str, tmp_path: Path) -> None:
    """Negative control: contents that belong to another branch are not equal."""
    alone, stacked, _ = both(specs := branches(run_of(), updates=2), tmp_path)
    other = {"shaping": (0, 1), "seed": (0, 2)}[what]
    first, second = (specs[place].id for place in other)
    assert contents(alone, first)["actor"] == contents(stacked, first)["actor"] != contents(stacked, second)["actor"]
    assert contents(alone, first)["result"]["updates"] != contents(stacked, second)["result"]["updates"]


def test_a_branch_that_goes_far_enough_leaves_the_others(tmp_path: Path) -> None:
    limited = run_of(epochs=6, learning_rate=0.02, largest_kl=0.01)
    specs = branches(limited)
    alone, stacked, _ = both(specs, tmp_path)
    assert all(contents(alone, spec.id) == contents(stacked, spec.id) for spec in specs)
    steps = [contents(stacked, spec.id)["optimiser_steps"] for spec in specs]
    assert len(set(steps)) > 1 and max(steps) < 3 * 6 * 2  # they stopped, and not at the same step


def test_branches_of_several_parents_and_children_alone(tmp_path: Path) -> None:
    alone, stacked = SegmentStore(tmp_path / "alone"), SegmentStore(tmp_path / "stacked")
    run = run_of()
    long, short = branches(run, updates=3)[0], branches(run, updates=1)[3]
    for store in (alone, stacked):
        for parent in (long, short):
            run_segment(parent, store)
    specs = branches(run, updates=2, parents=(long.id, short.id))
    for spec in specs:
        run_segment(spec, alone)
    run_stacked(specs, stacked)
    child = specs[0].model_copy(update={"parent": specs[1].id})
    for store in (alone, stacked):
        run_segment(child, store)
    assert all(contents(alone, spec.id) == contents(stacked, spec.id) for spec in [*specs, child])


def test_a_branch_that_diverges_hurts_nobody(tmp_path: Path) -> None:
    alone, stacked = SegmentStore(tmp_path / "alone"), SegmentStore(tmp_path / "stacked")
    run = run_of()
    broken, sound = branches(run, updates=1)[:2]
    for store in (alone, stacked):
        for parent in (broken, sound):
            run_segment(parent, store)
        path = store.checkpoint_path(broken.id)
        payload = torch.load(path, weights_only=True)
        payload["learner"]["critic"][0] = float("nan")
        torch.save(payload, path)
    specs = branches(run, updates=2, parents=(broken.id, sound.id, sound.id))[:3]
    with pytest.raises(SegmentFailed) as failure:
        run_segment(specs[0], alone)
    first, *others = run_stacked(specs, stacked)
    assert type(first) is SegmentFailed and str(first) == str(failure.value) and first.env_steps == 8 * 25
    assert not stacked.has(specs[0].id)
    for spec in specs[1:]:
        run_segment(spec, alone)
        assert contents(alone, spec.id) == contents(stacked, spec.id)
    assert all(isinstance(result, SegmentResult) for result in others)


def test_what_cannot_begin_fails_alone(tmp_path: Path) -> None:
    store, specs = SegmentStore(tmp_path), branches(run_of(), updates=1)
    specs[0] = specs[0].model_copy(update={"parent": "s" + "0" * 16})
    unknown = ShapingConfig(terms=(Term(potential="luck", weight=1.0, scope="team"),), beta=1.0)
    specs[1] = specs[1].model_copy(update={"shaping": unknown})
    lost, wrong, *others = run_stacked(specs, store)
    assert type(lost) is SegmentImpossible and "run it first" in str(lost)
    assert type(wrong) is SegmentFailed and "luck" in str(wrong)
    assert all(store.has(spec.id) for spec in specs[2:]) and all(isinstance(one, SegmentResult) for one in others)


def test_a_full_disk_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path, learner, position):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("marl.running.save_checkpoint", full)
    for outcome in run_stacked(branches(run_of(), updates=1), SegmentStore(tmp_path)):
        assert type(outcome) is SegmentImpossible and "disk is full" in str(outcome) and outcome.env_steps == 200


def test_no_memory_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("marl.learners.stacked_ppo.StackedLearners.update", greedy)
    for outcome in run_stacked(branches(run_of(), updates=1), SegmentStore(tmp_path)):
        assert type(outcome) is SegmentImpossible and "memory is full" in str(outcome)


def test_a_missing_device_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for outcome in run_stacked(branches(run_of(device="cuda"), updates=1), SegmentStore(tmp_path)):
        assert type(outcome) is SegmentImpossible and "cuda" in str(outcome)


def test_stopping_stores_nothing(tmp_path: Path) -> None:
    store, asked = SegmentStore(tmp_path), iter([False, True])
    with pytest.raises(SegmentStopped, match="4 stacked segments were stopped after 1 of 3 updates"):
        run_stacked(branches(run_of()), store, stop=lambda: next(asked))
    assert not list(tmp_path.glob("s*"))


def test_progress_seconds_and_what_is_stored_already(tmp_path: Path) -> None:
    store, specs, told = SegmentStore(tmp_path), branches(run_of()), []
    run_segment(specs[2], store)
    results = run_stacked(specs, store, progress=told.append)
    assert [result.reused for result in results] == [False, False, True, False]
    assert [(one.id, one.done_env_steps) for one in told[:3]] == [(specs[k].id, 200) for k in (0, 1, 3)]
    assert len(told) == 9 and told[-1].done_env_steps == told[-1].total_env_steps == 600
    for result in results:
        assert np.isclose(sum(result.timings.values()), result.wall_seconds)
    # Seconds are shares: those trained together report about the same, and a third of the whole.
    assert results[0].timings["update"] == results[1].timings["update"] == results[3].timings["update"]


@pytest.mark.parametrize("changes", [{"memory": "gru"}, {"algorithm": "qmix"}])
def test_what_cannot_be_stacked_is_trained_alone(changes: dict, tmp_path: Path) -> None:
    specs = branches(run_of(**changes), updates=2)[:2]
    assert not can_stack(specs)
    alone, stacked, _ = both(specs, tmp_path)
    assert all(contents(alone, spec.id)["result"] == contents(stacked, spec.id)["result"] for spec in specs)


def test_agents_that_leave_are_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = branches(run_of("crew-leaving-varied"), updates=1)[:2]
    monkeypatch.setattr("marl.stacked._train", None)  # calling it would fail
    assert all(isinstance(one, SegmentResult) for one in run_stacked(specs, SegmentStore(tmp_path), make_task=make))


def test_only_like_segments_are_stacked() -> None:
    first, second, *_ = branches(run_of())
    assert can_stack([first, second]) and not can_stack([first])
    assert not can_stack([first, second.model_copy(update={"env_steps": 2 * second.env_steps})])
    assert not can_stack([first, second.model_copy(update={"run": run_of(environments=16)})])
    foreign = run_of().model_copy(update={"task": "tests.foreign_environments:make"})
    assert not can_stack([one.model_copy(update={"run": foreign}) for one in (first, second)])


def test_small_minibatches_and_gpus_are_worth_it() -> None:
    task = make_task("spread", 1).spec
    assert worthwhile(LearnerSettings(environments=32), task)
    assert not worthwhile(LearnerSettings(), task)
    assert worthwhile(LearnerSettings(device="cuda"), task)


def test_choosing_needs_no_torch() -> None:
    code = "import sys, marl.stacking; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_branches_agree_closely(tmp_path: Path) -> None:
    """A GPU sums in another order when products are batched: weights agree to 1e-4 after one update."""
    specs = branches(run_of(device="cuda"), updates=1)
    alone, stacked, _ = both(specs, tmp_path)
    for spec in specs:
        one, other = (
            torch.load(store.checkpoint_path(spec.id), weights_only=True)["learner"] for store in (alone, stacked)
        )
        for name in ("actor", "critic"):
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-4)
