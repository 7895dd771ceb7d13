"""The tables of a session as files: CSV, and Parquet with types."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.columns import TABLES
from learning_signal.ledger.read.tables.tables import table
from learning_signal.viewer.exports.files import of_extra
from learning_signal.viewer.links import refuse_link
from learning_signal.viewer.text import visible


def write_csv(reader: Reader, session: str, folder: Path) -> None:
    """A CSV file for each table; a missing value is empty."""
    folder.mkdir(exist_ok=True)
    for name, columns in TABLES.items():
        with refuse_link(folder / f"{name}.csv").open("w", newline="", encoding="utf-8", errors="replace") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows([_cell(each) for each in row.values()] for row in table(reader, name, session))


def _cell(value: Any) -> Any:
    """A value in a table without what a terminal acts on; what a spreadsheet would take for a formula is quoted."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def write_parquet(reader: Reader, session: str, folder: Path) -> None:
    """A Parquet file for each table, with the meaning of every column in its schema.

    Raises:
        ExportError: pyarrow is not installed.
    """
    pyarrow, parquet = of_extra("pyarrow", "parquet"), of_extra("pyarrow.parquet", "parquet")
    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    folder.mkdir(exist_ok=True)
    for name, columns in TABLES.items():
        schema = pyarrow.schema(
            [
                pyarrow.field(column, types[kind], metadata={"meaning": meaning})
                for column, (kind, meaning) in columns.items()
            ]
        )
        made = pyarrow.Table.from_pylist(table(reader, name, session), schema=schema)
        parquet.write_table(made, refuse_link(folder / f"{name}.parquet"))
