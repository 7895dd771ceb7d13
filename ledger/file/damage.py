"""Say what is damaged in a ledger, and what helps."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.wording import command, ledger_option

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)
"""What the reading of stored data may raise where it is damaged."""


def damaged(path: Path, what: str) -> LedgerError:
    """The error for a ledger in which ``what`` is damaged, as a phrase."""
    option = ledger_option(path)
    return LedgerError(
        f"The ledger {path} is damaged: {what}; '{command('log', 'verify')}{option}' lists what does not agree, and "
        f"'{command('log', 'recover')} {shlex.quote(str(path))} --to NEW' keeps every row that can be read."
    )


def stored_json(path: Path, text: str, what: str, kinds: tuple[type, ...] = ()) -> Any:
    """The JSON that ``text`` is; ``LedgerError`` where it is none, or of none of these kinds. ``what`` names it."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, f"{what} is not JSON ({type(error).__name__})") from error
    if kinds and not isinstance(value, kinds):
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        raise damaged(path, f"{what} is {_found(value)}, expected {expected}")
    return value


_KINDS: dict[type, str] = {dict: "an object", list: "a list", type(None): "nothing"}


def _found(value: Any) -> str:
    return _KINDS.get(type(value)) or repr(value)[:40]
