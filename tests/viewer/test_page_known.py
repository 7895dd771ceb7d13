"""A page lays out once what it shows again, and never takes one thing for another."""

from __future__ import annotations

from unittest import mock

import pytest

from learning_signal.viewer.page import markup as module
from learning_signal.viewer.page.markup import markup
from learning_signal.viewer.transcript.values import readable, said

TOLD = 'What was measured:\n{"features": [{"name": "speed", "value": 0.5}, {"name": "distance", "value": 2}]}'


def test_what_is_shown_again_is_laid_out_once():
    known: dict = {}
    first = markup(said(TOLD), known)
    assert "speed" in first
    with mock.patch.object(module, "_table", side_effect=AssertionError("laid out again")):
        assert markup(said(TOLD), known) == first
        with pytest.raises(AssertionError, match="laid out again"):
            markup(said(TOLD))  # negative control: nothing is known


@pytest.mark.parametrize("values", [(1, True), (1, 1.0), (0.0, -0.0), ([], {}), ("1", 1), (None, "None")])
def test_values_that_python_holds_equal_or_alike_are_told_apart(values):
    known: dict = {}
    for value in values:
        nested = {"parts": [{"deep": {"value": value, "words": "x" * 100}}]}
        assert markup(readable(nested), known) == markup(readable(nested))
