"""Pack long lists of numbers, and the two functions of SQL that read them.

The functions are those of SQLite's own command line (``sqlite3``), so the views work there, too. Another program that
opens a ledger needs ``sqlar_uncompress`` for the views ``metrics`` and ``episodes``, and for nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from typing import Any

MOST_BYTES = 1 << 28
"""What is packed is never larger when it is unpacked."""


def compressed(data: bytes) -> bytes:
    """``data`` in zlib's format, or as it is where that is no longer."""
    packed = zlib.compress(data, 9)
    return packed if len(packed) < len(data) else data


def uncompressed(packed: bytes, size: int) -> bytes:
    """What was packed into ``packed``, ``size`` bytes long.

    Raises:
        ValueError: it is something else.
    """
    if size == len(packed):
        return packed
    if not 0 < size <= MOST_BYTES:
        raise ValueError(f"a packed column says that it holds {size} bytes, expected 1 to {MOST_BYTES}")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, size)
    except zlib.error as error:
        raise ValueError(f"a packed column cannot be read ({error})") from error
    if len(data) != size or not unpacker.eof:
        raise ValueError(f"a packed column does not hold the {size} bytes that it should")
    return data


def packed_json(text: str) -> dict[str, Any]:
    """The columns ``packed`` and ``size`` of a JSON text."""
    data = text.encode()
    return {"packed": compressed(data), "size": len(data)}


def unpacked_json(row: dict[str, Any]) -> Any:
    """The JSON that the columns ``packed`` and ``size`` of a row hold; ``ValueError`` where they hold none."""
    if row["packed"] is None or row["size"] is None:
        raise ValueError("a packed column holds nothing: what it was made of is lost")
    return json.loads(uncompressed(row["packed"], row["size"]))


def add_functions(connection: sqlite3.Connection) -> None:
    """Make the two functions known to a connection."""
    connection.create_function("sqlar_compress", 1, compressed, deterministic=True)
    connection.create_function("sqlar_uncompress", 2, uncompressed, deterministic=True)
