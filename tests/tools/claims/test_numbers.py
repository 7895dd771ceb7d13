"""Numbers as they are written: what counts as one, and which values it may stand for."""

from __future__ import annotations

import random

import pytest

from learning_signal.tools.claims.numbers import written_numbers


def read(text: str) -> list[str]:
    return [each.text for each in written_numbers(text)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.60", 1.598),
        ("1.6", 1.598),
        ("25 %", 0.25),
        ("25%", 0.2512),
        ("25 percent", 25.3),
        ("50 k", 50_000),
        ("50k", 50_120),
        ("50,000", 50_000),
        ("1.5 M", 1_540_000),
        ("150,000", 150_400),
        ("150,400", 150_400),
        ("0.03125", 0.03125),
        ("3e-05", 0.00003),
        ("-0.39", -0.388),
        ("−0.39", -0.388),
        ("+0.21", 0.2096),
        ("0.014", -0.0141),  # "fell by 0.014"
        ("0", 0.0),
        (".25", 0.25),
    ],
)
def test_a_number_stands_for_a_value_that_is_rounded_so(written, value):
    (number,) = written_numbers(f"It is {written} now.")
    assert number.text == written and number.fits(value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.60", 1.61),
        ("24.9", 0.24),
        ("25 %", 0.26),
        ("0.25", 25.0),
        ("50 k", 50),
        ("50 k", 51_000),
        ("150,400", 150_900),
        ("+0.21", -0.21),
        ("-0.39", 0.39),
        ("0", 0.04),
    ],
)
def test_a_number_stands_for_no_other_value(written, value):
    (number,) = written_numbers(f"It is {written} now.")
    assert not number.fits(value)


@pytest.mark.parametrize(
    "text",
    [
        "as E2, c1, P1, B7 and C4 show",
        "on Foraging-10x10-3p-3f-v3 and rware-tiny-2ag-easy-v2",
        "food_2 and distance_to_3",
        "Shape in this order: 1. distance. 2. share. 3. speed.",
        "1) distance 2) share",
        "one of them, and two thirds",
        "3 agents on 5 seeds in round 2",
        "of the form `exp(-x / 2) - 1`",
    ],
)
def test_names_lists_and_counts_are_no_numbers(text):
    assert read(text) == []


def test_what_looks_like_a_list_but_is_none_counts():
    assert read("The sparse return is 25. All is well.") == ["25"]
    assert read("It is: 3. That is much.") == ["3"]
    assert read("`0.25` is quoted, 4.4-4.8 is a range") == ["0.25", "4.4", "4.8"]


def test_every_usual_way_to_round_a_value_fits_it():
    rng = random.Random(0)
    for _ in range(2000):
        value = rng.choice([1, 1, -1]) * 10 ** rng.uniform(-4, 6)
        forms = [f"{value:.{digits}g}" for digits in (1, 2, 3, 4)] + [f"{value:.3f}", f"{value:+.3g}"]
        if abs(value) >= 1000:
            forms += [f"{value:,.0f}", f"{value / 1000:.0f} k", f"{round(value, -3):,.0f}"]
        if abs(value) < 1:
            forms += [f"{100 * value:.0f} %", f"{100 * value:.1f}%"]
        for form in forms:
            for number in written_numbers(f"It is {form} of it."):
                assert number.fits(value), (form, value)


@pytest.mark.parametrize("text", ["0.25", "+0.25", "-3", "25 %", "50 k", "0", "150,000", "1e-3"])
def test_a_number_fits_one_of_many_values_where_it_fits_one_alone(text):
    (number,) = written_numbers(f"It was {text}")
    values = [*(sign * size for sign in (1, -1) for size in (0.0, 0.0011, 0.25, 0.2549, 0.256, 3, 25, 50_120, 150_400))]
    fitting = [value for value in values if number.fits(value)]
    assert number.fits_any(values) is bool(fitting)
    assert [value for value in values if number.fits_any([value])] == fitting
