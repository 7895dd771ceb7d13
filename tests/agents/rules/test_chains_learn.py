"""What the rules propose after a real first stage of a task in parts, trained beside what they do without chains."""

from __future__ import annotations

import json

import pytest

from learning_signal.agents.rules.reading import rows
from learning_signal.agents.tokens import count_tokens
from learning_signal.marl.behaviour.summary import summarize
from learning_signal.marl.behaviour.text import render
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, round_up
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.candidates.examine import shaping_of
from learning_signal.tools.plan.rise import rise_on
from tests.support.errands import make_errands
from tests.support.rules_chat import candidates_of, generator_brief

pytestmark = pytest.mark.slow


def returns(task, make, steps, seed, folder):
    """The sparse return in the end of a branch without shaping, with the first idea, and with that without chains."""
    store, run, spec = SegmentStore(folder), RunSettings(task=task), make(task, 1).spec

    def train(parent, shaping, env_steps):
        segment = SegmentSpec(
            run=run, parent=parent, shaping=shaping, env_steps=round_up(run, env_steps, spec), seed=seed
        )
        result = run_segment(segment, store, make_task=make)
        return result.id, result.evaluations_of("confirm")[-1].sparse_return

    stage, branch = steps
    root, _ = train(None, ShapingConfig.none(), stage)
    summary = json.loads(render(summarize(store.behaviour(root), spec), 2000, count_tokens))
    card = {"name": "t", "max_return": spec.max_return, "agents": spec.agents, "progress": "share"}
    known = {"task": card, "good_rise": rise_on(spec, run.learner.discount)}
    plain = {**summary, "features": [{**row, "waits": None} for row in rows(summary["features"])]}
    first, without = (
        candidates_of(generator_brief(spec.features, evidence=one, **known))[0] for one in (summary, plain)
    )
    arms = (ShapingConfig.none(), shaping_of(first, stage), shaping_of(without, stage))
    return [train(root, shaping, branch)[1] for shaping in arms]


def test_three_parts_of_a_task_no_rule_was_written_for(tmp_path):
    control, chain, without = returns("errands", make_errands, (50_000, 100_000), 0, tmp_path)
    assert chain > 3 > 1 > max(control, without)


def test_warehouse_delivers(tmp_path):
    control, chain, without = returns("rware-tiny-2ag-easy-v2", make_task, (150_000, 125_000), 0, tmp_path)
    assert chain > 1.5 > 0.5 > max(control, without)
