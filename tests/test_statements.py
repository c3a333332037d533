"""The table of every statement of the documents, in experiments/README.md, is whole and true."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("000", "001", "002", "003", "004")


def statements():
    """(document, statement, place, answer) of each row."""
    text = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    section = text.split("\n## Every statement of the documents\n")[1].split("\n## ")[0]
    rows = []
    for part in section.split("\n### ")[1:]:
        document = part[:3]
        lines = [line for line in part.splitlines() if line.startswith("| ")]
        assert lines[:2] == ["| statement | place | here |", "| --- | --- | --- |"]
        for line in lines[2:]:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 3, line
            rows.append((document, *cells))
    return rows


ROWS = statements()


@cache
def said(path):
    """The texts of a Python file, whole where they go over several lines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (getattr(part, "value", "") for part in node.values)
            texts.append("".join(part for part in parts if isinstance(part, str)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return [" ".join(text.split()) for text in texts]


def test_every_document_is_there_and_no_statement_twice():
    assert sorted({document for document, *_ in ROWS}) == list(DOCUMENTS)
    assert len(ROWS) >= 130
    assert len({row[:3] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1][:50]}")
def test_a_statement_has_its_answer(row):
    _, statement, place, answer = row
    assert statement and place
    kind, _, rest = answer.partition(": ")
    assert kind in ("exact", "chosen", "left out")
    files = [name for name in re.findall(r"`([^`]+)`", answer) if re.fullmatch(r"[\w/.]+", name)]
    files = [name for name in files if "/" in name]
    assert all((ROOT / name).is_file() for name in files), files
    if kind == "left out":
        assert len(rest.split()) >= 2
        return
    assert files, "where it is"
    if kind == "chosen":
        quoted = re.match(r'"(.+?)" \(`([^`]+)`\)', rest)
        assert quoted, "the words in which it is told, and their file"
        assert any(quoted[1] in text for text in said(quoted[2])), quoted[1]
