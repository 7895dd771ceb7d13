"""What another backend would have done with a recorded request, up to the end of its phase or of its round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from learning_signal.agents.model.providers.spec import BackendSpec
from learning_signal.agents.replay.original import Original
from learning_signal.agents.replay.session import begin, play, refuse_missing, refuse_own_log
from learning_signal.agents.session.running import SessionError
from learning_signal.agents.whatif.answers import Answer, cost_of
from learning_signal.agents.whatif.fork import Fork, ForkWatcher
from learning_signal.agents.whatif.question import Question, end_of_phase
from learning_signal.agents.whatif.segments import ForkedSegments
from learning_signal.agents.whatif.stances import Stance
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import DecisionChain
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.executors.base import Executor
from learning_signal.marl.executors.choice import open_executor
from learning_signal.marl.segments.segment import SegmentStore


@dataclass(frozen=True)
class Counterfactual:
    """A question that was put again, and what came of it."""

    question: Question
    was: Stance | None
    """How the phase ended in the session; None where it did not end by a submission."""
    answers: tuple[Answer, ...]
    round_was: DecisionChain | None
    """The round as it went in the session, where what came of it is compared; None where it was not decided."""
    rounds: tuple[DecisionChain | None, ...]
    """The round as it went with each answer, where that was trained."""


async def counterfactual(
    original: Original, question: Question, spec: BackendSpec, to: Path, *, times: int = 1, train: bool = False
) -> Counterfactual:
    """Put ``question`` to ``spec`` so many times; each time it goes on until its phase has ended.

    Its tools run on the state of then. With ``train`` the round goes on to its decision, the other roles played by
    ``rules``: what it proposes is trained from the same parent, through the same gate, with the seeds of the round.
    Every answer is a session in the log at ``to``.

    Raises ``SessionError`` where the store lacks segments, and ``SpecError`` where the backend cannot be built.
    """
    refuse_own_log(original, to)
    refuse_missing(original)
    asked, answers, rounds = question.asked, [], []
    with Reader.open(original.path) as reader:
        was = end_of_phase(reader, original.row.id, asked, asked.event)
        round_was = _chain(reader, original.row.id, asked.round) if train else None
    with _workers(original, train) as pool:
        for number in range(times):
            answer, chain = await _once(original, question, spec, to, number + 1, was, pool)
            answers.append(answer)
            rounds += [chain] if train else []
    return Counterfactual(question, was, tuple(answers), round_was, tuple(rounds))


async def _once(
    original: Original,
    question: Question,
    spec: BackendSpec,
    to: Path,
    number: int,
    was: Stance | None,
    pool: Executor | None,
) -> tuple[Answer, DecisionChain | None]:
    """One answer, and with workers the round that came of it."""
    fork, asked, train = Fork(original, question, spec), question.asked, pool is not None
    store = SegmentStore(original.settings.store)
    with Ledger.open(to) as ledger:
        place = f"event {asked.event} of session {original.row.id} of {original.path}"
        identity = begin(original, ledger, f"puts {place} to {spec.text}, answer {number}")
        executor = ForkedSegments(store, original.segments, pool)
        _, stopped = await play(original, ledger, identity, fork, executor, ForkWatcher(fork, whole_round=train))
    with Reader.open(to) as reader:
        began = fork.began
        if began is None:
            why = fork.divergence.sentence if fork.divergence is not None else stopped
            raise SessionError(f"Session {original.row.id} cannot be played up to event {asked.event}: {why}")
        stance = end_of_phase(reader, identity, asked, began)
        cost = cost_of(reader, identity, asked.role, began)
        chain = _chain(reader, identity, asked.round) if train else None
    agrees = None if stance is None or was is None else stance.agrees(was)
    unfinished = stopped if stance is None or train and chain is None else None
    return Answer(spec.text, identity, stance, agrees, cost, unfinished), chain


def _chain(reader: Reader, session: str, round_: int | None) -> DecisionChain | None:
    """A round that was decided; None where it was not."""
    decided = [decision.round for decision in reader.decisions(session)]
    return explain(reader, f"{session}/R{round_}") if round_ in decided else None


@contextmanager
def _workers(original: Original, train: bool) -> Iterator[Executor | None]:
    """Processes of this machine that train into the store of the session; None where nothing is trained."""
    if not train:
        yield None
        return
    with open_executor(original.settings.store, original.settings.workers) as pool:
        yield pool
