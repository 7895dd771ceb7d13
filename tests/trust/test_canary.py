"""A canary in every place that a key can come from: no byte of it is left behind, or reaches another server.

The servers here repeat every header of a request in texts, calls, thinking, errors and a redirect to another host.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from dataclasses import replace

import pytest

from learning_signal import run as command
from learning_signal.agents.model.providers.registry import PROVIDERS
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.cli.terminal import BAD_INPUT
from tests.support.faulty.cells import KEY, Cell, play, problems
from tests.support.faulty.fault import Fault, Turn
from tests.support.faulty.protocols import PROTOCOLS, Called, Said
from tests.support.scripted_server import Reply, Request, error, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

CANARY = "CANARY-{}-7qX9wZ3vK5mB1nR8"
OPENAI, ANTHROPIC, OLLAMA = PROTOCOLS
SPECS = {
    name: (entry.key, replace(ANTHROPIC if name == "anthropic" else OPENAI, spec=f"{name}/m@{{address}}"))
    for name, entry in PROVIDERS.items()
    if entry.key is not None
} | {
    "openai-api": ("M_API_KEY", replace(OPENAI, spec="openai-api/m@{address}")),
    "api_key_env": ("LAB_API_KEY", replace(OPENAI, spec="openai-api/m@{address}?api_key_env=LAB_API_KEY")),
    "token": ("HF_TOKEN", replace(OPENAI, spec="openai-api/m@{address}?api_key_env=HF_TOKEN")),
    "ollama": ("OLLAMA_API_KEY", replace(OLLAMA, spec="ollama/m@{address}?api_key_env=OLLAMA_API_KEY")),
}
"""Where a key can come from -> its environment variable, and a protocol whose spec has it read there."""


def echoing() -> Fault:
    """Says the key, and all headers, wherever a server can; in the end it redirects to another host with them."""
    turns = itertools.count()

    def does(turn: Turn) -> Reply:
        said = f"{turn.key} {turn.request.headers}"
        look = Called("query_metrics", {"names": [said]}, "call_0")
        answers = (
            lambda: turn.refuses(500, said),
            lambda: turn.refuses(429, f"{said}, try again in 2s", x_request_id=turn.key),
            lambda: Reply(raw=f"<html>{said}</html>".encode()),
            lambda: Reply(body=turn.protocol.error(said, turn.key)),
            lambda: turn.says(Said(said, (look,), said, model=turn.key)),
            lambda: turn.says(Said(calls=(replace(look, name=turn.key, id=turn.key),))),
            lambda: turn.says(Said(said)),
            lambda: Reply(307, raw=said.encode(), headers={"location": f"{turn.elsewhere}/{turn.key}?key={turn.key}"}),
        )
        return answers[min(next(turns), len(answers) - 1)]()

    return Fault("repeats the key", does, "pauses", "is redirected", times=None)


@pytest.mark.parametrize("place", SPECS)
def test_no_key_of_a_variable_is_left_behind_or_reaches_another_server(place, monkeypatch):
    planted = {variable: CANARY.format(name) for name, (variable, _) in SPECS.items()}
    for variable, key in planted.items():
        monkeypatch.setenv(variable, key)
    variable, protocol = SPECS[place]
    ending = play(Cell(echoing(), protocol, "critic"))
    assert ending.requests == 8 and problems(Cell(echoing(), protocol, "critic"), ending) == []
    assert b"[redacted]" in ending.left_behind, "the server did say it"
    for name, key in {**planted, "FAULTY_API_KEY": KEY}.items():
        assert key.encode() not in ending.left_behind, name


def test_a_key_that_is_not_taken_out_is_found(monkeypatch):
    """Negative control."""
    monkeypatch.setenv("LAB_API_KEY", CANARY)
    monkeypatch.setattr(Ledger, "add_secrets", lambda self, values: None)
    monkeypatch.setattr("learning_signal.agents.session.session.secrets_of", lambda settings: [])
    ending = play(Cell(echoing(), SPECS["api_key_env"][1], "critic"))
    assert CANARY.encode() in ending.left_behind


# places that are refused --------------------------------------------------------------------------------------------

REFUSED_SPECS = {
    "the user part of an address": "openai-api/m@http://{}@127.0.0.1:9/v1",
    "the password of an address": "openai-api/m@http://user:{}@127.0.0.1:9/v1",
    "the query of an address": "openai-api/m@http://127.0.0.1:9/v1?key={}",
    "a parameter": "openai/m?api_key={}",
    "the name of the variable": "openai/m?api_key_env={}",
}


@pytest.mark.parametrize("given", ["command line", "environment", "config file"])
@pytest.mark.parametrize("place", REFUSED_SPECS)
def test_a_key_in_a_spec_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, place, given):
    key = CANARY.format("spec")
    spec = REFUSED_SPECS[place].format(key)
    monkeypatch.chdir(tmp_path)
    typed = ["session", "--no-check"]
    if given == "command line":
        typed += ["--agent", f"critic={spec}"]
    elif given == "environment":
        monkeypatch.setenv("LEARNING_SIGNAL_AGENT_CRITIC", spec)
    else:
        (tmp_path / "settings.toml").write_text(f'[agents]\ncritic = "{spec}"\n')
        typed += ["--config", "settings.toml"]
    assert command.run(typed) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and key not in printed.err + printed.out
    assert {path.name for path in tmp_path.iterdir()} <= {"settings.toml"}


@pytest.mark.parametrize("line", ['api_key = "{}"', '[openai]\nkey = "{}"', '[agents]\ncritic_key = "{}"'])
def test_a_key_in_a_config_file_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, line):
    key = CANARY.format("config")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.toml").write_text(line.format(key) + "\n")
    assert command.run(["session", "--config", "settings.toml"]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and key not in printed.err + printed.out


@pytest.mark.parametrize("address", ["http://{}@127.0.0.1:9/v1", "http://user:{}@127.0.0.1:9/v1", "{}"])
def test_a_key_in_an_address_of_the_environment_is_refused_and_not_repeated(tmp_path, monkeypatch, capsys, address):
    key = CANARY.format("address")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY.format("openai"))
    monkeypatch.setenv("OPENAI_BASE_URL", address.format(key))
    assert command.run(["session", "--no-check", "--agent", "critic=openai/m"]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and key not in printed.err + printed.out


@pytest.mark.parametrize("length", [1, 6, 10, 15])
def test_a_key_that_is_too_short_to_be_taken_out_is_refused(tmp_path, monkeypatch, capsys, length):
    key = "Xq7wZ3vK5mB1nR8"[:length]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert command.run(["session", "--no-check", "--agent", "critic=openai/m"]) == BAD_INPUT
    printed = capsys.readouterr()
    assert length == 1 or key not in printed.err + printed.out
    assert list(tmp_path.iterdir()) == []


# proxies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [CANARY.format("proxy"), "CANARY-%40-7qX9wZ3vK5mB1nR8"])
@pytest.mark.parametrize("said", ["as it is", "decoded"])
def test_the_password_of_a_proxy_is_not_left_behind(tmp_path, monkeypatch, said, password):
    """A proxy that repeats what it was given; the model's server is behind it."""

    def answer(request: Request) -> Reply:
        given = request.headers["proxy-authorization"]
        return error(400, given if said == "as it is" else base64.b64decode(given.split()[1]).decode())

    async def main():
        async with serving(answer) as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://user:{password}@127.0.0.1:{proxy.port}")
            settings = tiny_settings(tmp_path)
            spec = "openai-api/m@http://model.invalid/v1?attempts=1"
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": spec}})
            watcher = Recorder()
            outcome = await run_session(settings, observer=watcher, executor=InlinePool(settings.store))
            return outcome, watcher, proxy.requests

    outcome, watcher, requests = asyncio.run(main())
    assert outcome.status == "paused" and len(requests) == 1
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said_all = files + repr((outcome, watcher.events)).encode()
    meant = password.replace("%40", "@")
    assert b"[redacted]" in files
    for form in (password, meant, base64.b64encode(f"user:{meant}".encode()).decode()):
        assert form.encode() not in said_all
