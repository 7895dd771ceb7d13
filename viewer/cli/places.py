"""Where a command writes what it makes of a session: beside the log, or where ``--to`` says."""

from __future__ import annotations

from pathlib import Path

from learning_signal.viewer.links import refuse_link


class PlaceError(Exception):
    """A place cannot be written to; one sentence."""


def place_for(ledger: Path, session: str, name: str, to: Path | None) -> Path:
    """``to``, or ``name`` in the session's folder beside the log; the folder that it lies in is made.

    Raises:
        PlaceError: that folder cannot be made or written to, as beside the log of somebody else, or ``to`` is a named
            pipe, which waits for a reader.
        LinkedElsewhere: it, or what would be written, is a link that leads elsewhere.
    """
    if to is None and session:
        refuse_link(ledger.parent / session)
    if to is not None and to.is_fifo() and not to.is_relative_to("/dev"):
        raise PlaceError(f"{to} is a named pipe, expected a file or a new one: name one with --to.")
    place = refuse_link(ledger.parent / session / name if to is None else to)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(place, error) from error
    return place


def refused(place: Path, error: OSError) -> PlaceError:
    """What a user reads who may not write ``place``."""
    why = (error.strerror or "unknown reason").lower()
    return PlaceError(f"{place} cannot be written ({why}), expected a place that you may write to: name one with --to.")
