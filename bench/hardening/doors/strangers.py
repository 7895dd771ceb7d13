"""A stranger's ledger, store, policy and study over every command: each would run, write or send something."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from bench.hardening.doors.command_lines import SERVING, commands
from bench.hardening.doors.ledgers import edit
from bench.hardening.fixtures import Fixtures, copied, session_ids
from bench.hardening.inputs import PRECIOUS, Input, as_program
from bench.hardening.mutations import ESCAPES
from learning_signal.marl.executors import local
from tests.support.synthetic_training import InlinePool

ADDRESS = "http://127.0.0.1:9/v1"
"""Of a server that nobody may contact."""
SHELL = "subprocess:getoutput?cmd=touch pwned"
MODULE = "beside:make"
"""A module that lies beside the ledger, and leaves a mark when it is imported."""
Words = tuple[str, ...]
COMMANDS: Mapping[str, tuple[Words, ...]] = {
    "session": (("--dry-run",),),
    "resume": (("latest", "--plain"), ("latest", "--plain", "--no-check", "--agent", "critic=rules")),
    "replay": ((), ("--retrain",)),
    "approve": ((),),
    "reject": (("latest", "--reason", "no"),),
    "say": (("latest", "hello"),),
    "counterfactual": (("latest#20", "--with", "rules", "--turn"), ("latest#20", "--with", "rules", "--train")),
    "ab": (("--agent", "critic", "--with", "rules"),),
    "mcp": ((), ("--allow", "propose,launch,approve")),
    "train": (("--dry-run", "--ledger", "ledger.db"),),
    "study": (
        ("--to", "study", "--dry-run"),
        ("--to", "study", "--seeds", "1", "--env-steps", "14000", "--stage-steps", "1000", "--branch-steps", "800",
        "--plain"),
    ),
    "export": (("latest",), ("latest", "--to", "p")),
    "play": (("latest", "--episodes", "2"), ("policy/", "--episodes", "2"), ("study", "--episodes", "2")),
    "check-env": (("nowhere:at_all",),),
    "tasks": ((),),
    "backends": ((), ("--record",)),
    "view": (("latest", "--port", "0"),),
    "explain": ((), ("--json",)),
    "compare": (("{0}", "{1}"),),
    "log list": ((), ("--json",)),
    "log show": (("latest", "--round", "1", "-v"), ("latest", "--raw")),
    "log search": (("coverage",),),
    "log tail": ((), ("-f",)),
    "log scan": ((),),
    "log stats": ((),),
    "log diff": (("{0}", "{1}"),),
    "log plot": ((), ("--to", "c.svg")),
    "log forecasts": ((),),
    "log export": (
        (), *(("--as", kind) for kind in ("markdown", "data", "csv", "atif", "otlp", "parquet", "tensorboard")),
    ),
    "log browse": (("--port", "0"),),
    "log prune": (("--keep", "0"), ("--keep", "0", "--heads", "--yes")),
    "log recover": (("ledger.db", "--to", "new.db"),),
    "log verify": ((), ("--store", "segments", "--policy", "policy")),
    "log backup": (("b.db",),),
    "log seal": ((),),
}  # fmt: skip
"""Every command as somebody calls it who has received a folder; a ledger lies there as ``ledger.db``."""


ACTING = ("resume", "replay", "export", "play", "counterfactual", "study", "log export", "log verify", "log prune")
"""Commands that may act on what a training run names."""


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Every command over the files of every stranger."""
    missing = {name for name, _ in commands()} - COMMANDS.keys()
    if missing:
        raise LookupError(
            f"Commands without a stranger's files: {sorted(missing)}; say in COMMANDS how they are called."
        )
    for what, change in STRANGERS.items():
        for base in ("two", "trained"):
            prepare = _prepared(fixtures, base, change)
            for name, calls in COMMANDS.items():
                if base == "trained" and name not in ACTING:
                    continue  # what only reads a log reads this one as the other
                words = tuple((*name.split(), *_filled(call, fixtures, base)) for call in calls)
                variables = {"LEARNING_SIGNAL_LEDGER": "ledger.db"}
                serves = name in SERVING
                ports = None if name in ("view", "log browse") else ()
                yield Input(f"{what}, {base}: {name}", words, prepare, variables, True, serves, _inline, ports=ports)


def _filled(call: Words, fixtures: Fixtures, base: str) -> Words:
    ids = session_ids(fixtures.root / base)
    return tuple(each.format(*ids) if each in ("{0}", "{1}") else each for each in call)


def _inline(words: Sequence[str]) -> None:
    """The program, with segments computed in its own process, where what they run is seen."""
    local.WorkerPool = InlinePool  # type: ignore[assignment,misc]
    as_program(words)


def _prepared(fixtures: Fixtures, base: str, change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Puts the folder of a stranger; it is made once in a process, and copied."""

    @cache
    def made() -> Path:
        _KEPT.append(tempfile.TemporaryDirectory(prefix="hardening-stranger-"))
        folder = Path(_KEPT[-1].name)
        copied(fixtures.root / base, folder)
        copied(fixtures.study / "study", folder / "study")
        copied(fixtures.trained / "policy", folder / "policy")
        (folder / "beside.py").write_text("open('imported', 'w').close()\ndef make(): ...\n")
        for ledger in (folder / "ledger.db", folder / "study" / "ledger.db"):
            edit(ledger, "UPDATE sessions SET status = 'paused', ended_at = NULL")
        change(folder)
        return folder

    def prepare(folder: Path) -> None:
        copied(made(), folder)
        (folder.parent / "home" / PRECIOUS).write_text(PRECIOUS)

    return prepare


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


# what strangers do ------------------------------------------------------------------------------------------------


def _configured(change: Callable[[dict[str, Any]], None], *statements: str) -> Callable[[Path], None]:
    """Change the configuration of every session, the manifest of the study and the description of the policy."""

    def does(folder: Path) -> None:
        for ledger in (folder / "ledger.db", folder / "study" / "ledger.db"):
            with closing(sqlite3.connect(ledger)) as database:
                query = "SELECT hash, body FROM bodies WHERE hash IN (SELECT config FROM sessions)"
                rows = database.execute(query).fetchall()
            for place, text in rows:
                config = json.loads(text)
                change(config)
                edit(ledger, "UPDATE bodies SET body = ?2 WHERE hash = ?1", values=(place, json.dumps(config)))
            edit(ledger, *statements)

    return does


def _task(name: str) -> Callable[[Path], None]:
    """A task that is code, wherever one is named."""

    def does(folder: Path) -> None:
        _configured(lambda config: config["run"].update(task=name))(folder)
        for path in (folder / "policy" / "policy.json", folder / "study" / "manifest.json"):
            path.write_text(path.read_text("utf-8").replace('"spread"', json.dumps(name)), "utf-8")

    return does


def _agents(spec: str) -> Callable[[Path], None]:
    """Agents behind an address of the stranger's, in the configuration and in the rows."""

    def change(config: dict[str, Any]) -> None:
        if "agents" in config:
            config["agents"] = dict.fromkeys(config["agents"] or ("critic",), spec)
            config["shadows"] = {"critic": spec}

    return _configured(change, f"UPDATE agents SET spec = '{spec}'", f"UPDATE llm_calls SET spec = '{spec}'")


def _ids(identity: str) -> Callable[[Path], None]:
    """Sessions with an id that is a path or a command."""

    def does(folder: Path) -> None:
        for ledger in (folder / "ledger.db", folder / "study" / "ledger.db"):
            with closing(sqlite3.connect(ledger)) as database:
                (last,) = database.execute("SELECT max(id) FROM sessions").fetchone()
                tables = [
                    name
                    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                    if "session_id" in {row[1] for row in database.execute(f'PRAGMA table_info("{name}")')}
                ]
            for name in tables:
                edit(ledger, f'UPDATE "{name}" SET session_id = ?2 WHERE session_id = ?1', values=(last, identity))
            edit(ledger, "UPDATE sessions SET id = ?2 WHERE id = ?1", values=(last, identity))

    return does


class _Touches:
    """What a reader of pickles would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def _pickles(folder: Path) -> None:
    """Pickles in place of checkpoints, arrays and weights."""
    for path in (*folder.rglob("checkpoint.pt"), *folder.rglob("policy.pt"), folder / "policy" / "policy.safetensors"):
        path.write_bytes(pickle.dumps(_Touches()))
    for path in folder.rglob("behaviour.npz"):
        np.savez(path, features=np.array([_Touches()], dtype=object), allow_pickle=True)


def _links(folder: Path) -> None:
    """Links that lead out of the folder, wherever something is written or read."""
    home = Path("../home")
    for place in (
        "policy/best.gif",
        "policy/median.gif",
        "study/study.json.partial",
        "study/running.lock",
        "c.svg",
        "what-if.db",
    ):
        (folder / place).unlink(missing_ok=True)
        (folder / place).symlink_to(Path("../" * place.count("/")) / home / PRECIOUS)
    for path in folder.rglob("result.json"):
        path.unlink()
        path.symlink_to(Path("../..") / home / PRECIOUS)
    shutil.rmtree(folder / "policies", ignore_errors=True)
    (folder / "policies").symlink_to(home)
    for session in folder.glob("2026*"):
        shutil.rmtree(session)
        session.symlink_to(home)


def _schema(folder: Path) -> None:
    """A ledger whose triggers, views and generated columns call functions that reach out."""
    for ledger in (folder / "ledger.db", folder / "study" / "ledger.db"):
        edit(
            ledger,
            "CREATE TRIGGER own_a AFTER INSERT ON events BEGIN SELECT load_extension('./pwned.so'); END",
            "CREATE TRIGGER own_b AFTER UPDATE ON sessions BEGIN SELECT writefile('pwned', 'x'); END",
            "ALTER TABLE metrics RENAME TO was_metrics",
            "CREATE VIEW metrics AS SELECT *, load_extension('./pwned.so') FROM was_metrics",
            "ALTER TABLE agents RENAME TO was_agents",
            "CREATE VIEW agents AS SELECT * FROM was_agents WHERE edit('x', 'touch pwned') IS NULL",
        )


def _texts(folder: Path) -> None:
    """Commands of a terminal, of a shell and of HTML in every text."""
    words = f"{ESCAPES}$(touch pwned)<script>fetch('{ADDRESS}')</script>[x]({ADDRESS})[link={ADDRESS}]"
    for ledger in (folder / "ledger.db", folder / "study" / "ledger.db"):
        for statement in (
            "UPDATE events SET title = ?", "UPDATE decisions SET reason = ?", "UPDATE verdicts SET reading = ?",
            "UPDATE candidates SET rationale = ?", "UPDATE sessions SET stop_reason = ?",
            "UPDATE sessions SET host = ?",
            "UPDATE bodies SET body = ? WHERE hash IN (SELECT body FROM messages)",
        ):  # fmt: skip
            edit(ledger, statement, values=(words,))


STRANGERS: Mapping[str, Callable[[Path], None]] = {
    "nothing but another's": lambda folder: None,
    "a task that is a shell command": _task(SHELL),
    "a task that is a module beside it": _task(MODULE),
    "a task that is another program's": _task("http.server:test?port=9"),
    "agents with a cloud's key": _agents(f"openai-api/x@{ADDRESS}?api_key_env=AWS_SECRET_ACCESS_KEY"),
    "agents with the vendor's key": _agents(f"openai/gpt-4.1@{ADDRESS}"),
    "agents of another vendor": _agents(f"anthropic/m@{ADDRESS.removesuffix('/v1')}"),
    "agents with a key of a lab": _agents(f"openai-api/x@{ADDRESS}?api_key_env=LAB_API_KEY"),
    "a store elsewhere": _configured(
        lambda config: config.update(store="../elsewhere/store", ledger="../elsewhere/l.db")
    ),
    "a cluster": _configured(lambda config: config.update(executor={"kind": "ray", "address": "127.0.0.1:9"})),
    "an id that is a path": _ids("../../ESCAPED"),
    "an id that is a command": _ids("x;touch${IFS}pwned;#"),
    "pickles": _pickles,
    "links": _links,
    "a schema with a purpose": _schema,
    "texts with a purpose": _texts,
}
