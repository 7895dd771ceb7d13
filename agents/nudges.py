"""What an agent is told of its turn: what was wrong with a reply without a call, and how many steps are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from learning_signal.agents.model.written_calls import read_calls

LAST_STEPS = 3
"""From so many steps left on, an agent is told each time how its phase ends."""
_EXAMPLE = '{"name": "TOOL", "arguments": {...}}'


def nudge(text: str, schemas: Sequence[Mapping[str, Any]], ending: Sequence[str], left: int) -> str:
    """The answer to a reply without a call: what was wrong with this one, and what to do."""
    problem = read_calls(text, schemas).problem or (
        "asks a question, which nobody answers" if text.rstrip().endswith("?") else "calls no tool"
    )
    return (
        f"Your reply {problem}. Nothing was done. Call a tool; your phase ends by calling {_or(ending)}. "
        f"Where you cannot call tools, reply with nothing but one object such as {_EXAMPLE}. {_left(left)}."
    )


def without_reply(kind: str, ending: Sequence[str], left: int) -> str:
    """What is said after a reply that held nothing to act on: its fault is one of ``OF_THE_MODEL``."""
    found = {
        "empty": "was empty, or nothing but reasoning",
        "truncated": "was cut at the token limit: reason and write less",
        "malformed": "was a call whose arguments could not be read: write them as one short and valid JSON object",
    }[kind]
    return f"[Your last reply {found}. Call a tool; your phase ends by calling {_or(ending)}. {_left(left)}.]"


def steps_left(ending: Sequence[str], left: int) -> str:
    """The line below the results of a turn."""
    return f"[{_left(left)}{f': end with {_or(ending)}' if left <= LAST_STEPS else ''}]"


def append(agent_state: Mapping[str, Any], text: str) -> bool:
    """Add a line to the last message, where that is the session's (a brief or the results of calls).

    False where it is the agent's own: then the line must be a message of its own. Chat templates refuse two messages
    of the user in a row.
    """
    messages = agent_state["llm_context"]["messages"]
    if not messages or messages[-1]["type"] == "AssistantMessage":
        return False
    last = messages[-1] if messages[-1]["type"] == "UserMessage" else messages[-1]["content"][-1]
    last["content"] = f"{last['content']}\n{text}"
    return True


def _or(names: Sequence[str]) -> str:
    return " or ".join(names)


def _left(steps: int) -> str:
    return f"{steps} step{'s are' if steps != 1 else ' is'} left"
