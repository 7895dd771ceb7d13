"""What every executor promises, shown on the local pool; the choice between them, and its errors."""

from __future__ import annotations

import inspect
import json
import os
import socket
import threading

import pytest
from pydantic import ValidationError

import learning_signal.marl.executors.ray_cluster
from learning_signal import run
from learning_signal.marl.executors.base import Executor, ExecutorError, ExecutorSettings
from learning_signal.marl.executors.choice import open_executor, refuse_unreachable
from learning_signal.marl.executors.jobs import Jobs
from learning_signal.marl.executors.local import WorkerPool
from learning_signal.marl.executors.ray import RayExecutor
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.plan.sources import SettingsError, changed_executor
from learning_signal.tools.study.cell import CellExecutor
from learning_signal.tools.training.run import InProcess
from tests.support.synthetic_training import InlinePool
from tests.support.trainer_double import ScriptedPool, by_arm

PATIENCE = 60


def make_spec(task="ok", seed=0, env_steps=100):
    return SegmentSpec(
        run=RunSettings(task=task), parent=None, shaping=ShapingConfig.none(), env_steps=env_steps, seed=seed
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with WorkerPool(tmp_path_factory.mktemp("store"), 1, runner="tests.support.pool_runners:act", preload=()) as pool:
        yield pool


@pytest.fixture
def busy(pool):
    """The only worker has something to do: what is submitted now waits."""
    spec = make_spec("sleep", seed=1000, env_steps=400)
    future = pool.submit(spec)
    return spec, future


def began(future):
    return future.result(PATIENCE)["began"]


def test_what_is_not_urgent_waits_for_everything_urgent(pool, busy):
    late = pool.submit(make_spec(seed=1), urgent=False)
    urgent = [pool.submit(make_spec(seed=seed)) for seed in (2, 3)]
    assert began(urgent[0]) < began(urgent[1]) < began(late)


def test_asked_for_again_as_urgent_it_becomes_so(pool, busy):
    late, raised = (pool.submit(make_spec(seed=seed), urgent=False) for seed in (11, 12))
    assert pool.submit(make_spec(seed=12)) is raised
    assert pool.submit(make_spec(seed=12), urgent=False) is raised, "nobody takes that back"
    assert began(raised) < began(late)


def test_only_what_has_not_started_is_withdrawn(pool, busy):
    spec, running = busy
    waiting = pool.submit(make_spec(seed=21))
    for _ in range(200):
        if running.running():
            break
        threading.Event().wait(0.05)
    assert not pool.withdraw(spec.id)
    assert pool.withdraw(make_spec(seed=21).id) and waiting.cancelled()
    assert not pool.withdraw(make_spec(seed=21).id)
    again = pool.submit(make_spec(seed=21))
    assert again is not waiting and again.result(PATIENCE)["seed"] == 21
    assert running.result(PATIENCE)["seed"] == 1000
    assert not pool.withdraw(spec.id)


def test_a_job_that_is_computed_once_more_is_the_next_and_cannot_be_withdrawn(tmp_path):
    jobs = Jobs(tmp_path)
    first, second = (jobs.enter(make_spec(seed=seed), True)[0] for seed in (1, 2))
    assert jobs.take() is first
    jobs.put_back(first)
    assert not jobs.withdraw(first.spec.id)
    assert jobs.take(lambda job: job is not first) is second
    assert jobs.take() is first and jobs.take() is None
    assert jobs.parents() == {None}
    for job in (first, second):
        jobs.settle(job, None, ValueError("over"))
    assert jobs.parents() == set()


METHODS = ("submit", "withdraw", "cancel_all", "close", "__enter__", "__exit__")
KINDS = (WorkerPool, RayExecutor, InProcess, CellExecutor, ScriptedPool, InlinePool)


def differences(kind: type) -> list[str]:
    """The methods of ``Executor`` that a class lacks, or whose parameters have other names."""
    found = []
    for name in METHODS:
        promised, method = vars(Executor)[name], vars(kind).get(name)
        if method is None or list(inspect.signature(method).parameters) != list(inspect.signature(promised).parameters):
            found.append(name)
    return found


def test_the_executors_have_the_same_methods():
    assert {name for name in vars(Executor) if not name.startswith("_")} < set(METHODS), "every method is compared"
    assert {kind.__name__: differences(kind) for kind in KINDS} == {kind.__name__: [] for kind in KINDS}


def test_a_method_that_is_missing_or_takes_other_arguments_is_noticed():
    def withdraw(self, identifier):
        return False

    complete = {name: vars(WorkerPool)[name] for name in METHODS}
    assert differences(type("Other", (), complete)) == []
    assert differences(type("Other", (), complete | {"withdraw": withdraw})) == ["withdraw"]
    del complete["close"]
    assert differences(type("Other", (WorkerPool,), complete)) == ["close"], "what is only inherited does not count"


def test_an_executor_without_processes_is_closed_twice_and_counts_itself(tmp_path):
    with ScriptedPool(by_arm({})) as scripted, InlinePool(tmp_path) as inline:
        for executor in (scripted, inline, CellExecutor(scripted, print), InProcess(SegmentStore(tmp_path), print)):
            assert executor.worker_count == 1
            assert not executor.withdraw(make_spec().id), "it was never asked for that"
            executor.cancel_all()
            executor.close()
            executor.close()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(make_spec())


def test_local_processes_are_the_default(tmp_path):
    with open_executor(tmp_path, 2) as executor:
        assert type(executor) is WorkerPool and executor.worker_count == 2


@pytest.mark.parametrize("wrong", [{"address": "10.0.0.5:6379"}, {"share": "folder"}, {"kind": "slurm"}])
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValidationError):
        ExecutorSettings(**wrong)


def test_a_resume_says_where_it_computes():
    stored = {"executor": {"kind": "ray", "address": "10.0.0.5:6379", "share": "folder"}}
    nothing = {"kind": None, "address": None, "share": None}
    assert changed_executor({}, **nothing) == ExecutorSettings(), "an older ledger has no executor"
    assert changed_executor(stored, **nothing) == ExecutorSettings(**stored["executor"])
    assert changed_executor(stored, **nothing | {"address": "auto"}).share == "folder"
    assert changed_executor(stored, **nothing | {"kind": "local"}) == ExecutorSettings()
    with pytest.raises(SettingsError, match="^Options that do not fit .* choose the executor ray too.$"):
        changed_executor({}, **nothing | {"address": "auto"})
    with pytest.raises(SettingsError, match="^Found --executor slurm, expected 'local' or 'ray': choose"):
        changed_executor({}, **nothing | {"kind": "slurm"})


def test_a_cluster_that_is_not_there_is_named_at_once():
    if not os.environ.get("CI"):
        pytest.importorskip("ray")
    refuse_unreachable(ExecutorSettings())
    refuse_unreachable(ExecutorSettings(kind="ray"))
    for address in ("nonsense", "ray://10.0.0.5:10001", "host:port"):
        with pytest.raises(ExecutorError, match="expected HOST:PORT or auto"):
            refuse_unreachable(ExecutorSettings(kind="ray", address=address))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        refuse_unreachable(ExecutorSettings(kind="ray", address=address))
    with pytest.raises(ExecutorError, match=f"Nobody answers at the Ray address {address}"):
        refuse_unreachable(ExecutorSettings(kind="ray", address=address))


def test_ray_is_an_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(learning_signal.marl.executors.ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(ExecutorError, match=r"pip install 'learning-signal\[ray\]'"):
        open_executor(tmp_path, 1, None, ExecutorSettings(kind="ray"))
    monkeypatch.chdir(tmp_path)
    for command in ("session", "train"):
        assert run.run([command, "--executor", "ray"]) == 2
        assert "learning-signal[ray]" in capsys.readouterr().err
        assert not (tmp_path / "runs").exists(), "nothing was written"


@pytest.mark.parametrize("command", ["session", "train"])
def test_an_address_without_ray_is_refused(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.run([command, "--address", "10.0.0.5:6379"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "found the address 10.0.0.5:6379 with local processes" in error and "choose the executor ray too" in error


def test_the_executor_is_no_part_of_what_a_training_run_is(tmp_path):
    from learning_signal.ledger.write.writer import Ledger
    from learning_signal.marl.segments.version import code_version
    from learning_signal.tools.training.settings import KIND, TrainingSettings, unfinished

    settings = TrainingSettings(ledger=tmp_path / "ledger.db", store=tmp_path)
    elsewhere = settings.model_copy(update={"executor": ExecutorSettings(kind="ray")})
    assert [spec.id for spec in settings.chain()] == [spec.id for spec in elsewhere.chain()]
    with Ledger.open(settings.ledger) as ledger, ledger.transaction("start"):
        begun = ledger.begin_session(
            kind=KIND,
            task=settings.run.task,
            algorithm=settings.run.learner.algorithm,
            seed=0,
            config=json.loads(settings.model_dump_json()),
            code_version=code_version(),
        )
    assert unfinished(elsewhere) == begun
    assert unfinished(settings.model_copy(update={"seed": 1})) is None
