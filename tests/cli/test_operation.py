"""Faults of operation: pipes that lack characters or are closed, signals of a cluster, other systems and packages."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.cli.streams import PLAIN
from learning_signal.viewer.cli.terminal import for_a_user
from tests.cli.test_cli import _own_folder, fake_session, outcome, refused  # noqa: F401 - fixtures, used by being here
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> str:
    return str(recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db"))


# streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("arguments", [["explain", "R1"], ["log", "show", "-v"], ["log", "search", "coverage"]])
def test_a_pipe_that_lacks_characters_gets_plain_ones(ledger, encoding, arguments):
    def said(name: str) -> str:
        command = [sys.executable, ROOT / "run.py", *arguments, "--ledger", ledger]
        done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": name}, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(name)

    full, plain = said("utf-8"), said(encoding)
    assert not full.isascii() and (encoding != "ascii" or plain.isascii())
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in full.splitlines()], "columns stay"
    assert re.findall(r"\w+", full, re.ASCII) == re.findall(r"\w+", plain, re.ASCII)


def test_characters_have_plain_ones_that_look_alike():
    shown = "→ ◆ │─┼ █▁ Ü ≷ … 漢".encode("ascii", PLAIN).decode()
    assert shown == "> * |-+ #_ U ~ . ?"


def test_an_error_sentence_fits_an_ascii_pipe_as_well(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", "log", "show", "→é", "--ledger", "nö.db"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 2 and done.stderr.startswith(b"error: There is no ledger at no.db")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_has_nobody_to_tell(ledger, closed):
    command = f'exec "{sys.executable}" "{ROOT / "run.py"}" log list --ledger "{ledger}" {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (RECORDED_ID in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def _into_a_closed_pipe(arguments, folder, **environment):
    """The exit code and standard error of a command whose standard output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    given = {"env": os.environ | environment, "stdout": writer, "stderr": subprocess.PIPE, "text": True, "timeout": 90}
    done = subprocess.run(command, cwd=folder, **given)
    os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["log", "show", "-v"], ["log", "verify"], ["explain", "--json"]])
def test_a_closed_pipe_ends_a_command_that_reads_and_is_quiet(ledger, tmp_path, arguments):
    more = [] if arguments == ["--help"] else ["--ledger", ledger]
    assert _into_a_closed_pipe([*arguments, *more], tmp_path) == (0, "")


def test_a_training_goes_on_where_nobody_reads_what_it_prints(tmp_path):
    small = "[run.learner]\nhidden = [8]\nenvironments = 8\n[run.evaluation]\nepisodes = 8\n"
    (tmp_path / "small.toml").write_text(small)
    train = ["train", "--steps", "400", "--config", "small.toml", "--ledger", "log.db", "--store", "segments"]
    assert _into_a_closed_pipe(train, tmp_path, LEARNING_SIGNAL_STATE=str(tmp_path / "state")) == (0, "")
    with Reader.open(tmp_path / "log.db") as reader:
        assert reader.session().status == "done"


# signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")])
def test_other_signals_pause_like_ctrl_c_and_stop_when_they_come_again(capsys, fake_session, number, name):  # noqa: F811
    async def work(observer, control):
        stopped = asyncio.Event()
        control.bind(stopped.set)
        os.kill(os.getpid(), number)
        while not control.pausing:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopped.wait(), 5)
        return outcome("interrupted")

    fake_session(work)
    assert run.run(["session", "--plain"]) == 130
    text = capsys.readouterr().out
    assert f"{name}: pausing after the running step" in text and f"{name}: stopping at once" in text
    assert signal.getsignal(number) is signal.SIG_DFL, "afterwards it is as it was"


def test_a_session_that_waits_for_a_locked_ledger_is_ended_by_the_second_signal(tmp_path):
    """While it waits, nothing runs that could answer the signals."""
    code = (
        "import sys\n"
        "import learning_signal.agents.session.session as session\n"
        "from learning_signal import run\n"
        "from learning_signal.ledger.write.writer import Ledger\n"
        "async def work(settings, *, observer, control):\n"
        "    with Ledger.open('ledger.db') as ledger:\n"
        "        print('waits', flush=True)\n"
        "        with ledger.transaction('step'):\n"
        "            pass\n"
        "session.run_session = work\n"
        "sys.exit(run.run(['session', '--plain']))\n"
    )
    with Ledger.open(tmp_path / "ledger.db"), closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"waits\n"
            try:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)  # two at once would be one
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 130
            finally:
                process.kill()


def test_what_nohup_ignores_stays_ignored(fake_session):  # noqa: F811
    async def work(observer, control):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        assert not control.pausing
        return outcome()

    fake_session(work)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run.run(["session", "--plain"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_session_whose_terminal_goes_away_pauses(tmp_path):
    """What a closed ssh does: the terminal is gone, its processes get SIGHUP, and writing fails."""
    code = (
        "import asyncio, os, sys\n"
        "import learning_signal.agents.session.session as session\n"
        "from learning_signal import run\n"
        "from tests.cli.test_cli import outcome\n"
        "async def work(settings, *, observer, control):\n"
        "    print('ready', flush=True)\n"
        "    while not control.pausing:\n"
        "        await asyncio.sleep(0.01)\n"
        "    return outcome('paused')\n"
        "session.run_session = work\n"
        "code = run.run(['session', '--plain'])\n"
        "open('code', 'w').write(str(code))\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT)})
    seen = b""
    while b"ready\r\n" not in seen:  # the whole line, or the child may still be writing it
        seen += os.read(terminal, 1024)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert (tmp_path / "code").exists(), (status, seen)
    assert (tmp_path / "code").read_text() == "4"


def test_workers_leave_what_a_terminal_sends_to_the_session():
    code = (
        "import os, signal\nfrom learning_signal.marl.processes import follow_parent\n"
        "follow_parent()\nos.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGINT)\nprint('lives')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "lives\n", done.stderr


# other systems and packages -----------------------------------------------------------------------------------


def test_windows_is_told_where_the_program_runs(tmp_path):
    code = f"import runpy, sys; sys.platform = 'win32'; runpy.run_path({str(ROOT / 'run.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "Linux or macOS" in done.stderr and "WSL" in done.stderr


@pytest.mark.parametrize("package", ["tools", "agents", "viewer.errors", "learning_signal_of_mine"])
def test_an_error_of_a_user_s_own_package_is_not_taken_for_a_sentence_of_ours(package):
    theirs = type("SettingsError", (ValueError,), {"__module__": package})
    assert for_a_user(theirs("an index went wrong")) is None
    ours = type("SettingsError", (ValueError,), {"__module__": "learning_signal.tools.plan.sources"})
    assert for_a_user(ours("Found no seed.")) == "Found no seed."


# filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["log", "show", "--agent", "nobody"], ["--agent nobody", "critic", "validator"]),
        (["log", "show", "--round", "9"], ["--round 9", "1, 2, 3, 4, 5"]),
        (["log", "show", "--kind", "thing"], ["--kind thing", "decision", "tool_call"]),
        (["log", "show", "--agent", "nobody", "--json"], ["--agent nobody"]),
        (["log", "search", "coverage", "--session", "latest", "--agent", "nobody"], ["--agent nobody", "critic"]),
    ],
)
def test_a_filter_that_fits_nothing_names_what_there_is(capsys, ledger, arguments, parts):
    sentence = refused(capsys, *arguments, "--ledger", ledger)
    assert all(part in sentence for part in parts), sentence


def test_filters_that_exist_but_do_not_meet_show_nothing(capsys, ledger):
    assert run.run(["log", "show", "--agent", "critic", "--kind", "decision", "--ledger", ledger]) == 0
    assert RECORDED_ID in capsys.readouterr().out


# train --dry-run ----------------------------------------------------------------------------------------------


def test_a_dry_run_of_training_says_what_it_would_do_and_writes_nothing(capsys):
    arguments = ["train", "--steps", "900", "--segment-steps", "400", "--seed", "5", "--dry-run"]
    assert run.run(arguments) == 0
    text = capsys.readouterr().out
    assert "Dry run" in text and "spread" in text and "no shaping" in text
    assert "spred" in refused(capsys, "train", "--task", "spred", "--dry-run")
    assert list(Path().iterdir()) == []


# make ---------------------------------------------------------------------------------------------------------

FAKE_PYTHON = """#!/bin/sh
echo "$@" >> calls
case "$*" in
    *venv*) mkdir -p .venv/bin; touch .venv/bin/python
        [ -e half ] && touch .venv/bin/pip; touch half; [ -e .venv/bin/pip ];;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh checkout, as far as make looks at it, and a python that builds half an environment the first time."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(FAKE_PYTHON)
    (tmp_path / "bin" / "python").chmod(0o755)
    return tmp_path


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["make", ".venv/bin/pip", "PYTHON=python"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_an_environment_that_broke_off_half_way_is_made_again_by_the_next_make(checkout):
    assert make(checkout).returncode != 0 and not (checkout / ".venv" / "bin" / "pip").exists()
    assert make(checkout).returncode == 0 and (checkout / ".venv" / "bin" / "pip").exists()
    assert (checkout / "calls").read_text().count("-m venv --clear .venv") == 2


def test_an_intel_mac_is_told_before_anything_is_installed(checkout):
    (checkout / "bin" / "uname").write_text("#!/bin/sh\necho Darwin x86_64\n")
    (checkout / "bin" / "uname").chmod(0o755)
    done = make(checkout)
    assert done.returncode != 0 and "error: Found a Mac with an Intel processor" in done.stderr
    assert not (checkout / ".venv").exists()
