"""The configuration of a session: everything a user may set, each with one line of meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from marl.gate import GateSettings
from marl.settings import Count, Frozen, RunSettings


class DeliberationSettings(Frozen):
    """How long agents may talk."""

    candidates: Annotated[int, Field(ge=1, le=8)] = 3
    """Candidates the Generator proposes per refinement."""
    refinements: Annotated[int, Field(ge=0, le=5)] = 1
    """How often the Generator may try again in a round after a fail or an inconclusive verdict."""
    steps: Annotated[int, Field(ge=2, le=60)] = 16
    """Model calls an agent may use in one phase."""
    questions: Annotated[int, Field(ge=0, le=10)] = 3
    """Questions the Coordinator may put to the others in a round."""
    deadline: Annotated[float, Field(gt=0)] = 180.0
    """Seconds one model call may take, retries included."""
    evidence_tokens: Annotated[int, Field(ge=200)] = 2000
    """Largest token budget of one trajectory summary."""


class SessionSettings(Frozen):
    """A supervised session, completely: what is stored in the ledger and what a resume reads back."""

    run: RunSettings = RunSettings()
    """Task, learner and evaluation."""
    gate: GateSettings = GateSettings()
    """Parameters of the gate."""
    deliberation: DeliberationSettings = DeliberationSettings()
    """Limits of a deliberation."""
    agents: dict[str, str] = Field(default_factory=dict)
    """Backend spec per role (resolved)."""
    agent_sources: dict[str, str] = Field(default_factory=dict)
    """Where each spec came from: command line, environment, config file or default."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the session; every other seed derives from it."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    """Deliberations."""
    stage_steps: Count = 150_000
    """Env steps the main run trains between two deliberations (rounded up to whole rollouts)."""
    horizon: Count = 125_000
    """Env steps of a confirmation branch (rounded up to whole rollouts)."""
    approve: Literal["auto", "human"] = "auto"
    """Who may let a promotion through after the Coordinator asked for it."""
    workers: Count | None = None
    """Worker processes; one per core when None."""
    store: Path = Path("runs/segments")
    """Where segments (checkpoints and results) are kept, shared by all sessions."""
    ledger: Path = Path("runs/ledger.db")
    """The SQLite log."""
    twin: bool = False
    """Also train the sparse twin (no shaping) for the same total env steps."""
