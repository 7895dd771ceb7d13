"""Which agent has which tools."""

from __future__ import annotations

from tools.base import Tool
from tools.branches import branch_tools
from tools.comparisons import comparison_tools
from tools.contracts import Role
from tools.decisions import decision_tools
from tools.desk import Desk
from tools.evidence import evidence_tools
from tools.proposals import proposal_tools
from tools.verdicts import verdict_tools

TOOL_NAMES: dict[Role, tuple[str, ...]] = {
    "critic": ("query_metrics", "summarize_trajectories", "submit_diagnosis"),
    "generator": ("query_metrics", "submit_proposal"),
    "validator": ("launch_branch", "read_branch", "compare_branches", "query_metrics", "submit_validation"),
    "coordinator": ("query_metrics", "ask", "promote", "keep", "roll_back"),
}
"""Role -> its tools, in the order they are usually used."""


def toolbox(desk: Desk, role: Role) -> tuple[Tool, ...]:
    """The tools of one role over this session's desk."""
    every = {
        **evidence_tools(desk), **proposal_tools(desk), **branch_tools(desk), **comparison_tools(desk),
        **verdict_tools(desk), **decision_tools(desk),
    }  # fmt: skip
    left_out = () if desk.settings.deliberation.behaviour else ("summarize_trajectories",)
    return tuple(every[name] for name in TOOL_NAMES[role] if name not in left_out)
