"""Playing: scores are those of the episodes, the same seed plays the same ones, and films show what happened."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from learning_signal.marl.learners import make_learner
from learning_signal.marl.policies.files import LoadedPolicy, MeasuredReturn, PolicyDescription
from learning_signal.marl.policies.play import BATCH, NoHeuristic, Played, PlayError, film, play, show
from learning_signal.marl.settings import LearnerSettings
from tests.support.sanity_tasks import Cue, make_sanity_task


def untrained(name: str, sampled: bool = False) -> LoadedPolicy:
    """A policy with new weights."""
    spec, settings = make_sanity_task(name, 1).spec, LearnerSettings(hidden=(8, 8))
    measured = MeasuredReturn(episodes=2, sparse_return=0, low=0, high=0, progress=None, policy="sampled")
    description = PolicyDescription.of(
        spec, settings, env_steps=0, segment="s0", shaping={}, evaluation=measured, code_version="0"
    )
    return LoadedPolicy(make_learner(spec, settings, 0).policy, description, sampled=sampled, seed=0)


@pytest.mark.parametrize("name", ["cue", "cue-varied", "cue-varied-terminates", "number", "crew-leaving"])
def test_the_heuristic_scores_and_a_new_policy_hardly_does(name):
    episodes = 40
    best = play(name, None, episodes, 0, make_task=make_sanity_task)
    poor = play(name, untrained(name), episodes, 0, make_task=make_sanity_task)
    assert best.returns.shape == best.lengths.shape == best.progress.shape == (episodes,)
    assert best.score().sparse_return > poor.score().sparse_return + 0.3
    # The same episodes, whoever plays; how long one lasts is set by its seed.
    np.testing.assert_array_equal(best.seeds, poor.seeds)
    np.testing.assert_array_equal(best.lengths, poor.lengths)
    assert (len(set(best.lengths)) > 1) == ("varied" in name)


def test_batches_change_nothing_and_seeds_do(monkeypatch):
    whole = play("cue-varied", None, 25, 7, make_task=make_sanity_task)
    monkeypatch.setattr(
        "learning_signal.marl.policies.play.BATCH", 10
    )  # the last batch is filled up with episodes that do not count
    parts = play("cue-varied", None, 25, 7, make_task=make_sanity_task)
    for field in ("seeds", "lengths", "returns", "progress", "actions"):
        np.testing.assert_array_equal(getattr(whole, field), getattr(parts, field))
    other = play("cue-varied", None, 25, 8, make_task=make_sanity_task)
    assert (other.seeds != whole.seeds).all() and BATCH > 25


def test_a_score_is_the_statistics_of_its_episodes():
    returns = np.array([0.0, 0.0, 2.0, 6.0])
    played = Played(np.arange(4), np.zeros((1, 4, 1)), np.array([1, 2, 3, 4]), returns, None)
    score = played.score()
    # Student's t with 3 degrees of freedom: 3.1824 standard errors.
    half = 3.182446 * returns.std(ddof=1) / 2
    assert (score.sparse_return, score.scored, score.steps, score.progress) == (2.0, 0.5, 2.5, None)
    assert (score.low, score.high) == pytest.approx((2 - half, 2 + half), rel=1e-5)
    assert score.sparse_returns == (0.0, 0.0, 2.0, 6.0)


def test_the_best_and_the_median_episode():
    def notable(returns, progress=None):
        count = len(returns)
        progress = None if progress is None else np.array(progress)
        return Played(np.arange(count), np.zeros(0), np.ones(count), np.array(returns), progress).notable()

    assert notable([1.0, 5.0, 3.0, 2.0, 4.0]) == {"best": 1, "median": 2}
    assert notable([0.0, 0.0, 0.0], [0.1, 0.9, 0.4]) == {"best": 1, "median": 2}  # progress decides between equals
    assert notable([2.0, 2.0, 1.0])["best"] == 0


def test_show_plays_measures_and_films(tmp_path):
    steps = []
    shown = show(
        "cue-varied",
        untrained("cue", sampled=True),
        20,
        0,
        tmp_path / "films",
        lambda *at: steps.append(at),
        make_sanity_task,
    )
    assert list(shown.scores) == ["policy (sampled)", "policy (greedy)", "heuristic"]
    assert shown.scores["heuristic"].scored == 1.0
    assert steps[-1][0] <= steps[-1][1]
    for name, path in shown.animations.items():
        assert path == tmp_path / "films" / f"{name}.gif"
        with Image.open(path) as image:
            assert image.format == "GIF" and image.n_frames >= 2


def test_a_film_has_a_picture_of_every_state(tmp_path, monkeypatch):
    captions = []
    monkeypatch.setattr(
        "learning_signal.marl.policies.play.animate",
        lambda pictures, path: captions.extend(p.caption for p in pictures),
    )
    played = play("cue-varied", None, 10, 0, make_task=make_sanity_task)
    film("cue-varied", played, 3, tmp_path / "x.gif", "best of 10", make_sanity_task)
    length = int(played.lengths[3])
    assert len(captions) == length + 1
    assert captions[0] == f"best of 10: step 0 of {length}, return 0"
    assert captions[-1] == f"best of 10: step {length} of {length}, return {played.returns[3]:g}"


def test_an_episode_that_is_not_a_function_of_its_seed_is_noticed(tmp_path):
    played = play("cue", None, 10, 0, make_task=make_sanity_task)
    played.seeds[3] += 1  # as if the seed did not decide
    with pytest.raises(PlayError, match="check-env"):
        film("cue", played, 3, tmp_path / "x.gif", "best", make_sanity_task)


def test_what_cannot_be_played_is_one_sentence(tmp_path):
    class Silent(Cue):
        def heuristic(self):
            return None

    with pytest.raises(NoHeuristic, match="The task cue has no heuristic"):
        play("cue", None, 4, 0, make_task=lambda name, count: Silent(count))
    shown = show("cue", untrained("cue"), 4, 0, tmp_path, make_task=lambda name, count: Silent(count))
    assert list(shown.scores) == ["policy (greedy)", "policy (sampled)"]
    with pytest.raises(PlayError, match="Found 1 episodes, expected 2 to 1,000,000"):
        play("cue", None, 1, 0, make_task=make_sanity_task)


def test_a_task_is_closed_whatever_happens():
    closed = []

    class Closing(Cue):
        def close(self):
            closed.append(True)

        def heuristic(self):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        play("cue", None, 4, 0, make_task=lambda name, count: Closing(count))
    assert closed == [True]
