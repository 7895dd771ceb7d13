"""Names that other libraries use for the tasks here, and what they are called here."""

from __future__ import annotations

import re

_LAYOUTS = ("cramped_room", "asymmetric_advantages", "coordination_ring", "forced_coordination", "counter_circuit")
_IDS = re.compile(r"(?:lbforaging|lbforaging-v\d|rware|pz|gym(?:nasium)?):((?:Foraging|rware)-[\w.-]+)", re.IGNORECASE)
_PARTICLES = {"spread": "spread", "tag": "pursuit"}


def meant(name: str) -> str | None:
    """What a task's name of another library stands for, as a hint; None where it is no such name.

    Known are ``PACKAGE:ID`` as Gymnasium has it, PettingZoo's and EPyMARL's names of the particle world, and the
    layouts of Overcooked.
    """
    if ":" in name:
        found = _IDS.fullmatch(name)
        return None if found is None else f"did you mean {found[1]!r}?"
    plain = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    for scenario, task in _PARTICLES.items():
        if f"simple_{scenario}" in plain:
            whole = f"mpe2.simple_{scenario}_v3:parallel_env"
            return f"did you mean {task!r}, the sparse task by its rules, or its own rewards, --env {whole}?"
    for layout in _LAYOUTS:
        if layout in plain:
            return f"did you mean 'overcooked?layout={layout}'?"
    return None
