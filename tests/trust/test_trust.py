"""Files of strangers: a received ledger, policy or study runs no code, writes nowhere and contacts nobody by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

import learning_signal.agents.session.running
from learning_signal import run
from learning_signal.agents.session.session import SessionControl
from learning_signal.ledger import origin
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.errors import SegmentImpossible, UnknownTask
from learning_signal.marl.paths import OutsideFolder, inside
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.tasks.foreign.declaration import load, source_version
from learning_signal.tools.consent import NotTrusted
from learning_signal.tools.training.policies import policy_folder
from tests.cli.test_commands import CONFIG, ENVIRONMENT
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.session_helpers import resume as resume_here
from tests.support.session_helpers import run as run_here
from tests.support.synthetic_training import InlinePool

MODULE = "guessing_by_trust"
TASK = f"{MODULE}:make"
IMPORTED = "imported_on_the_way"
"""A file that appears where the module is imported."""
PWNED = "pwned"
"""A file that appears where a hostile name is followed."""
HOSTILE = f"subprocess:getoutput?cmd=touch {PWNED}"
STORED = "runs/segments"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to work in, and a state folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "state"))
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    _forget_module()


def _forget_module() -> None:
    sys.modules.pop(MODULE, None)
    Path(IMPORTED).unlink(missing_ok=True)


@pytest.fixture
def trained(here):
    """A training run of the user's own environment, its module forgotten again."""
    Path(f"{MODULE}.py").write_text(f"open({IMPORTED!r}, 'w').close()\n{ENVIRONMENT}")
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--env", TASK, "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    assert Path(IMPORTED).exists()
    _forget_module()
    return here


@pytest.fixture
def paused(here, monkeypatch):
    """A session of the user's own that was paused at once."""
    monkeypatch.setattr(learning_signal.agents.session.running, "open_executor", InlinePool)
    settings, control = tiny_settings(here / "runs"), SessionControl()
    control.request_pause()
    assert run_here(settings, control=control).status == "paused"
    return settings


@pytest.fixture
def elsewhere(here, monkeypatch):
    """From now on this is the machine of somebody else, who has received the files."""

    def move() -> None:
        monkeypatch.setenv(origin.STATE_VARIABLE, str(here / "other state"))

    return move


def changed(ledger: Path | str = "runs/ledger.db", **changes) -> None:
    """Edit a ledger as a stranger can. ``config`` is a function of the configuration, ``sql`` any statements."""
    with closing(sqlite3.connect(ledger)) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        database.execute("PRAGMA foreign_keys = OFF")
        if "config" in changes:
            place = "WHERE hash IN (SELECT config FROM sessions)"
            (text,) = database.execute(f"SELECT body FROM bodies {place}").fetchone()
            config = json.loads(text)
            changes["config"](config)
            database.execute(f"UPDATE bodies SET body = ? {place}", (json.dumps(config),))
        for statement in changes.get("sql", ()):
            database.execute(statement)


def says(capsys, *arguments: str, code: int = 2) -> str:
    """What a command writes on standard error, on one line."""
    assert run.run(list(arguments)) == code
    return " ".join(capsys.readouterr().err.split())


def everything(folder: Path) -> set[Path]:
    """All files, but for those that SQLite has beside an open ledger."""
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm", ".pyc", "__pycache__"))}


def unfinished(task: str | None = None) -> None:
    """The stored training run is to go on, on ``task`` where one is given."""

    changed(sql=["UPDATE sessions SET status = 'paused', ended_at = NULL"])
    if task is not None:
        changed(config=lambda config: config["run"].update(task=task))


# code: what a name may lead to, whoever wrote it --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        HOSTILE,
        f"os:system?command=touch {PWNED}",
        "os.path:join?a=b",
        "builtins:exec?source=1",
        f"posix:system?command=touch {PWNED}",
        f"shutil:rmtree?path={PWNED}",
        f"test.support:unlink?filename={PWNED}",
        "__main__:x",
        f"numpy:save?file={PWNED}&arr=1",
        f"numpy:savetxt?fname={PWNED}&X=1",
        f"torch:load?f={PWNED}",
        f"torch.hub:load_state_dict_from_url?url={PWNED}",
        "torch.utils.cpp_extension:load_inline?name=x",
        "pytest:main",
        "learning_signal.marl.tasks.parallel:as_parallel_env?name=spread&seed=0",
        "run:main",
        "pettingzoo.utils.conversions:aec_to_parallel?aec_env=1",
        "pettingzoo:ParallelEnv",
        "mpe2.simple_spread_v3:raw_env",
        "..agents:x",
        "a b:x",
    ],
)
def test_what_is_no_environment_is_never_called(here, name):
    with pytest.raises(UnknownTask) as refused:
        load(name)
    assert "\n" not in str(refused.value) and "expected" in str(refused.value)
    assert not Path(PWNED).exists()


@pytest.mark.parametrize("name", ["subprocess:getoutput", "os.path:join", "run:main"])
def test_sources_of_such_a_module_are_not_even_looked_for(name):
    with pytest.raises(UnknownTask, match="expected one in the folder you work in"):
        source_version(name)


OWN = """
import functools
import subprocess
from os import system
from numpy import save
from subprocess import getoutput
from pettingzoo import ParallelEnv
from pettingzoo.utils.conversions import parallel_wrapper_fn
from learning_signal.marl.tasks.foreign.declaration import ParallelTask

class Env(ParallelEnv):
    def __init__(self, n=1):
        self.n = n

class Duck:
    pass

class Maker:
    def __call__(self, n=1):
        return Env(n)

    def make(self, n=1):
        return Env(n)

def noted(function):
    @functools.wraps(function)
    def call(*given, **named):
        return function(*given, **named)
    return call

def make(n=1):
    return Env(n)

short = lambda n=1: Env(n)
part = functools.partial(make, n=2)
decorated = noted(make)
maker = Maker()
bound = maker.make
made = parallel_wrapper_fn(make)
task = ParallelTask(factory=make)
shell = functools.partial(getoutput, cmd="touch pwned")
Popen = subprocess.Popen
number = 3
"""


@pytest.fixture
def own(here):
    Path(f"{MODULE}.py").write_text(OWN)


@pytest.mark.parametrize(
    "thing", ["Env", "Duck", "make", "short", "part", "decorated", "maker", "bound", "made", "task", "maker.make"]
)
def test_whatever_a_file_of_the_users_defines_is_a_factory(own, thing):
    assert callable(load(f"{MODULE}:{thing}").task.factory)


@pytest.mark.parametrize(
    "thing",
    [
        "getoutput?cmd=touch pwned",
        "system?command=touch pwned",
        "save?file=pwned",
        "subprocess.getoutput?cmd=touch pwned",
        "shell",
        "Popen?args=touch",
        "functools.reduce",
        "ParallelEnv",
        "number",
    ],
)
def test_what_a_file_of_the_users_only_imports_is_none(own, thing):
    with pytest.raises(UnknownTask, match="expected a"):
        load(f"{MODULE}:{thing}")
    assert not Path(PWNED).exists()


def test_an_installed_environment_needs_no_file(here):
    pytest.importorskip("mpe2")
    assert load("mpe2.simple_reference_v3:parallel_env?max_cycles=5").make().possible_agents


# code: a name from a file -------------------------------------------------------------------------------------


def exported(task: str | None = None) -> str:
    """A folder with the policy of the training run, which names ``task``."""
    assert run.run(["export", "latest", "--to", "received"]) == 0
    _forget_module()
    description = Path("received/policy.json")
    data = json.loads(description.read_text())
    description.write_text(json.dumps(data | {"task": task or data["task"]}))
    return "received/"


@pytest.mark.parametrize("task", [f"numpy:save?file={PWNED}&arr=1", TASK])
def test_a_received_policy_runs_nothing(trained, capsys, task):
    folder = exported(task)
    before = everything(trained)
    text = says(capsys, "play", folder, "--episodes", "2")
    assert f"in it {task}" in text and "execute the module" in text, "it is shown what would be run"
    assert "names an environment that is code, expected your consent" in text and "--trust" in text
    assert everything(trained) == before and not Path(IMPORTED).exists()


@pytest.mark.parametrize("task", [HOSTILE, f"os:system?command=touch {PWNED}"])
@pytest.mark.parametrize("agreed", [[], ["--env"], ["--trust"]])
def test_no_consent_is_asked_for_a_module_that_is_never_that_of_an_environment(trained, capsys, task, agreed):
    folder = exported(task)
    before = everything(trained)
    said = [*agreed, task] if agreed == ["--env"] else agreed
    text = says(capsys, "play", folder, "--episodes", "2", *said)
    assert f"in it {task}" in text and "execute the module" in text, "it is shown what would be run"
    assert "is Python itself's" in text and "no option allows it" in text
    assert "confirm it" not in text and "--trust" not in text
    assert everything(trained) == before and not Path(PWNED).exists()


def test_a_received_policy_is_played_when_its_environment_is_said_again_or_trusted(trained, capsys):
    folder = exported()
    assert f"expected the task of the policy received, {TASK}" in says(
        capsys, "play", folder, "--episodes", "2", "--env", "other:make"
    )
    assert not Path(IMPORTED).exists()
    assert run.run(["play", folder, "--episodes", "2", "--env", TASK]) == 0
    assert Path(IMPORTED).exists()
    capsys.readouterr()
    assert f"in it {TASK}" in says(capsys, "play", folder, "--episodes", "2", "--trust", code=0)


def test_a_shipped_task_in_a_received_policy_needs_no_word(here, capsys):
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    assert run.run(["export", "latest", "--to", "received"]) == 0
    assert run.run(["play", "received/", "--episodes", "2"]) == 0
    assert "with --heuristic" in says(capsys, "play", "--heuristic", "--task", "spread", "--trust")


@pytest.mark.parametrize("task", [HOSTILE, TASK])
@pytest.mark.parametrize("command", [["resume"], ["export"], ["play", "--episodes", "2"]])
def test_a_received_training_run_runs_nothing(trained, elsewhere, capsys, command, task):
    unfinished(task)
    elsewhere()
    before = everything(trained)
    text = says(capsys, command[0], "latest", *command[1:])
    why = "was not begun by you on this machine" if task == TASK else "no option allows it"
    assert f"in it {task}" in text and why in text
    assert everything(trained) == before and not Path(IMPORTED).exists()


def test_a_received_training_run_goes_on_when_what_it_uses_is_said_again(trained, elsewhere, capsys):
    unfinished()
    elsewhere()
    store = str((trained / STORED).resolve())
    text = says(capsys, "resume", "latest", "--env", TASK)
    assert f"--store {store}" in text and "--env" not in text.partition("confirm it")[2]
    assert "expected the store of session" in says(capsys, "resume", "latest", "--env", TASK, "--store", "other")
    assert not Path(IMPORTED).exists()
    assert run.run(["resume", "latest", "--env", TASK, "--store", STORED, "--plain"]) == 0
    unfinished()
    assert "--store" in says(capsys, "resume", "latest", "--env", TASK), "it is asked every time"
    for command in (["export", "latest", "--env", TASK], ["play", "latest", "--episodes", "2", "--env", TASK]):
        assert run.run(command) == 0


def test_a_run_of_ones_own_needs_no_word(trained, capsys):
    """Negative control."""
    unfinished()
    for command in (["resume", "latest", "--plain"], ["export", "latest"], ["play", "latest", "--episodes", "2"]):
        assert run.run(command) == 0


def test_the_log_shows_the_task_that_would_be_run(trained, capsys):
    changed(config=lambda config: config["run"].update(task=HOSTILE), sql=["UPDATE sessions SET task = 'spread'"])
    with Reader.open("runs/ledger.db") as reader:
        assert reader.session().task == HOSTILE
    assert run.run(["log", "show", "latest"]) == 0
    assert "subprocess:getoutput" in capsys.readouterr().out
    assert run.run(["log", "verify"]) == 1
    assert "row names the task spread, its configuration subprocess" in " ".join(capsys.readouterr().out.split())
    changed(config=lambda config: config["run"].update(task=["x"]))
    with Reader.open("runs/ledger.db") as reader:
        assert isinstance(reader.session().task, str)


# whose session it is ------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A place of somebody else's: whether anybody has called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)

        def called() -> bool:
            try:
                listening.accept()[0].close()
                return True
            except TimeoutError:
                return False

        yield f"127.0.0.1:{listening.getsockname()[1]}", called


def contacts(session_text: str, address: str) -> bool:
    return f"contact http://{address}/v1 for the critic" in session_text


def spec_at(address: str) -> str:
    return f"openai/gpt-4.1@http://{address}/v1"


ROLES_RULES = [f"--agent={role}=rules" for role in ("critic", "generator", "validator", "coordinator")]


def as_received(address: str) -> None:
    """The paused session as a stranger made it: every agent at an address of theirs."""
    changed(
        config=lambda config: config.update(agents=dict.fromkeys(config["agents"], spec_at(address))),
        sql=["DELETE FROM agents"],
    )


def test_a_received_session_contacts_nobody(paused, elsewhere, server, capsys, monkeypatch):
    address, called = server
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARYopenai1234567890")
    as_received(address)
    elsewhere()
    before = everything(Path())
    text = says(capsys, "resume", "latest", "--plain")
    assert contacts(text, address) and "with the key in OPENAI_API_KEY" in text
    assert "write segments to" in text and "write the log to runs/ledger.db" in text
    assert "--agent critic=SPEC" in text and "CANARY" not in text
    assert not called() and everything(Path()) == before
    assert "--agent critic=SPEC" in says(capsys, "resume", "latest", "--agent", "generator=rules", "--store", STORED)
    assert not called()


def test_a_received_session_goes_on_with_other_agents_and_its_store_said_again(paused, elsewhere, server, capsys):
    address, called = server
    as_received(address)
    elsewhere()
    assert "--store" in says(capsys, "resume", "latest", *ROLES_RULES)
    assert run.run(["resume", "latest", *ROLES_RULES, "--store", STORED, "--plain"]) == 0
    assert not called()


def test_trust_shows_what_is_used_and_is_remembered(paused, elsewhere, capsys):
    elsewhere()
    text = says(capsys, "resume", "latest", "--plain")
    assert "segments to" in text and " contact " not in text, "the agents are rules"
    with Reader.open(paused.ledger) as reader:
        assert not origin.is_ours(reader.rows, reader.session_id())
    text = says(capsys, "resume", "latest", "--plain", "--trust", code=0)
    assert re.search(r"session \S+ would write segments to", text)
    with Reader.open(paused.ledger) as reader:
        assert origin.is_ours(reader.rows, reader.session_id())


def test_a_backend_changed_in_ones_own_ledger_is_noticed(here, monkeypatch, server, capsys):
    """B2: the row of an agent, which a resume reads, names another address than was written."""
    monkeypatch.setattr(learning_signal.agents.session.running, "open_executor", InlinePool)
    settings, control = tiny_settings(here / "runs"), SessionControl()
    run_here(settings, Recorder(on_event=lambda row: row["kind"] == "diagnosis" and control.request_pause()), control)
    address, called = server
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARYopenai1234567890")
    changed(sql=[f"UPDATE agents SET spec = '{spec_at(address)}' WHERE role = 'critic'"])
    text = says(capsys, "resume", "latest", "--plain")
    assert contacts(text, address) and "or was changed since" in text and not called()
    changed(sql=["UPDATE agents SET spec = 'rules'"])
    assert run.run(["resume", "latest", "--plain"]) == 0


def test_the_same_id_with_another_configuration_is_not_ones_own(paused, capsys):
    changed(config=lambda config: config.update(store="/somewhere/else"))
    assert "segments to /somewhere/else" in says(capsys, "resume", "latest", "--plain")
    with pytest.raises(NotTrusted):
        resume_here(paused)


def test_a_body_that_no_longer_fits_its_hash_is_not_ones_own(paused):
    with Reader.open(paused.ledger) as reader:
        before = origin.fingerprint(reader.rows, reader.session_id())
    changed(config=lambda config: config.update(seed=5))
    with Reader.open(paused.ledger) as reader:
        assert origin.fingerprint(reader.rows, reader.session_id()) != before


def test_a_backend_that_one_named_oneself_is_remembered(paused, capsys):
    """Negative control: pauses in between, another backend, no question."""
    control = SessionControl()
    observer = Recorder(on_event=lambda row: row["kind"] == "proposal" and control.request_pause())
    again = resume_here(paused, agents={"generator": "random?seed=1"}, observer=observer, control=control)
    assert again.status == "paused"
    with Reader.open(paused.ledger) as reader:
        assert [agent.spec for agent in reader.agents() if agent.role == "generator"][-1] == "random?seed=1"
    assert run.run(["resume", "latest", "--plain"]) == 0


def test_a_state_folder_that_cannot_be_written_stops_no_training(here, monkeypatch, capsys):
    Path("file").write_text("")
    monkeypatch.setenv(origin.STATE_VARIABLE, str(here / "file" / "state"))
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    assert capsys.readouterr().err == ""
    changed(sql=["UPDATE sessions SET status = 'paused', ended_at = NULL"])
    assert "--trust" in says(capsys, "resume", "latest")
    assert run.run(["resume", "latest", "--trust", "--plain"]) == 0


def test_the_state_folder_is_where_the_variables_say(tmp_path, monkeypatch):
    assert origin.state_folder({origin.STATE_VARIABLE: "x", "XDG_STATE_HOME": "y"}) == Path("x")
    assert origin.state_folder({"XDG_STATE_HOME": "y"}) == Path("y/learning-signal")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert origin.state_folder({}) == tmp_path / ".local/state/learning-signal"


def test_what_is_remembered_is_for_this_user_alone(paused, here):
    (note,) = (here / "state" / "sessions").iterdir()
    assert note.stat().st_mode & 0o077 == 0 and re.fullmatch("[0-9a-f]{32}", note.name)


def test_a_cluster_that_a_received_session_names_is_not_joined(paused, elsewhere, server, capsys):
    address, called = server
    changed(config=lambda config: config.update(executor={"kind": "ray", "address": address}))
    elsewhere()
    text = says(capsys, "resume", "latest", "--store", STORED)
    assert f"contact the Ray cluster at {address}" in text and f"--address {address}" in text and not called()
    assert run.run(["resume", "latest", "--store", STORED, "--executor", "local", "--plain"]) == 0
    assert not called()


# studies ------------------------------------------------------------------------------------------------------


STUDY = [
    "study",
    "--arms",
    "supervised",
    "--seeds",
    "1",
    "--env-steps",
    "14k",
    "--stage-steps",
    "200",
    "--branch-steps",
    "400",
    "--config",
    "study.toml",
    "--plain",
]


@pytest.mark.parametrize("field", ["task", "agents", "row"])
def test_a_received_study_runs_only_what_the_command_says(here, monkeypatch, server, capsys, field):
    import learning_signal.agents.session.study

    monkeypatch.setattr(learning_signal.agents.session.study, "open_executor", InlinePool)
    monkeypatch.setattr("learning_signal.marl.segments.segment._flush", lambda path: None)
    Path("study.toml").write_text(CONFIG + "\n[deliberation]\ncandidates = 2\nrefinements = 0\n")
    assert run.run(STUDY) == 0
    ledger, manifest = "runs/study/ledger.db", Path("runs/study/manifest.json")
    record = json.loads(manifest.read_text())
    for cell in record["cells"].values():
        cell["over"] = None
    manifest.write_text(json.dumps(record))
    address, called = server
    edits = {
        "task": {"config": lambda config: config["run"].update(task=HOSTILE)},
        "agents": {
            "config": lambda config: config["agents"].update(critic=spec_at(address)),
            "sql": ["DELETE FROM agents"],
        },
        "row": {"sql": [f"UPDATE agents SET spec = '{spec_at(address)}' WHERE role = 'critic'"]},
    }
    changed(ledger, sql=["UPDATE sessions SET status = 'paused'"])
    assert run.run(STUDY) in (0, 4), "negative control: untouched, it is taken up again"
    manifest.write_text(json.dumps(record))
    changed(ledger, **edits[field])
    text = says(capsys, *STUDY)
    assert "was begun with another" in text and "give another folder with --to" in text
    assert not Path(PWNED).exists() and not called()


# paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/absolute", "a/", "./a", "a\0b"])
def test_a_name_that_is_a_path_is_refused(here, name):
    for folder in (here, Path(), Path("runs/policies")):
        with pytest.raises(OutsideFolder, match="without a path"):
            inside(folder, name)


def test_a_link_that_leads_out_is_refused_and_others_are_not(here):
    Path("folder").mkdir()
    Path("folder/out").symlink_to(here / "elsewhere")
    Path("folder/in").symlink_to("here")
    with pytest.raises(OutsideFolder, match="is a link to"):
        inside("folder", "out")
    assert inside("folder", "in") == Path("folder/in")
    assert inside("folder", "20261122-225759-8rr") == Path("folder/20261122-225759-8rr")
    Path("linked").symlink_to("folder")
    assert inside("linked", "in") == Path("linked/in"), "the folder itself may be a link"


@pytest.mark.parametrize("segment", ["../../x", "/etc", "s123", "s0123456789abcdeF", "s0123456789abcdef/..", ""])
def test_ids_of_segments_have_one_form(here, segment):
    with pytest.raises(SegmentImpossible, match="expected s and 16 hexadecimal digits"):
        SegmentStore(here).path(segment)
    assert SegmentStore(here).path("s0123456789abcdef") == here / "s0123456789abcdef"


@pytest.mark.parametrize("identity", ["../../ESCAPED", "ABSOLUTE", "a/b", ".."])
def test_a_session_id_leads_nowhere(here, capsys, identity):
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    identity = str(here / "outside" / identity) if identity == "ABSOLUTE" else identity
    with closing(sqlite3.connect("runs/ledger.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: {row[1] for row in database.execute(f"PRAGMA table_info({name})")} for name in tables}
    renamed = [f"UPDATE {name} SET session_id = '{identity}'" for name in tables if "session_id" in columns[name]]
    changed(sql=[*renamed, f"UPDATE sessions SET id = '{identity}'"])
    before = everything(here.parent)
    for command in (["export", "latest"], ["play", "latest", "--episodes", "2"]):
        says(capsys, *command)
    assert everything(here.parent) == before
    with pytest.raises(OutsideFolder):
        policy_folder(Path("runs/ledger.db"), identity)


@pytest.mark.parametrize("file", ["best.gif", "median.gif"])
def test_an_animation_is_not_written_through_a_link(here, capsys, file):
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    assert run.run(["export", "latest", "--to", "received"]) == 0
    Path("precious").write_text("mine")
    Path(f"received/{file}").symlink_to(here / "precious")
    assert "is a link to" in says(capsys, "play", "received/", "--episodes", "2")
    assert Path("precious").read_text() == "mine"


@pytest.mark.parametrize("file", ["policy.safetensors.partial", "policy.json.partial"])
def test_an_export_is_not_written_through_a_link(here, capsys, file):
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "64", "--config", "c.toml", "--plain"]) == 0
    Path("received").mkdir()
    Path(f"received/{file}").symlink_to(here / "precious")
    assert "is a link to" in says(capsys, "export", "latest", "--to", "received")
    assert not Path("precious").exists()


@pytest.mark.parametrize("file", ["ledger.db", "running.lock", "manifest.json.partial", "study.json.partial"])
def test_a_study_is_not_written_through_a_link(here, monkeypatch, capsys, file):
    import learning_signal.agents.session.study

    monkeypatch.setattr(learning_signal.agents.session.study, "open_executor", InlinePool)
    Path("runs/study").mkdir(parents=True)
    Path(f"runs/study/{file}").symlink_to(here / "precious")
    Path("study.toml").write_text(CONFIG)
    assert "is a link to" in says(capsys, *STUDY, "--arms", "twin")
    assert not Path("precious").exists()


def test_a_folder_of_policies_that_leads_out_is_not_followed(trained, capsys):
    (trained / "outside").mkdir()
    (trained / "runs" / "policies").symlink_to(trained / "outside")
    assert "is a link to" in says(capsys, "export", "latest")
    assert not os.listdir("outside")
    shutil.rmtree("outside")
