"""A picture as PDF: lines and text that can be enlarged, on one page of its size (72 pixels to the inch)."""

from __future__ import annotations

from learning_signal.viewer.pictures.marks import MARKS, runs
from learning_signal.viewer.pictures.shapes import Colour, Drawing, Shape, Words

# Advance widths of Helvetica in thousandths of its size, from the space on (Adobe's metrics of the standard fonts).
WIDTHS = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip
OTHER_WIDTH, MARK_WIDTH = 556, 762
BOLDER = 1.06
"""How much wider bold text is, about."""
CIRCLE = 0.5523
"""Control points of a Bezier curve that comes closest to a quarter of a circle, in radii."""
FONTS = ("Helvetica", "Helvetica-Bold", "ZapfDingbats")


def pdf(drawing: Drawing) -> bytes:
    """The bytes of the file. A character that its font lacks is "?"."""
    states = {1.0: "G0"}
    content: list[str] = [f"1 0 0 -1 0 {drawing.height:g} cm"]  # from the top left corner down, as in the picture
    for part in drawing.parts:
        content += _shape(part, states) if isinstance(part, Shape) else ["/G0 gs", *_words(part)]
    stream = "\n".join(content).encode("cp1252", "replace")
    fonts = " ".join(f"/F{number} {number + 5} 0 R" for number in range(len(FONTS)))
    opacities = " ".join(f"/{name} << /ca {opacity:g} >>" for opacity, name in states.items())
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {drawing.width:g} {drawing.height:g}] /Contents 4 0 R "
        f"/Resources << /Font << {fonts} >> /ExtGState << {opacities} >> >> >>".encode(),
        f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream",
        *(f"<< /Type /Font /Subtype /Type1 /BaseFont /{name}{_encoding(name)} >>".encode() for name in FONTS),
    ]
    file, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(file))
        file += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return file + f"{end}startxref\n{len(file)}\n%%EOF\n".encode()


def _encoding(font: str) -> str:
    return "" if font == "ZapfDingbats" else " /Encoding /WinAnsiEncoding"


def _shape(shape: Shape, states: dict[float, str]) -> list[str]:
    path = _circle(shape) if shape.kind == "circle" else _path(shape)
    state = states.setdefault(shape.opacity, f"G{len(states)}")
    lines = []
    if shape.fill is not None and shape.kind != "line":
        lines += [f"/{state} gs {_colour(shape.fill)} rg", *path, "f"]
    if shape.stroke is not None:
        lines += [f"{_colour(shape.stroke)} RG {shape.width:g} w", *path, "s" if shape.kind == "polygon" else "S"]
    return lines


def _path(shape: Shape) -> list[str]:
    return [f"{x:.2f} {y:.2f} {'l' if number else 'm'}" for number, (x, y) in enumerate(shape.points)]


def _circle(shape: Shape) -> list[str]:
    (x, y), r = shape.points[0], shape.radius
    c = r * CIRCLE
    quarters = (
        (x + r, y + c, x + c, y + r, x, y + r),
        (x - c, y + r, x - r, y + c, x - r, y),
        (x - r, y - c, x - c, y - r, x, y - r),
        (x + c, y - r, x + r, y - c, x + r, y),
    )
    return [f"{x + r:.2f} {y:.2f} m", *(" ".join(f"{each:.2f}" for each in quarter) + " c" for quarter in quarters)]


def _words(words: Words) -> list[str]:
    scale = words.size / 1000 * (BOLDER if words.bold else 1)
    pieces = [(piece, _length(piece) * scale) for piece in runs(words.text)]
    length = sum(width for _, width in pieces)
    done = -{"start": 0.0, "middle": length / 2, "end": length}[words.anchor]
    x, y = words.at
    lines = [f"{_colour(words.colour)} rg"]
    for piece, width in pieces:
        mark = MARKS.get(piece)
        font, text = (2, mark.dingbat) if mark else (1 if words.bold else 0, piece)
        # Text stands on its head in a page that is turned around, unless it is turned as well.
        turned = f"0 -1 -1 0 {x:.2f} {y - done:.2f}" if words.upright else f"1 0 0 -1 {x + done:.2f} {y:.2f}"
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        lines.append(f"BT /F{font} {words.size:g} Tf {turned} Tm ({escaped}) Tj ET")
        done += width
    return lines


def _length(piece: str) -> float:
    """In thousandths of the size."""
    if piece in MARKS:
        return MARK_WIDTH
    return sum(WIDTHS[ord(each) - 32] if 32 <= ord(each) < 127 else OTHER_WIDTH for each in piece)


def _colour(colour: Colour) -> str:
    return " ".join(f"{part / 255:.3f}" for part in colour)
