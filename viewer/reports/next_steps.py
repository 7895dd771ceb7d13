"""The next commands: those that go on with a session, or look closer at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Table

from learning_signal.ledger.wording import command, ledger_option, resume_command
from learning_signal.viewer.text import styled


def after_session(outcome: Mapping[str, Any], ledger: Path) -> list[tuple[str, str]]:
    """Pairs (what it is for, command) for the end of a session."""
    session_id, where = outcome["session_id"], ledger_option(ledger)
    commands = _going_on(outcome, ledger)
    rounds = [each["round"] for each in (*(outcome.get("promoted") or ()), *(outcome.get("rejected") or ()))]
    for number in sorted(set(rounds))[:2]:
        commands.append((f"why round {number} ended as it did", command("explain", f"{session_id}/R{number}") + where))
    commands.append(("everything that was said", command("log", "show", session_id, "-v") + where))
    commands.append(("its curve with the decisions, as SVG", command("log", "plot", session_id) + where))
    commands += _playing(outcome, where, outcome.get("after"))
    for each in (outcome.get("never_worked") or ())[:2]:
        spec, role = each["backend"], each["role"]
        commands.append((f"whether the {role}'s backend can call tools", command("backends", "--check", spec)))
        if ("fallback", role) in [(trouble.get("kind"), trouble["role"]) for trouble in outcome["troubles"]]:
            continue
        with_rules = f"{role}={spec}|rules"
        commands.append((f"rules in place of a {role} that gives up", command("session", "--agent", with_rules)))
    commands.append(("another model behind one agent", command("session", "--agent", "critic=ollama/qwen3:8b")))
    return commands


def after_training(outcome: Mapping[str, Any], ledger: Path) -> list[tuple[str, str]]:
    """Pairs (what it is for, command) for the end of a training run."""
    where = ledger_option(ledger)
    commands = _going_on(outcome, ledger)
    commands += _playing(outcome, where, outcome["env_steps"])
    if outcome["env_steps"]:
        commands.append(("its weights as safetensors", command("export", outcome["session_id"]) + where))
    return commands


def command_table(commands: Sequence[tuple[str, str]]) -> Padding:
    """The commands, each with what it is for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")  # a backend's spec is one long word, and a command that is cut cannot be typed
    table.add_column()
    for purpose, typed in commands:
        table.add_row(styled(typed, "cyan"), styled(purpose, "dim"))
    return Padding(table, (0, 0, 0, 2), expand=False)


def _going_on(outcome: Mapping[str, Any], ledger: Path) -> list[tuple[str, str]]:
    if outcome["status"] == "done":
        return []
    # Where the budget is used up: without a larger one the resume would pause at once.
    typed = resume_command(outcome["session_id"], ledger, outcome.get("budget_needed"))
    last = (outcome.get("troubles") or [None])[-1]
    if last is None or last["text"] != outcome.get("stop_reason"):
        return [("go on with this session", typed)]
    other = f"{typed} --agent {last['role']}=rules"
    return [("go on with this session", typed), (f"go on with rules for the {last['role']}", other)]


def _playing(outcome: Mapping[str, Any], where: str, trained: Any) -> list[tuple[str, str]]:
    """Only what has trained something can be played."""
    return [("watch its policy", command("play", outcome["session_id"]) + where)] if trained else []
