"""The Ray executor on a real cluster of two nodes: the pool's results, lost nodes and workers, order, cancellation."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import learning_signal.marl.executors.ray
import learning_signal.marl.executors.ray_cluster
from learning_signal.agents.session.observer import SessionControl
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.executors.base import ExecutorError, ExecutorSettings
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.executors.jobs import Job
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.executors.ray import RayExecutor
from learning_signal.marl.executors.ray_failures import LOSSES, meaning
from learning_signal.marl.segments import segment
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.segments.version import training_version
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from tests.support.session_helpers import Recorder, resume, run, tiny_settings

PARENT = "s0123456789abcdef"
PATIENCE = 90
HERE = ("tests.support.pool_runners:act",)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),  # one cluster, not one per test process
    pytest.mark.skipif(find_spec("ray") is None and not os.environ.get("CI"), reason="ray is a development dependency"),
]


def make_spec(task="ok", seed=0, env_steps=100, parent=None):
    return SegmentSpec(
        run=RunSettings(task=task), parent=parent, shaping=ShapingConfig.none(), env_steps=env_steps, seed=seed
    )


def trained_spec(seed, parent=None, algorithm="mappo"):
    learner = LearnerSettings(algorithm=algorithm, hidden=(8,), environments=8, epochs=1, minibatches=1)
    run = RunSettings(learner=learner, evaluation=EvaluationSettings(episodes=8, points=2))
    return SegmentSpec(run=run, parent=parent, shaping=ShapingConfig.none(), env_steps=400, seed=seed)


class Nodes:
    """A cluster on this machine: its head and a second node, one core each."""

    SIZE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={**self.SIZE, "include_dashboard": False})
        self.second = self.cluster.add_node(**self.SIZE)

    @property
    def address(self):
        return self.cluster.address

    def lose_second(self):
        self.cluster.remove_node(self.second, allow_graceful=False)

    def replace_second(self):
        self.second = self.cluster.add_node(**self.SIZE)
        self.cluster.wait_for_nodes()


@pytest.fixture(scope="module")
def nodes():
    before = dict(os.environ)
    os.environ.update(learning_signal.marl.executors.ray_cluster._QUIET)
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()
    os.environ.clear()
    os.environ.update(before)


class Heard:
    """A progress listener that remembers, and can be waited for."""

    def __init__(self):
        self.messages, self.condition = [], threading.Condition()

    def __call__(self, progress):
        with self.condition:
            self.messages.append(progress)
            self.condition.notify_all()

    def wait_for(self, identifier):
        with self.condition:
            assert self.condition.wait_for(
                lambda: any(progress.id == identifier for progress in self.messages), timeout=PATIENCE
            )


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def acting(nodes, tmp_path, heard):
    """An executor whose segments do what their task's name says; it is the tests' store that tells what ran."""
    with RayExecutor(
        tmp_path, on_progress=heard, address=nodes.address, share="folder", tasks=HERE, runner=HERE[0], preload=()
    ) as executor:
        yield executor


def error_of(future):
    with pytest.raises(SegmentFailed) as raised:
        future.result(PATIENCE)
    return raised.value


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def same_files(first: Path, second: Path) -> None:
    """Checkpoints and behaviour are equal bit for bit."""
    ours, theirs = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (first, second))
    assert flat(ours) == flat(theirs)
    ours, theirs = (np.load(path / "behaviour.npz") for path in (first, second))
    assert ours.files == theirs.files
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours.files)


def flat(state):
    if isinstance(state, dict):
        return {name: flat(each) for name, each in state.items()}
    if isinstance(state, (list, tuple)):
        return [flat(each) for each in state]
    return state.numpy().tobytes() if isinstance(state, torch.Tensor) else state


@pytest.mark.parametrize("share", ["objects", "folder"])
def test_results_are_those_of_the_local_pool_bit_for_bit(nodes, tmp_path, share):
    roots = {name: tmp_path / name for name in ("local", "ray")}
    algorithm = "qmix" if share == "objects" else "mappo"
    first = trained_spec(0, algorithm=algorithm)
    specs = [trained_spec(seed, first.id, algorithm) for seed in (1, 2, 3)]
    results = {}
    for name in roots:
        settings = (
            ExecutorSettings(kind="ray", address=nodes.address, share=share) if name == "ray" else ExecutorSettings()
        )
        with open_executor(roots[name], 2, None, settings) as executor:
            assert executor.worker_count == 2
            results[name] = [executor.submit(first).result(PATIENCE)]
            results[name] += [each.result(PATIENCE) for each in [executor.submit(spec) for spec in specs]]
            assert executor.submit(first).result().reused
            if name == "ray":
                assert executor._parents == {}, "the last child has let go of the checkpoint"
    for ours, theirs in zip(results["ray"], results["local"], strict=True):
        apart = {"wall_seconds": 0, "timings": {}}
        assert ours.model_copy(update=apart) == theirs.model_copy(update=apart)
        same_files(roots["ray"] / ours.id, roots["local"] / ours.id)
    assert not list(roots["ray"].glob(".*"))


def test_a_lost_node_costs_only_the_segments_it_held(nodes, tmp_path, acting, heard):
    specs = [make_spec("counted", seed=seed, env_steps=2500) for seed in range(6)]
    futures = [acting.submit(spec) for spec in specs]
    started = lambda: {spec.id for spec in specs if (tmp_path / f"{spec.id} starts").exists()}  # noqa: E731
    wait_until(lambda: len(started()) == 2)
    wait_until(lambda: any(future.done() for future in futures) and len(started()) == 4)
    time.sleep(0.3)
    nodes.lose_second()
    try:
        assert [future.result(PATIENCE)["seed"] for future in futures] == list(range(6))
    finally:
        nodes.replace_second()
    starts = [(tmp_path / f"{spec.id} starts").read_text().count("\n") for spec in specs]
    assert sorted(starts) == [1, 1, 1, 1, 1, 2]


def test_a_segment_whose_worker_dies_twice_has_failed(acting):
    doomed, next_one = acting.submit(make_spec("exit")), acting.submit(make_spec(seed=20))
    error = error_of(doomed)
    assert type(error) is SegmentFailed
    assert str(error).startswith("The worker died (its process ended unexpectedly) while computing segment")
    assert next_one.result(PATIENCE)["seed"] == 20
    assert acting.submit(make_spec("killed once", seed=24)).result(PATIENCE)["seed"] == 24


def test_failures_are_those_of_the_local_pool(acting, monkeypatch):
    diverged, error = acting.submit(make_spec("diverged")), acting.submit(make_spec("error"))
    assert type(error_of(diverged)) is SegmentFailed and str(error_of(diverged)).startswith("Training diverged")
    assert str(error_of(error)) == "ValueError: first line second line"
    assert error_of(error).env_steps == 60
    machine, unreadable = acting.submit(make_spec("memory")), acting.submit(make_spec("unreadable"))
    assert type(error_of(machine)) is SegmentImpossible and "memory is full" in str(error_of(machine))
    assert type(error_of(unreadable)) is SegmentImpossible
    monkeypatch.setattr(segment, "training_version", lambda: "another")
    changed = error_of(acting.submit(make_spec(seed=70)))
    assert type(changed) is SegmentImpossible and "changed while it ran" in str(changed)


def test_order_sharing_withdrawal_and_back_pressure(acting, heard):
    """Both cores are busy, so that everything else waits in our own queue."""
    import ray

    most = 0
    busy = [acting.submit(make_spec("sleep", seed=seed, env_steps=1500)) for seed in (0, 1)]
    late = acting.submit(make_spec(seed=2), urgent=False)
    raised = acting.submit(make_spec(seed=3), urgent=False)
    dropped = acting.submit(make_spec(seed=4))
    urgent = [acting.submit(make_spec("sleep", seed=seed, env_steps=20)) for seed in range(5, 15)]
    assert acting.submit(make_spec(seed=3)) is raised
    assert acting.withdraw(make_spec(seed=4).id) and dropped.cancelled()
    assert not acting.withdraw(make_spec(seed=4).id), "it is not known any more"
    wait_until(busy[0].running)
    assert not acting.withdraw(make_spec("sleep", seed=0, env_steps=1500).id), "it has started"
    while not late.done():
        most = max(most, len(acting._tasks))
        time.sleep(0.01)
    assert most <= acting.worker_count * 2
    began = sorted(future.result(PATIENCE)["began"] for future in [*busy, raised, *urgent])
    assert late.result()["began"] >= began[-2], "the last one may have been handed to the other core just before"
    assert ray.is_initialized()


def test_cancel_all_stops_everything_within_seconds(acting, heard):
    busy = make_spec("busy", seed=50)
    futures = [acting.submit(busy), *(acting.submit(make_spec("busy", seed=seed)) for seed in (51, 52))]
    heard.wait_for(busy.id)
    began = time.monotonic()
    acting.cancel_all()
    assert all("cancelled" in str(error_of(future)) for future in futures)
    assert time.monotonic() - began < 5
    assert acting.submit(make_spec(seed=53)).result(PATIENCE)["seed"] == 53


def test_workers_have_one_thread_and_progress_is_throttled(acting, heard):
    spec = make_spec("chatty", env_steps=800)
    began = time.monotonic()
    assert acting.submit(spec).result(PATIENCE)["omp"] == "1"
    seconds = time.monotonic() - began
    done = [progress.done_env_steps for progress in heard.messages]
    assert 2 <= len(done) <= seconds * 10 + 2
    assert done == sorted(done)


def test_a_cluster_that_goes_on_losing_machines_fails_the_segment_as_impossible(acting):
    import ray

    job, lost, own = (Job(make_spec("never handed out"), Future()) for _ in range(3))
    died = ray.exceptions.NodeDiedError("the node is dead")
    outcomes = [meaning(ray, job, frozenset(), died) for _ in range(LOSSES)]
    assert outcomes[:-1] == [None] * (LOSSES - 1)
    assert type(outcomes[-1]) is SegmentImpossible and "lost its machine 5 times" in str(outcomes[-1])
    crashed = ray.exceptions.WorkerCrashedError()
    assert meaning(ray, lost, frozenset({"a node that was there"}), crashed) is None
    assert (lost.deaths, lost.losses) == ([], 1), "its machine is gone as well"
    assert meaning(ray, own, frozenset(), crashed) is None
    assert (len(own.deaths), own.losses) == (1, 0)


def test_a_cluster_without_a_machine_is_given_up(acting, monkeypatch):
    import ray

    monkeypatch.setattr(learning_signal.marl.executors.ray, "_NO_MACHINE_SECONDS", 0.5)
    monkeypatch.setattr(ray, "cluster_resources", dict)
    error = error_of(acting.submit(make_spec("busy", seed=60)))
    assert type(error) is SegmentImpossible and "no machine left" in str(error)


def test_a_missing_parent_is_no_failure_of_the_segment(nodes, tmp_path):
    with RayExecutor(tmp_path, address=nodes.address, tasks=HERE, runner=HERE[0], preload=()) as executor:
        error = error_of(executor.submit(make_spec(parent=PARENT)))
        assert type(error) is SegmentImpossible and "run it first" in str(error)
        with pytest.raises(ExecutorError, match="joined a Ray cluster already"):
            RayExecutor(tmp_path, address=nodes.address)
    executor.close()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(make_spec())


def test_progress_that_is_late_costs_no_segment(acting, monkeypatch):
    import ray

    exceptions = ray.exceptions
    late = iter([exceptions.GetTimeoutError("it takes long"), exceptions.RayActorError()])
    inboxes, get = [], ray.get

    def slow(reference, timeout):
        if reference is taken and (error := next(late, None)) is not None:
            inboxes.append(acting._inbox)
            raise error
        return get(reference, timeout=timeout)

    taken = object()
    inbox = SimpleNamespace(take=SimpleNamespace(remote=lambda: taken), put=None)
    monkeypatch.setattr(ray, "get", slow)
    opened = acting._open_inbox
    monkeypatch.setattr(acting, "_open_inbox", lambda: opened() if inboxes[1:] else inbox)
    running = acting.submit(make_spec("sleep", seed=80, env_steps=1500))
    acting._inbox = inbox
    assert running.result(PATIENCE)["seed"] == 80
    assert len(inboxes) == 2
    assert acting.submit(make_spec(seed=81)).result(PATIENCE)["seed"] == 81


def test_a_checkpoint_is_let_go_where_its_only_child_cannot_be_handed_over(nodes, tmp_path, monkeypatch):
    with RayExecutor(tmp_path, address=nodes.address, tasks=HERE, runner=HERE[0], preload=()) as executor:
        monkeypatch.setattr(executor._store, "has", lambda segment: segment == PARENT)
        (tmp_path / PARENT).mkdir()
        executor._store.checkpoint_path(PARENT).write_bytes(b"policy")
        monkeypatch.setattr(executor, "_compute", None)
        assert "NoneType" in str(error_of(executor.submit(make_spec(parent=PARENT))))
        assert executor._parents == {}


def test_a_cluster_of_its_own_and_the_code_of_a_user(tmp_path, monkeypatch, nodes):
    """The module lies where only this process looks."""
    module = tmp_path / "their_runner.py"
    module.write_text("from tests.support.pool_runners import act\n\ndef run(*a, **k):\n    return act(*a, **k)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert learning_signal.marl.executors.ray_cluster.sources_of(
        ["their_runner:run", "spread", "numpy:x", "nowhere:x"]
    ) == [str(module)]
    with RayExecutor(tmp_path / "store", 1, runner="their_runner:run", preload=()) as executor:
        assert executor.worker_count == 1
        assert executor.submit(make_spec()).result(PATIENCE)["omp"] == "1"


_STRANGER = """
import sys, ray
ray.init(sys.argv[1], log_to_driver=False)
print("inside", len(ray.nodes()))
"""


def stranger(address, **environment):
    """A process of somebody else that joins a cluster: whether it got in, and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", _STRANGER, address],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return "inside" in done.stdout, done.stdout + done.stderr


def test_strangers_are_refused_and_workers_see_no_key(tmp_path, monkeypatch, nodes):
    import ray

    assert stranger(nodes.address)[0], "who started that one let everybody in"
    (tmp_path / "curious.py").write_text(
        "import os\n\ndef run(spec, store, progress=None):\n"
        "    return [name for name in os.environ if name in ('OPENAI_API_KEY', 'SPOKEN', 'RAY_AUTH_TOKEN')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-theirs")
    monkeypatch.setenv("SPOKEN", "aloud")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with RayExecutor(tmp_path / "store", 1, runner="curious:run", preload=()) as executor:
        assert set(executor.submit(make_spec()).result(PATIENCE)) == {"SPOKEN", "RAY_AUTH_TOKEN"}
        assert os.environ["OPENAI_API_KEY"] == "sk-not-theirs", "this process has it back"
        address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
        tokens = ({}, *({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": each} for each in ("0" * 64, token)))
        with ThreadPoolExecutor() as side_by_side:
            without, wrong, right = side_by_side.map(lambda given: stranger(address, **given), tokens)
        assert not without[0] and not wrong[0] and "token" in (without[1] + wrong[1]).lower()
        assert right[0], "it is the token that lets in"
        written = Path(ray._private.worker.global_worker.node.get_session_dir_path())
        kept = [path for path in written.rglob("*") if path.is_file()]
        assert kept and not [path for path in kept if token.encode() in path.read_bytes()]
    assert os.environ["RAY_AUTH_MODE"] == "disabled" and "RAY_AUTH_TOKEN" not in os.environ
    with RayExecutor(tmp_path / "store", address=nodes.address, tasks=HERE, runner=HERE[0], preload=()) as executor:
        assert executor.submit(make_spec(seed=1)).result(PATIENCE)["omp"] == "1", "other clusters are joined as before"


def test_a_ray_that_cannot_keep_strangers_out_starts_nothing_here(tmp_path, monkeypatch):
    from ray import _raylet

    monkeypatch.delattr(_raylet, "AuthenticationTokenLoader")
    with pytest.raises(ExecutorError, match="Found a Ray older than 2.52, expected one that keeps strangers out"):
        RayExecutor(tmp_path, 1)


def test_what_is_private_in_a_users_package_is_not_sent(nodes, tmp_path, monkeypatch):
    package = tmp_path / "their_package"
    for name in (".env", ".git/config", ".venv/x.py", "runs/ledger.txt", "notes.db", "notes.db-wal", "deep/inside.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (package / "__init__.py").write_text(
        "from pathlib import Path\n\ndef run(spec, store, progress=None):\n"
        "    here = Path(__file__).parent\n"
        "    return [str(path.relative_to(here)) for path in here.rglob('*') if path.is_file()]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "their_package:run"
    with RayExecutor(tmp_path / "store", address=nodes.address, tasks=(name,), runner=name, preload=()) as executor:
        found = executor.submit(make_spec()).result(PATIENCE)
    assert {path for path in found if "__pycache__" not in path} == {"__init__.py", "deep/inside.py"}


_NOT_INSTALLED = """
import sys
from pathlib import Path

def run(spec, store, progress=None):
    import learning_signal
    from learning_signal.marl.segments import training
    package = Path(learning_signal.__file__).parent
    assert Path(training.__file__).is_relative_to(package)
    return str(package), sorted(path.name for path in package.iterdir() if path.name != "__pycache__")
"""


def test_other_machines_get_the_program_itself(nodes, tmp_path, monkeypatch):
    """It need not be installed there, wherever it lies here: workers import what was sent."""
    (tmp_path / "looker.py").write_text(_NOT_INSTALLED)
    monkeypatch.syspath_prepend(tmp_path)
    name = "looker:run"
    with RayExecutor(tmp_path / "store", address=nodes.address, tasks=(name,), runner=name, preload=()) as executor:
        package, content = executor.submit(make_spec()).result(PATIENCE)
    assert Path(package).name == "learning_signal" and "_ray_pkg_" in package
    assert content == ["__init__.py", "marl"]


def test_the_program_is_staged_whole_and_under_its_name(tmp_path):
    """A process that finds no other copy of it loads what a worker loads."""
    staged = learning_signal.marl.executors.ray_cluster.staged_program(tmp_path)
    assert staged == tmp_path / "learning_signal"
    code = (
        "import learning_signal.marl.segments.training as it; "
        "from learning_signal.marl.segments.version import training_version; print(it.__file__, training_version())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == [str(staged / "marl" / "segments" / "training.py"), training_version()], done.stderr


def test_a_session_and_its_resume_elsewhere(nodes, tmp_path):
    """Its segments are computed by Ray; what is left of it after a pause, by local processes."""
    control = SessionControl()
    settings = tiny_settings(tmp_path, workers=None, executor=ExecutorSettings(kind="ray", address=nodes.address))
    pause = Recorder(lambda row: row["kind"] == "stage" and control.request_pause())
    paused = run(settings, pause, control)
    assert paused.status == "paused"
    done = resume(settings, paused.session_id, changes={"executor": ExecutorSettings(), "workers": 1})
    assert done.status == "done"


def test_pools_and_ray_take_the_same_arguments(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        RayExecutor(tmp_path, 0)
    with pytest.raises(ValueError, match="at least 1"):
        WorkerPool(tmp_path, 0)
