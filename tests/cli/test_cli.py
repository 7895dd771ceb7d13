"""The command line: bad input is one sentence, settings have one precedence, reading imports nothing heavy."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from learning_signal import run
from learning_signal.commands.session import session
from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.cli.options import LEDGER
from learning_signal.viewer.cli.terminal import for_a_user
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Commands run in an empty folder with none of the variables they read."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name != "LEARNING_SIGNAL_STATE" and (name.startswith("LEARNING_SIGNAL_") or name.endswith("_API_KEY")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> str:
    return str(recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db"))


def refused(capsys, *arguments: str, code: int = 2) -> str:
    """The one error sentence of a command that must fail."""
    assert run.run(list(arguments)) == code
    captured = capsys.readouterr()
    sentence = captured.err.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence and "Traceback" not in sentence
    assert captured.out == ""
    return sentence


# bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sesion"], ["No such command", "--help"]),
        (["session", "--sede", "1"], ["--sede", "--seed"]),
        (["session", "--seed", "abc"], ["--seed", "'abc'", "valid integer"]),
        (["session", "--seed", "-1"], ["--seed", "'-1'", "greater than or equal to 0"]),
        (["session", "--rounds", "0"], ["--rounds", "greater than or equal to 1"]),
        (["session", "--approve", "dog"], ["--approve", "'dog'", "'auto' or 'human'"]),
        (["session", "--algorithm", "dqn"], ["--algorithm", "'dqn'", "'mappo'"]),
        (["session", "--task", "spred"], ["spred", "spread"]),
        (["session", "--task", "spread?agents=x"], ["agents='x'", "whole number"]),
        (["session", "--agent", "boss=rules"], ["boss", "critic"]),
        (["session", "--agent", "critic"], ["ROLE=SPEC"]),
        (["session", "--agent", "critic=foo/bar"], ["foo", "openai"]),
        (["session", "--agent", "critic=openai/gpt-4.1"], ["OPENAI_API_KEY"]),
        (["session", "--config", "missing.toml"], ["missing.toml", "no such file"]),
        (["backends", "--check", "nonsense"], ["nonsense", "provider"]),
        (["log", "list", "--limit", "x"], ["'x'", "whole number"]),
        (["log", "list"], ["ledger"]),
        (["explain"], ["ledger"]),
        (["resume", "latest"], ["ledger"]),
        (["resume"], ["session", "--help"]),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, parts):
    sentence = refused(capsys, *arguments)
    for part in parts:
        assert part.lower() in sentence.lower(), sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed = ", ["not valid TOML"]),
        ("sede = 1", ["unknown sede", "seed"]),
        ("[gate]\nalfa = 0.1", ["unknown gate.alfa", "gate.alpha"]),
        ("[gate]\nalpha = 2.0", ["gate.alpha", "2.0", "less than 0.5"]),
        ("[run.learner]\nalgorithm = 'dqn'", ["run.learner.algorithm", "'dqn'"]),
        ("[gate]\nmode = 'paired'\nconfirm_seeds = 3", ["confirm_seeds", "at least 5"]),
        ("[gate]\nconfirm_seeds = 3", ["confirm_seeds 3 with mode 'sequential'", "set looks", "or mode 'paired'"]),
        ("gate = 3", ["gate", "expected a table"]),
        ("agents = 'rules'", ["agents", "expected a table"]),
        ("[agents]\ncritik = 'rules'", ["critik", "critic"]),
        ("[agents]\ncritic = 3", ["critic", "text"]),
        ("agent_sources = {}", ["unknown agent_sources"]),
        ("\u0000", ["not valid TOML"]),
    ],
)
def test_a_wrong_config_file_is_one_sentence_with_its_name(capsys, text, parts):
    Path("experiment.toml").write_text(text)
    sentence = refused(capsys, "session", "--config", "experiment.toml")
    for part in parts:
        assert part.lower() in sentence.lower(), sentence
    if "agents" not in text:
        assert "experiment.toml" in sentence


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("LEARNING_SIGNAL_SEDE", "1", ["LEARNING_SIGNAL_SEDE", "LEARNING_SIGNAL_SEED"]),
        ("LEARNING_SIGNAL_SEED", "x", ["LEARNING_SIGNAL_SEED", "'x'", "valid integer"]),
        ("LEARNING_SIGNAL_GATE__ALPHA", "2", ["LEARNING_SIGNAL_GATE__ALPHA", "less than 0.5"]),
        ("LEARNING_SIGNAL_AGENT_CRITIC", "foo/bar", ["environment", "foo"]),
    ],
)
def test_a_wrong_environment_variable_is_one_sentence_with_its_name(capsys, monkeypatch, name, value, parts):
    monkeypatch.setenv(name, value)
    sentence = refused(capsys, "session")
    for part in parts:
        assert part in sentence, sentence


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["log", "show", "nosuch"], ["nosuch", RECORDED_ID]),
        (["explain", "nosuch/R1"], ["nosuch", RECORDED_ID]),
        (["explain", f"{RECORDED_ID}/R9"], ["R9"]),
        (["log", "search", " "], ["nothing to search"]),
        (["resume", "nosuch"], ["nosuch", RECORDED_ID]),
    ],
)
def test_a_wrong_session_or_decision_is_one_sentence_with_the_nearest(capsys, ledger, arguments, parts):
    sentence = refused(capsys, *arguments, "--ledger", ledger)
    for part in parts:
        assert part.lower() in sentence.lower(), sentence


def test_a_file_that_is_no_ledger_or_a_newer_one_is_refused(capsys, ledger, tmp_path):
    Path("notes.txt").write_text("these are no tables " * 100)
    assert "notes.txt" in refused(capsys, "log", "list", "--ledger", "notes.txt")
    newer = tmp_path / "newer.db"
    shutil.copy(ledger, newer)
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 9999")
    connection.commit()
    connection.close()
    assert "newer" in refused(capsys, "log", "list", "--ledger", str(newer)).lower()


def test_errors_of_the_system_about_files_are_sentences_and_faults_of_the_program_are_not():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in for_a_user(full)
    assert "a.txt cannot be used (permission denied)" in for_a_user(PermissionError(13, "Permission denied", "a.txt"))
    assert for_a_user(ValueError("an index went wrong")) is None
    assert for_a_user(KeyError("x")) is None


def test_a_fault_of_the_program_says_so_before_its_traceback(capsys, monkeypatch):
    monkeypatch.setattr(Reader, "open", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.run(["log", "list"])
    assert "fault of the program" in capsys.readouterr().err


# settings -----------------------------------------------------------------------------------------------------


def planned(capsys, *arguments: str) -> dict:
    assert run.run(["session", "--dry-run", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_precedence_is_command_line_environment_config_file_default(capsys, monkeypatch):
    Path("e.toml").write_text("rounds = 5\nseed = 5\n[deliberation]\ncandidates = 5\n[agents]\ndefault = 'rules'\n")
    assert planned(capsys)["rounds"] == 3
    assert planned(capsys, "--config", "e.toml")["rounds"] == 5
    monkeypatch.setenv("LEARNING_SIGNAL_ROUNDS", "4")
    monkeypatch.setenv("LEARNING_SIGNAL_CONFIG", "e.toml")
    monkeypatch.setenv("LEARNING_SIGNAL_DELIBERATION__CANDIDATES", "4")
    plan = planned(capsys, "--seed", "9")
    assert (plan["rounds"], plan["seed"], plan["candidates"]) == (4, 9, 4)
    plan = planned(capsys, "--rounds", "2", "--candidates", "1", "--agent", "critic=rules")
    assert (plan["rounds"], plan["candidates"]) == (2, 1)
    sources = {row["role"]: row["from"] for row in plan["agents"]}
    assert sources["critic"] == "command line" and sources["generator"] == "config file"


def test_lists_and_tables_can_be_set_from_the_environment():
    from learning_signal.tools.plan.sources import gather

    settings = gather(
        {}, {"LEARNING_SIGNAL_RUN__LEARNER__HIDDEN": "[32, 16]", "LEARNING_SIGNAL_TWIN": "true"}, None
    ).settings({}, {})
    assert settings.run.learner.hidden == (32, 16) and settings.twin is True


def test_every_option_is_a_setting_and_the_default_ledger_is_the_session_s():
    from inspect import signature

    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.plan.sources import OPTIONS, _paths

    # A budget is one text with several settings.
    assert set(OPTIONS.values()) - {"budget"} <= set(_paths(SessionSettings, ""))
    assert set(OPTIONS) <= set(signature(session).parameters)
    assert SessionSettings.model_fields["ledger"].default == LEDGER


def test_a_dry_run_writes_nothing(capsys):
    assert run.run(["session", "--dry-run"]) == 0
    assert "Dry run" in capsys.readouterr().out and list(Path().iterdir()) == []


# reading ------------------------------------------------------------------------------------------------------


def test_the_log_commands_read_a_session(capsys, ledger):
    for arguments, part in (
        (["log", "list"], RECORDED_ID),
        (["log", "show", "--round", "1", "--agent", "critic", "-v"], "episodes: 8"),
        (["log", "search", "coverage"], "«coverage»"),
        (["explain", "R1"], "promote c1"),
        (["explain"], "Round 4"),
    ):
        assert run.run([*arguments, "--ledger", ledger]) == 0
        text = capsys.readouterr().out
        assert part in text and max(map(len, text.splitlines())) <= 100


def test_json_is_json(capsys, ledger):
    for arguments in (["log", "list"], ["log", "show", "-v"], ["log", "search", "coverage"], ["explain", "R1"]):
        assert run.run([*arguments, "--json", "--ledger", ledger]) == 0
        assert json.loads(capsys.readouterr().out)
    for arguments in (["tasks"], ["backends"]):
        assert run.run([*arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


def test_filters_leave_only_what_they_name(capsys, ledger):
    arguments = [
        "log",
        "show",
        "--round",
        "2",
        "--agent",
        "critic",
        "--kind",
        "tool_call",
        "--json",
        "--ledger",
        ledger,
    ]
    assert run.run(arguments) == 0
    events = json.loads(capsys.readouterr().out)
    assert events and {(each["round"], each["agent"], each["kind"]) for each in events} == {(2, "critic", "tool_call")}


def test_the_ledger_may_come_from_the_environment(capsys, ledger, monkeypatch):
    monkeypatch.setenv("LEARNING_SIGNAL_LEDGER", ledger)
    assert run.run(["log", "list"]) == 0 and RECORDED_ID in capsys.readouterr().out


def test_tasks_and_backends_are_listed(capsys):
    assert run.run(["tasks"]) == 0
    assert "spread" in capsys.readouterr().out
    assert run.run(["backends"]) == 0
    assert "rules" in capsys.readouterr().out
    assert run.run(["backends", "--check", "rules"]) == 0
    capsys.readouterr()
    assert run.run(["backends", "--check", "openai-api/m@http://127.0.0.1:1/v1?attempts=1"]) == 1


NEVER = ("torch", "autogen_core", "autogen_agentchat", "openai", "scipy", "pettingzoo", "gymnasium", "ray", "PIL")
"""What no command needs that lists, shows or explains."""
LISTING = (*NEVER, "loguru", "sqlite_utils", "asyncio", "rich.progress", "rich.live", "rich.markdown")


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], (*LISTING, "pydantic", "numpy", "sqlite3")),
        (["session", "--help"], (*NEVER, "numpy", "sqlite3")),
        (["tasks"], (*LISTING, "sqlite3", "pydantic")),
        (["backends"], (*LISTING, "numpy", "learning_signal.ledger.read.records")),
        (["log", "list"], (*LISTING, "numpy", "pydantic")),
        (["log", "show", "-v"], (*LISTING, "numpy", "pydantic")),
        (["explain"], (*LISTING, "numpy", "pydantic")),
    ],
)
def test_what_starts_at_once_imports_nothing_heavy(ledger, arguments, heavy):
    code = (
        "import sys\nfrom learning_signal import run\n"
        f"assert run.run({arguments!r}) == 0\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    environment = os.environ | {"LEARNING_SIGNAL_LEDGER": ledger, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_only_the_command_that_is_named_is_built():
    def built(*arguments):
        group = typer.main.get_command(run.application(arguments))
        return {name: len(getattr(each, "commands", ())) for name, each in group.commands.items()}

    everything = built()
    assert everything == {**dict.fromkeys(run.COMMANDS, 0), "log": len(run.LOG)}
    assert built("--verbose", "log", "list", "--json") == {"log": 1} and built("tasks") == {"tasks": 0}
    assert built("log") == built("log", "lst") == {"log": len(run.LOG)} and built("tsks") == built("-h") == everything


# verification -------------------------------------------------------------------------------------------------


def test_statistics_are_recomputed_from_their_inputs():
    from learning_signal.marl.gate.confirmation import judge
    from learning_signal.marl.gate.measure import Measure
    from learning_signal.marl.gate.probation import probation
    from learning_signal.marl.gate.recompute import WORDING, recompute
    from learning_signal.marl.gate.screening import rank_screen
    from learning_signal.marl.gate.settings import GateSettings

    gate, values = (
        GateSettings(mode="paired"),
        {"control": [0.02, 0.03, 0.025, 0.03, 0.02], "c1": [0.05, 0.06, 0.07, 0.05, 0.06]},
    )
    arms = {arm: [{"sparse_return": 0.0, "progress": each} for each in row] for arm, row in values.items()}
    inputs = {"max_return": 25.0, "progress_declared": True, "arms": arms, "wording": WORDING}
    settings = gate.model_dump(mode="json")
    verdict = judge([0.0] * 5, [0.0] * 5, values["control"], values["c1"], 25.0, gate)
    assert recompute("confirm", inputs, settings) == verdict.model_dump(mode="json") and verdict.outcome == "pass"
    inputs["arms"] = {arm: row[: gate.screen_seeds] for arm, row in arms.items()}
    measures = {arm: [Measure(**each) for each in row] for arm, row in inputs["arms"].items()}
    screen = rank_screen(measures["control"], {"c1": measures["c1"]}, 25.0, gate)
    assert recompute("screen", inputs, settings) == screen.model_dump(mode="json")
    before, after = [1.0, 2.0, 3.0], [1.0, 1.5, 3.5]
    episodes = {
        "before": {"sparse_returns": before, "progress": None},
        "after": {"sparse_returns": after, "progress": None},
    }
    trial = probation(before, after, None, None, 25.0, gate)
    assert recompute("probation", {"max_return": 25.0, "arms": episodes}, settings) == trial.model_dump(mode="json")
    with pytest.raises(ValueError, match="expected control"):
        recompute("screen", inputs | {"arms": {"c1": arms["c1"]}}, settings)
    with pytest.raises(ValueError, match="0 candidates"):
        recompute("confirm", inputs | {"arms": {"control": arms["control"]}}, settings)


def test_verify_prints_findings_and_fails(capsys, ledger, tmp_path):
    tampered = tmp_path / "tampered.db"
    shutil.copy(ledger, tampered)
    connection = sqlite3.connect(tampered)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("UPDATE decisions SET reason = 'another' WHERE number = 1")
    connection.commit()
    connection.close()
    assert run.run(["log", "verify", "--ledger", str(tampered)]) == 1
    assert f"{RECORDED_ID}/R1" in capsys.readouterr().out


def test_verify_lists_what_is_unsupported_as_a_notice_and_does_not_fail(capsys, ledger, tmp_path):
    marked = tmp_path / "marked.db"
    shutil.copy(ledger, marked)
    problem = "reading says p 0.5, which nothing in this round has"
    mark = {"field": "reading", "kind": "number", "claim": "p 0.5", "problem": problem}
    with Ledger.open(marked) as written:
        (claim,) = written.rows("SELECT * FROM claims WHERE about = 'verdicts' LIMIT 1")
        bodies = {name: BodyHash(claim[name]) for name in ("words", "known")}
        written.add("claims", **{**claim, **bodies, "id": None, "marks": [mark]})
    for path, notice in ((ledger, False), (marked, True)):
        assert run.run(["log", "verify", "--ledger", str(path)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "everything that was checked agrees." in said
        assert ("Notice: 1 claim of an agent is not supported by the record" in said) == notice == (problem in said)
    assert run.run(["explain", f"{RECORDED_ID}/R1", "--ledger", str(marked)]) == 0
    assert f"unsupported: {problem}" in capsys.readouterr().out


# running a session --------------------------------------------------------------------------------------------


def outcome(status: str = "done", session_id: str = "s1") -> SimpleNamespace:
    data = {
        "session_id": session_id,
        "status": status,
        "stop_reason": None,
        "promoted": [],
        "rejected": [],
        "before": None,
        "after": None,
        "twin": None,
        "costs": {},
        "final_policy": None,
        "final_shaping": None,
        "ledger": "l.db",
    }
    return SimpleNamespace(to_dict=lambda: data)


@pytest.fixture
def fake_session(monkeypatch):
    """Replace the session by a coroutine function ``work(observer, control)``."""
    import learning_signal.agents.session.session

    def install(work):
        async def run_session(settings, *, observer, control):
            return await work(observer, control)

        monkeypatch.setattr(learning_signal.agents.session.session, "run_session", run_session)

    return install


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("failed", 1), ("paused", 4), ("interrupted", 130)])
def test_the_exit_code_says_how_a_session_ended(capsys, fake_session, status, code):
    async def work(observer, control):
        return outcome(status)

    fake_session(work)
    assert run.run(["session"]) == code
    text = capsys.readouterr().out
    assert ("learning-signal resume s1" in text) == (status != "done")
    assert "learning-signal log show s1 -v" in text


def test_with_json_standard_output_is_the_outcome_alone(capsys, fake_session):
    async def work(observer, control):
        row = {
            "session_id": "s1",
            "seq": 1,
            "kind": "session",
            "status": "ok",
            "title": "begins",
            "agent": None,
            "round": None,
        }
        observer.event(row)
        return outcome()

    fake_session(work)
    assert run.run(["session", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["session_id"] == "s1" and "begins" in captured.err


def test_an_error_of_a_session_is_one_sentence(capsys, fake_session):
    from learning_signal.agents.session.running import SessionError

    async def work(observer, control):
        raise SessionError("The main run stopped: found NaN, expected numbers; lower the learning rate.")

    fake_session(work)
    assert run.run(["session", "--plain"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors == ["error: The main run stopped: found NaN, expected numbers; lower the learning rate."]


def test_the_first_interrupt_pauses_and_says_how_to_resume(capsys, fake_session):
    async def work(observer, control):
        observer.stage({"session": "s1"})
        observer.event(
            {"session_id": "s1", "seq": 1, "kind": "llm_call", "status": "ok", "title": "", "agent": "critic"}
        )
        os.kill(os.getpid(), signal.SIGINT)
        while not control.pausing:
            await asyncio.sleep(0.01)
        return outcome("paused")

    fake_session(work)
    assert run.run(["session", "--ledger", "mine.db"]) == 4
    assert "learning-signal resume s1 --ledger mine.db" in " ".join(capsys.readouterr().out.split())


def test_the_second_interrupt_aborts(capsys, fake_session):
    async def work(observer, control):
        aborted = asyncio.Event()
        control.bind(aborted.set)
        os.kill(os.getpid(), signal.SIGINT)
        while not control.pausing:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        await aborted.wait()
        return outcome("interrupted")

    fake_session(work)
    assert run.run(["session"]) == 130
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert all(each.finished.is_set() for each in timers), "one that was not cancelled would end the process"
    assert "Ctrl-C: stopping at once" in capsys.readouterr().out


def test_a_session_that_ignores_the_second_interrupt_is_ended_all_the_same():
    code = (
        "import asyncio, os, signal, sys, threading\n"
        "import learning_signal.agents.session.session\n"
        "from learning_signal import run\n"
        "async def stubborn(settings, *, observer, control):\n"
        "    aborted = asyncio.Event(); control.bind(aborted.set)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    while not control.pausing: await asyncio.sleep(0)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    await aborted.wait()\n"
        "    threading.Event().wait()  # for ever\n"
        "learning_signal.agents.session.session.run_session = stubborn\n"
        "sys.exit(run.run(['session', '--plain']))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "stopping at once" in done.stdout


# the project itself -------------------------------------------------------------------------------------------


def test_every_package_is_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    rooms = ("agents", "commands", "tools", "marl", "ledger", "viewer")
    found = {
        ".".join(("learning_signal", *path.parent.relative_to(ROOT).parts))
        for room in rooms
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert found | {"learning_signal", "learning_signal.prompts"} == listed
    assert project["project"]["scripts"] == {"learning-signal": "learning_signal.run:main"} and callable(run.main)


@pytest.mark.skipif(shutil.which("make") is None and not os.environ.get("CI"), reason="make is not installed")
def test_make_alone_lists_every_target_on_one_line():
    done = subprocess.run(["make", "-s", "-C", str(ROOT)], capture_output=True, text=True, timeout=20)
    lines = done.stdout.strip().splitlines()
    targets = ["help", "session", "test", "bench", "lint", "clean"]
    assert [line.split()[1] for line in lines] == targets and all(len(line.split()) > 3 for line in lines)
