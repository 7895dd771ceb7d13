"""Replies of a model: bodies, arguments and heads of all three protocols mutated, each in a session over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from bench.hardening.fixtures import Fixtures
from bench.hardening.inputs import BROKEN, Input
from bench.hardening.mutations import NUMBERS, VALUES, as_json, changed_bytes, changed_json, changed_text
from learning_signal.ledger.origin import STATE_VARIABLE
from tests.support.faulty.cells import KEY, LONGEST, PHASES, Cell, Ending, play, prepared
from tests.support.faulty.fault import Fault, Turn
from tests.support.faulty.protocols import PROTOCOLS, Said
from tests.support.scripted_server import Reply

HEADERS = (
    "content-length", "content-type", "content-encoding", "transfer-encoding", "retry-after", "retry-after-ms",
    "location",
    "set-cookie", "connection", "x-ratelimit-reset-requests", "x-should-retry", "date",
)  # fmt: skip


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 120 replies."""
    state = os.environ[STATE_VARIABLE]

    def lent() -> tuple[Path, ...]:
        return prepared().folder, Path(state)

    for index in range(120):
        seed = random.randrange(2**32)
        kind, does = KINDS[index % len(KINDS)]
        times = (1, 2, None)[index % 3]
        protocol, phase = PROTOCOLS[index % 3], PHASES[index % 4]
        fault = Fault(f"{kind} {seed}", _seeded(does, seed), "recovers", times=times)
        name = f"{kind}, seed {seed}, {protocol.name}, {phase}, {'all' if times is None else times} of its requests"
        run = _played(Cell(fault, protocol, phase))
        yield Input(name, (("resume",),), _nothing, {STATE_VARIABLE: state}, run=run, lent=lent, ports=None)


def _nothing(folder: Path) -> None:
    """Nothing is put there: the session, which is made once in a process, has a folder of its own."""
    prepared()


def _seeded(does: Callable[[Turn, Random], Reply], seed: int) -> Callable[[Turn], Reply]:
    random = Random(seed)
    return lambda turn: does(turn, random)


def _played(cell: Cell) -> Callable[[Sequence[str]], None]:
    def run(words: Sequence[str]) -> None:
        found = wrong(play(cell))
        if found:
            print("; ".join(found), file=sys.stderr)
            raise SystemExit(BROKEN)

    return run


def wrong(ending: Ending) -> list[str]:
    """What of a session is not as it must be: it is done, or pauses with a clear sentence."""
    sentence = ending.sentence
    checks = {
        f"the session is {ending.status}: {sentence[:200]}": ending.status in ("done", "paused"),
        f"the sentence has {len(sentence)} characters": len(sentence) <= LONGEST and "\n" not in sentence,
        f"unhandled: {ending.unhandled[:1]}": not ending.unhandled,
        f"a strict server complains: {ending.complaints[:1]}": not ending.complaints,
        "the key was left behind": KEY.encode() not in ending.left_behind,
        f"another server got {ending.elsewhere} requests": not ending.elsewhere,
        "it was promoted without a passing verdict": not ending.promoted_unproven,
        "the log is not sound": ending.sound or ending.status == "failed",
    }
    return [words for words, holds in checks.items() if not holds]


# kinds of replies -------------------------------------------------------------------------------------------------


def _body(turn: Turn, random: Random) -> Reply:
    return Reply(raw=as_json(changed_json(turn.protocol.reply(turn.good), random)[0]).encode())


def _bytes(turn: Turn, random: Random) -> Reply:
    return Reply(raw=changed_bytes(turn.bytes(), random)[0])


def _text(turn: Turn, random: Random) -> Reply:
    return Reply(raw=changed_text(turn.bytes().decode(), random)[0].encode("utf-8", "surrogatepass"))


def _arguments(turn: Turn, random: Random) -> Reply:
    if not turn.good.calls:
        return turn.changed(text=changed_text(turn.good.text or "", random)[0])
    changed = changed_json(turn.good.calls[0].arguments, random)[0]
    return _said(turn, calls=turn.first(arguments=as_json(changed) if random.random() < 0.5 else changed))


def _call(turn: Turn, random: Random) -> Reply:
    if not turn.good.calls:
        return _said(turn, text=random.choice(VALUES))
    field = random.choice(("name", "id", "arguments"))
    return _said(turn, calls=turn.first(**{field: random.choice(VALUES)}))


def _said(turn: Turn, **fields: object) -> Reply:
    """The good answer with other fields, as text that may hold numbers that JSON has not."""
    said: Said = replace(turn.good, **fields)  # type: ignore[arg-type]
    return Reply(raw=as_json(turn.protocol.reply(said)).encode("utf-8", "surrogatepass"))


def _usage(turn: Turn, random: Random) -> Reply:
    return _said(turn, tokens=(random.choice(VALUES), random.choice(VALUES)))


def _head(turn: Turn, random: Random) -> Reply:
    value = random.choice(("", "x", "gzip", "chunked", "-1", "text/html", "y" * 70_000, *map(str, NUMBERS[:6])))
    return Reply(raw=turn.bytes(), headers={random.choice(HEADERS): value})


def _status(turn: Turn, random: Random) -> Reply:
    status = random.choice((201, 204, 206, 299, 304, 400, 401, 418, 429, 451, 499, 500, 503, 599))
    return Reply(status, raw=as_json(changed_json(turn.protocol.error("no", "api_error"), random)[0]).encode())


KINDS = (
    ("a changed body", _body),
    ("changed arguments", _arguments),
    ("changed bytes", _bytes),
    ("a changed call", _call),
    ("no JSON", _text),
    ("another usage", _usage),
    ("another header", _head),
    ("another status", _status),
)
