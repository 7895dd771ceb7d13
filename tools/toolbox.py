"""Which agent has which tools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from learning_signal.tools.base import Tool
from learning_signal.tools.context import SessionContext
from learning_signal.tools.evidence.arms import arms_told
from learning_signal.tools.evidence.behaviour import behaviour_tools
from learning_signal.tools.evidence.diagnosis import diagnosis_tools
from learning_signal.tools.evidence.episodes import episode_tools
from learning_signal.tools.evidence.metrics import metric_tools
from learning_signal.tools.evidence.preview import preview_tools
from learning_signal.tools.roles import Role
from learning_signal.tools.round.branches import branch_tools
from learning_signal.tools.round.comparisons import comparison_tools
from learning_signal.tools.round.decisions import decision_tools
from learning_signal.tools.round.proposals import proposal_tools
from learning_signal.tools.round.screens import screen_tools
from learning_signal.tools.round.verdicts import verdict_tools

TOOL_NAMES: dict[Role, tuple[str, ...]] = {
    "critic": ("query_metrics", "summarize_trajectories", "show_episode", "preview_shaping", "submit_diagnosis"),
    "generator": ("query_metrics", "summarize_trajectories", "show_episode", "preview_shaping", "submit_proposal"),
    "validator": (
        "confirm",
        "extend_screen",
        "launch_branch",
        "read_branch",
        "query_metrics",
        "summarize_trajectories",
        "submit_validation",
    ),
    "coordinator": ("query_metrics", "ask", "promote", "keep", "send_back", "roll_back"),
}
"""Role -> its tools, in the order they are usually used."""


OF_BEHAVIOUR = ("summarize_trajectories", "show_episode", "preview_shaping")
"""What is left out where a session has no behaviour evidence."""
OF_BRANCHES = ("launch_branch", "read_branch")
"""What is left out unless a session asks for it (``deliberation.branch_tools``)."""

_MAKERS: dict[Role, tuple[Callable[[SessionContext], dict[str, Tool]], ...]] = {
    "critic": (metric_tools, behaviour_tools, episode_tools, preview_tools, diagnosis_tools),
    "generator": (metric_tools, behaviour_tools, episode_tools, preview_tools, proposal_tools),
    "validator": (
        partial(comparison_tools, learnt=arms_told),
        screen_tools,
        branch_tools,
        metric_tools,
        behaviour_tools,
        verdict_tools,
    ),
    "coordinator": (metric_tools, decision_tools),
}


def toolbox(context: SessionContext, role: Role) -> tuple[Tool, ...]:
    """The tools of one role over this session's context."""
    made = {name: tool for make in _MAKERS[role] for name, tool in make(context).items()}
    talk = context.settings.deliberation
    left_out = (*(() if talk.behaviour else OF_BEHAVIOUR), *(() if talk.branch_tools else OF_BRANCHES))
    return tuple(made[name] for name in TOOL_NAMES[role] if name not in left_out)
