"""The four roles that agents play in a session."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["critic", "generator", "validator", "coordinator"]
ROLES: tuple[Role, ...] = get_args(Role)
