"""Segments: pure functions of their inputs, stored once, exact to the bit across processes."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from learning_signal.marl.errors import SegmentFailed, SegmentImpossible, SegmentStopped, UnknownTask
from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.ppo import PolicyGradientLearner
from learning_signal.marl.segments import running, training
from learning_signal.marl.segments import segment as segments
from learning_signal.marl.segments.checkpoint import CheckpointError, Position, load_checkpoint, save_checkpoint
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, rollout_size, round_up
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, PlayedSets, RunSettings
from learning_signal.marl.shaping import Anneal, ShapingConfig, ShapingError, Term
from learning_signal.marl.tasks import make_task
from tests.support.places import ROOT
from tests.support.sanity_tasks import Cue, make_sanity_task

SIZE = 8 * 25


def tiny_run(algorithm: str = "mappo", **changes) -> RunSettings:
    learner = LearnerSettings(algorithm=algorithm, hidden=(16,), environments=8, epochs=2, minibatches=2, **changes)
    return RunSettings(learner=learner, evaluation=EvaluationSettings(episodes=4, points=2))


ANNEALED = ShapingConfig(
    terms=(Term(potential="coverage_distance", weight=-1.0, scope="team"),),
    beta=1.0,
    anneal=Anneal(start=SIZE, end=5 * SIZE),
)


def spec(**changes) -> SegmentSpec:
    inputs = {"run": tiny_run(), "parent": None, "shaping": ANNEALED, "env_steps": 2 * SIZE, "seed": 7}
    return SegmentSpec(**(inputs | changes))


def payload(store: SegmentStore, segment: str) -> dict:
    return torch.load(store.checkpoint_path(segment), weights_only=True)


def same(first: dict, second: dict) -> bool:
    """Whether two checkpoints agree to the bit."""
    assert first["learner"].keys() == second["learner"].keys()
    tensors = all(
        torch.equal(value, second["learner"][name])
        for name, value in first["learner"].items()
        if isinstance(value, torch.Tensor)
    )
    position = ("env_steps", "updates")
    return (
        tensors
        and all(first[key] == second[key] for key in position)
        and (first["learner"]["optimiser_steps"] == second["learner"]["optimiser_steps"])
    )


_CHILD = """
import sys
from pathlib import Path
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore
from learning_signal.marl.tasks import make_task
from learning_signal.marl.segments.training import run_segment
from tests.support.sanity_tasks import make_sanity_task
for text in sys.argv[2:]:
    spec = SegmentSpec.model_validate_json(text)
    make = make_task if spec.run.task == "spread" else make_sanity_task
    print(run_segment(spec, SegmentStore(Path(sys.argv[1])), make_task=make).id)
"""

HALVES = [
    ("spread", "mappo", "none"),
    ("number-varied", "ippo", "gru"),
    ("crew-leaving-varied", "mappo", "gru"),
    ("crew-leaving-varied", "ippo", "none"),
]
"""Discrete and continuous actions, one group and several, agents that stay and that leave."""
MORE_HALVES = [
    *(("spread", algorithm, memory) for algorithm, memory in (("mappo", "gru"), ("ippo", "none"), ("ippo", "gru"))),
    ("number-varied", "mappo", "none"),
]
"""The rest of the pairs of algorithm and memory."""


def half(task: str, algorithm: str, memory: str, *, size: int, parts: int, parent: str | None = None) -> SegmentSpec:
    """``parts`` rollouts of ``size`` env steps on ``task``, with shaping that is annealed over the first five."""
    hidden = (16,) if memory == "none" else (16, 16)
    learner = LearnerSettings(
        algorithm=algorithm, memory=memory, hidden=hidden, environments=8, epochs=2, minibatches=2
    )
    run = RunSettings(task=task, learner=learner, evaluation=EvaluationSettings(episodes=4, points=2))
    potential, weight, scope = ("coverage_distance", -1.0, "team") if task == "spread" else ("right", 1.0, "agent")
    shaping = ShapingConfig(
        terms=(Term(potential=potential, weight=weight, scope=scope),),
        beta=1.0,
        anneal=Anneal(start=size, end=5 * size),
    )
    return spec(run=run, shaping=shaping, env_steps=parts * size, parent=parent)


@pytest.mark.parametrize("cases", [HALVES, pytest.param(MORE_HALVES, marks=pytest.mark.slow)])
def test_two_halves_in_two_processes_equal_the_whole_to_the_bit(cases, tmp_path):
    store = SegmentStore(tmp_path)
    whole, second_halves = [], []
    for task, algorithm, memory in cases:
        make, size = (make_task, SIZE) if task == "spread" else (make_sanity_task, 8 * 4)
        whole.append(run_segment(half(task, algorithm, memory, size=size, parts=6), store, make_task=make).id)
        first = run_segment(half(task, algorithm, memory, size=size, parts=3), store, make_task=make)
        second_halves.append(half(task, algorithm, memory, size=size, parts=3, parent=first.id))
    texts = [one.model_dump_json() for one in second_halves]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path), *texts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [one.id for one in second_halves], "ids must not depend on the process"
    for (task, *_), one, second in zip(cases, whole, second_halves, strict=True):
        size = SIZE if task == "spread" else 8 * 4
        assert same(payload(store, one), payload(store, second.id))
        result, full = store.load_result(second.id), store.load_result(one)
        assert (result.start_env_steps, result.end_env_steps) == (3 * size, 6 * size)
        assert result.updates == full.updates[3:]
        assert result.evaluations[-3:] == full.evaluations[-3:]
    betas = [row["beta"] for row in store.load_result(whole[0]).updates]
    assert betas == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])


@pytest.mark.parametrize(
    "forgotten", ["actor_first_moment", "actor_second_moment", "value_normaliser", "optimiser_steps"]
)
def test_the_comparison_notices_a_forgotten_piece(forgotten, tmp_path, monkeypatch):
    """The negative control: a checkpoint that loses one piece of the state gives another result."""
    store = SegmentStore(tmp_path)
    whole = run_segment(spec(env_steps=4 * SIZE), store)
    intact = PolicyGradientLearner.state

    def forgetful(self):
        stored = intact(self)
        stored[forgotten] = 1 if forgotten == "optimiser_steps" else torch.zeros_like(stored[forgotten])
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(PolicyGradientLearner, "state", forgetful)
        first = run_segment(spec(), store)
    second = run_segment(spec(parent=first.id), store)
    assert not torch.equal(payload(store, whole.id)["learner"]["actor"], payload(store, second.id)["learner"]["actor"])


def test_every_input_is_part_of_the_id(monkeypatch):
    changed = [
        spec(run=tiny_run("ippo")),
        spec(run=tiny_run(discount=0.9)),
        spec(parent="s0"),
        spec(shaping=ShapingConfig.none()),
        spec(env_steps=SIZE),
        spec(seed=8),
    ]
    ids = {one.id for one in changed} | {spec().id}
    assert len(ids) == len(changed) + 1
    assert spec().id == spec().id and len(spec().id) == 17 and spec().id.startswith("s")
    before = spec().id
    monkeypatch.setattr(segments, "training_version", lambda: "other")
    assert spec().id != before
    assert len(code_version()) == 16


def test_a_stored_segment_is_not_computed_again(tmp_path, monkeypatch):
    store = SegmentStore(tmp_path)
    first = run_segment(spec(), store)
    assert store.has(first.id) and not first.reused

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "_advance", never)
    again = run_segment(spec(), store)
    assert again.reused and again.model_copy(update={"reused": False}) == first


def test_what_a_result_holds(tmp_path):
    store, seen = SegmentStore(tmp_path), []
    threads = torch.get_num_threads()
    result = run_segment(spec(env_steps=4 * SIZE), store, progress=seen.append)
    assert torch.get_num_threads() == threads
    assert [set(row) for row in result.updates] == [set(METRICS)] * 4
    assert [row["env_steps"] for row in result.updates] == [SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE]
    assert [one.env_steps for one in result.evaluations_of("confirm")] == [2 * SIZE, 4 * SIZE]
    assert len(result.evaluations) == 6
    assert set(result.timings) == {"environment", "policy", "shaping", "update", "evaluation", "rest"}
    assert sum(result.timings.values()) == pytest.approx(result.wall_seconds)
    assert min(result.timings.values()) > 0
    assert [one.done_env_steps for one in seen] == [SIZE, 2 * SIZE, 3 * SIZE, 4 * SIZE]
    assert seen[0].total_env_steps == 4 * SIZE and seen[0].id == result.id
    record = store.behaviour(result.id)
    assert record.sparse_returns.tolist() == list(result.evaluations_of("query")[-1].sparse_returns)
    with pytest.raises(ValueError, match="no evaluation set 'train'; choose one of query, screen, confirm, report"):
        result.evaluations_of("train")
    assert result.evaluations_of("report") == () and result.reported == result.evaluations_of("confirm")[-1]


def test_what_is_reported_has_episodes_of_its_own_and_the_others_stay_as_they_are(tmp_path):
    """Whether the report episodes are played changes no bit of what else is measured, nor of what is learned."""
    store = SegmentStore(tmp_path)
    plain = run_segment(spec(), store)
    played = PlayedSets(report="every")
    run = plain_run = spec().run
    run = run.model_copy(update={"evaluation": run.evaluation.model_copy(update={"played": played})})
    assert plain_run.evaluation.played.report == "never"
    result = run_segment(spec().model_copy(update={"run": run}), store)
    assert tuple(each for each in result.evaluations if each.set != "report") == plain.evaluations
    assert result.updates == plain.updates
    assert len(result.evaluations_of("report")) == len(result.evaluations_of("confirm"))
    assert result.reported == result.evaluations_of("report")[-1] != result.evaluations_of("confirm")[-1]
    progress = {each.set: each.progress for each in result.evaluations[-4:]}
    assert len(set(progress.values())) == 4, "no two sets play the same episodes"


def test_metrics_without_shaping_or_with_short_segments(tmp_path):
    store = SegmentStore(tmp_path)
    result = run_segment(spec(shaping=ShapingConfig.none(), env_steps=SIZE), store)
    assert result.updates[0]["beta"] == 0.0
    assert result.updates[0]["shaped_return"] == result.updates[0]["sparse_return"]
    assert len(result.evaluations) == 3, "one update allows one evaluation"


def test_evaluation_does_not_change_training(tmp_path):
    run = tiny_run()
    often = run.model_copy(update={"evaluation": EvaluationSettings(episodes=9, points=4), "evaluation_seed": 3})
    store = SegmentStore(tmp_path)
    one, other = (run_segment(spec(run=settings, env_steps=4 * SIZE), store) for settings in (run, often))
    assert one.id != other.id
    assert same(payload(store, one.id), payload(store, other.id))
    assert one.updates == other.updates


def smallest_survive() -> bool:
    """Whether this thread keeps numbers that are too small for a normal float32."""
    return bool((np.full(8, 1e-40, np.float32) * np.float32(0.5)).all())


def test_tasks_compute_as_they_do_outside_of_training_and_networks_do_not(tmp_path, monkeypatch):
    seen = {"task": set(), "choice": set(), "update": set()}

    class Watched(Cue):
        def step(self, actions):
            seen["task"].add(smallest_survive())
            return super().step(actions)

        def features(self, names=None):
            seen["task"].add(smallest_survive())
            return super().features(names)

    class Watching(PolicyGradientLearner):
        def behaviour(self, env_steps):
            choose = super().behaviour(env_steps)

            def watching(*given):
                seen["choice"].add(smallest_survive())
                return choose(*given)

            return watching

        def update(self, *given):
            seen["update"].add(smallest_survive())
            return super().update(*given)

    monkeypatch.setattr(running, "make_learner", Watching)
    shaping = ShapingConfig(terms=(Term(potential="right_share", weight=1.0, scope="team"),), beta=1.0)
    run_segment(cue_spec(shaping=shaping), SegmentStore(tmp_path), make_task=lambda name, count: Watched(count))
    assert seen == {"task": {True}, "choice": {False}, "update": {False}}
    assert smallest_survive(), "nor does anything stay so"


def test_stopping_leaves_nothing_behind(tmp_path):
    calls = []

    def stop() -> bool:
        calls.append(None)
        return len(calls) > 1

    store = SegmentStore(tmp_path)
    with pytest.raises(SegmentStopped, match="after 1 of 2 updates"):
        run_segment(spec(), store, stop=stop)
    assert not store.has(spec().id)


def test_a_half_written_segment_is_not_a_segment(tmp_path, monkeypatch):
    store = SegmentStore(tmp_path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(running, "save_checkpoint", full_disk)
        with pytest.raises(SegmentImpossible, match="The disk is full: .* free space and resume.$") as raised:
            run_segment(spec(), store)
    assert raised.value.env_steps == 2 * SIZE
    assert not store.has(spec().id) and not list(tmp_path.iterdir())
    (tmp_path / f".{spec().id}.killed").mkdir()  # what a kill leaves
    assert not store.has(spec().id)
    assert not run_segment(spec(), store).reused


@contextmanager
def files_of_at_most(size: int):
    """The operating system refuses to write more than ``size`` bytes into any file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_refused_checkpoint_says_what_the_system_said(tmp_path):
    """torch's own writer would lose it."""
    store = SegmentStore(tmp_path)
    with files_of_at_most(2000), pytest.raises(SegmentImpossible, match="File too large.* and resume.$") as raised:
        run_segment(spec(), store)
    assert raised.value.env_steps == 2 * SIZE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["torch", "numpy", "other"])
def test_a_full_memory_is_not_the_segments_fault(tmp_path, kind):
    def hungry(*_):
        if kind == "torch":
            torch.empty(10**15)
        if kind == "numpy":
            raise MemoryError("Unable to allocate 4 PiB")
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    expected, words = (
        (RuntimeError, "shapes cannot") if kind == "other" else (SegmentImpossible, "The memory is full: .*allocate")
    )
    with pytest.raises(RuntimeError, match=words) as raised:
        run_segment(spec(), SegmentStore(tmp_path), make_task=hungry)
    assert type(raised.value) is expected


class _Spoiled(Cue):
    """Gives ``value`` as its ``what``, in its second step and in batches of ``size`` only."""

    def __init__(self, environments: int, what: str, value: float, size: int) -> None:
        super().__init__(environments)
        self.what, self.value, self.spoils = what, value, environments == size

    def _spoil(self, what: str, values: np.ndarray) -> np.ndarray:
        if what == self.what and self.spoils and self._elapsed[-1] == 2:
            values = values.astype(np.float32)
            values[0] = self.value
        return values

    def step(self, actions: np.ndarray):
        step = super().step(actions)
        return step._replace(
            observations=self._spoil("observation", step.observations), reward=self._spoil("reward", step.reward)
        )

    def features(self, names=None):
        return {name: self._spoil(name, values) for name, values in super().features(names).items()}

    def progress(self) -> np.ndarray:
        return self._spoil("progress", super().progress())


def cue_spec(**changes) -> SegmentSpec:
    learner = LearnerSettings(hidden=(16,), environments=8)
    run = RunSettings(task="cue", learner=learner, evaluation=EvaluationSettings(episodes=5, points=2))
    return spec(**({"run": run, "shaping": ShapingConfig.none(), "env_steps": 4 * 32} | changes))


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("reward", float("nan"), "gave NaN at env step 96 .a sparse return of task cue.*correct the task.$"),
        ("reward", float("inf"), "gave infinity at env step 96 .a sparse return"),
        ("progress", float("nan"), "gave NaN at env step 96 .a progress"),
        ("observation", float("-inf"), "gave infinity at env step 96 .an observation"),
        ("right", float("nan"), "gave NaN at env step 128 .the feature 'right'"),
        ("nothing", float("nan"), None),
    ],
)
def test_an_evaluation_that_gives_no_numbers_fails_the_segment(tmp_path, what, value, words):
    store = SegmentStore(tmp_path)
    parent = run_segment(cue_spec(env_steps=32), store, make_task=make_sanity_task)
    inputs = cue_spec(parent=parent.id, env_steps=4 * 32 if words and "128" not in words else 3 * 32)

    def make(name, environments):
        return _Spoiled(environments, what, value, size=3 * 5)

    if words is None:
        assert run_segment(inputs, store, make_task=make).env_steps == 96
        return
    with pytest.raises(SegmentFailed, match=words) as raised:
        run_segment(inputs, store, make_task=make)
    assert type(raised.value) is SegmentFailed
    assert raised.value.env_steps == int(re.search(r"env step (\d+)", words)[1]) - 32, "without the parent's"
    assert not store.has(inputs.id) and len(list(tmp_path.iterdir())) == 1


def test_a_rollout_without_a_progress_fails_the_segment(tmp_path):
    """No loss depends on it, so no update diverges; stored, it would read as missing."""
    store = SegmentStore(tmp_path)

    def make(name, environments):
        return _Spoiled(environments, "progress", float("nan"), size=8)

    with pytest.raises(SegmentFailed, match="the progress became NaN at env step 32") as raised:
        run_segment(cue_spec(), store, make_task=make)
    assert raised.value.env_steps == 32 and not store.has(cue_spec().id)


def test_the_same_segment_finished_twice_at_once(tmp_path):
    store = SegmentStore(tmp_path)
    run_segment(spec(), store)
    with store.writing(spec().id) as folder:
        (folder / "result.json").write_text("from the slower process")
    assert store.load_result(spec().id).id == spec().id
    assert len(list(tmp_path.iterdir())) == 1


def test_unreadable_files_are_one_clear_error(tmp_path):
    store = SegmentStore(tmp_path)
    done = run_segment(spec(), store)
    folder = store.path(done.id)
    (folder / "result.json").write_text('{"id": "s')
    with pytest.raises(SegmentImpossible, match="cannot be read .* delete the folder to compute it again"):
        run_segment(spec(), store)
    whole = (folder / "behaviour.npz").read_bytes()
    for damaged in (b"", b"PK", whole[:-100], whole[:200] + bytes(100) + whole[300:]):
        (folder / "behaviour.npz").write_bytes(damaged)
        with pytest.raises(SegmentImpossible, match="behaviour record of segment .* cannot be read"):
            store.behaviour(done.id)
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SegmentImpossible, match="checkpoint .* cannot be read .* delete its segment"):
        run_segment(spec(parent=done.id), store)
    with pytest.raises(SegmentImpossible, match="Segment s00000000000000bc is not in"):
        store.load_result("s00000000000000bc")


def test_unusable_inputs(tmp_path):
    store = SegmentStore(tmp_path)
    with pytest.raises(SegmentImpossible, match="parent segment s00000000000000ab is not in .*; run it first"):
        run_segment(spec(parent="s00000000000000ab"), store)
    for wrong, nearest in ((SIZE + 1, SIZE), (0, SIZE), (390, 2 * SIZE)):
        words = f"of {wrong} env steps is not .* rollouts of {SIZE}; use {nearest}"
        with pytest.raises(SegmentFailed, match=words) as raised:
            run_segment(spec(env_steps=wrong), store)
        assert type(raised.value) is SegmentFailed and raised.value.env_steps == 0
    short = tiny_run(rollout_steps=10)
    with pytest.raises(SegmentFailed, match="rollout of 10 steps .* set rollout_steps to at least 25"):
        run_segment(spec(run=short, env_steps=80), store)
    unknown = ShapingConfig(terms=(Term(potential="nonsense", weight=1.0, scope="team"),), beta=1.0)
    with pytest.raises(ShapingError, match="nonsense"):
        run_segment(spec(shaping=unknown), store)
    with pytest.raises(UnknownTask):
        run_segment(spec(run=RunSettings(task="nonsense")), store)


def test_divergence_fails_the_segment_with_a_reason(tmp_path):
    store = SegmentStore(tmp_path)
    run = tiny_run(learning_rate=1e30)
    words = rf"Training diverged: .* (NaN|infinite) at env step {SIZE}; use a smaller"
    with pytest.raises(SegmentFailed, match=words) as raised:
        run_segment(spec(run=run), store)
    assert type(raised.value) is SegmentFailed and raised.value.env_steps == SIZE
    assert not store.has(spec(run=run).id)


def test_rounding_to_rollouts():
    run = tiny_run()
    assert rollout_size(run) == SIZE
    assert [round_up(run, steps) for steps in (1, SIZE, SIZE + 1)] == [SIZE, SIZE, 2 * SIZE]
    assert rollout_size(tiny_run(rollout_steps=50)) == 400


def test_an_injected_task(tmp_path):
    learner = LearnerSettings(hidden=(16,), environments=8)
    run = RunSettings(task="cue-varied", learner=learner, evaluation=EvaluationSettings(episodes=5, points=2))
    shaping = ShapingConfig(terms=(Term(potential="right", weight=1.0, scope="agent"),), beta=1.0)
    inputs = spec(run=run, shaping=shaping, env_steps=8 * 4 * 3)
    result = run_segment(inputs, SegmentStore(tmp_path), make_task=make_sanity_task)
    assert result.env_steps == 96 and len(result.updates) == 3


def test_checkpoints_refuse_other_learners(tmp_path):
    path = tmp_path / "checkpoint.pt"
    mappo, task = tiny_run().learner, make_task("spread", 1).spec
    save_checkpoint(path, make_learner(task, mappo, 0), Position(200, 1))
    other = make_learner(task, mappo, 1)
    assert load_checkpoint(path, other) == Position(200, 1)
    for name, value in make_learner(task, mappo, 0).tensors().items():
        assert torch.equal(other.tensors()[name], value)
    with pytest.raises(CheckpointError, match="algorithm mappo, expected format 1 and ippo"):
        load_checkpoint(path, make_learner(task, tiny_run("ippo").learner, 0))
    with pytest.raises(CheckpointError, match="use the task, algorithm, memory and hidden layers"):
        load_checkpoint(path, make_learner(Cue(1).spec, mappo, 0))
    torch.save({"format": 1}, path)
    with pytest.raises(CheckpointError, match=r"cannot be read by torch .* \(KeyError\)"):
        load_checkpoint(path, other)


def test_the_learner_of_a_loaded_checkpoint_owns_its_tensors(tmp_path):
    """Loading copies into the learner's flat vector: its layers must still be views of it."""
    path = tmp_path / "checkpoint.pt"
    learner = make_learner(Cue(1).spec, tiny_run().learner, 0)
    save_checkpoint(path, learner, Position(0, 0))
    load_checkpoint(path, learner)
    actor, critic = learner.actors[0].network, learner.critics[0].network
    actor.parameters.zero_()
    assert all(weight.eq(0).all() for weight in actor.weights)
    assert np.isfinite(critic.parameters.numpy()).all()
