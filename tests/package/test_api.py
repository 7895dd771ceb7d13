"""The public names: what they cost, that they are the ones documented, and that every example of the page runs."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import learning_signal
from learning_signal import open_log, run, run_session, train
from learning_signal.marl.tasks.foreign.contract import check_environment
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.sources import SettingsError
from learning_signal.tools.training.settings import TrainingSettings
from tests.support.places import ROOT

PAGE = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
SMALL = {
    "run": {"learner": {"hidden": [8], "environments": 8}, "evaluation": {"episodes": 8, "points": 2}},
    "deliberation": {"candidates": 2, "refinements": 0},
}


def examples() -> list[tuple[str, str]]:
    """Each example of the page with the note before it, such as ``file: walk.py``."""
    found = re.findall(r"(?:<!-- ([^>]*) -->\n)?```python\n(.*?)```", PAGE, re.S)
    return [(note.strip(), text) for note, text in found]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def fresh(code: str) -> str:
    """What ``code`` prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- the names ---


def test_the_import_loads_nothing_heavy() -> None:
    heavy = "torch autogen_core pettingzoo numpy pydantic sqlite_utils".split()
    assert fresh(f"import sys, learning_signal; print(*[name for name in {heavy} if name in sys.modules])") == ""
    # Negative control: a name that is used needs some of them.
    assert "numpy pydantic" in fresh(
        f"import sys; from learning_signal import ShapingConfig; print(*[n for n in {heavy} if n in sys.modules])"
    )


def test_every_public_name_is_there_and_documented() -> None:
    assert set(learning_signal._HOMES) == set(learning_signal.__all__) <= set(dir(learning_signal))
    for name in learning_signal.__all__:
        assert getattr(learning_signal, name).__doc__, name
    listed = re.search(r"from learning_signal import \((.*?)\)", PAGE, re.S)[1]
    assert [name.strip() for name in listed.split(",") if name.strip()] == learning_signal.__all__
    headings = {name for line in re.findall(r"^## (.*)$", PAGE, re.M) for name in line.split(" and ")}
    assert set(learning_signal.__all__) <= headings


def test_type_checkers_see_each_name_where_it_is() -> None:
    source = (ROOT / "__init__.py").read_text(encoding="utf-8")
    stated = {
        name.strip(): module
        for module, names in re.findall(r"^    from learning_signal\.([\w.]+) import (.*)$", source, re.M)
        for name in names.split(",")
    }
    assert stated == learning_signal._HOMES


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Traner'"):
        learning_signal.Traner  # noqa: B018


# --- the page ---


def test_every_example_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    seen = []
    for note, text in examples():
        kind, _, what = note.partition(": ")
        if kind == "file":
            (here / what).write_text(text)
            assert check_environment(f"{what.removesuffix('.py')}:task", episodes=2) == []
            continue
        if kind == "before":
            assert run.run(what.split()[1:]) == 0
            names["observations"] = names["observations"].copy()
        exec(compile(text, f"example {len(seen)}", "exec"), names)
        seen.append(text)
    assert len(seen) >= 8 and names["actions"].shape == (4, 3)
    shown = capsys.readouterr().out
    assert "done 2" in shown and "'coverage_distance': 'lower'" in shown and "session" in shown
    with open_log("runs/walk.db") as log:
        assert log.session("latest").task == "walk:task"


# --- train and run_session ---


def test_inside_a_running_loop_the_same_call_works(here: Path) -> None:
    """As in a notebook, whose loop runs in the thread that calls."""
    events = []

    async def cell():
        return train(env_steps=400, config=SMALL, on_event=lambda event: events.append(event["title"]))

    inside = asyncio.run(cell())
    assert inside.status == "done" and "begins" in events[0] and "done" in events[-1]
    again = train(env_steps=400, seed=0, config=SMALL)  # outside, on the same store: computed once
    assert again.curve == inside.curve and again.env_steps_reused == again.env_steps


def test_settings_are_taken_whole(here: Path) -> None:
    settings = TrainingSettings.model_validate({"run": SMALL["run"], "env_steps": 400, "seed": 3})
    outcome = train(settings=settings)
    assert (outcome.status, outcome.seed) == ("done", 3)
    with pytest.raises(SettingsError, match="settings= and seed=, expected one of them"):
        train(settings=settings, seed=4)
    with pytest.raises(SettingsError, match="settings= and agents="):
        run_session(settings=SessionSettings(), agents="rules")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"task": "sprad"}, "did you mean 'spread'"),
        ({"algorithm": "ppo"}, "algorithm= sets run.learner.algorithm to 'ppo', expected"),
        ({"env_steps": 0}, "env_steps 0, expected greater than"),
        ({"config": {"run": {"lerner": {}}}}, "config= sets the unknown run.lerner"),
        ({"config": {"gate": 3}}, "config= sets gate to 3, expected a table"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_writes_nothing(here: Path, arguments, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        train(**arguments)
    assert list(here.iterdir()) == []


def test_a_config_file_is_read_and_arguments_come_first(here: Path) -> None:
    (here / "small.toml").write_text("seed = 7\n[run.learner]\nhidden = [8]\nenvironments = 8\n")
    outcome = train(config="small.toml", env_steps=200, seed=2, algorithm="ippo")
    assert (outcome.seed, outcome.algorithm) == (2, "ippo")


def test_the_environment_sets_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARNING_SIGNAL_SEED", "9")
    assert train(env_steps=200, config=SMALL).seed == 0


def test_nobody_to_ask_is_refused(here: Path) -> None:
    with pytest.raises(SettingsError, match="nobody to ask"):
        run_session(config={"approve": "human"})


def test_a_shadow_is_asked_and_only_written_down(here: Path) -> None:
    lengths = {"rounds": 1, "stage_steps": 400, "branch_steps": 200, "workers": 1}
    outcome = run_session(**lengths, config=SMALL, shadows={"critic": "rules"})
    assert outcome.status == "done"
    with open_log() as log:
        assert [event.title for event in log.events(kind="shadow")] == ["agrees: submit_diagnosis"]
        assert "critic's shadow" in log.costs("latest").agents
    for shadows, words in (
        ({"critic": "human"}, "The shadow of the critic is human"),
        ({"judge": "rules"}, "'judge' as a shadow is no agent"),
        ({"critic": "ollama/x|rules"}, "is a chain of 2 backends"),
    ):
        with pytest.raises(ValueError, match=words):
            run_session(shadows=shadows)
    with pytest.raises(SettingsError, match="settings= and shadows="):
        run_session(settings=SessionSettings(), shadows={"critic": "rules"})


def test_ctrl_c_stops_the_run_and_the_same_call_goes_on(here: Path) -> None:
    def interrupt(event) -> None:
        if event["kind"] == "stage":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    options = {"env_steps": 2_000, "segment_steps": 400, "config": SMALL}
    with pytest.raises(KeyboardInterrupt):
        train(**options, on_event=interrupt)
    with open_log() as log:
        row = log.session("latest")
        assert row.status == "interrupted" and 1 <= len(log.main_run(row.id)) < 5
    outcome = train(**options)
    assert (outcome.status, outcome.session_id, outcome.env_steps) == ("done", row.id, 2_000)
