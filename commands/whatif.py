"""``counterfactual`` and ``ab``: what another backend would have said to what a session asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from learning_signal.viewer.cli import options
from learning_signal.viewer.cli.options import LEDGER, AsJson, Ledger, option, whole
from learning_signal.viewer.cli.terminal import out, plain_data, show_json, tell

MOST_TIMES = 1_000
NAME = "what-if.db"
"""The log of what-ifs, beside the log that they are about."""
To = Annotated[Path | None, option(f"The log of the answers. [{NAME} beside the log]", "FILE")]


def counterfactual(
    event: Annotated[str, typer.Argument(help="An event, as 'log show' numbers it: SESSION#286, or 286.")],
    spec: Annotated[str, typer.Option("--with", metavar="SPEC", help="The backend to be asked; see 'backends'.")],
    times: Annotated[int, typer.Option("-n", "--times", parser=whole, metavar="N", help="Answers to ask for.")] = 1,
    turn: Annotated[bool, typer.Option("--turn", help="Ask for one turn alone; runs no tool, needs no store.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Go on to the decision: train what is proposed.")] = False,
    to: To = None,
    store: Annotated[Path | None, option("Where the segments are now. [where the session had them]", "FOLDER")] = None,
    env: options.StoredEnvironment = None,
    trust: options.Trust = False,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Ask another backend what a session asked, with the same messages, tools and state, until its phase has ended.

    The session's log is not changed. Nothing is trained without --train, which goes on through the gate of the round.
    """
    import asyncio

    from learning_signal.agents.model.specs import parse_spec
    from learning_signal.agents.replay.original import Original
    from learning_signal.agents.whatif.counterfactual import counterfactual as ask
    from learning_signal.agents.whatif.question import place_of, question_of, session_and_event
    from learning_signal.agents.whatif.turns import ask_turns
    from learning_signal.ledger.read.reader import Reader
    from learning_signal.tools.consent import Consent
    from learning_signal.viewer.replays.whatif import render_counterfactual

    if turn and train or not 1 <= times <= MOST_TIMES:
        wrong = (
            "--turn with --train, expected one of them" if turn and train else f"-n {times}, expected 1 to {MOST_TIMES}"
        )
        raise typer.BadParameter(f"found {wrong}")
    backend = parse_spec(spec)
    with Reader.open(ledger) as reader:
        session, number = session_and_event(reader, event)
        agent = reader.entry(number).event.agent
    consent = Consent(env=env, trust=trust, tell=tell)
    original = Original(ledger, session, store, consent, plays=not turn, trains=train)
    with Reader.open(ledger) as reader:
        requests = original.script.requests
        question = question_of(reader, requests, place_of(requests, number, agent))
    place = to or ledger.parent / NAME
    if turn:
        answers = asyncio.run(ask_turns(original, [question], backend, place, times))
        result: dict[str, object] = {"was": question.answer, "answers": answers}
    else:
        found = asyncio.run(ask(original, question, backend, place, times=times, train=train))
        result = {"was": found.was, "answers": found.answers, "round_was": found.round_was, "rounds": found.rounds}
    asked = question.asked
    data = {
        "session": session,
        "event": asked.event,
        "role": asked.role,
        "round": asked.round,
        "spec": asked.spec,
        "ledger": str(place),
        **{name: plain_data(each) for name, each in result.items()},
    }
    if as_json:
        return show_json(data)
    out.print(render_counterfactual(data))
    return 0


def ab(
    agent: Annotated[str, typer.Option("--agent", metavar="ROLE", help="Whose turns: critic, generator ...")],
    specs: Annotated[str, typer.Option("--with", metavar="SPEC,SPEC", help="The backends to be asked.")],
    session: options.Session = "latest",
    to: To = None,
    ledger: Ledger = LEDGER,
    as_json: AsJson = False,
) -> int:
    """Put every turn of an agent to other backends, and count how often they say what was said."""
    import asyncio

    from learning_signal.agents.model.specs import parse_spec
    from learning_signal.agents.replay.original import Original
    from learning_signal.agents.whatif.ab import ask_agent_turns
    from learning_signal.tools.roles import ROLES
    from learning_signal.viewer.replays.whatif import render_turns

    role = next((each for each in ROLES if each == agent), None)
    if role is None:
        raise typer.BadParameter(f"found --agent {agent}, expected one of {', '.join(ROLES)}")
    backends = [parse_spec(each) for each in specs.split(",")]
    original = Original(ledger, session, plays=False)
    place = to or ledger.parent / NAME
    turns = asyncio.run(ask_agent_turns(original, role, backends, place))
    data = {
        "session": original.row.id,
        "role": role,
        "ledger": str(place),
        "turns": [
            {
                "event": each.asked.event,
                "round": each.asked.round,
                "spec": each.asked.spec,
                "was": plain_data(each.answer),
            }
            for each in turns.questions
        ],
        "costs": plain_data(turns.costs),
        "answers": plain_data(turns.answers),
    }
    if as_json:
        return show_json(data)
    out.print(render_turns(data))
    return 0
