"""Several sessions in one picture, with intervals over seeds; and pictures as SVG, PNG and PDF."""

from __future__ import annotations

import io
import json
import re
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from learning_signal import run
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.across.order import median_interval
from learning_signal.ledger.read.across.seeds import curves_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.pictures.files import write_picture
from learning_signal.viewer.pictures.shapes import Shape, Words, read
from learning_signal.viewer.reports.seeds_plot import draw_sessions
from tests.support.ledger_helpers import tamper
from tests.support.session_helpers import run_inline, tiny_settings

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of one configuration, and one with another; only their training is synthetic."""
    settings = tiny_settings(tmp_path_factory.mktemp("plotted"))
    for seed in range(3):
        assert run_inline(settings.model_copy(update={"seed": seed})).status == "done"
    other = settings.model_copy(update={"agents": settings.agents | {"generator": "random"}})
    assert run_inline(other).status == "done"
    return settings.ledger


@pytest.fixture(scope="module")
def ids(ledger: Path) -> list[str]:
    with Reader.open(ledger) as reader:
        return reader.session_ids()[::-1]


def test_sessions_that_differ_in_their_seed_are_one_line_in_a_band(ledger: Path, ids: list[str]) -> None:
    with Reader.open(ledger) as reader:
        found = curves_of(reader, ids)
    assert [group.seeds for group in found.groups] == [(0, 1, 2), (0,)]
    together, alone = found.groups
    assert together.label == "mappo, rules" and "generator random" in alone.label
    assert together.level == 0.75, "1 - 2 / 2**3: the smallest to the largest of three"
    for place in (together.band[0], together.band[-1]):
        values = []
        for curve in together.curves:
            before = max(point for point in curve.points if point[0] <= place.total_env_steps + 1e-6)
            after = min(point for point in curve.points if point[0] >= place.total_env_steps - 1e-6)
            values += [before[1]] if before[0] == after[0] else [
                before[1] + (after[1] - before[1]) * (place.total_env_steps - before[0]) / (after[0] - before[0])
            ]  # fmt: skip
        assert place.median == pytest.approx(statistics.median(values))
        assert (place.low, place.high) == (pytest.approx(min(values)), pytest.approx(max(values)))
    assert together.band[-1].total_env_steps == min(curve.points[-1][0] for curve in together.curves)
    assert alone.band == () and alone.level is None
    drawn = ET.fromstring(draw_sessions(found))
    assert len(list(drawn.iter(f"{SVG}polygon"))) == 1 and len(list(drawn.iter(f"{SVG}polyline"))) == 5
    said = " ".join(text.text or "" for text in drawn.iter(f"{SVG}text"))
    assert "median of 3 seeds (0, 1, 2); band: holds the median with probability 0.75" in said
    assert "one session, seed 0" in said


def test_the_interval_of_many_values_leaves_out_the_outermost() -> None:
    assert median_interval([3.0, 1.0, 2.0, 5.0, 4.0]) == (1.0, 5.0, 0.9375)
    assert median_interval(list(range(9))) == (1, 7, pytest.approx(0.9609375)), "k = 2 of 9 still reaches 0.95"
    assert median_interval([4.0]) == (4.0, 4.0, 0.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE sessions SET task = 'spread'", None),
        ("UPDATE bodies SET body = replace(body, '\"task\":\"spread\"', '\"task\":\"pursuit\"') "
         "WHERE hash = (SELECT config FROM sessions WHERE seed = 2)", "Found sessions of 2 tasks (spread, pursuit)"),
        ("UPDATE sessions SET seed = 1 WHERE seed = 2", "have the same configuration and seed 1"),
        ("DELETE FROM evaluations WHERE session_id = (SELECT id FROM sessions WHERE seed = 1)", "has no sparse return"),
    ],
)  # fmt: skip
def test_sessions_that_are_no_samples_of_one_thing_are_refused(
    ledger: Path, ids: list[str], tmp_path: Path, change: str, sentence: str | None
) -> None:
    path = tmp_path / "changed.db"
    path.write_bytes(ledger.read_bytes())
    tamper(path, change)
    with Reader.open(path) as reader:
        if sentence is None:
            assert curves_of(reader, ids[:3])
            return
        with pytest.raises(LedgerError, match=re.escape(sentence)):
            curves_of(reader, ids[:3])


def test_the_command_draws_as_the_name_of_the_file_says(
    ledger: Path, ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["log", "plot", *ids, ids[0], "--measure", "progress", "--ledger", str(ledger)]
    assert run.run([*given, "--to", str(tmp_path / "a.png"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["measure"] == "progress" and len(shown["groups"]) == 2, "a session that is named twice is drawn once"
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1616, 2 * (44 + 2 * 18 + 260 + 52))
        colours = {colour for _, colour in image.getcolors(1 << 24)}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (255, 255, 255)} <= colours
    assert run.run([*given, "--to", str(tmp_path / "a.jpeg")]) == 2
    assert "expected a name that ends in .svg, .png, .pdf" in capsys.readouterr().err
    assert run.run(given) == 0 and (ledger.parent / "curves.svg").is_file()


def test_a_pdf_has_its_objects_where_its_table_says(ledger: Path, tmp_path: Path) -> None:
    assert run.run(["log", "plot", "--ledger", str(ledger), "--to", str(tmp_path / "a.pdf")]) == 0
    file = (tmp_path / "a.pdf").read_bytes()
    assert file.startswith(b"%PDF-1.4") and file.endswith(b"%%EOF\n")
    table = int(re.findall(rb"startxref\n(\d+)", file)[0])
    assert file[table : table + 4] == b"xref"
    places = [int(each) for each in re.findall(rb"(\d{10}) 00000 n", file)]
    assert len(places) == 7 and all(file[at:].startswith(f"{n} 0 obj".encode()) for n, at in enumerate(places, 1))
    content = re.search(rb"/Length (\d+) >>\nstream\n(.*)\nendstream", file, re.S)
    assert int(content[1]) == len(content[2])
    assert b"(sparse return) Tj" in content[2] and b"/F2 12 Tf" in content[2], "marks are in a font that has them"


def test_a_picture_is_read_in_absolute_places_with_the_colours_of_a_light_page(tmp_path: Path) -> None:
    picture = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="50" height="40"><style>.a { fill: #010203 } @media (x) '
        '{ .a { fill: #ffffff } }</style><g transform="translate(10 20)" font-size="9" class="a">'
        '<text x="1" y="2" text-anchor="end">Ünï (a\\b) 漢</text><circle cx="3" cy="4" r="2" '
        'fill="none" stroke="#0000ff"/><polyline points="0,0 5,5" fill="none" stroke="#ff0000"/></g></svg>'
    )
    words, circle, line = read(picture).parts
    assert words == Words("Ünï (a\\b) 漢", (11, 22), 9, "end", False, False, (1, 2, 3))
    assert circle == Shape("circle", ((13, 24),), None, 1, (0, 0, 255), 1, 2)
    assert line == Shape("line", ((10, 20), (15, 25)), None, 1, (255, 0, 0), 1)
    for name in ("a.png", "a.pdf"):
        write_picture(picture, tmp_path / name)
    assert b"(\xdcn\xef \\(a\\\\b\\) ?) Tj" in (tmp_path / "a.pdf").read_bytes()
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).size == (100, 80)
    with pytest.raises(ValueError, match="has no <image>"):
        read('<svg xmlns="http://www.w3.org/2000/svg"><image/></svg>')
