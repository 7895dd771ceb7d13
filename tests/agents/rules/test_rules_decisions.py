"""Tests of the rules Validator and Coordinator, conversation by conversation."""

from __future__ import annotations

import pytest

from learning_signal.tools.contracts import Validation
from tests.support.rules_chat import Chat, coordinator_brief, refusal, validator_brief

# --- validator


def seeds(*values):
    return [{"sparse_return": value, "progress": value / 10, "status": "done"} for value in values]


def run_validator(brief, outcome="pass", chosen="c2", fail=()):
    """Play a whole validation; returns (steps as lists of tool names, the submitted arguments)."""
    chat, steps, names = Chat("validator", brief), [], {}
    while True:
        calls = chat.ask()
        assert not isinstance(calls, str), calls
        steps.append([name for name, _ in calls])
        results = []
        for name, arguments in calls:
            if name == "launch_branch":
                key = f"B{len(names) + 1}"
                names[key] = arguments
                results.append({"branch": key, **arguments, "segments": 2, "env_steps_each": 10})
            elif name == "read_branch":
                launched = names[arguments["branch"]]
                bad = launched["arm"] in fail
                values = (1.0, 1.1) if launched["arm"] == "control" else (2.0, 2.2)
                rows = [{"sparse_return": None, "progress": None, "status": "failed", "reason": "worker died"}] * 2
                results.append(
                    {
                        "branch": arguments["branch"],
                        **launched,
                        "status": "failed" if bad else "done",
                        "seeds": rows if bad else seeds(*values),
                    }
                )
            elif arguments.get("purpose") == "screen":
                ranking = [
                    {"candidate": "c2", "difference": 1.0, "note": None},
                    {"candidate": "c1", "difference": None, "note": "has no sparse return"},
                ]
                results.append(
                    {
                        "comparison": "C1",
                        "purpose": "screen",
                        "measure": "sparse_return",
                        "ranking": ranking,
                        "chosen": chosen,
                    }
                )
            elif name == "compare_branches":
                results.append(
                    {
                        "comparison": "C2",
                        "purpose": "confirm",
                        "candidate": "c2",
                        "outcome": outcome,
                        "measure": "sparse return",
                        "difference": 1.05,
                        "interval": [0.8, 1.3],
                        "p": 0.03125,
                        "n": 5,
                        "reason": "because",
                    }
                )
            else:
                Validation.model_validate(arguments)
                return steps, arguments, chat
        chat.reply(*results)


def test_validator_launches_together_and_reports_the_computed_verdict():
    steps, submitted, _ = run_validator(validator_brief())
    launch, read = ["launch_branch"], ["read_branch"]
    assert steps == [
        launch * 4,
        read * 4,
        ["compare_branches"],
        launch * 2,
        read * 2,
        ["compare_branches"],
        ["submit_validation"],
    ]
    assert (submitted["candidate"], submitted["outcome"]) == ("c2", "pass")
    for part in ("1.05", "0.8 to 1.3", "p = 0.0312", "2 of 2 seeds", "do not overlap"):
        assert part in submitted["reading"]


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_validator_never_turns_an_outcome(outcome):
    assert run_validator(validator_brief(), outcome)[1]["outcome"] == outcome


def test_validator_skips_the_screen_of_a_single_candidate():
    steps, _, _ = run_validator(validator_brief(candidates=[{"name": "c2"}], screen_needed=False))
    assert steps[0] == ["launch_branch"] * 2 and len(steps) == 4


def test_validator_reports_failed_branches():
    _, submitted, _ = run_validator(validator_brief(), fail=("c1",))
    assert submitted["outcome"] == "pass" and "c1 failed (worker died)" in submitted["reading"]
    steps, submitted, _ = run_validator(validator_brief(), chosen=None, fail=("c1", "c2", "c3"))
    assert (submitted["candidate"], submitted["outcome"]) == (None, "inconclusive") and len(steps) == 4


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
