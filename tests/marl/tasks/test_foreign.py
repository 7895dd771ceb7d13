"""Foreign environments: parity with the bare ``ParallelEnv``, workers, refusals, and the contract check."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # the Butterfly environments draw without a screen

from learning_signal.marl.errors import (
    EnvironmentFailed,
    EnvironmentRefused,
    SegmentImpossible,
    TaskOptionError,
    UnknownTask,
)
from learning_signal.marl.randomness import episode_seeds, mix
from learning_signal.marl.segments.segment import SegmentSpec
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import Feature
from learning_signal.marl.tasks.foreign import declaration, stepping
from learning_signal.marl.tasks.foreign.contract import check_environment
from learning_signal.marl.tasks.foreign.declaration import ParallelTask, load, meaning
from learning_signal.marl.tasks.foreign.task import Foreign
from tests.support import foreign_environments as environments
from tests.support.places import ROOT

HERE = "tests.support.foreign_environments:"
MPE = {
    "mpe2.simple_spread_v3:parallel_env": ["agent"],
    "mpe2.simple_speaker_listener_v4:parallel_env": ["speaker", "listener"],
    "mpe2.simple_reference_v3:parallel_env?max_cycles=10": ["agent"],
    "mpe2.simple_world_comm_v3:parallel_env": ["leadadversary", "adversary", "agent"],
    "mpe2.simple_tag_v3:parallel_env?continuous_actions=true": ["adversary", "agent"],
}


def needs(module: str) -> None:
    """Development dependencies: their absence fails in CI and skips elsewhere."""
    if os.environ.get("CI"):
        importlib.import_module(module)
    else:
        pytest.importorskip(module)


def random_actions(task: Foreign, generator: np.random.Generator) -> np.ndarray:
    shape = (task.environments, task.spec.agents)
    if task.spec.continuous:
        return generator.uniform(-1, 1, (*shape, task.spec.actions)).astype(np.float32)
    return (generator.random(shape) * task._counts).astype(np.int64)


def played(task: Foreign, steps: int = 30, seed: int = 0) -> list[bytes]:
    """Everything that random play over several episodes gives, as bytes, step by step."""
    generator, trace = np.random.default_rng(seed), []
    observations = task.reset(episode_seeds(seed, 0, task.environments))
    for t in range(steps):
        arrays = [observations, task.state(), *task.features().values()]
        if task.spec.progress is not None:
            arrays.append(task.progress())
        step = task.step(random_actions(task, generator))
        trace.append(b"".join(np.ascontiguousarray(array).tobytes() for array in [*arrays, *step]))
        observations, ended = step.observations, step.terminated | step.truncated
        if ended.any():
            observations = task.reset(episode_seeds(seed + 1, t * task.environments, task.environments), ended)
    return trace


# --- parity with the environment itself ---


def deviations(name: str, episodes: int, spoil: float = 0.0) -> tuple[int, int, dict[str, int]]:
    """Play ``episodes`` in `Foreign` and in the bare environment with the same actions and compare every step.

    ``spoil`` is added to every reward of the bare one. Returns how many steps were compared, how many differed in
    anything, and how often what is worth seeing happened.
    """
    task, source = Foreign(episodes, name, workers=1), load(name)
    agents = task._copies.layout.agents
    own = source.task.sparse_reward
    generator = np.random.default_rng(3)
    seeds = episode_seeds(9, 0, episodes)
    observations, joint, steps, states = [task.reset(seeds)], [], [], [task.state()]
    playing = np.ones(episodes, bool)
    while playing.any():
        joint.append(random_actions(task, generator))
        steps.append(task.step(joint[-1]))
        observations.append(steps[-1].observations)
        states.append(task.state())
        ended = steps[-1].terminated | steps[-1].truncated
        playing &= ~ended
        if ended.any():
            task.reset(seeds, ended)
    compared = differing = 0
    seen = {"leaving": 0, "reward": 0, "last reward": 0, "terminated": 0, "truncated": 0}
    for index in range(episodes):
        env = source.make()
        shown, _ = env.reset(seed=int(mix(seeds[index : index + 1])[0] >> np.uint64(33)))
        places = {agent: place for place, agent in enumerate(env.possible_agents)}
        t, left = 0, list(env.possible_agents)
        while True:
            expected = np.zeros_like(observations[0][index])
            for agent in left:
                row = np.asarray(shown[agent], np.float32).reshape(-1)
                expected[places[agent], : row.size] = row
            wrong = not np.array_equal(observations[t][index], expected)
            wrong |= t > 0 and not np.array_equal(states[t][index], np.asarray(env.state(), np.float32).reshape(-1))
            if t:
                alive = np.array([agent in left for agent in env.possible_agents])
                wrong |= not np.array_equal(steps[t - 1].alive[index], alive)
            compared, differing = compared + 1, differing + wrong
            acting = list(env.agents)
            if not acting:
                break
            chosen = {agent: agents[places[agent]].decode(joint[t][index, places[agent]]) for agent in acting}
            shown, rewards, terminations, truncations, _ = env.step(chosen)
            reward = own(env, rewards) if own else sum(rewards.values())
            late = any(truncations[agent] and not terminations[agent] for agent in acting)
            over = not env.agents
            left = [a for a in acting if not terminations[a] and (over or not truncations[a])]
            step = steps[t]
            differing += float(step.reward[index]) != float(np.float32(reward + spoil))
            ended = bool(step.terminated[index]), bool(step.truncated[index])
            differing += ended != (over and not late, over and late)
            seen["leaving"] += 0 < len(env.agents) < len(acting)
            seen["reward"] += reward != 0
            seen["last reward"] += bool(over and reward)
            seen["terminated" if not late else "truncated"] += over
            t += 1
    return compared, differing, seen


def test_a_batch_is_the_environment_step_for_step() -> None:
    compared, differing, seen = deviations(HERE + "Walk?max_steps=25", 60)
    assert compared > 500 and differing == 0
    assert min(seen.values()) > 3, seen


def test_a_spoiled_rule_would_be_noticed() -> None:
    compared, differing, _ = deviations(HERE + "Walk", 5, spoil=0.25)
    assert differing > compared // 2


@pytest.mark.parametrize("name", MPE)
def test_mpe2_is_the_same_step_for_step(name: str) -> None:
    needs("mpe2")
    compared, differing, seen = deviations(name, 2)
    assert compared >= 22 and differing == 0 and seen["reward"] > 10
    task = make_task(name, 1)
    assert [group.name for group in task.spec.groups] == MPE[name]
    assert make_task(task.spec.name, 1).spec == task.spec


def test_the_reward_of_the_last_step_counts() -> None:
    """An agent that ends is no longer in ``env.agents`` after the step that pays it."""
    task = Foreign(40, HERE + "Walk?slippery=false", workers=1)
    task.reset(episode_seeds(1, 0, 40))
    total = np.zeros(40)
    scripted = Foreign(40, HERE + "task?slippery=false", workers=1)
    scripted.reset(episode_seeds(1, 0, 40))
    playing = np.ones(40, bool)
    while playing.any():
        actions = scripted.heuristic()
        step, mirrored = task.step(actions), scripted.step(actions)
        total += step.reward * playing
        ended = step.terminated | step.truncated
        assert np.array_equal(ended, mirrored.terminated | mirrored.truncated)
        playing &= ~ended
        if ended.any():
            task.reset(episode_seeds(1, 0, 40), ended), scripted.reset(episode_seeds(1, 0, 40), ended)
    assert (total == 3).all()


def test_the_declared_functions_are_used() -> None:
    task = Foreign(8, HERE + "task", workers=1)
    spec = task.spec
    assert spec.sparse_reward == "1 when the last agent arrives, else 0." == meaning(environments.everybody)
    assert (spec.max_return, spec.horizon, spec.idle_action, spec.action_names[1]) == (1.0, 12, 0, "left")
    assert [(group.name, group.agents, group.observation_size) for group in spec.groups] == [
        ("scout", (0,), 3),
        ("walker", (1, 2), 2),
    ]
    task.reset(episode_seeds(0, 0, 8))
    total, last = np.zeros(8), np.zeros(8)
    for _ in range(spec.horizon):
        features, progress = task.features(["farthest"]), task.progress()
        assert list(features) == ["farthest"] and features["farthest"].dtype == progress.dtype == np.float32
        assert np.array_equal(progress == 1, features["farthest"] == 0) and (progress >= last).all()
        step = task.step(task.heuristic())
        total, last = total + step.reward, progress
        ended = step.terminated | step.truncated
        if ended.any():
            task.reset(episode_seeds(1, 0, 8), ended)
            last[ended] = 0
    assert total.mean() > 0.9  # the scripted policy solves it: a task that can be solved


def test_an_episode_that_does_not_end_is_cut_where_it_was_declared_to_end() -> None:
    task = Foreign(2, HERE + "Broken?fault=endless", workers=1)
    task.reset(episode_seeds(0, 0, 2))
    for t in range(12):
        step = task.step(np.zeros((2, 3), np.int64))
        assert step.truncated.tolist() == [t == 11] * 2 and not step.terminated.any()
    assert step.alive.all() and (step.observations[:, 0] != 0).any()


def test_box_actions_reach_the_bounds_of_their_space() -> None:
    task = Foreign(1, HERE + "Push?bound=3", workers=1)
    spec = task.spec
    assert (spec.continuous, spec.actions, [group.actions for group in spec.groups]) == (True, 4, [4, 1])
    env = task._copies._members[0].env
    task.reset(episode_seeds(0, 0, 1))
    actions = np.zeros((1, 3, 4), np.float32)
    actions[0, 0], actions[0, 1:, 0], actions[0, 1:, 1:] = (-1, 1, 0, 0.5), 1, 77  # 77 stands where nobody reads
    task.step(actions)
    assert np.array_equal(env.given["scout"], np.array([[-1, 3], [1, 2]], np.float32))
    assert env.given["walker_0"] == 3


def test_observations_of_every_kind_become_numbers() -> None:
    task = Foreign(1, HERE + "Rich", workers=1)
    rows = task.reset(episode_seeds(0, 0, 1))[0]
    # A dictionary is flattened in its own order; a choice is one-hot, counted from its start.
    assert rows[0].tolist() == [0, 1, 0, 51, 102, 255, 0, 1, 0] or sorted(rows[0]) == [0, 0, 0, 0, 1, 1, 51, 102, 255]
    assert np.allclose(rows[1, :4], [0, 0.2, 0.4, 1]) and not rows[1, 4:].any()  # an image in [0, 1]
    assert rows[2, :3].tolist() == [1, 2, 200]  # no image: numbers as they are


def test_without_features_the_numbers_that_agents_see_are_features() -> None:
    task = Foreign(5, HERE + "Walk", workers=1)
    observations = task.reset(episode_seeds(0, 0, 5))
    assert [(f.name, f.low, f.high) for f in task.spec.features] == [(f"observation_{k}", 0, 1) for k in range(3)]
    assert "not declared" in task.spec.description
    for number, values in enumerate(task.features().values()):
        assert np.array_equal(values, observations[:, :, number])


def test_features_of_unbounded_observations_are_capped_and_say_so() -> None:
    needs("mpe2")
    task = make_task("mpe2.simple_tag_v3:parallel_env", 4)
    feature = task.spec.features[15]
    assert (feature.low, feature.high) == (-10, 10)
    assert "at most 10" in feature.description and "see less" in feature.description
    task.reset(episode_seeds(0, 0, 4))
    assert all((np.abs(values) <= 10).all() for values in task.features().values())


# --- Butterfly ---


def test_agents_that_die_see_zeros_and_the_others_go_on() -> None:
    needs("pygame")
    task = make_task(HERE + "knights_task?spawn_delay=10", 1)
    runs = []
    for _ in range(2):
        task.reset(episode_seeds(5, 0, 1))
        generator, trace = np.random.default_rng(0), []
        for _ in range(task.spec.horizon):
            trace.append(task.step(random_actions(task, generator)))
            if trace[-1].terminated[0] or trace[-1].truncated[0]:
                break
        runs.append(trace)
    few = [step for step in runs[0] if 0 < step.alive.sum() < 4]
    assert few and all(not step.observations[~step.alive].any() for step in few)
    assert runs[0][-1].terminated[0] and not runs[0][-1].alive.any()
    assert pickle.dumps(runs[0]) == pickle.dumps(runs[1])  # the same episode, whole


def test_large_images_are_refused_and_small_ones_taken() -> None:
    needs("pygame")
    with pytest.raises(EnvironmentRefused, match="403,200 numbers .* expected 1 to 20,000: wrap"):
        make_task("pettingzoo.butterfly.cooperative_pong_v6:parallel_env?max_cycles=5", 1)
    task = make_task(HERE + "pong?max_cycles=30", 2)
    task.reset(episode_seeds(0, 0, 2))
    step = task.step(np.ones((2, 2), np.int64))
    observations = step.observations
    assert (task.spec.observation_size, task.spec.features, task.spec.state_size) == (336, (), 672)
    assert observations.min() == 0 and 0.1 < observations.max() <= 1 and step.reward.shape == (2,)


# --- purity, batches and worker processes ---


def test_whole_episodes_are_functions_of_their_seeds() -> None:
    task = Foreign(3, HERE + "task", workers=1)
    assert played(task) == played(task) == played(Foreign(3, HERE + "task", workers=1))
    assert played(task) != played(task, seed=1)


def test_an_environment_that_forgets_its_seed_would_be_noticed() -> None:
    task = Foreign(3, HERE + "Broken?fault=unseeded", workers=1)
    assert played(task) != played(task)


def test_an_episode_does_not_depend_on_its_batch() -> None:
    alone, crowd = Foreign(1, HERE + "task", workers=1), Foreign(5, HERE + "task", workers=1)
    seeds = episode_seeds(2, 0, 5)
    alone.reset(seeds[3:4]), crowd.reset(seeds)
    for _ in range(5):
        actions = crowd.heuristic()
        one, many = alone.step(actions[3:4]), crowd.step(actions)
        assert all(np.array_equal(a[0], b[3]) for a, b in zip(one, many, strict=True))
        if (many.terminated | many.truncated).any():
            break


@pytest.fixture
def workers():
    """Tasks with workers, closed when the test is over; nothing of them may stay."""
    made: list[Foreign] = []

    def make(name: str, count: int, workers: int) -> Foreign:
        made.append(Foreign(count, name, workers=workers))
        return made[-1]

    yield make
    for task in made:
        task.close()
    assert not [child for child in multiprocessing.active_children() if child.name == "environment-worker"]


def test_workers_give_the_same_bits(workers) -> None:
    here, shared = Foreign(5, HERE + "task", workers=1), workers(HERE + "task", 5, 2)
    assert played(here) == played(shared)
    assert np.array_equal(here.heuristic(), shared.heuristic())
    for index in range(5):
        assert np.array_equal(here.draw(index).pixels, shared.draw(index).pixels)


def test_failures_of_the_environment_are_one_sentence_with_their_cause(workers) -> None:
    wanted = r"^step of tests.*failing failed at step 3 of the episode with seed \d+ .*, expected .*: correct its code"
    for task in (Foreign(2, HERE + "failing", workers=1), workers(HERE + "failing", 2, 2)):
        task.reset(episode_seeds(0, 0, 2))
        stay = np.zeros((2, 3), np.int64)
        task.step(stay), task.step(stay)
        with pytest.raises(EnvironmentFailed, match=wanted) as caught:
            task.step(stay)
        assert "ZeroDivisionError: no way" in str(caught.value) and "\n" not in str(caught.value)
        assert "ZeroDivisionError" in repr(caught.value.__cause__)
        assert isinstance(caught.value, SegmentImpossible)  # no shaping is to blame
        task.reset(episode_seeds(0, 0, 2))  # and the next episode starts as if nothing had been
        assert task.step(stay).reward.shape == (2,)


@pytest.mark.slow
def test_a_worker_that_dies_is_one_sentence(workers) -> None:
    task = workers(HERE + "slow?milliseconds=0&crash_at=2", 2, 2)
    task.reset(episode_seeds(0, 0, 2))
    task.step(np.zeros((2, 3), np.int64))
    with pytest.raises(EnvironmentFailed, match=r"died \(signal 9, SIGKILL\), expected it to answer: free memory"):
        task.step(np.zeros((2, 3), np.int64))
    with pytest.raises(EnvironmentFailed, match="were stopped"):
        task.reset(episode_seeds(0, 0, 2))


@pytest.mark.slow
def test_workers_that_cannot_start_say_why(workers, monkeypatch) -> None:
    monkeypatch.setattr(stepping, "_start", lambda name, count: start(name.replace("Walk", "Wolk"), count))
    with pytest.raises(EnvironmentFailed, match="has no 'Wolk'"):
        workers(HERE + "Walk", 2, 2)


start = stepping._start


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
            import multiprocessing, time
            from learning_signal.marl.tasks.foreign.task import Foreign
            if __name__ == "__main__":
                task = Foreign(2, "tests.support.foreign_environments:Walk", workers=2)
                print(*[child.pid for child in multiprocessing.active_children()], flush=True)
                time.sleep(60)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").is_dir() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").is_dir() for pid in children)


def test_workers_are_used_where_they_pay(monkeypatch) -> None:
    monkeypatch.setattr(stepping, "idle_cores", lambda: 4)
    quick, slow = Foreign(1, HERE + "Walk")._copies._members[0], Foreign(1, HERE + "slow")._copies._members[0]
    assert stepping.worth(quick, 2) == 1 and stepping.worth(slow, 64) == 4 and stepping.worth(slow, 3) <= 3
    monkeypatch.setattr(stepping, "idle_cores", lambda: 1)
    assert stepping.worth(slow, 64) == 1


def test_cores_that_others_use_are_left_to_them(monkeypatch) -> None:
    monkeypatch.setattr(stepping, "available_cores", lambda: 4)
    found = []
    for used in (0.2, 1.1, 2.9, 9.0):
        monkeypatch.setattr(os, "getloadavg", lambda used=used: (used, 0, 0))
        found.append(stepping.idle_cores())
    assert found == [4, 4, 2, 1]


def test_a_daemon_makes_no_workers(monkeypatch) -> None:
    """A worker of segments may have no children, and its siblings use the other cores."""
    monkeypatch.setattr(stepping, "idle_cores", lambda: 4)
    monkeypatch.setattr(multiprocessing, "current_process", lambda: multiprocessing.Process(daemon=True))
    assert Foreign(64, HERE + "slow?milliseconds=1").workers == 1


# --- pictures ---


def test_pictures_show_the_state_as_the_environment_draws_it() -> None:
    task = Foreign(2, HERE + "task", workers=1)
    for action in (0, 1, 2):  # the same seed with other actions is another episode
        task.reset(episode_seeds(0, 0, 2))
        for step in range(4):
            if step != 1:
                picture = task.draw(1)
                assert np.array_equal(picture.pixels, task._copies._members[1].env.render())
                assert (picture.width, picture.height, picture.caption) == (7, 3, f"step {step}")
            ended = task.step(np.full((2, 3), action))
            assert not (ended.terminated | ended.truncated).any()


def test_an_environment_without_pictures_gets_a_chart() -> None:
    task = Foreign(1, HERE + "Push", workers=1)
    task.reset(episode_seeds(0, 0, 1))
    picture = task.draw(0)
    assert picture.pixels is None and len(picture.shapes) == 3 + 3 + 2 + 2
    assert all(0 <= s.x <= picture.width and 0 <= s.y <= picture.height for s in picture.shapes)


# --- refusals ---


@pytest.mark.parametrize(
    ("actions", "error", "words"),
    [
        (np.zeros((2, 2), np.int64), ValueError, r"shape \(2, 2\)"),
        (np.zeros((2, 3)), ValueError, "float64"),
        (np.full((2, 3), 3), ValueError, "action 3 for agent 0, expected 0 to 2"),
        (np.full((2, 3), -1), ValueError, "action -1"),
    ],
)
def test_wrong_actions_are_refused(actions, error, words) -> None:
    task = Foreign(2, HERE + "Walk", workers=1)
    task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(error, match=words):
        task.step(actions)


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_wrong_numbers_are_refused(value: float) -> None:
    task = Foreign(1, HERE + "Push", workers=1)
    task.reset(episode_seeds(0, 0, 1))
    with pytest.raises(ValueError, match="expected -1 to 1"):
        task.step(np.full((1, 3, 4), value, np.float32))


def test_what_agents_that_left_are_told_is_ignored() -> None:
    task = Foreign(30, HERE + "Walk", workers=1)
    generator = np.random.default_rng(0)
    task.reset(episode_seeds(0, 0, 30))
    alive = np.ones((30, 3), bool)
    for _ in range(4):
        step = task.step(np.where(alive, random_actions(task, generator), -7))
        alive, ended = step.alive, step.terminated | step.truncated
        task.reset(episode_seeds(1, 0, 30), ended)
        alive = alive | ended[:, None]
    assert not alive.all()


def test_an_ended_episode_and_one_that_never_started_are_refused() -> None:
    task = Foreign(1, HERE + "Walk?max_steps=1", workers=1)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ended episode: reset"):
            task.step(np.zeros((1, 3), np.int64))
        task.reset(episode_seeds(0, 0, 1))
        task.step(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match="seeds of shape"):
        task.reset(episode_seeds(0, 0, 2))
    with pytest.raises(ValueError, match="where of shape"):
        task.reset(episode_seeds(0, 0, 1), np.ones(1))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("nowhere.at_all:x", UnknownTask, "no module 'nowhere'"),
        (HERE + "nothing", UnknownTask, "has no 'nothing'"),
        (HERE + "LENGTH", UnknownTask, "of type int"),
        (HERE + "Walk?n=4", TaskOptionError, "no option 'n', expected one of: max_steps"),
        (HERE + "Walk?max_steps", TaskOptionError, "NAME=VALUE"),
        (HERE + "Walk?max_steps=1&max_steps=2", TaskOptionError, "twice"),
        (HERE + "Walk?max_steps=2.5", TaskOptionError, "a whole number: for example max_steps=12"),
        (HERE + "Walk?slippery=1", TaskOptionError, "true or false: for example slippery=true"),
        ("json:loads", UnknownTask, "module json is Python itself's"),
        (HERE + "failing?step=0", None, ""),
        ("tests.pool_dies_at_import_nothing:x", UnknownTask, "no module"),
    ],
)
def test_names_that_lead_nowhere_are_refused(name: str, error: type[Exception] | None, words: str) -> None:
    if error is None:
        assert make_task(name, 1).spec.name == name  # negative control: a good option passes
        return
    with pytest.raises(error, match=words) as caught:
        make_task(name, 1)
    assert "\n" not in str(caught.value)


def test_edited_code_is_another_segment(tmp_path: Path, monkeypatch) -> None:
    """What a name leads to may be defined in any file of its package; a file beside the package is not its."""
    files = {
        "crates/__init__.py": "",
        "crates/doors.py": "from crates.rules import make\n",
        "crates/rules.py": "make = 1\n",
        "beside.py": "make = 1\n",
    }
    (tmp_path / "crates").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    names = ("crates.doors:make", "beside:make")

    def ids() -> list[str]:
        declaration._hash_of_sources.cache_clear()  # what a new process begins with
        return [
            SegmentSpec(run=RunSettings(task=name), parent=None, shaping=ShapingConfig.none(), env_steps=1, seed=0).id
            for name in names
        ]

    first = ids()
    assert first == ids()
    edits = {"crates/rules.py": [True, False], "crates/doors.py": [True, False], "beside.py": [False, True]}
    for edited, changed in edits.items():
        before = ids()
        (tmp_path / edited).write_text(files[edited] + "more = 2\n")
        assert [one != other for one, other in zip(before, ids(), strict=True)] == changed
        (tmp_path / edited).write_text(files[edited])
    assert ids() == first
    with pytest.raises(UnknownTask, match="no source of 'crates.nothing'"):
        declaration.source_version("crates.nothing:make")


def test_a_process_goes_on_with_the_code_it_began_with(tmp_path: Path, monkeypatch) -> None:
    """Modules are loaded once: an edit must not give the segments of a running session other names."""
    (tmp_path / "begun.py").write_text("make = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = declaration.source_version("begun:make")
    (tmp_path / "begun.py").write_text("make = 2\n")
    assert declaration.source_version("begun:make") == before


def test_options_have_the_types_of_the_factory_and_a_canonical_order() -> None:
    source = load(HERE + "Walk?slippery=false&max_steps=07")
    assert source.options == {"slippery": False, "max_steps": 7}
    assert source.name == HERE + "Walk?max_steps=7&slippery=false" == load(source.name).name
    guessed = load("tests.marl.tasks.test_foreign:anything?a=1&b=0.5&c=true&d=word")
    assert guessed.options == {"a": 1, "b": 0.5, "c": True, "d": "word"}


def anything(**options):
    """A factory whose parameters say nothing."""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"progress": lambda env: 0.5}, "progress function has no docstring"),
        ({"sparse_reward": lambda env, rewards: 0.5}, "sparse_reward function has no docstring"),
        ({"horizon": 0}, "horizon is 0"),
        ({"features": {Feature("x", "", "team", 1, 1, None): len}}, "bounds 1 to 1"),
        ({"features": {Feature("x", "", "team", 0, np.inf, None): len}}, "bounds 0 to inf"),
        ({"features": {Feature("x", "", "all", 0, 1, None): len}}, "scope 'all'"),
        (
            {"features": {Feature("x", "", "team", 0, 1, None): len, Feature("x", "", "team", 0, 2, None): len}},
            "more than once",
        ),
    ],
)
def test_declarations_that_do_not_fit_are_refused(wrong, words) -> None:
    with pytest.raises(EnvironmentRefused, match=words):
        ParallelTask(factory=environments.Walk, **wrong)
    with pytest.raises(TypeError):
        ParallelTask(factory=environments.Walk, horizn=3)


# --- the contract check ---

FAULTS = {
    "NaN": "observations",
    "bounds": "observations",
    "type": "observations",
    "shape": "observations",
    "list": "observations",
    "changing space": "spaces",
    "reset fails": "reset",
    "reset alone": "reset",
    "reset observations": "observations keys",
    "start without": "agents at the start",
    "unseeded": "repeated",
    "unseeded start": "fresh",
    "leftover": "repeated",
    "shared": "beside",
    "step fails": "step",
    "four": "step",
    "reward NaN": "reward values",
    "reward text": "reward values",
    "final reward": "rewards keys",
    "rewards of the dead": "rewards keys",
    "observation missing": "observations keys",
    "stays": "leaving",
    "terminations number": "terminations",
    "truncations number": "truncations",
    "vanishes": "vanishing",
    "joins": "joining",
    "state": "task",
    "close": "close",
    "infos missing": "infos keys",
    "one start": "seeds",
    "endless": "horizon",
    "blind": "blind",
}
WARNINGS = {"infos missing", "one start", "endless", "blind"}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_breach_of_the_contract_is_found(fault: str) -> None:
    findings = check_environment(f"{HERE}Broken?fault={fault}")
    found = {finding.check: finding for finding in findings}
    assert FAULTS[fault] in found
    finding = found[FAULTS[fault]]
    assert finding.level == ("warning" if fault in WARNINGS else "error")
    assert re.search(r", expected .+: .+\.$", finding.message) and "\n" not in str(finding)


def test_every_fault_has_its_check() -> None:
    source = Path(environments.__file__).read_text()
    broken = source[source.index("class Broken") :]
    faults = set(re.findall(r'fault == "([^"]+)"', broken)) | set(re.findall(r'"(unseeded|leftover|shared)"', broken))
    assert faults == set(FAULTS)


@pytest.mark.parametrize("name", [HERE + "task", HERE + "task?max_steps=5", HERE + "Push", HERE + "Broken?fault=none"])
def test_a_sound_environment_is_found_sound(name: str) -> None:
    findings = check_environment(name)
    assert [finding for finding in findings if finding.level == "error"] == []
    assert {finding.check for finding in findings} <= {"progress"}  # a warning where none is declared


WRONG = {
    "feature_bounds": "'far' .* is 1.5 .* expected 0 to 1 as declared",
    "feature_nan": "'far' .* is nan",
    "feature_length": r"shape \(2,\) .* expected 3 numbers",
    "feature_text": "is a str",
    "feature_fails": "AttributeError: .*'nothing'",
    "progress": "progress .* is 1.5 .* expected 0 to 1",
    "progress_nan": "progress .* is nan",
    "sparse_reward": "sparse_reward .* is nan .* expected a finite number",
    "heuristic": "no action for scout",
    "heuristic_range": "action 8 for agent 0",
    "action_names": "1 action names, expected 3",
    "idle_action": "idle action 3, expected 0 to 2",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrongly_declared_is_found(name: str) -> None:
    (finding,) = [each for each in check_environment(f"{HERE}wrong.{name}") if each.level == "error"]
    assert re.search(WRONG[name], finding.message)


def test_every_wrong_declaration_is_tried() -> None:
    assert set(vars(environments.wrong)) == set(WRONG)


UNFIT = {
    "mixture": "all actions are Discrete or all are boxes",
    "unbounded": "unbounded actions from scout",
    "multidiscrete": "MultiDiscrete",
    "mask": "nothing in them but 'action_mask'",
    "sequence": "Gymnasium can flatten",
    "image": "30,000 numbers",
    "horizon": "horizon=",
}


@pytest.mark.parametrize("fault", UNFIT)
def test_spaces_that_do_not_fit_are_refused(fault: str) -> None:
    name = f"{HERE}unfit?fault={fault}"
    with pytest.raises(EnvironmentRefused, match=re.escape(UNFIT[fault])):
        make_task(name, 1)
    (finding,) = check_environment(name)
    assert finding.level == "error" and UNFIT[fault] in finding.message


@pytest.mark.parametrize(
    ("fault", "words"),
    [("NaN", "observation of .* has NaN or infinity at step"), ("reward NaN", "rewards of .* is nan at step")],
)
def test_numbers_that_are_none_are_the_environment_s_fault(fault: str, words: str) -> None:
    """Training on them would diverge, and a shaping would be blamed for it."""
    task = Foreign(1, f"{HERE}Broken?fault={fault}", workers=1)
    with pytest.raises(EnvironmentFailed, match=words):
        for episode in range(3):
            task.reset(episode_seeds(0, episode, 1))
            for _ in range(task.spec.horizon):
                step = task.step(np.zeros((1, 3), np.int64))
                if step.terminated[0] or step.truncated[0]:
                    break


def test_a_check_of_less_than_two_episodes_is_refused() -> None:
    with pytest.raises(EnvironmentRefused, match="Found 1 episodes, expected 2 to 10,000"):
        check_environment(HERE + "Walk", episodes=1)


@pytest.mark.parametrize("name", ["spread", "tests.support.foreign_environments", ":Walk", HERE])
def test_a_name_without_module_or_factory_is_refused(name: str) -> None:
    with pytest.raises(UnknownTask, match="expected MODULE:FACTORY"):
        load(name)


def test_names_that_lead_nowhere_are_findings() -> None:
    (finding,) = check_environment(HERE + "nothing")
    assert (finding.level, finding.check) == ("error", "start")


def test_a_known_environment_that_forgets_a_counter_is_caught_and_has_a_remedy() -> None:
    """``knights_archers_zombies_v11`` does not reset the counter of its zombies."""
    needs("pygame")
    name = HERE + "knights?max_cycles=30"
    assert "repeated" in {finding.check for finding in check_environment(name, episodes=2)}
    remedied = check_environment(HERE + "knights_task?max_cycles=30", episodes=2)
    assert [finding for finding in remedied if finding.level == "error"] == []
