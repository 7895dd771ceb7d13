"""Tests of the rules Validator and Coordinator, conversation by conversation."""

from __future__ import annotations

import pytest

from learning_signal.tools.contracts import Validation
from tests.support.rules_chat import Chat, confirmed, coordinator_brief, refusal, screen, validator_brief

# --- validator


def run_validator(brief, outcome="pass", extended=None, **changes):
    """Play a whole validation; returns (the calls before the submission, the submitted arguments, the chat)."""
    chat, steps = Chat("validator", brief), []
    while True:
        calls = chat.ask()
        assert not isinstance(calls, str), calls
        [(name, arguments)] = calls
        if name == "submit_validation":
            Validation.model_validate(arguments)
            return steps, arguments, chat
        steps.append((name, arguments.get("candidate", arguments.get("candidates"))))
        chat.reply(extended if name == "extend_screen" else confirmed(arguments["candidate"], outcome, **changes))


def test_validator_confirms_what_the_screen_has_first_and_reports_the_computed_verdict():
    steps, submitted, _ = run_validator(validator_brief())
    assert steps == [("confirm", "c2")]
    assert (submitted["candidate"], submitted["outcome"]) == ("c2", "pass")
    for part in ("1.05", "0.8 to 1.3", "p = 0.004 at a level of 0.0125, smallest possible 0.004", "do not overlap"):
        assert part in submitted["reading"]
    assert "2 to 2.2 against 1 to 1.1" in submitted["reading"]


def test_validator_gives_two_that_are_close_a_seed_more():
    close = screen(c2=1.0, c3=0.9, c1=0.1)
    again = screen("c3", c3=1.0, c2=0.2)
    steps, submitted, _ = run_validator(validator_brief(screens=[close]), extended=again)
    assert steps == [("extend_screen", ["c2", "c3"]), ("confirm", "c3")] and submitted["candidate"] == "c3"
    none_left = {"seeds_left": 0}
    assert run_validator(validator_brief(screens=[close], extend_screen=none_left))[0] == [("confirm", "c2")]


def test_validator_confirms_a_second_one_that_came_close():
    brief = validator_brief(screens=[screen(c2=1.0, c3=0.9, c1=0.1)], extend_screen={})
    left = {"confirmations_left": 1, "confirmable": ["c3", "c1"]}
    assert run_validator(brief, "fail", after_this=left)[0] == [("confirm", "c2"), ("confirm", "c3")]
    far = validator_brief(screens=[screen(c2=1.0, c3=0.4, c1=0.1)])
    assert run_validator(far, "fail", after_this=left)[0] == [("confirm", "c2")]


def test_validator_confirms_what_the_coordinator_asks_for():
    steps, submitted, _ = run_validator(validator_brief(coordinator_asks={"candidate": "c1", "reason": "steadier"}))
    assert steps == [("confirm", "c1")] and submitted["candidate"] == "c1"


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_validator_never_turns_an_outcome(outcome):
    assert run_validator(validator_brief(), outcome)[1]["outcome"] == outcome


def test_validator_confirms_a_single_candidate_at_once():
    steps, _, _ = run_validator(validator_brief(candidates=[{"name": "c2"}], screens=[]))
    assert steps == [("confirm", "c2")]


def test_validator_reports_failed_branches():
    _, submitted, _ = run_validator(validator_brief(screens=[screen(failed=("c1",))]))
    assert submitted["outcome"] == "pass" and "c1 was not compared (" in submitted["reading"]
    assert "worker died" in submitted["reading"]
    nothing = screen(None, failed=("c1", "c2", "c3"))
    steps, submitted, _ = run_validator(validator_brief(screens=[nothing]))
    assert (submitted["candidate"], submitted["outcome"], steps) == (None, "inconclusive", [])
    assert "worker died" in submitted["reading"]


@pytest.mark.parametrize(
    ("p", "smallest", "close"), [(0.012, 0.012, False), (0.012, 0.004, True), (0.009, 0.004, False)]
)
def test_a_p_is_close_to_its_level_only_where_a_smaller_one_was_possible(p, smallest, close):
    smallest_p = {"at_this_look": smallest, "in_all": 0.001}
    reading = run_validator(validator_brief(), p=p, smallest_p=smallest_p)[1]["reading"]
    assert ("p is close to its level of 0.0125" in reading) == close
    verdict = coordinator_brief()["verdicts"][0] | {"p": p, "level": 0.0125, "smallest_p": smallest_p}
    [(name, _)] = Chat("coordinator", coordinator_brief(verdicts=[verdict])).ask()
    assert name == ("ask" if close else "promote")


@pytest.mark.parametrize(
    "sentence", ["Found pass for c2, but the computed verdict is inconclusive for c2.", "It is fail for c1.", "No."]
)
def test_validator_takes_the_verdict_a_refusal_names(sentence):
    """It is read from the fields of the refusal, whatever its sentence says."""
    _, _, chat = run_validator(validator_brief())
    chat.reply(refusal(sentence, code="verdict", candidate="c2", outcome="inconclusive"))
    [(name, arguments)] = chat.ask()
    assert name == "submit_validation" and (arguments["candidate"], arguments["outcome"]) == ("c2", "inconclusive")


def test_validator_reads_no_verdict_out_of_a_sentence():
    """Negative control: without the fields it goes on to what it may always submit."""
    _, _, chat = run_validator(validator_brief())
    chat.reply(refusal("The computed verdict is fail for c2: submit that."))
    [(_, arguments)] = chat.ask()
    assert (arguments["candidate"], arguments["outcome"]) == (None, "inconclusive")


def test_validator_answers_yes_or_no_from_its_own_numbers():
    assert run_validator(validator_brief())[2].question("Would you promote c2?").startswith("Yes: it passed")
    assert run_validator(validator_brief(), "fail")[2].question("Promote?").startswith("No: the verdict is fail")
    assert "cannot tell" in Chat("validator", validator_brief()).question("Would you?")


# --- coordinator


def test_coordinator_promotes_a_clear_pass_without_asking():
    [(name, arguments)] = Chat("coordinator", coordinator_brief()).ask()
    assert name == "promote" and arguments["candidate"] == "c2" and "+0.8" in arguments["reason"]


@pytest.mark.parametrize(("answer", "decision"), [("Yes: it held.", "promote"), ("No: one seed carries it.", "keep")])
@pytest.mark.parametrize("change", [{"measure": "progress"}, {"p": 0.047}, {"p": 0.047, "reason": "p = 0.001"}])
def test_coordinator_asks_once_about_a_marginal_pass_and_heeds_the_answer(answer, decision, change):
    verdict = coordinator_brief()["verdicts"][0] | change
    chat = Chat("coordinator", coordinator_brief(verdicts=[verdict]))
    [(name, arguments)] = chat.ask()
    assert name == "ask" and arguments["agent"] == "validator"
    chat.reply({"agent": "validator", "answer": answer})
    [(name, arguments)] = chat.ask()
    assert name == decision and answer in arguments["reason"]


def test_coordinator_reads_no_p_out_of_a_sentence():
    """Negative control: a p that is only in the reason does not make a pass marginal."""
    verdict = coordinator_brief()["verdicts"][0] | {"reason": "pass: p = 0.047"}
    assert Chat("coordinator", coordinator_brief(verdicts=[verdict])).ask()[0][0] == "promote"


@pytest.mark.parametrize(("alpha", "asked"), [(0.05, True), (0.1, False), (0.035, True)])
def test_what_is_marginal_follows_the_gate(alpha, asked):
    verdict = coordinator_brief()["verdicts"][0] | {"p": 0.047 if alpha > 0.04 else 0.031, "level": alpha}
    [(name, _)] = Chat("coordinator", coordinator_brief(verdicts=[verdict])).ask()
    assert name == ("ask" if asked else "promote")


def test_coordinator_asks_nothing_when_no_question_is_left():
    verdict = coordinator_brief()["verdicts"][0] | {"measure": "progress"}
    assert Chat("coordinator", coordinator_brief(verdicts=[verdict], questions_left=0)).ask()[0][0] == "promote"


def test_coordinator_keeps_without_a_pass_and_rolls_back_after_a_regression():
    verdict = coordinator_brief()["verdicts"][0] | {"outcome": "fail", "reason": "fail: mean difference -0.2"}
    brief = coordinator_brief(verdicts=[verdict], allowed=["keep"], promotable=None)
    [(name, arguments)] = Chat("coordinator", brief).ask()
    assert name == "keep" and "-0.2" in arguments["reason"]
    brief = coordinator_brief(
        verdicts=[], allowed=["roll_back"], promotable=None, probation={"outcome": "regressed", "reason": "from 2 to 1"}
    )
    [(name, arguments)] = Chat("coordinator", brief).ask()
    assert name == "roll_back" and "from 2 to 1" in arguments["reason"]


def test_coordinator_keeps_after_a_refused_promotion_and_ends_in_words():
    chat = Chat("coordinator", coordinator_brief())
    chat.ask()
    chat.reply("ERROR: not now")
    assert chat.ask()[0][0] == "keep"
    chat.reply("ERROR: not that either")
    assert "cannot decide" in chat.ask()
