"""Tries the model behind every agent before a command trains anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from learning_signal.agents.model.providers.registry import entry_of
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_chain
from learning_signal.agents.session import usable
from learning_signal.viewer.cli.terminal import err, tell
from learning_signal.viewer.live.keyboard import Keyboard


def refuse_absent(agents: Mapping[str, str]) -> None:
    """``SpecError`` where an agent is a person, whom nobody follows in its chain, and nobody could type: standard input
    is no terminal.
    """
    played = [role for role, text in agents.items() if entry_of(parse_chain(text)[-1]).person]
    if played and not Keyboard(err).here:
        raise SpecError(
            f"The {' and the '.join(played)} is to be played by a person, but standard input is no terminal: start the "
            "session at one, choose another backend, or name one that takes over (human|rules)."
        )


def refuse_unusable(*every: Mapping[str, str]) -> None:
    """Try the backends of ``every`` session (role -> chain of specs), and tell what they answered.

    Raises ``SpecError`` with one sentence where a whole chain is of no use.
    """
    instead = "choose another with '--agent {role}=SPEC', or leave the check out with --no-check"
    for line in asyncio.run(usable.refuse_unusable(every, instead)):
        tell([line])
