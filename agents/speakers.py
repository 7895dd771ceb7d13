"""Who speaks for each role: the first backend of its chain that has not failed or given up in the present round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from learning_signal.agents.roles import Agent, note_speaker
from learning_signal.tools.context import SessionContext
from learning_signal.tools.roles import Role
from learning_signal.tools.round.record import record_fallback


class Speakers:
    """The agents of every role, in the order of its chain of backends. A round begins with the first of each.

    How far a chain is, is in the round's ``fallbacks``, and so in the cursor.
    """

    def __init__(self, context: SessionContext, chains: Mapping[Role, Sequence[Agent]]) -> None:
        self._context, self._chains = context, chains
        with context.ledger.transaction("agents"):
            for role in chains:
                note_speaker(context, self.of(role))

    def of(self, role: Role) -> Agent:
        """Who has the phases of ``role`` at present."""
        return self._chains[role][self._place(role)]

    def hand_over(self, role: Role, why: str) -> bool:
        """Let the next backend of the chain speak from now on; False where there is none. Belongs in a transaction.

        ``why`` follows the agent's name.
        """
        place, chain = self._place(role), self._chains[role]
        if place + 1 == len(chain):
            return False
        before, after = chain[place].spec.text, chain[place + 1].spec.text
        title = f"The {role} ({before}) {why.rstrip('.')}: {after} takes over its phases of this round."
        record_fallback(self._context, role, title)
        note_speaker(self._context, self.of(role))
        return True

    def __iter__(self) -> Iterator[Agent]:
        """Every agent of every chain."""
        return (agent for chain in self._chains.values() for agent in chain)

    def _place(self, role: Role) -> int:
        now = self._context.state.round
        return 0 if now is None else min(now.fallbacks.count(role), len(self._chains[role]) - 1)
