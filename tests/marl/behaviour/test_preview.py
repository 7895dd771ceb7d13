"""What a shaping does on recorded episodes: closed forms on hand-made records, signs, and the remarks that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learning_signal.marl.behaviour.preview import directions, preview
from learning_signal.marl.behaviour.remarks import remarks_on
from learning_signal.marl.segments.records import BehaviourRecord
from learning_signal.marl.shaping import Potential, ShapingConfig, shaping_rewards
from learning_signal.marl.tasks.base import Feature, TaskSpec

T, A = 4, 2
GAMMA = 0.9
FEATURES = (
    Feature("distance", "To the next food.", "team", 0.0, 10.0, "lower"),
    Feature("left", "Share of the food that is left.", "team", 0.0, 1.0, "lower"),
    Feature("reach", "Of an agent.", "agent", 0.0, 10.0, "higher"),
    Feature("collisions", "Pairs that collide.", "team", 0.0, 3.0, "lower"),
    Feature("speed", "Of an agent.", "agent", 0.0, 1.0, None),
)
SPEC = TaskSpec("toy", "", "", A, 1, 1, 3, ("a", "b", "c"), None, T, 1.0, FEATURES, None)
NAN = float("nan")


def record(
    features: dict[str, Any], rewards: Any = None, lengths: Any = None, returns: Any = None, episodes: int = 3
) -> BehaviourRecord:
    """Episodes of ``T`` steps; features are ``[T + 1]`` (each episode's), ``[T + 1, n]`` or ``[T + 1, n, A]``."""
    lengths = np.full(episodes, T) if lengths is None else np.array(lengths)
    known = np.arange(T + 1)[:, None] <= lengths
    filled = {}
    for feature in FEATURES:
        values = np.asarray(features.get(feature.name, np.zeros(T + 1)), np.float32)
        values = np.repeat(values[:, None], episodes, axis=1) if values.ndim == 1 else values
        if feature.scope == "agent" and values.ndim == 2:
            values = np.repeat(values[:, :, None], A, axis=2)
        filled[feature.name] = np.where(known if values.ndim == 2 else known[..., None], values, NAN)
    rewards = np.zeros((T, episodes)) if rewards is None else np.array(rewards, float)
    rewards = np.where(known[1:], rewards, NAN)
    return BehaviourRecord(
        task="toy",
        features={name: values.astype(np.float32) for name, values in filled.items()},
        actions=np.zeros((T, episodes, A), np.int8),
        rewards=rewards.astype(np.float32),
        progress=None,
        lengths=lengths,
        sparse_returns=np.nansum(rewards, axis=0) if returns is None else np.array(returns, float),
        progress_means=None,
    )


def shaping(*terms: tuple[Any, ...], beta: float = 1.0, anneal: tuple[int, int] | None = None) -> ShapingConfig:
    """Terms as (potential, weight) of the team, or (potential, weight, scope)."""
    rows = [{"potential": name, "weight": float(weight), "scope": (*rest, "team")[0]} for name, weight, *rest in terms]
    data: dict[str, Any] = {"terms": rows, "beta": beta}
    return ShapingConfig.parse(data if anneal is None else data | {"anneal": {"start": anneal[0], "end": anneal[1]}})


def previewed(config: ShapingConfig, episodes: BehaviourRecord, env_steps: int = 0) -> Any:
    return preview(config, episodes, SPEC, GAMMA, env_steps)


# rises ----------------------------------------------------------------------------------------


def test_the_rise_is_that_of_beta_phi_from_start_to_end() -> None:
    found = previewed(shaping(("distance", -0.5), beta=2.0), record({"distance": [8, 7, 5, 6, 4]}))
    assert found.rise.all == pytest.approx(4.0) and found.beta == 2.0
    assert found.largest_rise == pytest.approx(4.0)  # the last state is the best
    there_and_back = previewed(shaping(("distance", -0.5), beta=2.0), record({"distance": [8, 5, 8, 8, 8]}))
    assert (there_and_back.rise.all, there_and_back.largest_rise) == (pytest.approx(0.0), pytest.approx(3.0))
    away = previewed(shaping(("distance", -1.0)), record({"distance": [1, 2, 3, 4, 5]}))
    assert (away.rise.all, away.largest_rise) == (pytest.approx(-4.0), pytest.approx(0.0))


def test_best_and_worst_thirds_are_by_sparse_return() -> None:
    distance = np.array([[9, 9, 9], [9, 9, 9], [9, 9, 9], [9, 9, 9], [3, 8, 7]])
    found = previewed(shaping(("distance", -1.0)), record({"distance": distance}, returns=[0.9, 0.1, 0.5]))
    assert (found.rise.best, found.rise.worst, found.rise.all) == pytest.approx((6.0, 1.0, 3.0))
    few = previewed(shaping(("distance", -1.0)), record({"distance": [9, 9, 9, 9, 3]}, episodes=2))
    assert (few.rise.best, few.rise.worst, few.rise.all) == (None, None, pytest.approx(6.0))


def test_a_terminal_counts_as_0() -> None:
    """An episode that ends early loses its Phi: what is below 0 before a success rises there, what is above falls."""
    short = {"distance": [4, 3, 2, 1, 0]}
    below = previewed(shaping(("distance", -1.0)), record(short, lengths=[2, 2, 2]))
    assert below.rise.all == pytest.approx(4.0) == below.largest_rise  # from -4 to 0, not to -2
    above = previewed(shaping(("10 - distance", 1.0)), record(short, lengths=[2, 2, 2]))
    assert above.rise.all == pytest.approx(-6.0) and above.largest_rise == pytest.approx(1.0)
    limit = previewed(shaping(("10 - distance", 1.0)), record(short))  # negative control: cut by the time limit
    assert limit.rise.all == pytest.approx(4.0)


def test_an_agents_feature_counts_as_the_mean_over_agents() -> None:
    reach = np.zeros((T + 1, 3, A))
    reach[:, :, 0] = np.array([0, 2, 4, 6, 8])[:, None]
    found = previewed(shaping(("reach", 1.0, "agent")), record({"reach": reach}))
    assert found.rise.all == pytest.approx(4.0)  # 8 and 0
    team = previewed(shaping(("max(reach)", 1.0)), record({"reach": reach}))
    assert team.rise.all == pytest.approx(8.0)


def test_terms_add_up_and_have_shares_of_the_rise() -> None:
    episodes = record({"distance": [8, 7, 6, 5, 4], "left": [1, 1, 1, 1, 0.5]}, rewards=np.eye(T)[:, [3, 3, 3]])
    found = previewed(shaping(("distance", -0.5), ("left", 2.0), ("speed", 1.0, "agent"), beta=3.0), episodes)
    assert [term.rise for term in found.terms] == pytest.approx([6.0, -3.0, 0.0])
    assert sum(term.rise for term in found.terms) == pytest.approx(found.rise.all)
    assert [term.share for term in found.terms] == pytest.approx([2 / 3, -1 / 3, 0.0])
    assert [term.change_at_reward for term in found.terms] == pytest.approx([1.5, -3.0, 0.0])
    assert [term.constant for term in found.terms] == [False, False, True]


def test_without_terms_nothing_moves() -> None:
    found = previewed(ShapingConfig.none(), record({"distance": [8, 7, 6, 5, 4]}))
    assert (found.rise.all, found.largest_rise, found.shaping_per_step, found.terms) == (0.0, 0.0, 0.0, ())
    assert remarks_on(found, good_rise=1.0) == ()


# steps ----------------------------------------------------------------------------------------


def test_the_reward_of_a_step_is_what_training_pays() -> None:
    episodes = record({"distance": [8, 6, 6, 7, 3]}, lengths=[4, 4, 2])
    config = shaping(("distance", -1.0), ("left", -0.5), beta=0.5)
    phi = Potential(config, SPEC).total(episodes.features)
    paid = []
    for episode, length in enumerate(episodes.lengths):
        path, terminated = phi[: length + 1, [episode]], np.zeros((length, 1), bool)
        terminated[-1] = length < T
        beta = np.full(length, 0.5)
        paid.append(np.abs(shaping_rewards(path[:-1], path[1:], beta, beta, terminated, GAMMA)).ravel())
    found = previewed(config, episodes)
    assert found.shaping_per_step == pytest.approx(np.concatenate(paid).mean(), rel=1e-6)


def test_sparse_reward_per_step_is_that_of_the_steps_played() -> None:
    rewards = np.zeros((T, 3))
    rewards[1] = 1.0
    found = previewed(shaping(("distance", -1.0)), record({}, rewards=rewards, lengths=[4, 4, 2]))
    assert found.sparse_per_step == pytest.approx(3 / 10)


def test_a_distance_to_the_next_food_falls_where_food_is_eaten() -> None:
    """The kind of the issue: the rationale says that eating pays, but the next food is farther away."""
    distance, left = np.array([4, 3, 1, 5, 4]), np.array([1, 1, 1, 2 / 3, 2 / 3])
    rewards = np.zeros((T, 3))
    rewards[2] = 1 / 3
    episodes = record({"distance": distance, "left": left}, rewards=rewards)
    found = previewed(shaping(("distance", -0.02), ("left", -0.2)), episodes)
    assert found.at_reward.steps == 3 and found.at_reward.falls == 1.0
    assert found.at_reward.change == pytest.approx(-0.02 * 4 + 0.2 / 3)  # -0.0133
    assert [term.change_at_reward for term in found.terms] == pytest.approx([-0.08, 0.2 / 3])
    assert found.rise.best / 0.2 == pytest.approx(1 / 3)  # of a good rise of 0.2
    paid_back = previewed(shaping(("distance", -0.02), ("left", -0.3)), episodes)  # negative control
    assert paid_back.at_reward.change == pytest.approx(0.02) and paid_back.at_reward.falls == 0.0


def test_the_share_of_rewarded_steps_in_which_it_falls() -> None:
    distance = np.array([[4, 4, 4], [1, 4, 4], [1, 4, 4], [1, 4, 4], [1, 5, 4]])
    rewards = np.zeros((T, 3))
    rewards[0, 0] = rewards[3, 1] = rewards[3, 2] = 1.0
    found = previewed(shaping(("distance", -1.0)), record({"distance": distance}, rewards=rewards))
    assert found.at_reward.falls == pytest.approx(1 / 3) and found.at_reward.change == pytest.approx(2 / 3)


def test_nothing_is_said_of_rewarded_steps_where_there_are_none() -> None:
    found = previewed(shaping(("distance", -1.0)), record({"distance": [4, 3, 2, 1, 0]}))
    assert found.at_reward is None and [term.change_at_reward for term in found.terms] == [None]


def test_the_strength_is_that_of_the_present_position() -> None:
    config = shaping(("distance", -1.0), beta=2.0, anneal=(1000, 2000))
    episodes = record({"distance": [4, 3, 2, 1, 0]})
    rises = {at: previewed(config, episodes, at).rise.all for at in (0, 1000, 1500, 2000)}
    assert rises == {0: pytest.approx(8.0), 1000: pytest.approx(8.0), 1500: pytest.approx(4.0), 2000: pytest.approx(0)}


# signs ----------------------------------------------------------------------------------------

MOVING = {
    "distance": [8, 7, 5, 3, 1],
    "left": [1, 0.8, 0.6, 0.4, 0.2],
    "reach": [1, 2, 5, 7, 9],
    "collisions": [0, 1, 2, 3, 1],
    "speed": [0.1, 0.5, 0.9, 0.4, 0.2],
}


@pytest.mark.parametrize(
    ("potential", "weight", "pays", "agrees"),
    [
        ("distance", -1.0, "lower", True),
        ("distance", 1.0, "higher", False),
        ("-distance", 1.0, "lower", True),
        ("-distance", -1.0, "higher", False),
        ("1 / (1 + distance)", 1.0, "lower", True),
        ("exp(-distance / 2) - 1", 1.0, "lower", True),
        ("exp(distance / 10)", 1.0, "higher", False),
        ("max(distance, 2)", -1.0, "lower", True),
        ("clip(distance, 4, 9)", 1.0, "higher", False),
        ("abs(distance - 5)", 1.0, "both", None),
        ("2 * collisions", 1.0, "higher", False),
        ("collisions - 3", -2.0, "lower", True),
        ("mean(reach)", 1.0, "higher", True),
        ("min(reach)", -1.0, "lower", False),
        ("max(reach) - min(reach)", -1.0, "both", None),
        ("mean(speed)", 10.0, "higher", None),
    ],
)
def test_what_a_term_pays_for_follows_from_how_it_moves(
    potential: str, weight: float, pays: str, agrees: bool | None
) -> None:
    (term,) = previewed(shaping((potential, weight)), record(MOVING)).terms
    (found,) = term.directions
    assert (found.pays, found.agrees) == (pays, agrees)


def test_every_feature_of_an_expression_has_its_own_direction() -> None:
    (term,) = previewed(shaping(("left * distance + mean(speed)", -1.0)), record(MOVING)).terms
    assert [(each.feature, each.pays, each.agrees) for each in term.directions] == [
        ("left", "lower", True),
        ("distance", "lower", True),
        ("speed", "lower", None),
    ]


def test_what_does_not_move_in_the_record_is_looked_up_in_probed_states() -> None:
    (term,) = previewed(shaping(("max(distance, 2) * left", 1.0)), record({"distance": [1] * 5})).terms
    assert [each.pays for each in term.directions] == ["higher", "higher"] and term.constant  # left is 0 in the record
    config = shaping(("collisions", 1.0))
    (found,) = directions(config.terms[0], Potential(config, SPEC).expressions[0], SPEC, None)
    assert (found.pays, found.agrees) == ("higher", False)


# remarks --------------------------------------------------------------------------------------


def kinds(config: ShapingConfig, good_rise: float = 5.0) -> list[str]:
    return [remark.kind for remark in remarks_on(previewed(config, record(MOVING)), good_rise)]


def test_a_sound_shaping_gets_no_remark() -> None:
    assert kinds(shaping(("distance", -1.0), ("reach", 0.5, "agent"), ("collisions", -0.5))) == []


def test_a_wrong_sign_is_remarked_with_the_term_and_what_is_declared() -> None:
    (remark,) = remarks_on(previewed(shaping(("distance", -1.0), ("collisions", 2.0)), record(MOVING)), 5.0)
    assert remark.kind == "wrong sign"
    assert remark.text == 'term 2 ("collisions", weight 2) pays for higher collisions, declared "lower is better"'


def test_a_strong_term_without_direction_is_remarked() -> None:
    strong = remarks_on(previewed(shaping(("10 * speed", 1.0, "agent"), beta=10.0), record(MOVING)), 5.0)
    assert [remark.kind for remark in strong] == ["no direction", "too strong"]
    assert strong[0].text == (
        'term 1 ("10 * speed", weight 1) rises by up to 16 times good_rise within the recorded episodes, and no '
        "direction of speed is declared to be better"
    )
    assert "16 times good_rise 5; more than 4 times can drown the sparse reward" in strong[1].text
    assert kinds(shaping(("distance", -1.0), ("speed", 5.0, "agent"))) == []  # as much as is usual


@pytest.mark.parametrize(
    ("beta", "expected"), [(0.05, ["too weak"]), (0.08, []), (1.0, []), (2.8, []), (2.9, ["too strong"])]
)
def test_a_strength_far_from_a_good_rise_is_remarked(beta: float, expected: list[str]) -> None:
    """The largest rise is 7 times beta: a tenth of 5 at 0.071, four times at 2.86."""
    assert kinds(shaping(("distance", -1.0), beta=beta)) == expected


def test_the_strength_of_a_bad_policy_is_not_judged_by_where_its_episodes_end() -> None:
    """Agents that come near and go away again feel the potential, though it rises by nothing in the end."""
    config = shaping(("distance", -1.0))
    wandering = previewed(config, record({"distance": [8, 3, 9, 4, 8]}))
    assert wandering.rise.all == pytest.approx(0.0)
    assert remarks_on(wandering, 5.0) == ()
    assert [each.kind for each in remarks_on(previewed(config, record({"distance": [8] * 5})), 5.0)] == ["too weak"]
