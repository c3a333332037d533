"""Writes the site's pages into build/docs: README.md, docs/*.md and everything that they link to.

    python docs/build.py && mkdocs build --strict

The tree is the repository's, so that one link serves on a code host and on the site. Markdown is
taken as it lies, with what `made.py` makes from the code. A notebook becomes a page with its
pictures beside it, a folder one that lists it, a Python or JSON file one that shows it; other files
are copied. A link to nothing ends it.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import made
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

from mura_tf.reports.style import COLOURS

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "docs"
SHOWN = {".py": "python", ".json": "json"}
"""What has a page that shows it, and its language."""
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(?<=\]\()(?!\w+:|#)[^)\s]+|(?<= src=")(?!\w+:)[^"]+')
_SVG = re.compile(r"(!\[[^]]*\]\([^)\s]+)\.svg\)")
_INTERVAL = re.compile(r"(?<=\d) to (?=-?\d)")
_OPTION = re.compile(r"`(--[^`]{1,30})`(?!\{)")
_NAME = re.compile(r"(?<!\[)`mt\.(\w+)`(?!\])")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    for name, text in made.files().items():
        _write(OUT / name, text)
    docs, done = ROOT / "docs", set()
    waiting = [ROOT / "README.md", *docs.glob("*.md"), *docs.glob("*.css")]
    while waiting:
        path = waiting.pop()
        if path not in done:
            done.add(path)
            waiting += _publish(path)


def _publish(path: Path) -> list[Path]:
    """Writes what stands for a file or folder; returns what it links to."""
    page = OUT / _page_of(path).relative_to(ROOT)
    if path.is_dir():
        return _write_linked(page, _listed(path))
    if path.suffix == ".md":
        return _write_linked(page, made.filled(path.read_text(encoding="utf-8"), path.name))
    if path.suffix == ".ipynb":
        return _write_linked(page, _notebook(path, page.parent))
    if path.suffix in SHOWN:
        code = path.read_text(encoding="utf-8").rstrip()
        fenced = f"```{SHOWN[path.suffix]}\n{code}\n```\n"
        _write(page, f"{UNSEARCHED}# {path.name}\n\n{fenced}")
        return []
    page.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, page)
    if path.suffix == ".svg":
        _write(page.with_suffix(".dark.svg"), _on_black(path.read_text(encoding="utf-8")))
    return []


def _page_of(path: Path) -> Path:
    """Where the page of a file or folder lies."""
    if path.is_dir():
        return path / "folder.md"
    return path.with_name(f"{path.name}.md") if path.suffix in (*SHOWN, ".ipynb") else path


def _write_linked(page: Path, text: str) -> list[Path]:
    """Writes a page whose links lead to pages; returns the files and folders behind them."""
    here = ROOT / page.parent.relative_to(OUT)
    linked = []

    def to_page(link: re.Match) -> str:
        target, anchor = re.match("([^#]*)(.*)", link[0]).groups()
        path = Path(os.path.normpath(here / target))
        if (OUT / path.relative_to(ROOT)).exists() and not path.exists():  # of `made.files`
            return link[0]
        if (path / "README.md").exists():
            path /= "README.md"
        if not path.exists():
            raise FileNotFoundError(
                f"{page.relative_to(OUT)} links to {link[0]}, and there is no {path}. Mend it."
            )
        linked.append(path)
        return os.path.relpath(_page_of(path), here) + anchor

    def to_name(code: re.Match) -> str:
        target = os.path.relpath(ROOT / made.place_of(code[1]), here)
        return f"[{code[0]}]({target})"

    def in_text(part: str) -> str:
        part = _INTERVAL.sub("\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}", part)
        part = _OPTION.sub(r"`\1`{ .option }", part)
        part = _SVG.sub(r"\1.svg#only-light)\1.dark.svg#only-dark)", _LINK.sub(to_page, part))
        return _NAME.sub(to_name, part)

    _write(page, _outside_code(text, in_text))
    return linked


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def _notebook(path: Path, folder: Path) -> str:
    """A notebook as Markdown; writes its pictures into `folder`."""
    names = "{unique_key}_{cell_index}_{index}{extension}"
    exporter = MarkdownExporter(
        config=Config({"ExtractOutputPreprocessor": {"output_filename_template": names}})
    )
    notebook = nbformat.read(path, as_version=4)
    text, resources = exporter.from_notebook_node(notebook, {"unique_key": path.stem})
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in resources["outputs"].items():
        (folder / name).write_bytes(picture)
    return re.sub(r"<style scoped>.*?</style>\n?", "", text, flags=re.DOTALL)


def _listed(folder: Path) -> str:
    """The files of a folder, each Python file with the first line of its docstring."""
    lines = [f"{UNSEARCHED}# {folder.relative_to(ROOT)}", ""]
    for path in sorted(folder.iterdir()):
        if not path.name.startswith((".", "_")):
            lines.append(f"- [{path.name}]({path.name}){made.first_line(path)}")
    return "\n".join(lines) + "\n"


def _on_black(drawing: str) -> str:
    dark = dict(COLOURS.values())
    return re.sub("|".join(dark), lambda light: dark[light[0]], drawing)


def _write(page: Path, text: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
