"""The notebooks: listed, short of definitions, executed, and light enough for the web."""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 420_000
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
LOOPS = (ast.For, ast.While)

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_every_notebook_is_listed():
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[.+?\]\((.+?\.ipynb)\) \|", table, flags=re.MULTILINE)
    assert listed == [path.name for path in NOTEBOOKS]


@each
def test_it_defines_nothing(path):
    for cell in cells(path, "code"):
        lines = [line for line in cell["source"] if not line.startswith("%")]
        nodes = list(ast.walk(ast.parse("".join(lines))))
        assert not [ast.unparse(node) for node in nodes if isinstance(node, DEFINITIONS + LOOPS)]


@each
def test_its_first_cell_says_what_it_is_not(path):
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
    assert first["cell_type"] == "markdown"
    assert "**Not a medical device.**" in "".join(first["source"])


@each
def test_it_was_executed_in_order_and_shows_pictures(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    noise = [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    assert not noise
    printed = [line for one in outputs if one["output_type"] == "stream" for line in one["text"]]
    assert not [line for line in printed if "WARNING" in line]


@each
def test_it_is_light(path):
    assert path.stat().st_size <= MOST_BYTES
