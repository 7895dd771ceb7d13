"""Nobody is there to take the turn of an agent that a person plays."""

from __future__ import annotations


class Absent(Exception):
    """Nobody is there who could reply; the message is one sentence. It is a fault of the backend: a chain goes on."""
