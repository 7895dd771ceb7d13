"""What passes between an answer and the next request: a session whose Critic only looks at metrics, over HTTP."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from learning_signal.agents.session.session import run_session
from tests.support.faulty.protocols import PROTOCOLS, Called, Protocol, Said
from tests.support.scripted_server import Reply, Request, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

TARGET = 10.0
"""Largest median in milliseconds."""


@dataclass(frozen=True)
class Overhead:
    """Milliseconds between an answer and the next request, the tool that it called included."""

    protocol: str
    turns: int
    median: float
    worst: float
    cpu: float
    """Median of the CPU time, which other programs lengthen less."""


def overheads() -> list[Overhead]:
    """One row per protocol."""
    return [overhead(protocol) for protocol in PROTOCOLS]


def overhead(protocol: Protocol) -> Overhead:
    """A phase of 16 turns behind a server of this protocol."""
    os.environ.setdefault("FAULTY_API_KEY", "sk-no-key-at-all-0123456789")
    arrived: list[tuple[float, float]] = []
    sent: list[tuple[float, float]] = []

    def answer(request: Request) -> Reply:
        arrived.append((time.perf_counter(), time.process_time()))
        call = Called("query_metrics", {"names": ["entropy"], "points": len(arrived) + 1}, f"call_{len(arrived)}")
        reply = Reply(body=protocol.reply(Said(calls=(call,))))
        sent.append((time.perf_counter(), time.process_time()))
        return reply

    async def main(folder: Path) -> None:
        settings = tiny_settings(folder)
        async with serving(answer) as server:
            spec = protocol.spec.format(address=server.address.removesuffix("/v1"))
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": spec}})
            await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
    pairs = list(zip(sent, arrived[1:], strict=False))
    wall = [1000 * (after[0] - before[0]) for before, after in pairs]
    cpu = [1000 * (after[1] - before[1]) for before, after in pairs]
    return Overhead(protocol.name, len(wall), statistics.median(wall), max(wall), statistics.median(cpu))
