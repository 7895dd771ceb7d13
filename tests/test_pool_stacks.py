"""Workers that are given several segments at once: who goes with whom, and what becomes of those that fail."""

from __future__ import annotations

import pytest
from test_pool import PATIENCE, Heard, failure_of, impossible_of, make_spec, wait_until

from marl import segment
from marl.executor import ExecutorSettings, open_executor
from marl.pool import WorkerPool
from marl.segment import SegmentStore
from marl.settings import LearnerSettings, RunSettings
from marl.stacking import STACK, largest_stack
from tests.test_stacked import branches, contents, run_of
from tools.sources import SettingsError, gather


@pytest.fixture(scope="module")
def heard():
    return Heard()


def open_pool(root, heard=None, workers=1, stack=4, stack_runner="stack_runners:act_together"):
    pool = WorkerPool(
        root, workers, heard, runner="pool_runners:act", preload=(), stack=stack, stack_runner=stack_runner
    )
    wait_until(lambda: all(worker.ready for worker in pool._workers))
    return pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory, heard):
    with open_pool(tmp_path_factory.mktemp("store"), heard) as pool:
        yield pool


def ask(pool, task, seeds, urgent=True, env_steps=100):
    return [pool.submit(make_spec(task, seed, env_steps), urgent) for seed in seeds]


def together(futures):
    """With how many each was computed; None is one that was alone."""
    return [future.result(PATIENCE).get("together") for future in futures]


@pytest.fixture
def busy(pool):
    """The only worker has something to do: what is submitted now waits."""
    return ask(pool, "sleep", [1000], env_steps=300)[0]


def test_what_is_asked_for_in_one_go_is_computed_together(pool):
    assert together(ask(pool, "ok", range(6))) == [4, 4, 4, 4, 2, 2]
    assert together(ask(pool, "ok", [10])) == [None]


def test_by_default_everything_is_computed_alone(tmp_path):
    with WorkerPool(tmp_path, 1, runner="pool_runners:act", preload=(), stack_runner="nothing:at_all") as pool:
        assert together(ask(pool, "ok", range(3))) == [None] * 3


def test_every_worker_gets_its_share(tmp_path):
    with open_pool(tmp_path, workers=2) as pool:
        futures = ask(pool, "wait for a file", range(4))
        wait_until(lambda: all(len(worker.jobs) == 2 for worker in pool._workers))
        (tmp_path / "go").touch()
        assert together(futures) == [2] * 4


def test_only_like_segments_are_computed_together(pool, busy):
    longer, others = ask(pool, "ok", [20, 21], env_steps=200), ask(pool, "ok", [22, 23])
    another = ask(pool, "another", [24])
    learner = LearnerSettings(algorithm="qmix")
    values = [
        make_spec("ok", seed).model_copy(update={"run": RunSettings(task="ok", learner=learner)}) for seed in (25, 26)
    ]
    assert together(longer + others + another) == [2, 2, 2, 2, None]
    assert together([pool.submit(spec) for spec in values]) == [None, None]


def test_urgent_ones_are_not_held_up_by_others(pool, busy):
    late, urgent = ask(pool, "ok", [30, 31], urgent=False), ask(pool, "ok", [32, 33])
    assert together(late + urgent) == [2] * 4
    began = [future.result()["began"] for future in urgent + late]
    assert began == sorted(began)


def test_what_was_withdrawn_or_cancelled_is_left_out(pool, busy):
    first, second, third = ask(pool, "ok", [40, 41, 42])
    assert pool.withdraw(make_spec("ok", 41).id) and second.cancelled()
    assert together([first, third]) == [2, 2]
    again, other, cancelled, last = ask(pool, "ok", [43, 44, 45, 46])
    assert cancelled.cancel()
    assert together([again, other, last]) == [3] * 3


def test_what_is_computed_together_has_started(tmp_path):
    with open_pool(tmp_path) as pool:
        futures = ask(pool, "wait for a file", range(3))
        wait_until(lambda: pool._workers[0].jobs)
        assert not any(pool.withdraw(make_spec("wait for a file", seed).id) for seed in range(3))
        assert ask(pool, "wait for a file", [2]) == futures[2:], "one in flight is shared"
        pool.cancel_all()
        assert all("cancelled" in impossible_of(future) for future in futures)
        assert together(ask(pool, "ok", [0])) == [None]


def test_each_tells_how_far_it_is(pool, heard):
    specs = [make_spec("ok", seed) for seed in (50, 51, 52)]
    assert together([pool.submit(spec) for spec in specs]) == [3] * 3
    for spec in specs:
        assert [latest.done_env_steps for _, latest in heard.of(spec.id)] == [40]


def test_one_that_diverges_fails_alone(pool):
    sound, broken, other = ask(pool, "one diverges", [0, 1, 2])
    assert failure_of(broken) == "Training diverged." and broken.exception().env_steps == 70
    assert together([sound, other]) == [3, 3]


def test_when_a_worker_is_killed_each_is_computed_again_by_itself(pool):
    before = pool._workers[0].process.pid
    futures = ask(pool, "killed together", [60, 61, 62])
    assert together(futures) == [None] * 3
    began = [future.result()["began"] for future in futures]
    assert began == sorted(began), "they keep their places"
    assert before not in {future.result()["process"] for future in futures}


def test_a_death_in_company_is_nobodys(pool):
    """By itself a segment gets the two workers that any other gets; env steps of all three count."""
    assert together(ask(pool, "killed once", [70, 71])) == [None] * 2
    for future in ask(pool, "killed", [72, 73]):
        assert "and so did a fresh one" in failure_of(future) and future.exception().env_steps == 40 + 2 * 40


@pytest.mark.parametrize("task", ["broken together", "unloadable"])
def test_what_cannot_be_computed_together(pool, tmp_path, task):
    """What fails as a whole is computed one by one; a runner that is not there is the program's fault."""
    if task == "broken together":
        assert together(ask(pool, task, [80, 81])) == [None, None]
        return
    with open_pool(tmp_path, stack_runner="stack_runners:missing") as pool:
        assert all("could not load stack_runners:missing" in impossible_of(one) for one in ask(pool, task, [0, 1]))
        assert together(ask(pool, task, [2])) == [None]


def test_sources_that_changed_are_noticed_of_all(pool, monkeypatch):
    monkeypatch.setattr(segment, "training_version", lambda: "another")
    assert all("changed while it ran" in impossible_of(future) for future in ask(pool, "ok", [90, 91]))


def test_an_answer_that_cannot_be_read_fails_them_all(pool):
    assert all("could not be read" in impossible_of(future) for future in ask(pool, "unreadable", [95, 96]))
    assert together(ask(pool, "ok", [97])) == [None]


def test_results_are_those_of_training_alone(tmp_path):
    """Real training by both, to the bit."""
    specs, stores = branches(run_of(), updates=2)[:3], {}
    for stack in (1, 4):
        root = tmp_path / str(stack)
        with WorkerPool(root, 1, stack=stack) as pool:
            wait_until(lambda: pool._workers[0].ready)
            results = [pool.submit(spec) for spec in specs]
            results = [future.result(PATIENCE) for future in results]
        stores[stack] = SegmentStore(root)
        shared = {result.timings["update"] for result in results}
        assert len(shared) == (len(specs) if stack == 1 else 1), "seconds of a stack are shared out"
    for spec in specs:
        assert contents(stores[1], spec.id) == contents(stores[4], spec.id)


def test_how_many_go_together():
    small = RunSettings(task="spread", learner=LearnerSettings(environments=16))
    assert largest_stack(small) == STACK and largest_stack(small, 2) == 2 and largest_stack(small, 1) == 1
    assert largest_stack(RunSettings(task="spread")) == 1 and largest_stack(RunSettings(task="spread"), 8) == 8
    for learner in ({"algorithm": "vdn"}, {"memory": "gru"}):
        assert largest_stack(RunSettings(task="spread", learner=LearnerSettings(**learner)), 4) == 1
    assert largest_stack(RunSettings(task="tests.foreign_environments:make"), 4) == 1
    assert largest_stack(RunSettings(task="nothing")) == 1, "whoever trains it says what is wrong"


def test_the_setting_reaches_the_pool(tmp_path):
    for asked in (None, 3):
        with open_executor(tmp_path, 1, settings=ExecutorSettings(stack=asked)) as executor:
            assert executor._stack == asked
    with pytest.raises(ValueError, match="found stack=3 with Ray, expected local processes"):
        ExecutorSettings(kind="ray", stack=3)
    with pytest.raises(ValueError, match="0 segments at once; use at least 1"):
        WorkerPool(tmp_path, 1, stack=0)
    config = tmp_path / "stack.toml"
    config.write_text("[executor]\nstack = 3\n")
    assert gather({}, {}, config).settings({}, {}).executor == ExecutorSettings(stack=3)
    config.write_text("[executor]\nstack = 0\n")
    with pytest.raises(SettingsError, match="stack.toml sets executor.stack to 0, expected greater than or equal to 1"):
        gather({}, {}, config).settings({}, {})
    assert ExecutorSettings(stack=3).changed(kind="ray") == ExecutorSettings(kind="ray")
