"""A picture in a file, in the format that the end of its name says."""

from __future__ import annotations

from pathlib import Path

FORMATS = (".svg", ".png", ".pdf")


class PictureError(Exception):
    """A picture cannot be written so; one sentence."""


def refuse_other_forms(file: Path | None) -> None:
    """``PictureError`` where the name ends like no format that a picture has."""
    if file is not None and file.suffix.lower() not in FORMATS:
        raise PictureError(f"Found {file.name!r}, expected a name that ends in {', '.join(FORMATS)}.")


def write_picture(svg: str, file: Path) -> None:
    """Write what the viewer drew as SVG; ``OSError`` where the file cannot be written."""
    from learning_signal.viewer.pictures.pdf import pdf
    from learning_signal.viewer.pictures.png import png
    from learning_signal.viewer.pictures.shapes import read

    refuse_other_forms(file)
    match file.suffix.lower():
        case ".png":
            file.write_bytes(png(read(svg)))
        case ".pdf":
            file.write_bytes(pdf(read(svg)))
        case _:
            file.write_text(svg, encoding="utf-8")
