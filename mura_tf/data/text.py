"""Text files as people's programs write them."""

import codecs
import csv
import io
import json
import os
import re
import reprlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",  # what PowerShell's > writes
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its byte order mark.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is neither; the message names the line.
    """
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line} is not {encoding.removesuffix('-sig').upper()}. Save the file as UTF-8"
        ) from None


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
        ValueError: it does not hold one object, or names something twice.
    """
    try:
        settings = json.loads(read_text(path), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError
        raise ValueError(f"{path} must be JSON: {error}.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold one JSON object. Received: {reprlib.repr(settings)}.")
    return settings


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if twice := [name for name in found if [key for key, _ in pairs].count(name) > 1]:
        raise ValueError(f"{', '.join(map(repr, twice))} is given more than once")
    return found


def read_table(source: str | os.PathLike[str] | IO[Any], **settings: Any) -> "pd.DataFrame":
    """`pandas.read_csv`, which takes the first cells of rows for their names if there are surplus.

    Raises:
        ValueError: the rows have more cells than the header, or pandas cannot read them.
    """
    import pandas as pd

    table = pd.read_csv(source, **settings)
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError("its rows have more cells than its header has names")
    return table


def read_cells(text: str) -> "pd.DataFrame":
    """The cells of a CSV's text, as text; commas, semicolons or tabs part them.

    Returns:
        The columns under their names in lower case; the index counts the lines below the first, as
        long as no cell has several. Empty ones are left out.

    Raises:
        ValueError: see `read_table`; a column twice.
    """
    begun = text.lstrip("\r\n")
    header = re.split(r"[\r\n]", begun, maxsplit=1)[0]
    separator = max(",;\t", key=header.count)
    try:
        cells = next(csv.reader([header], delimiter=separator), [])
    except csv.Error as error:  # no ValueError
        raise ValueError(str(error)) from None
    names = [name.strip().lower() for name in cells]
    if again := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
        raise ValueError(f"the column {again[0]} twice")
    table = read_table(
        io.StringIO(begun), sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False
    )
    table.index += len(text.splitlines()) - len(begun.splitlines())
    table.columns = table.columns.str.strip().str.lower()
    return table[table.apply(lambda column: column.str.strip() != "").any(axis=1)]


def beside(folder: str | os.PathLike[str], path: str) -> str:
    """`path`, or that path in `folder` if it is there: what a CSV in `folder` means by it."""
    joined = os.path.join(folder, path)
    return joined if joined != path and os.path.exists(joined) else path


def is_csv(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".csv"
