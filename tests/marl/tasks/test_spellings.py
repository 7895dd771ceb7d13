"""Names of other libraries lead to the task that is meant."""

from __future__ import annotations

import pytest

from learning_signal.marl.errors import UnknownTask
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.spellings import meant


@pytest.mark.parametrize(
    ("name", "leads_to"),
    [
        ("lbforaging:Foraging-8x8-2p-2f-coop-v3", "'Foraging-8x8-2p-2f-coop-v3'"),
        ("rware:rware-tiny-2ag-easy-v2", "'rware-tiny-2ag-easy-v2'"),
        ("simple_spread_v3", "'spread'"),
        ("pz-mpe-simple-spread-v3", "'spread'"),
        ("MPE_simple_tag_v3", "'pursuit'"),
        ("cramped_room", "'overcooked?layout=cramped_room'"),
        ("overcooked_asymmetric_advantages", "'overcooked?layout=asymmetric_advantages'"),
    ],
)
def test_a_name_of_another_library_leads_home(name: str, leads_to: str) -> None:
    with pytest.raises(UnknownTask) as refused:
        make_task(name, 1)
    assert leads_to in str(refused.value)
    make_task(leads_to.strip("'"), 1)


@pytest.mark.parametrize("name", ["mpe2.simple_spread_v3:parallel_env", "spread", "talk:task", "nonsense", ""])
def test_other_names_lead_nowhere(name: str) -> None:
    assert meant(name) is None
