"""A small but complete session, written the way a real one is: two rounds decided, a third in progress.

Its statistics are those the gate computes from its measures.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from learning_signal.ledger.canonical import BodyHash
from learning_signal.ledger.write.writer import Ledger

SAMPLE_ID = "20261122-154501-k3f"
MAX_RETURN = 25.0
SPARSE = {"terms": [], "beta": 1.0, "anneal": None}
GATE = {
    "alpha": 0.05,
    "screen_seeds": 2,
    "screen_fraction": 0.5,
    "confirm_seeds": 5,
    "delta": 0.002,
    "delta_progress": 0.005,
    "floor": 0.02,
}


def shaping(potential: str, weight: float) -> dict[str, Any]:
    """A shaping with one team term."""
    return {"terms": [{"potential": potential, "weight": weight, "scope": "team"}], "beta": 1.0, "anneal": None}


CANDIDATES = {
    1: {"c1": shaping("coverage_distance", -1.0), "c2": shaping("speed", 0.5), "c3": shaping("collisions", -0.5)},
    2: {"c1": shaping("coverage_distance", -2.0)},
}


def write_sample_session(ledger: Ledger, session_id: str = SAMPLE_ID) -> str:
    """Write the session, return its id: round 1 promotes on progress, 2 keeps, 3 is at the critic."""
    sample = _Sample(ledger, session_id)
    sample.begin()
    with ledger.transaction("stage"):
        ledger.event(session_id, "stage", "exploring: sparse return 0.00 after 64,000 env steps", phase="stage")
        sample.segment("s0", None, SPARSE, 7, 64_000, 0, 0.0, 0.03)
        ledger.add("main_run", session_id=session_id, segment_id="s0", round=None, reason="stage")
    sample.first_round()
    sample.second_round()
    sample.third_round()
    return session_id


class _Sample:
    def __init__(self, ledger: Ledger, session: str) -> None:
        self.ledger, self.session = ledger, session
        self.branches = self.comparisons = self.calls = 0

    def begin(self) -> None:
        ledger, session = self.ledger, self.session
        config = {"run": {"task": "spread"}, "gate": GATE, "agents": {"critic": "openai/gpt-x"}, "rounds": 3}
        ledger.begin_session(
            id=session, task="spread", algorithm="mappo", seed=0, config=config, code_version="0123456789abcdef"
        )
        for role in ("critic", "generator", "validator", "coordinator"):
            spec, source = ("openai/gpt-x", "command line") if role == "critic" else ("rules", "default")
            ledger.add(
                "agents",
                session_id=session,
                role=role,
                spec=spec,
                source=source,
                prompt=f"You are the {role}.",
                tools=[{"name": "submit_diagnosis", "parameters": {"type": "object"}}],
            )
        ledger.event(session, "session", "session started on spread with mappo")
        ledger.save_cursor(session, {"phase": "stage", "round_number": 0})

    def first_round(self) -> None:
        ledger, session = self.ledger, self.session
        self.failed_model_call(1, "critic")
        self.say(1, "critic", "Nobody scores: the agents idle far away from every landmark.")
        self.call(1, "critic", "query_metrics", {"names": ["entropy"]}, {"evidence": "E1", "points": []}, evidence="E1")
        self.call(
            1, "critic", "summarize_trajectories", {}, {"evidence": "E2", "summary": "idleness 0.61"}, evidence="E2"
        )
        self.diagnosis(1, "exploring", "No agent comes near a landmark.", ["E1", "E2"])
        self.proposal(1)
        screened = {
            arm: self.branch(1, "screen", arm, 2, shift)
            for arm, shift in (("control", 0.0), ("c1", 0.03), ("c2", 0.005), ("c3", None))
        }
        result = {
            "measure": "progress",
            "chosen": "c1",
            "reason": "c1 is best: mean difference of progress +0.03 over 2 paired seeds",
            "arms": [
                {"name": "c1", "differences": [0.03, 0.03], "mean_difference": 0.03, "failure": None},
                {"name": "c2", "differences": [0.005, 0.005], "mean_difference": 0.005, "failure": None},
                {
                    "name": "c3",
                    "differences": None,
                    "mean_difference": None,
                    "failure": "has no sparse return for seed 1 of 2",
                },
            ],
        }
        self.comparison(1, "screen", None, screened, result)
        confirmed = {arm: self.branch(1, "confirm", arm, 5, shift) for arm, shift in (("control", 0.0), ("c1", 0.035))}
        verdict = self.verdict(
            1, "c1", confirmed, "pass", 0.035, 1 / 32, "The interval is well above delta; small but real."
        )
        self.call(1, "coordinator", "ask", {"agent": "validator", "question": "Is it the seeds?"}, {"answer": "No."})
        self.say(1, "validator", "No: all five pairs are positive.", target="coordinator", type="answer")
        with ledger.transaction("decision"):
            seq = ledger.event(
                session, "approval", "approved: worth a try", round=1, phase="coordinator", agent="human"
            )
            seq = self.decision(1, "promote", "c1", verdict, "s0", self.segments_of("confirm", "c1", 1)[0])
            ledger.add(
                "main_run",
                session_id=session,
                segment_id=self.segments_of("confirm", "c1", 1)[0],
                round=1,
                reason="promote",
            )
        self.stage(1, "s1", self.segments_of("confirm", "c1", 1)[0], CANDIDATES[1]["c1"], 96_000, 0.4, 0.22)
        with ledger.transaction("probation"):
            result = {
                "outcome": "held",
                "rule": "progress",
                "n": 2,
                "mean_before": 0.03,
                "mean_after": 0.22,
                "mean_drop": -0.19,
                "p": 1.0,
                "delta": 0.005,
                "alpha": 0.05,
                "reason": "held: progress went from 0.03 to 0.22 over the same 2 episodes "
                "(drop -0.19, delta 0.005, p = 1 against alpha 0.05)",
            }
            seq = ledger.event(session, "probation", result["reason"], round=1, phase="probation")
            self.comparisons += 1
            arms = {
                arm: {"segment": segment, "episode_set": "confirm", "evaluation": at}
                for arm, segment, at in (("before", "s0", 64_000), ("after", "s1", 96_000))
            }
            ledger.add(
                "comparisons",
                id=f"{session}/C{self.comparisons}",
                session_id=session,
                round=1,
                refinement=0,
                purpose="probation",
                candidate_id=None,
                event_seq=seq,
                inputs={"max_return": MAX_RETURN, "arms": arms},
                result=result,
                settings=GATE,
                code_version="0123456789abcdef",
            )

    def second_round(self) -> None:
        self.say(2, "critic", "Progress grows; crowding is what is left.")
        self.call(2, "critic", "query_metrics", {"names": []}, {"evidence": "E3", "points": []}, evidence="E3")
        self.diagnosis(2, "emerging", "Two agents share a landmark.", ["E3"])
        self.proposal(2)
        confirmed = {arm: self.branch(2, "confirm", arm, 5, shift) for arm, shift in (("control", 0.0), ("c1", -0.01))}
        verdict = self.verdict(2, "c1", confirmed, "fail", -0.01, 1.0, "Stronger is not better here.")
        with self.ledger.transaction("decision"):
            self.decision(2, "keep", None, verdict, "s1", "s1")
        self.stage(2, "s2", "s1", CANDIDATES[1]["c1"], 112_000, 1.2, 0.35)

    def third_round(self) -> None:
        ledger, session = self.ledger, self.session
        with ledger.transaction("step"):
            seq = ledger.event(
                session, "tool_call", "query_metrics", round=3, phase="critic", agent="critic", status="pending"
            )
            ledger.add(
                "tool_calls",
                event_seq=seq,
                session_id=session,
                round=3,
                agent="critic",
                call_id="call-9",
                name="query_metrics",
                arguments='{"names": ["sparse_return"]}',
                status="pending",
            )
            ledger.save_cursor(session, {"phase": "critic", "round_number": 3, "step": 1})

    def stage(
        self, round_: int, name: str, parent: str, shaped: dict, end: int, sparse: float, progress: float
    ) -> None:
        with self.ledger.transaction("stage"):
            self.segment(name, parent, shaped, 7, 16_000, end - 16_000, sparse, progress)
            self.ledger.add("main_run", session_id=self.session, segment_id=name, round=round_, reason="stage")

    def say(self, round_: int, agent: str, text: str, target: str | None = None, type: str = "text") -> None:
        with self.ledger.transaction("message"):
            seq = self.ledger.event(self.session, "message", text[:60], round=round_, phase=agent, agent=agent)
            self.ledger.add(
                "messages", event_seq=seq, session_id=self.session, source=agent, target=target, type=type, body=text
            )

    def failed_model_call(self, round_: int, agent: str) -> None:
        ledger, session = self.ledger, self.session
        sent = [ledger.body(f"You are the {agent}."), ledger.body("Diagnose round 1.")]
        for attempt, status in enumerate(("error", "ok"), start=1):
            with ledger.transaction("llm-call"):
                seq = ledger.event(
                    session, "llm_call", "gpt-x", round=round_, phase=agent, agent=agent, status="pending"
                )
                call = ledger.add(
                    "llm_calls",
                    event_seq=seq,
                    session_id=session,
                    agent=agent,
                    request_hash="ab" * 8,
                    attempt=attempt,
                    spec="openai/gpt-x",
                    model_requested="gpt-x",
                    context=list(map(str, sent)),
                    tools=[],
                    status="pending",
                )
            with ledger.transaction("llm-reply"):
                if status == "error":
                    ledger.complete(
                        "llm_calls",
                        call,
                        status="error",
                        error_kind="transient",
                        error="429 Too Many Requests",
                        latency_ms=310.0,
                    )
                else:
                    ledger.complete(
                        "llm_calls",
                        call,
                        status="ok",
                        model_served="gpt-x-2026",
                        reply={"content": "Nobody scores."},
                        finish_reason="stop",
                        latency_ms=1250.0,
                        tokens_in=850,
                        tokens_out=120,
                        tokens_source="server",
                    )
                ledger.complete_event(seq, status, ref=("llm_calls", call))

    def call(
        self, round_: int, agent: str, name: str, arguments: dict, result: dict, evidence: str | None = None
    ) -> None:
        ledger, session = self.ledger, self.session
        self.calls += 1
        with ledger.transaction("tool-call"):
            seq = ledger.event(session, "tool_call", name, round=round_, phase=agent, agent=agent, status="pending")
            call = ledger.add(
                "tool_calls",
                event_seq=seq,
                session_id=session,
                round=round_,
                agent=agent,
                call_id=f"call-{self.calls}",
                name=name,
                arguments=json.dumps(arguments),
                status="pending",
            )
        with ledger.transaction("tool-result"):
            ledger.complete(
                "tool_calls", call, result=json.dumps(result), status="ok", evidence_id=evidence, latency_ms=12.5
            )
            ledger.complete_event(seq, "ok", ref=("tool_calls", call))

    def diagnosis(self, round_: int, stage: str, failure: str, evidence: list[str]) -> None:
        body = {
            "stage": stage,
            "failures": [{"description": failure, "evidence": evidence}],
            "advice": "Reward getting closer to the landmarks.",
        }
        identity = f"{self.session}/D{round_}"
        self.call(round_, "critic", "submit_diagnosis", body, {"accepted": True})
        with self.ledger.transaction("diagnosis"):
            seq = self.ledger.event(
                self.session,
                "diagnosis",
                f"{stage}: {failure}",
                round=round_,
                phase="critic",
                agent="critic",
                ref=("diagnoses", identity),
            )
            self.ledger.add(
                "diagnoses", id=identity, session_id=self.session, round=round_, event_seq=seq, stage=stage, body=body
            )

    def proposal(self, round_: int) -> None:
        identity = f"{self.session}/P{round_}.0"
        candidates = CANDIDATES[round_]
        self.call(
            round_,
            "generator",
            "submit_proposal",
            {"candidates": list(candidates.values())},
            {"accepted": list(candidates)},
        )
        with self.ledger.transaction("proposal"):
            seq = self.ledger.event(
                self.session,
                "proposal",
                f"proposes {', '.join(candidates)}",
                round=round_,
                phase="generator",
                agent="generator",
                ref=("proposals", identity),
            )
            self.ledger.add(
                "proposals",
                id=identity,
                session_id=self.session,
                round=round_,
                refinement=0,
                diagnosis_id=f"{self.session}/D{round_}",
                event_seq=seq,
                body={"candidates": candidates},
            )
            for name, shaped in candidates.items():
                self.ledger.add(
                    "candidates",
                    id=f"{identity}/{name}",
                    session_id=self.session,
                    proposal_id=identity,
                    name=name,
                    shaping=shaped,
                    shaping_hash=f"hash-{name}",
                    rationale=f"{name} pulls the agents to the landmarks.",
                    forecast_metric="progress",
                    forecast_change=0.02,
                    forecast_probability=0.7,
                )

    def segments_of(self, purpose: str, arm: str, round_: int) -> list[str]:
        seeds = 2 if purpose == "screen" else 5
        return [f"{purpose}{round_}{arm}{seed}" for seed in range(seeds)]

    def branch(self, round_: int, purpose: str, arm: str, seeds: int, shift: float | None) -> list[dict[str, Any]]:
        """A branch with the control's progress plus ``shift``; its first segment fails for None."""
        ledger, session = self.ledger, self.session
        self.branches += 1
        identity = f"{session}/B{self.branches}"
        candidate = None if arm == "control" else f"{session}/P{round_}.0/{arm}"
        parent, start = ("s0", 64_000) if round_ == 1 else ("s1", 96_000)
        base = SPARSE if round_ == 1 else CANDIDATES[1]["c1"]
        steps = 8_000 if purpose == "screen" else 16_000
        with ledger.transaction("branch"):
            seq = ledger.event(
                session,
                "branch",
                f"B{self.branches}: {purpose} {arm} on {seeds} seeds",
                round=round_,
                phase="validator",
                agent="validator",
                ref=("branches", identity),
            )
            ledger.add(
                "branches",
                id=identity,
                session_id=session,
                round=round_,
                refinement=0,
                purpose=purpose,
                arm=arm,
                candidate_id=candidate,
                event_seq=seq,
            )
            sources = []
            for seed, name in enumerate(self.segments_of(purpose, arm, round_)):
                broken = shift is None and seed == 0
                progress = None if broken else 0.04 + 0.002 * seed + (shift or 0.0)
                self.segment(
                    name,
                    parent,
                    base if candidate is None else CANDIDATES[round_][arm],
                    seed,
                    steps,
                    start,
                    None if broken else 0.0,
                    progress,
                )
                ledger.add("branch_segments", branch_id=identity, position=seed, session_id=session, segment_id=name)
                sources.append(
                    {
                        "segment": name,
                        "episode_set": purpose,
                        "evaluations": [] if broken else [start + steps],
                        "reason": "the worker died (signal 9)" if broken else None,
                        "sparse_return": None if broken else 0.0,
                        "progress": progress,
                    }
                )
        return sources

    def segment(
        self,
        name: str,
        parent: str | None,
        shaped: dict,
        seed: int,
        steps: int,
        start: int,
        sparse: float | None,
        progress: float | None,
    ) -> None:
        """A segment with two evaluations on each set (0, then its measures); failed for None."""
        ledger, session = self.ledger, self.session
        ledger.add(
            "segments",
            session_id=session,
            id=name,
            parent=parent,
            shaping=shaped,
            seed=seed,
            env_steps=steps,
            status="pending",
        )
        if sparse is None:
            ledger.complete("segments", (session, name), status="error", reason="the worker died (signal 9)")
            return
        ledger.complete(
            "segments",
            (session, name),
            status="ok",
            reused=int(name == "screen1control1"),
            start_env_steps=start,
            end_env_steps=start + steps,
            wall_seconds=0.5,
        )
        rows = [
            {"env_steps": start + steps * part // 4, "entropy": 1.6 - 0.1 * part, "sparse_return": None}
            for part in (1, 2, 3, 4)
        ]
        ledger.add_metrics(session, name, rows)
        for episode_set, (at, share) in product(
            ("query", "screen", "confirm"), ((start + steps // 2, 0), (start + steps, 1))
        ):
            ledger.add(
                "evaluations",
                session_id=session,
                segment_id=name,
                episode_set=episode_set,
                env_steps=at,
                episodes=2,
                sparse_return=sparse * share,
                progress=progress * share,
                detail={"sparse_returns": [0.0, 2 * sparse * share], "progress": [0.0, 2 * progress * share]},
            )

    def comparison(self, round_: int, purpose: str, candidate: str | None, arms: dict, result: dict) -> str:
        self.comparisons += 1
        identity = f"{self.session}/C{self.comparisons}"
        with self.ledger.transaction("comparison"):
            seq = self.ledger.event(
                self.session,
                "comparison",
                f"C{self.comparisons} {purpose}: {result['reason']}",
                round=round_,
                phase="validator",
                ref=("comparisons", identity),
            )
            self.ledger.add(
                "comparisons",
                id=identity,
                session_id=self.session,
                round=round_,
                refinement=0,
                purpose=purpose,
                candidate_id=candidate and f"{self.session}/P{round_}.0/{candidate}",
                event_seq=seq,
                inputs={"max_return": MAX_RETURN, "progress_declared": True, "arms": arms},
                result=result,
                settings=GATE,
                code_version="0123456789abcdef",
            )
        return identity

    def verdict(
        self, round_: int, candidate: str, arms: dict, outcome: str, difference: float, p: float, reading: str
    ) -> str:
        reason = (
            f"{outcome} on progress: mean difference {difference:+.4g} (interval {difference:+.4g} to "
            f"{difference:+.4g}, delta 0.005), p = {p:.4g} against alpha 0.05, 5 pairs; every arm is below "
            "the competence floor (0.5 sparse return)"
        )
        result = {
            "outcome": outcome,
            "rule": "progress",
            "below_floor": True,
            "n": 5,
            "differences": [difference] * 5,
            "mean_difference": difference,
            "interval": [difference, difference],
            "p": p,
            "sparse_p_worse": 1.0,
            "delta": 0.005,
            "alpha": 0.05,
            "reason": reason,
            "settings": GATE,
        }
        comparison = self.comparison(round_, "confirm", candidate, arms, result)
        identity = f"{self.session}/V{round_}.0"
        submitted = {"candidate": candidate, "outcome": outcome, "reading": reading}
        self.call(round_, "validator", "submit_validation", submitted, {"accepted": True, "outcome": outcome})
        with self.ledger.transaction("verdict"):
            seq = self.ledger.event(
                self.session,
                "verdict",
                f"{outcome} for {candidate}: {reason}",
                round=round_,
                phase="validator",
                agent="validator",
                ref=("verdicts", identity),
            )
            self.ledger.add(
                "verdicts",
                id=identity,
                session_id=self.session,
                round=round_,
                refinement=0,
                candidate_id=f"{self.session}/P{round_}.0/{candidate}",
                comparison_id=comparison,
                event_seq=seq,
                outcome=outcome,
                rule="progress",
                reason=reason,
                reading=reading,
            )
        return identity

    def decision(
        self, round_: int, action: str, candidate: str | None, verdict: str, segment_from: str, segment_to: str
    ) -> int:
        identity = f"{self.session}/R{round_}"
        seq = self.ledger.event(
            self.session,
            "decision",
            f"{action} {candidate or ''}".strip(),
            round=round_,
            phase="coordinator",
            agent="coordinator",
            ref=("decisions", identity),
        )
        before = SPARSE if round_ == 1 else CANDIDATES[1]["c1"]
        after = before if candidate is None else CANDIDATES[round_][candidate]
        self.ledger.add_decision(
            self.session,
            id=identity,
            round=round_,
            event_seq=seq,
            action=action,
            candidate_id=candidate and f"{self.session}/P{round_}.0/{candidate}",
            verdict_id=verdict,
            segment_from=segment_from,
            segment_to=segment_to,
            shaping_from=before,
            shaping_to=BodyHash(self.ledger.json_body(after)),
            decided_by="coordinator",
            reason="All five pairs are better." if action == "promote" else "The stronger potential did not help.",
        )
        return seq
