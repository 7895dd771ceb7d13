"""Numbered placeholders are bound by name: Python 3.14 refuses a sequence for them."""

from __future__ import annotations

import sqlite3

import pytest

from learning_signal.ledger.connection import bound


@pytest.mark.parametrize(
    ("sql", "values", "row"),
    [
        ("SELECT ?1, ?2, ?1", ("a", "b"), ("a", "b", "a")),
        ("SELECT ?, ?", ("a", "b"), ("a", "b")),
        ("SELECT 1", (), (1,)),
    ],
)
def test_values_arrive_in_their_places(sql, values, row):
    connection = sqlite3.connect(":memory:")
    assert connection.execute(sql, bound(sql, values)).fetchone() == row
    connection.close()


def test_only_numbered_placeholders_get_names():
    assert bound("SELECT ?1", iter(["a"])) == {"1": "a"}
    assert bound("SELECT ?", iter(["a"])) == ("a",)
