"""A model gave no usable answer: the exception, and the kinds there are."""

from __future__ import annotations

from typing import Literal

Kind = Literal["transient", "permanent", "protocol", "truncated", "empty", "malformed"]
RETRYABLE: frozenset[Kind] = frozenset({"transient", "protocol", "truncated", "empty", "malformed"})
OF_THE_MODEL: frozenset[Kind] = frozenset({"truncated", "empty", "malformed"})
"""Faults of a reply that are the model's and not the server's."""


class BackendError(Exception):
    """A model gave no usable answer. ``str`` is one sentence for the user: which backend, what happened,
    what to do.

    ``kind`` is transient (server busy, down or slow), permanent (a retry does not help), protocol (the reply was no
    chat completion), truncated, empty or malformed (a call that cannot be read). ``retry_after`` is the wait
    in seconds the server asked for, or None; ``status`` that of its HTTP answer, where there was one, and ``words`` the
    server's own message in it.
    """

    def __init__(
        self, kind: Kind, sentence: str, retry_after: float | None = None, status: int | None = None, words: str = ""
    ):
        super().__init__(sentence)
        self.kind: Kind = kind
        self.retry_after, self.status, self.words = retry_after, status, words


class LateReply(TimeoutError):
    """An attempt took longer than ``limit`` (``timeout`` or ``first_timeout``), which is ``seconds``."""

    def __init__(self, limit: str, seconds: float):
        super().__init__(f"its {limit} is {seconds:g} seconds")
        self.limit, self.seconds = limit, seconds
