"""Pictures: shapes and pixels become images and GIF files that show what was meant."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from learning_signal.marl.tasks.picture import CAPTION_SIZE, COLOURS, PAPER, Picture, Shape, animate, render


def picture(step, **changes):
    shapes = (
        Shape("square", 2.0, 1.0, 0.9, "floor"),
        Shape("disc", 1.0 + 0.2 * step, 1.0, 0.5, "agent"),
        Shape("square", 3.0, 1.0, 0.25, "goal", "7"),
    )
    return Picture(**{"width": 4.0, "height": 2.0, "shapes": shapes, "caption": f"step {step} of 5", **changes})


def frames_of(path):
    """Every frame as ``[height, width, 3]``, every frame's duration in milliseconds, and the loop count."""
    with Image.open(path) as image:
        frames, durations = [], []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return frames, durations, image.info["loop"]


def test_an_animation_has_every_frame_and_holds_the_last(tmp_path):
    animate([picture(step) for step in range(6)], tmp_path / "episode.gif", milliseconds=100)
    frames, durations, loop = frames_of(tmp_path / "episode.gif")
    assert durations == [100] * 5 + [1500] and loop == 0  # 0: for ever
    assert all(frame.shape[1] == 360 and 180 < frame.shape[0] < 220 for frame in frames)


def test_shapes_have_exactly_their_colours(tmp_path):
    animate([picture(0), picture(5)], tmp_path / "episode.gif")
    (first, last), *_ = frames_of(tmp_path / "episode.gif")
    assert tuple(first[90, 90]) == COLOURS["agent"] and tuple(last[90, 180]) == COLOURS["agent"]
    assert tuple(last[90, 90]) == PAPER and tuple(first[90, 180]) == COLOURS["floor"]
    assert tuple(first[75, 255]) == COLOURS["goal"]


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_survives_the_palette(tmp_path, colour):
    animate([picture(0, shapes=(Shape("disc", 2.0, 1.0, 0.8, colour),))], tmp_path / "one.gif")
    (frame,), *_ = frames_of(tmp_path / "one.gif")
    assert tuple(frame[90, 180]) == COLOURS[colour]


def test_a_disc_is_round_with_smooth_edges():
    shown = render(picture(0, shapes=(Shape("disc", 2.0, 1.0, 0.5, "ink"),), caption=""))
    assert shown.shape == (180, 360, 3) and shown.dtype == np.uint8
    darkness = (255.0 - shown[..., 0]) / (255 - COLOURS["ink"][0])
    assert darkness.sum() == pytest.approx(np.pi * 45**2, rel=0.02)
    assert ((darkness > 0.1) & (darkness < 0.9)).sum() > 100, "no pixel is between ink and paper: jagged edges"
    np.testing.assert_allclose(darkness.sum(axis=0)[135:225], darkness.sum(axis=1)[45:135], atol=2.0)


def test_labels_and_captions_are_written():
    plain, labelled = (picture(0, shapes=(Shape("disc", 2.0, 1.0, 0.5, "agent", label),)) for label in ("", "3"))
    label = (render(plain) != render(labelled)).any(axis=-1)
    rows, columns = np.nonzero(label)
    assert 20 < np.ptp(rows) < 60 and abs(rows.mean() - 90) < 4 and abs(columns.mean() - 180) < 4
    caption = (render(picture(0))[180:] != 255).any(axis=-1)
    assert caption.any() and not (render(picture(0, caption="  "))[180:] != 255).any()
    assert np.ptp(np.nonzero(caption)[0]) < CAPTION_SIZE


def test_a_long_caption_takes_lines_and_all_frames_have_room_for_it(tmp_path):
    long = picture(1, caption="step 1 of 5, " * 9)
    assert len(render(long)) > len(render(picture(1))) > len(render(picture(1, caption="")))
    assert not (render(long)[180:, [0, 1, -2, -1]] != 255).any(), "the caption is cut off at the sides"
    animate([picture(0), long], tmp_path / "episode.gif")
    assert {frame.shape for frame in frames_of(tmp_path / "episode.gif")[0]} == {render(long).shape}


def test_pixels_are_passed_through_and_scaled(tmp_path):
    pixels = np.zeros((60, 120, 3), np.uint8)
    pixels[:, :60] = (200, 30, 90)
    shown = render(Picture(120, 60, pixels=pixels))
    assert shown.shape == (180, 360, 3)
    assert tuple(shown[90, 90]) == (200, 30, 90) and tuple(shown[90, 300]) == (0, 0, 0)
    animate([Picture(120, 60, pixels=pixels), Picture(120, 60, pixels=255 - pixels)], tmp_path / "pixels.gif")
    (first, second), *_ = frames_of(tmp_path / "pixels.gif")
    np.testing.assert_allclose(first[90, 90], (200, 30, 90), atol=3)
    np.testing.assert_allclose(second[90, 90], (55, 225, 165), atol=3)


def test_no_pictures_and_pictures_of_several_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="animate got no pictures, expected at least one"):
        animate([], tmp_path / "episode.gif")
    with pytest.raises(ValueError, match="pictures of 2 sizes .* expected one size"):
        animate([picture(0), picture(1, width=5.0)], tmp_path / "episode.gif")
    assert not (tmp_path / "episode.gif").exists()


def test_the_same_pictures_are_the_same_file(tmp_path):
    for name in ("one.gif", "two.gif"):
        animate([picture(step) for step in range(3)], tmp_path / name)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "two.gif").read_bytes()
