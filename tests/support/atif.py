"""The rules of ATIF 1.7, as its specification (RFC 0001 of Harbor) and Harbor's validator state them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Reference(_Strict):
    trajectory_id: str | None = None
    trajectory_path: str | None = None
    session_id: str | None = None
    extra: dict[str, Any] | None = None

    @model_validator(mode="after")
    def can_be_followed(self):
        assert self.trajectory_id or self.trajectory_path, "a reference names a trajectory or a file"
        return self


class Result(_Strict):
    source_call_id: str | None = None
    content: str | None = None
    subagent_trajectory_ref: list[Reference] | None = None
    extra: dict[str, Any] | None = None


class Observation(_Strict):
    results: list[Result]


class ToolCall(_Strict):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]
    extra: dict[str, Any] | None = None


class Metrics(_Strict):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    extra: dict[str, Any] | None = None


class Step(_Strict):
    step_id: int = Field(ge=1)
    timestamp: str | None = None
    source: Literal["system", "user", "agent"]
    model_name: str | None = None
    reasoning_effort: str | float | None = None
    message: str
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    observation: Observation | None = None
    metrics: Metrics | None = None
    is_copied_context: bool | None = None
    llm_call_count: int | None = Field(default=None, ge=0)
    extra: dict[str, Any] | None = None

    @field_validator("timestamp")
    @classmethod
    def is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.fromisoformat(value)
        return value

    @model_validator(mode="after")
    def fits_its_source(self):
        if self.source != "agent":
            own = (self.model_name, self.reasoning_effort, self.reasoning_content, self.tool_calls, self.metrics)
            assert own == (None,) * 5, f"step {self.step_id} is no agent's"
        if self.llm_call_count == 0:
            assert self.metrics is None and self.reasoning_content is None, "no model was called"
        made = [call.tool_call_id for call in self.tool_calls or ()]
        answered = [each.source_call_id for each in (self.observation.results if self.observation else ())]
        assert {each for each in answered if each is not None} <= set(made), "a result of a call of this step"
        return self


class Agent(_Strict):
    name: str
    version: str
    model_name: str | None = None
    tool_definitions: list[dict[str, Any]] | None = None
    extra: dict[str, Any] | None = None


class FinalMetrics(_Strict):
    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_cost_usd: float | None = None
    total_steps: int | None = Field(default=None, ge=0)
    extra: dict[str, Any] | None = None


class Trajectory(_Strict):
    schema_version: Literal["ATIF-v1.7"]
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: Agent
    steps: list[Step] = Field(min_length=1)
    notes: str | None = None
    final_metrics: FinalMetrics | None = None
    continued_trajectory_ref: str | None = None
    subagent_trajectories: list[Trajectory] | None = None
    extra: dict[str, Any] | None = None

    @model_validator(mode="after")
    def is_numbered_and_linked(self):
        assert [step.step_id for step in self.steps] == list(range(1, len(self.steps) + 1)), "numbered from 1"
        inner = [each.trajectory_id for each in self.subagent_trajectories or ()]
        assert None not in inner and len(set(inner)) == len(inner), "embedded trajectories have ids of their own"
        results = [result for step in self.steps if step.observation for result in step.observation.results]
        named = {each.trajectory_id for result in results for each in result.subagent_trajectory_ref or ()}
        assert named - {None} <= set(inner), "a reference to an embedded trajectory"
        return self
