"""The worker pool: order, sharing, death, failure, progress, cancellation, Ctrl-C, and no orphans."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from loguru import logger

import learning_signal.marl.executors.local
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.processes import available_cores
from learning_signal.marl.segments import segment
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from tests.support.places import ROOT

PATIENCE = 60


def make_spec(task="ok", seed=0, env_steps=100):
    return SegmentSpec(
        run=RunSettings(task=task), parent=None, shaping=ShapingConfig.none(), env_steps=env_steps, seed=seed
    )


class Heard:
    """A progress listener that remembers, and can be waited for."""

    def __init__(self):
        self.messages, self.condition = [], threading.Condition()

    def __call__(self, progress):
        with self.condition:
            self.messages.append((time.monotonic(), progress))
            self.condition.notify_all()

    def of(self, identifier):
        return [(moment, progress) for moment, progress in self.messages if progress.id == identifier]

    def wait_for(self, identifier):
        with self.condition:
            assert self.condition.wait_for(lambda: self.of(identifier), timeout=PATIENCE)


@pytest.fixture(scope="module")
def heard():
    return Heard()


@pytest.fixture(scope="module")
def pool(tmp_path_factory, heard):
    with WorkerPool(
        tmp_path_factory.mktemp("store"),
        workers=1,
        on_progress=heard,
        runner="tests.support.pool_runners:act",
        preload=(),
    ) as pool:
        yield pool


def error_of(future):
    with pytest.raises(SegmentFailed) as raised:
        future.result(PATIENCE)
    return raised.value


def failure_of(future):
    """The words of a failure that is the segment's own."""
    error = error_of(future)
    assert type(error) is SegmentFailed
    return str(error)


def impossible_of(future):
    """The words of a failure that is the machine's or the program's."""
    error = error_of(future)
    assert type(error) is SegmentImpossible
    return str(error)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def workers():
    """The processes of every open pool of this process, by their ids."""
    return {child.pid for child in multiprocessing.active_children() if child.name == "segment-worker"}


def process_of(pool, seed):
    """The process of the only worker."""
    return pool.submit(make_spec(seed=seed)).result(PATIENCE)["process"]


def use_both(pool, first_seed=1000):
    """Give each of two workers a segment."""
    for seed in range(first_seed, first_seed + 1000, 2):
        both = [pool.submit(make_spec("sleep", seed=seed + one, env_steps=100)) for one in (0, 1)]
        if len({future.result(PATIENCE)["process"] for future in both}) == 2:
            return
    raise AssertionError("the second worker never came")


@contextmanager
def deaths():
    """What the log says about workers that died meanwhile."""
    messages = []
    sink = logger.add(messages.append, filter=lambda record: "a worker died" in record["message"], format="{message}")
    yield messages
    logger.remove(sink)


def alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process_id}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_segments_run_in_the_order_they_came_in(pool):
    futures = [pool.submit(make_spec(seed=seed)) for seed in range(5)]
    results = [future.result(PATIENCE) for future in futures]
    assert [result["seed"] for result in results] == list(range(5))
    assert sorted(results, key=lambda result: result["began"]) == results
    assert {result["process"] for result in results} != {os.getpid()}  # in another process,
    assert len({result["process"] for result in results}) == 1  # always the same one


def test_workers_have_one_thread(pool):
    result = pool.submit(make_spec(seed=10)).result(PATIENCE)
    assert result["omp"] == "1"
    assert result["torch_threads"] in (None, 1)


def test_the_same_segment_in_flight_is_one_future(pool):
    first, again = (pool.submit(make_spec("sleep", env_steps=50)), pool.submit(make_spec("sleep", env_steps=50)))
    other = pool.submit(make_spec("sleep", seed=1, env_steps=50))
    assert first is again
    assert other is not first
    assert other.result(PATIENCE)["id"] != first.result(PATIENCE)["id"]


def test_a_finished_but_unstored_segment_is_run_again(pool):
    first = pool.submit(make_spec(seed=11)).result(PATIENCE)
    assert pool.submit(make_spec(seed=11)).result(PATIENCE)["began"] > first["began"]


def test_a_stored_segment_is_answered_at_once(tmp_path):
    spec, store = make_spec(seed=3), SegmentStore(tmp_path)
    result = SegmentResult(
        id=spec.id,
        parent=None,
        start_env_steps=0,
        end_env_steps=100,
        env_steps=100,
        updates=(),
        evaluations=(Evaluation(env_steps=100, set="query", sparse_returns=(1.0, 2.0), progress=None),),
        wall_seconds=1.0,
        timings={},
    )
    with store.writing(spec.id) as folder:
        (folder / "result.json").write_text(result.model_dump_json())
    with WorkerPool(tmp_path, workers=1, runner="tests.support.pool_runners:unstored", preload=()) as pool:
        future = pool.submit(spec)
        assert future.done()
        assert future.result() == result.model_copy(update={"reused": True})
        (store.path(spec.id) / "result.json").write_text("{")
        assert "cannot be read" in impossible_of(pool.submit(spec))


@pytest.mark.parametrize(
    ("task", "cause", "who"),
    [
        ("killed", "signal 9, SIGKILL", "the machine ended them, usually because memory was short"),
        (
            "exit",
            "exit code 3",
            "code that they ran ended them, so look for os._exit in the environment or what it loads",
        ),
    ],
)
def test_a_segment_whose_worker_dies_twice_has_failed_and_no_other(pool, task, cause, who):
    doomed, next_one = pool.submit(make_spec(task)), pool.submit(make_spec(seed=20))
    assert failure_of(doomed) == (
        f"The worker died ({cause}) while computing segment {make_spec(task).id}, "
        f"and so did a fresh one ({cause}) that tried it again: {who}."
    )
    assert next_one.result(PATIENCE)["seed"] == 20
    assert error_of(doomed).env_steps == (80 if task == "killed" else 0)  # 40 were reported by either


def test_a_segment_whose_worker_dies_once_is_computed_on_a_fresh_one(tmp_path):
    with WorkerPool(tmp_path, workers=2, runner="tests.support.pool_runners:act", preload=()) as pool:
        use_both(pool)
        future = pool.submit(make_spec("killed once", seed=24))
        assert pool.submit(make_spec("killed once", seed=24)) is future
        assert future.result(PATIENCE)["calls"] == 1, "the other worker was idle, but no fresh one"


def test_steps_of_a_worker_that_died_count_for_what_follows(pool):
    error = error_of(pool.submit(make_spec("killed, then diverged", seed=25)))
    assert type(error) is SegmentFailed and str(error) == "Training diverged."
    assert error.env_steps == 40 + 70


def test_a_worker_killed_from_outside_is_replaced(pool, heard):
    spec = make_spec("busy once", seed=21)
    before = pool.submit(make_spec(seed=22)).result(PATIENCE)["process"]
    orphan, waiting = pool.submit(spec), pool.submit(make_spec(seed=23))
    heard.wait_for(spec.id)
    os.kill(before, signal.SIGKILL)
    first, second = orphan.result(PATIENCE), waiting.result(PATIENCE)
    assert first["process"] == second["process"] != before
    assert first["began"] < second["began"]  # it keeps its place


def test_a_segment_on_its_second_worker_can_be_cancelled(pool, heard):
    spec = make_spec("busy", seed=26)
    process = process_of(pool, 28)
    future = pool.submit(spec)
    heard.wait_for(spec.id)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(heard.of(spec.id)) == 2)
    pool.cancel_all()
    assert "cancelled" in impossible_of(future)
    assert error_of(future).env_steps == 2  # one of each worker
    assert pool.submit(make_spec(seed=27)).result(PATIENCE)["seed"] == 27


def test_exceptions_fail_the_segment_with_one_sentence(pool):
    before = pool.submit(make_spec(seed=30)).result(PATIENCE)["process"]
    diverged, error = pool.submit(make_spec("diverged")), pool.submit(make_spec("error"))
    assert failure_of(diverged).startswith("Training diverged")
    assert failure_of(error) == "ValueError: first line second line"
    assert error_of(diverged).env_steps == 3200 and error_of(error).env_steps == 60
    assert pool.submit(make_spec(seed=31)).result(PATIENCE)["process"] == before  # the worker lives on


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("full disk", "The disk is full: .*No space left on device.*; free space and resume.$"),
        ("forbidden", "The machine failed segment .*Permission denied: 'checkpoint.pt'.*and resume.$"),
        ("memory", "The memory is full: .*MemoryError.*and resume.$"),
        ("import", "could not load .*No module named 'nothing'.*and resume.$"),
        ("impossible", "The parent segment is not there.$"),
        ("unreadable", "could not be read .*no such class.*; start this program again.$"),
    ],
)
def test_a_failure_of_the_machine_is_told_from_one_of_the_segment(pool, task, words):
    """The negative control is the test before: there the class is ``SegmentFailed`` itself."""
    future = pool.submit(make_spec(task))
    assert re.search(words, impossible_of(future))
    assert error_of(future).env_steps == (5 if task == "impossible" else 0)


def test_progress_arrives_in_order_and_throttled(pool, heard):
    spec = make_spec("chatty", env_steps=500)
    began = time.monotonic()
    pool.submit(spec).result(PATIENCE)
    seconds = time.monotonic() - began
    messages = heard.of(spec.id)
    assert 2 <= len(messages) <= seconds * 10 + 2  # 500 were reported
    done = [progress.done_env_steps for _, progress in messages]
    assert done == sorted(done)


def test_a_listener_that_raises_harms_nobody(tmp_path):
    def broken(progress):
        raise ZeroDivisionError("oh")

    with WorkerPool(
        tmp_path, workers=1, on_progress=broken, runner="tests.support.pool_runners:act", preload=()
    ) as pool:
        assert pool.submit(make_spec("sleep", env_steps=10)).result(PATIENCE)["seed"] == 0


def test_a_waiting_future_can_be_cancelled(pool, heard):
    running, waiting = make_spec("sleep", seed=40, env_steps=200), make_spec(seed=41)
    first, second = pool.submit(running), pool.submit(waiting)
    assert second.cancel()
    again = pool.submit(waiting)  # a cancelled one is not shared
    assert again is not second
    assert again.result(PATIENCE)["seed"] == 41
    assert first.result(PATIENCE)["seed"] == 40


def test_cancel_all_stops_everything(pool, heard):
    process, busy = process_of(pool, 54), make_spec("busy", seed=50)
    futures = [pool.submit(busy), *(pool.submit(make_spec(seed=seed)) for seed in (51, 52))]
    heard.wait_for(busy.id)
    pool.cancel_all()
    assert all(future.done() for future in futures)
    assert all("cancelled" in impossible_of(future) for future in futures)
    assert not alive(process)
    assert pool.submit(make_spec(seed=53)).result(PATIENCE)["seed"] == 53  # and the pool goes on


@pytest.mark.slow
def test_cancelling_and_closing_take_less_than_two_seconds(tmp_path, heard):
    busy = make_spec("busy", seed=55)
    with WorkerPool(
        tmp_path, workers=2, on_progress=heard, runner="tests.support.pool_runners:act", preload=()
    ) as pool:
        for stop in (pool.cancel_all, pool.close):
            future, before = pool.submit(busy), len(heard.of(busy.id))
            wait_until(lambda before=before: len(heard.of(busy.id)) > before)
            began = time.monotonic()
            stop()
            assert future.done() and time.monotonic() - began < 2


def test_workers_ignore_interrupts(pool, heard):
    spec = make_spec("sleep", seed=60, env_steps=400)
    process = process_of(pool, 62)
    future = pool.submit(spec)
    heard.wait_for(spec.id)
    os.kill(process, signal.SIGINT)
    assert future.result(PATIENCE)["seed"] == 60


def test_an_interrupt_while_a_worker_starts_harms_nobody(pool):
    os.kill(process_of(pool, 63), signal.SIGKILL)
    before = workers()
    wait_until(lambda: workers() - before)
    (starting,) = workers() - before
    os.kill(starting, signal.SIGINT)
    result = pool.submit(make_spec(seed=61)).result(PATIENCE)
    assert (result["seed"], result["process"]) == (61, starting)


def test_sources_that_changed_are_noticed(pool, monkeypatch):
    monkeypatch.setattr(segment, "training_version", lambda: "another")
    assert "changed while it ran" in impossible_of(pool.submit(make_spec(seed=70)))


def test_a_runner_that_cannot_be_loaded_is_no_failure_of_the_segments(tmp_path):
    with WorkerPool(tmp_path, workers=1, runner="tests.support.pool_runners:missing", preload=()) as pool:
        assert "could not load tests.support.pool_runners:missing" in impossible_of(pool.submit(make_spec()))


def test_workers_that_cannot_start_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("POOL_TEST_DIES", "1")
    with WorkerPool(tmp_path, workers=1, runner="tests.support.pool_dies_at_import:act", preload=()) as pool:
        assert "No worker can be started: 3 in a row failed (exit code 7)" in impossible_of(pool.submit(make_spec()))
        assert "No worker" in impossible_of(pool.submit(make_spec(seed=1)))  # later ones hear it at once


@pytest.mark.slow
def test_a_pool_goes_on_with_the_workers_it_has(tmp_path, monkeypatch):
    others = workers()
    with WorkerPool(tmp_path, workers=2, runner="tests.support.pool_runners:act", preload=()) as pool:
        use_both(pool)
        monkeypatch.setenv("POOL_TEST_STARTS_FAIL", "1")
        # The replacement of its worker cannot be started: now the other one may compute it, though not fresh.
        assert pool.submit(make_spec("killed once", seed=80)).result(PATIENCE)["calls"] == 2
        assert len(workers() - others) == 1
        assert pool.submit(make_spec(seed=81)).result(PATIENCE)["calls"] == 3
        monkeypatch.delenv("POOL_TEST_STARTS_FAIL")
        assert pool.submit(make_spec("killed once", seed=82)).result(PATIENCE)["calls"] == 1
        use_both(pool, 3000)  # what was given up is tried again
        monkeypatch.setenv("POOL_TEST_STARTS_FAIL", "1")
        for process in workers() - others:
            os.kill(process, signal.SIGKILL)
        assert "No worker can be started" in impossible_of(pool.submit(make_spec(seed=83)))  # none is left


@pytest.mark.slow
def test_cancelling_the_last_worker_does_not_break_the_pool(tmp_path, heard, monkeypatch):
    spec, others = make_spec("busy", seed=84), workers()
    with WorkerPool(
        tmp_path, workers=2, on_progress=heard, runner="tests.support.pool_runners:act", preload=()
    ) as pool:
        use_both(pool)
        monkeypatch.setenv("POOL_TEST_STARTS_FAIL", "1")
        with deaths() as died:
            os.kill(next(iter(workers() - others)), signal.SIGKILL)
            wait_until(lambda: len(died) == 1 + 3)  # the worker, and three replacements
        monkeypatch.delenv("POOL_TEST_STARTS_FAIL")
        pool.submit(spec)
        heard.wait_for(spec.id)
        pool.cancel_all()  # stops the only worker that was left
        assert pool.submit(make_spec(seed=85)).result(PATIENCE)["seed"] == 85


@pytest.mark.parametrize("failures", [2, 3])
def test_a_machine_that_starts_no_process(tmp_path, monkeypatch, failures):
    real, calls = learning_signal.marl.executors.local.start_worker, []

    def refuses_at_first(*arguments):
        calls.append(None)
        if len(calls) <= failures:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(*arguments)

    monkeypatch.setattr(learning_signal.marl.executors.local, "start_worker", refuses_at_first)
    with WorkerPool(tmp_path, workers=1, runner="tests.support.pool_runners:act", preload=()) as pool:
        future = pool.submit(make_spec())
        if failures == 2:
            assert future.result(PATIENCE)["seed"] == 0
        else:
            assert re.search("3 in a row failed .*temporarily unavailable", impossible_of(future))


def test_a_closed_pool_refuses_and_leaves_no_process(tmp_path):
    others = workers()
    pool = WorkerPool(tmp_path, workers=2, runner="tests.support.pool_runners:act", preload=())
    assert pool.worker_count == 2
    processes = workers() - others
    assert len(processes) == 2
    future = pool.submit(make_spec("busy"))
    pool.close()
    pool.close()
    assert future.done() and "cancelled" in impossible_of(future)
    assert not any(alive(process) for process in processes)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(make_spec())


def test_pool_sizes(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        WorkerPool(tmp_path, workers=0)
    assert available_cores() >= 1


def test_specs_and_failures_can_be_pickled():
    spec = make_spec()
    assert pickle.loads(pickle.dumps(spec)).id == spec.id
    for kind in (SegmentFailed, SegmentImpossible):
        error = pickle.loads(pickle.dumps(kind("why", env_steps=3)))
        assert type(error) is kind and str(error) == "why" and error.env_steps == 3
    assert SegmentFailed("why").env_steps == 0


ORPHAN_SCRIPT = """
import multiprocessing, os, signal, sys, threading
sys.path[:0] = [{root!r}, {tests!r}]
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig

if __name__ == "__main__":
    begun = threading.Event()
    told = lambda progress: begun.set()
    pool = WorkerPool({store!r}, workers=2, on_progress=told, runner="tests.support.pool_runners:act", preload=())
    run, shaping = RunSettings(task="busy"), ShapingConfig.none()
    pool.submit(SegmentSpec(run=run, parent=None, shaping=shaping, env_steps=1, seed=0))
    assert begun.wait(60)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if {how!r} == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", pytest.param("ended without closing the pool", marks=pytest.mark.slow)])
def test_no_orphans_are_left(tmp_path, how):
    script = tmp_path / "session.py"
    script.write_text(ORPHAN_SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests"), store=str(tmp_path), how=how))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == (-signal.SIGKILL if how == "killed" else 0), ended.stderr
    workers = [int(word) for word in ended.stdout.split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 3
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(worker) for worker in workers)


def test_the_pool_needs_no_torch():
    code = (
        "import sys; from learning_signal.marl.executors import local, worker; "
        "from learning_signal.marl.gate import confirmation; from learning_signal.marl.behaviour import summary{}; "
        "sys.exit('torch' in sys.modules)"
    )
    planted = "; sys.modules['torch'] = sys"
    assert subprocess.run([sys.executable, "-c", code.format("")], cwd=ROOT).returncode == 0
    assert subprocess.run([sys.executable, "-c", code.format(planted)], cwd=ROOT).returncode == 1
