"""Budgets: how they are written, what they stop, what a session says then, and what costs are recorded."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from pydantic import ValidationError

import learning_signal.agents.session.running
from learning_signal import run as command
from learning_signal.agents.model.prices import price_of, refuse_unpriced
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.session.observer import SessionControl
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import amount
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.budget import Budget, BudgetError, Price, parse_budget, refuse_spent, shortfall
from learning_signal.tools.plan.cost import round_cost
from learning_signal.tools.plan.sources import SettingsError, gather, prices_of
from learning_signal.tools.plan.suitability import Unsuitable
from learning_signal.viewer.cli.terminal import BAD_INPUT
from learning_signal.viewer.reports.next_steps import after_session
from learning_signal.viewer.text import limit_text
from tests.support.session_helpers import Recorder, resume_inline, run_inline, story, tiny_settings
from tests.support.synthetic_training import STAGE_STEPS, InlinePool

SPENT = {"env_steps": 900, "tokens": 50, "time": 10.0, "usd": 1.0}


@pytest.fixture
def synthetic(monkeypatch):
    """Commands open the pool of their sessions themselves."""
    monkeypatch.setattr(learning_signal.agents.session.running, "open_executor", InlinePool)


# how a budget is written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("env-steps=5e6", {"env_steps": 5_000_000}),
        ("env-steps=2M,tokens=200k", {"env_steps": 2_000_000, "tokens": 200_000}),
        ("env_steps=1.5M", {"env_steps": 1_500_000}),
        ("time=30m", {"time": 1800}),
        ("time=1h30m", {"time": 5400}),
        ("time=90", {"time": 90}),
        ("time=1.5h", {"time": 5400}),
        ("env-steps=8.04M,tokens=16.1k", {"env_steps": 8_040_000, "tokens": 16_100}),
        ("usd=2.50, time=45s", {"usd": 2.5, "time": 45}),
    ],
)
def test_a_budget_is_read(text, limits):
    assert parse_budget(text) == limits
    assert Budget(**limits).limits() == limits


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps=5", "Found 'steps=5' in the budget, expected KEY=LIMIT with one of env-steps, tokens, time, usd"),
        ("5M", "Found '5M' in the budget"),
        ("", "Found '' in the budget"),
        ("tokens=many", "found tokens=many, expected a number such as 5e6, 2M or 200k"),
        ("time=soon", "found time=soon, expected a number such as 30m, 1h30m or 90s"),
        ("usd=nan", "found usd=nan, expected a number"),
        ("time=30M", "found time=30M, expected a number such as 30m, 1h30m or 90s"),
        ("time=1h30", "found time=1h30, expected a number such as 30m, 1h30m or 90s"),
        ("env-steps=0", "found env-steps=0, expected more than 0"),
        ("env-steps=-3", "found env-steps=-3, expected more than 0"),
        ("env-steps=1.5", "found env-steps=1.5, expected a whole number of env steps"),
        ("tokens=1k,tokens=2k", "Found tokens twice in the budget, expected it once"),
    ],
)
def test_a_wrong_budget_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(BudgetError) as refusal:
        parse_budget(text)
    assert sentence in str(refusal.value) and str(refusal.value).endswith((".", "30m."))


def test_a_budget_comes_from_the_option_over_the_environment_over_the_file(tmp_path):
    file = tmp_path / "e.toml"
    file.write_text('[budget]\nenv_steps = "3M"\ntime = "1h"\n[prices."openai/gpt-4.1"]\ninput = 2.0\noutput = 8.0\n')
    environment = {"LEARNING_SIGNAL_BUDGET": "tokens=10k,env-steps=2M"}
    settings = gather({"budget": "env-steps=1M"}, environment, file).settings({}, {})
    assert settings.budget == Budget(env_steps=1_000_000, tokens=10_000, time=3600)
    assert settings.prices == {"openai/gpt-4.1": Price(input=2.0, output=8.0)}
    file.write_text('[budget]\nenv_steps = "many"\n')
    with pytest.raises(SettingsError, match=r"e.toml sets budget.env_steps wrongly: found env-steps=many"):
        gather({}, {}, file).settings({}, {})
    file.write_text('[prices."openai/gpt-4.1"]\ninput = 2.0\n')
    with pytest.raises(SettingsError, match=r"e.toml sets prices.openai/gpt-4.1 without output, .*: add output"):
        gather({}, {}, file).settings({}, {})
    with pytest.raises(SettingsError, match="Found 'x=1' in the budget"):
        gather({"budget": "x=1"}, {}, None)
    with pytest.raises(ValidationError):
        Budget(env_steps=0)


def test_a_rule_of_a_study_is_refused_before_what_it_would_need(tmp_path):
    file = tmp_path / "e.toml"
    file.write_text('[gate]\nmode = "single run"\n')
    with pytest.raises(Unsuitable, match=r"Found gate.mode 'single run', .* controls of a study"):
        gather({}, {}, file)
    file.write_text('[gate]\nmode = "paired"\n')
    assert gather({}, {}, file).settings({}, {}).gate.mode == "paired"
    file.write_text('[gate]\nmode = "singel run"\n')
    with pytest.raises(
        SettingsError, match="sets gate.mode to 'singel run', expected 'sequential', 'paired', 'single run' or 'always'"
    ):
        gather({}, {}, file).settings({}, {})


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, "0.00 USD"),
        (2.5, "2.50 USD"),
        (0.1, "0.10 USD"),
        (0.01, "0.01 USD"),
        (0.0042, "0.0042 USD"),
        (0.000013, "0.000013 USD"),
    ],
)
def test_less_than_a_cent_is_shown(usd, shown):
    assert amount("usd", usd) == limit_text("usd", usd) == shown, "two rooms write the same sum"


def test_a_limit_below_what_is_spent_is_refused():
    refuse_spent({"tokens": 50, "env_steps": 900}, SPENT)
    with pytest.raises(BudgetError, match=r"Found a budget of 10 tokens, expected more than the .* spent already"):
        refuse_spent({"tokens": 10}, SPENT)


# what fits ----------------------------------------------------------------------------------------


def test_what_fits_exactly_is_begun_and_one_more_is_not():
    assert shortfall(Budget(env_steps=1000), SPENT, {"env_steps": 100}, "it") is None
    said, enough = shortfall(Budget(env_steps=1000), SPENT, {"env_steps": 101}, "the next stage")
    assert said == ("The budget of 1 k env steps is too small: 900 env steps spent, the next stage needs 101 env steps")
    assert parse_budget(enough)["env_steps"] >= 1001


@pytest.mark.parametrize(
    ("budget", "needed"),
    [
        (Budget(tokens=60), {"tokens": 11}),
        (Budget(usd=1.5), {"usd": 0.6}),
        (Budget(time=10.0), {"time": 0.0}),
        (Budget(time=30.0), {"time": 21.0}),
    ],
)
def test_every_limit_stops_and_says_what_would_do(budget, needed):
    said, enough = shortfall(budget, SPENT, needed, "it")
    raised = Budget(**budget.limits() | parse_budget(enough))
    assert shortfall(raised, SPENT, needed, "it") is None


@pytest.mark.parametrize("needed", [7, 1_999, 16_077, 8_033_610, 999_999, 123_456_789, 8_031_000_001])
def test_the_limit_that_is_said_to_do_can_be_typed_and_does(needed):
    _, enough = shortfall(Budget(env_steps=1), SPENT, {"env_steps": needed}, "it")
    raised = Budget(**parse_budget(enough))
    assert shortfall(raised, SPENT, {"env_steps": needed}, "it") is None


def test_the_limit_that_is_said_to_do_has_room_for_a_round():
    """One that has room for a single call would pause the session again at once."""
    said, enough = shortfall(Budget(tokens=60), SPENT, {"tokens": 11}, "the next call", {"tokens": 25.0})
    assert "needs about 11 tokens" in said and parse_budget(enough)["tokens"] >= SPENT["tokens"] + 25
    _, alone = shortfall(Budget(tokens=60), SPENT, {"tokens": 11}, "the next call")
    assert 66 <= parse_budget(alone)["tokens"] < SPENT["tokens"] + 25


def test_the_command_that_goes_on_survives_a_folder_with_a_space():
    done = {"session_id": "S", "status": "paused", "stop_reason": "Paused on request."}
    (_, shown), *_ = after_session(done, Path("my runs/l.db"))
    assert shlex.split(shown)[-2:] == ["--ledger", "my runs/l.db"]
    paused = done | {"budget_needed": "tokens=300k"}
    (_, more), *_ = after_session(paused, Path("my runs/l.db"))
    assert more == f"{shown} --budget tokens=300k"


def test_a_limit_stops_only_what_uses_it():
    assert shortfall(Budget(env_steps=800, time=60), SPENT, {"time": 0.0}, "a call") is None
    assert shortfall(Budget(), SPENT, {"env_steps": 10**9}, "all") is None


# sessions -----------------------------------------------------------------------------------------


def test_a_session_pauses_before_the_round_that_does_not_fit_and_goes_on_with_more(tmp_path):
    whole = tiny_settings(tmp_path / "whole", rounds=3, stages=14)
    run_inline(whole)
    price = round_cost(whole, make_task("spread", 1).spec).first
    settings = tiny_settings(tmp_path / "cut", rounds=3, stages=14, budget=Budget(env_steps=STAGE_STEPS + price - 1))
    outcome = run_inline(settings)
    assert outcome.status == "paused"
    assert f"{STAGE_STEPS} env steps spent, round 1 needs" in outcome.stop_reason
    command = f"learning-signal resume {outcome.session_id} --ledger {settings.ledger} --budget env-steps="
    assert command in outcome.stop_reason and outcome.stop_reason.endswith(f" --budget {outcome.budget_needed}")
    (_, shown), *_ = after_session(outcome.to_dict(), settings.ledger)
    assert shown.startswith(command) and outcome.stop_reason.endswith(shown), "one command is said, and it goes on"
    assert outcome.budget == {"env_steps": {"spent": STAGE_STEPS, "limit": STAGE_STEPS + price - 1}}
    assert outcome.costs["llm_calls"] == 0, "nobody talks about what cannot be tested"
    with pytest.raises(BudgetError, match=f"expected more than the {STAGE_STEPS} env steps that are spent already"):
        resume_inline(settings, budget={"env_steps": STAGE_STEPS - 1})
    again = resume_inline(settings)
    assert again.status == "paused", "the limit stays without --budget"
    more = parse_budget(outcome.stop_reason.rpartition("--budget ")[2])
    paused = resume_inline(settings, budget=more)
    assert paused.status == "paused" and "the next stage needs" in paused.stop_reason
    assert paused.budget["env_steps"]["spent"] <= more["env_steps"]
    assert resume_inline(settings, budget={"env_steps": 10**6}).status == "done"
    assert story(settings.ledger) == story(whole.ledger)
    with Reader.open(settings.ledger) as reader:
        assert reader.session().budget == {"env_steps": 10**6}
        said = [each.title for each in reader.events(kind="session")]
    assert any("goes on with a budget of 1 M env steps" in each for each in said)


@pytest.mark.parametrize(("limit", "twin"), [(2_700, False), (6_300, False), (8_500, False), (17_000, True)])
def test_env_steps_are_never_passed(tmp_path, limit, twin):
    outcome = run_inline(tiny_settings(tmp_path, twin=twin, budget=Budget(env_steps=limit)))
    costs = outcome.costs
    assert costs["env_steps_main"] + costs["env_steps_branches"] + costs["env_steps_twin"] <= limit


def test_the_command_line_pauses_says_how_to_go_on_and_goes_on(synthetic, tmp_path, capsys):
    place = ["--ledger", str(tmp_path / "l.db")]
    small = ["--rounds", "1", "--stages", "2", "--candidates", "1", "--refinements", "0", "--plain"]
    tiny = [*small, "--store", str(tmp_path / "s"), *place]
    assert command.run(["session", *tiny, "--budget", "env-steps=100k"]) == 4
    shown = " ".join(capsys.readouterr().out.split())
    assert "The budget of 100 k env steps is too small: 0 env steps spent, the next stage needs" in shown
    assert "Budget: 0 env steps of 100 k env steps" in shown
    assert command.run(["resume", "latest", *place, "--budget", "env-steps=0"]) == BAD_INPUT
    assert "expected more than 0" in capsys.readouterr().err
    assert command.run(["resume", "latest", *place, "--plain", "--budget", "env-steps=5M"]) == 0
    assert " of 5 M env steps" in capsys.readouterr().out
    assert command.run(["log", "list", *place]) == 0
    assert "of 5,000,000" in capsys.readouterr().out


def test_tokens_are_passed_by_one_reply_at_most(tmp_path):
    limit = 20_000
    outcome = run_inline(tiny_settings(tmp_path, budget=Budget(tokens=limit)))
    assert outcome.status == "paused" and "tokens spent, the next call of the" in outcome.stop_reason
    with Reader.open(tmp_path / "ledger.db") as reader:
        calls = reader.rows("SELECT tokens_in, tokens_out FROM llm_calls ORDER BY id")
    more = parse_budget(outcome.stop_reason.rpartition("--budget ")[2])
    spent = sum(each["tokens_in"] + each["tokens_out"] for each in calls)
    assert more["tokens"] >= max(2 * spent, 1.1 * limit), "not just the call it stopped before, but one more round"
    before = sum(each["tokens_in"] + each["tokens_out"] for each in calls[:-1])
    assert before + calls[-1]["tokens_in"] <= limit
    assert resume_inline(tiny_settings(tmp_path), budget={"tokens": 10**6}).status == "done"


def test_time_stops_a_session(tmp_path):
    outcome = run_inline(tiny_settings(tmp_path, budget=Budget(time=1e-6)))
    assert outcome.status == "paused" and "--budget time=1m" in outcome.stop_reason
    assert outcome.costs["env_steps_main"] == 0


# money --------------------------------------------------------------------------------------------


def test_a_price_is_found_by_provider_and_model():
    prices = {"openai/gpt-4.1": Price(input=2.0, output=8.0)}
    assert price_of(parse_spec("openai/gpt-4.1?temperature=0"), prices).of(1_000_000, 500_000) == 6.0
    assert price_of(parse_spec("openai/gpt-4.1-large"), prices) is None
    assert price_of(parse_spec("rules"), {}).of(10**6, 10**6) == 0.0


def test_a_budget_in_usd_needs_every_price(monkeypatch, tmp_path):
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(update={"agents": settings.agents | {"critic": "ollama/qwen3:8b"}})
    refuse_unpriced(settings, Budget(tokens=5))
    with pytest.raises(SpecError, match=r"the price of ollama/qwen3:8b \(critic\) is not known: add a table \[prices"):
        run_inline(settings.model_copy(update={"budget": Budget(usd=1.0)}))
    assert not settings.ledger.exists()
    free = settings.model_copy(update={"prices": {"ollama/qwen3:8b": Price(input=0.0, output=0.0)}})
    refuse_unpriced(free, Budget(usd=1.0))


def test_a_resume_reads_the_prices_of_a_file_and_keeps_them(synthetic, tmp_path, capsys):
    """A backend that is not embedded takes over in a session whose budget limits USD."""
    control = SessionControl()
    pause = Recorder(lambda row: row["kind"] == "stage" and control.request_pause())
    paused = run_inline(tiny_settings(tmp_path, budget=Budget(usd=1.0)), pause, control)
    assert paused.status == "paused"
    takes_over = ["resume", "latest", "--ledger", str(tmp_path / "ledger.db"), "--plain", "--no-check"]
    assert command.run([*takes_over, "--agent", "critic=ollama/x"]) == BAD_INPUT
    assert "the price of ollama/x (critic) is not known" in " ".join(capsys.readouterr().err.split())
    file = tmp_path / "prices.toml"
    file.write_text("rounds = 9\n")
    assert command.run([*takes_over, "--config", str(file)]) == BAD_INPUT
    assert "has no table [prices], expected one" in " ".join(capsys.readouterr().err.split())
    file.write_text('[prices."ollama/x"]\ninput = -1\noutput = 0\n')
    assert command.run([*takes_over, "--config", str(file)]) == BAD_INPUT
    assert "prices.toml sets prices.ollama/x.input to -1" in " ".join(capsys.readouterr().err.split())
    file.write_text('[prices."ollama/x"]\ninput = 1\noutput = 2\n[budget]\nusd = 1e-9\n')
    assert prices_of(file) == {"ollama/x": Price(input=1.0, output=2.0)}
    control.request_pause()  # at once: what was accepted is kept, and nobody is called
    said = {"agents": {"critic": "ollama/x"}, "prices": prices_of(file)}
    kept = resume_inline(tiny_settings(tmp_path), **said, control=control)
    assert kept.status == "paused"
    assert resume_inline(tiny_settings(tmp_path), control=control).status == "paused", "the next one needs no file"
    with Reader.open(tmp_path / "ledger.db") as reader:
        assert reader.cursor(kept.session_id)["prices"] == {
            "ollama/x": {"input": 1.0, "output": 2.0, "cached_input": None, "cache_write": None}
        }
        assert reader.session().budget == {"usd": 1.0}, "nothing else of the file was read"


def test_costs_are_recorded_by_the_table_and_stop_the_session(tmp_path, monkeypatch):
    """The rules stand in for a model that costs 1 USD per 1,000 tokens sent."""
    monkeypatch.setattr("learning_signal.agents.roles.price_of", lambda spec, prices: Price(input=1000.0, output=0.0))
    outcome = run_inline(tiny_settings(tmp_path, budget=Budget(usd=10.0)))
    assert outcome.status == "paused" and "USD spent, the next call of the" in outcome.stop_reason
    with Reader.open(tmp_path / "ledger.db") as reader:
        costs = reader.costs()
    assert costs.cost_usd == pytest.approx(costs.tokens_in / 1000) and 0 < costs.cost_usd <= 10


def test_a_call_of_unknown_price_hides_no_known_one(tmp_path, monkeypatch):
    """The first call has no price, as before a resume with another backend; the rest must not be free for ever."""
    first = iter([None])
    monkeypatch.setattr(
        Price, "of", lambda self, sent, received, **parts: next(first, sent / 1000) if received else sent / 1000
    )
    monkeypatch.setattr("learning_signal.agents.roles.price_of", lambda spec, table: Price(input=1.0, output=0.0))
    outcome = run_inline(tiny_settings(tmp_path, budget=Budget(tokens=10**6)))
    assert outcome.status == "done" and outcome.costs["cost_usd"] is None
    with Reader.open(tmp_path / "ledger.db") as reader:
        known = sum(agent.known_usd for agent in reader.costs().agents.values())
        row = reader.rows("SELECT total(cost_usd) usd, count(*) FILTER (WHERE cost_usd IS NULL) unknown FROM llm_calls")
    assert row == [{"usd": pytest.approx(known), "unknown": 1}] and known > 0


# lost training ------------------------------------------------------------------------------------


def test_env_steps_lost_with_the_main_run_are_counted(tmp_path, monkeypatch):
    from learning_signal.marl.errors import SegmentFailed

    submit = InlinePool.submit

    def dying(pool, spec, urgent=True):
        future = submit(pool, spec, urgent)
        if pool.deaths:
            pool.deaths -= 1
            future = type(future)()
            future.set_exception(SegmentFailed("The worker died.", env_steps=150))
        return future

    monkeypatch.setattr(InlinePool, "deaths", 1, raising=False)
    monkeypatch.setattr(InlinePool, "submit", dying)
    settings = tiny_settings(tmp_path)
    assert run_inline(settings).status == "failed"
    monkeypatch.setattr(InlinePool, "deaths", 0)
    outcome = resume_inline(settings)
    with Reader.open(settings.ledger) as reader:
        line = sum(each.env_steps for each in reader.lineage())
    assert outcome.status == "done" and outcome.costs["env_steps_main"] == line + 150
