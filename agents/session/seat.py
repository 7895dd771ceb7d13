"""The seat of a person who plays an agent: turns are put to whoever watches the session, until it is to pause."""

from __future__ import annotations

import asyncio

from learning_signal.agents.human.turn import Replied, Turn
from learning_signal.agents.session.observer import Observer, SessionControl, in_thread
from learning_signal.tools.base import CannotGoOn

EVERY_SECONDS = 0.25
"""Between two looks whether the session is to pause."""


class Seat:
    """Has the turns of persons taken."""

    def __init__(self, observer: Observer, control: SessionControl) -> None:
        self._observer, self._control = observer, control

    async def take(self, turn: Turn) -> Replied:
        """The reply to ``turn``, however long it takes.

        Raises ``CannotGoOn`` where the person leaves, or a pause is asked for meanwhile: a resume asks again.
        """
        here = asyncio.ensure_future(in_thread(lambda: self._observer.take_turn(turn)))
        try:
            while not here.done():
                if self._control.pausing:
                    turn.withdrawn.set()
                await asyncio.wait({here}, timeout=EVERY_SECONDS)
        finally:
            turn.withdrawn.set()
        replied = Replied(**here.result())
        if replied.left is not None:
            raise CannotGoOn(f"The turn of the {turn.role} is still to be taken, because {replied.left}.")
        return replied
