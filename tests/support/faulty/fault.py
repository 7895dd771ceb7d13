"""What a fault is: how a server misbehaves, how often, and what a session must come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.support.faulty.protocols import Called, Protocol, Said
from tests.support.scripted_server import Reply, Request

End = Literal["recovers", "pauses"]
"""recovers: the agent's phase ends with what it was about to do. pauses: the session does, with one sentence."""
ALL = ("openai", "anthropic", "ollama")


@dataclass(frozen=True)
class Turn:
    """One answer that a server owes."""

    protocol: Protocol
    good: Said
    """What a server without faults would answer."""
    request: Request
    elsewhere: str
    """The root of another server, which must never be asked."""

    @property
    def key(self) -> str:
        """The key that the request came with."""
        headers = self.request.headers
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")

    def says(self, said: Said) -> Reply:
        """The answer as the server's protocol has it."""
        return Reply(body=self.protocol.reply(said))

    def whole(self) -> Reply:
        """The good answer."""
        return self.says(self.good)

    def changed(self, **fields: Any) -> Reply:
        """The good answer with other fields."""
        return self.says(replace(self.good, **fields))

    def refuses(self, status: int, words: str, kind: str = "api_error", **headers: str) -> Reply:
        """An error as the protocol has it; header names are given with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Reply(status, self.protocol.error(words, kind), headers=named)

    def bytes(self) -> bytes:
        """The body of the good answer."""
        return json.dumps(self.protocol.reply(self.good)).encode()

    def first(self, **fields: Any) -> tuple[Called, ...]:
        """The good calls, the first of them with other fields."""
        return replace(self.good.calls[0], **fields), *self.good.calls[1:]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave."""

    name: str
    does: Callable[[Turn], Reply]
    end: End
    """What a session comes to."""
    says: str = ""
    """Words of the sentence that it pauses with."""
    times: int | None = 1
    """How many requests of a phase meet it; None: all."""
    meant: bool = False
    """Whether the reply means what the good one says; else that is still to be said."""
    protocols: tuple[str, ...] = ALL
    """Those that can have it."""
    at: Literal["server", "nobody", "https"] = "server"
    """What the spec's address leads to: the server, a port where nobody listens, or the server's port by https."""
    parameters: str = ""
    """Further parameters of the spec."""
    ends: dict[str, End] = field(default_factory=dict)
    """The end under a protocol where that is another one."""

    def end_of(self, protocol: str) -> End:
        """What a session under ``protocol`` comes to."""
        return self.ends.get(protocol, self.end)
