"""The pages tell what is so: examples run, commands parse, tables name what is there."""

import ast
import configparser
import doctest
import importlib.util
import json
import re
import shlex
from pathlib import Path
from string import Template

import pytest
import typer
from typer.main import get_command

import mura_tf as mt
from mura_tf.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
WITH_COMMANDS = [*PAGES, ROOT / "notebooks" / "README.md", ROOT / "experiments" / "README.md"]
IN_README = {
    '"MURA-v1.1"': '"demo/MURA-v1.1"',
    '"efficientnet_b3"': '"small_cnn", None, image_size=64',  # without a download
    "image_size=300": "image_size=64",
}
COMMANDS = get_command(app).commands


@pytest.fixture(scope="module")
def made():
    """docs/made.py, which is of no package."""
    spec = importlib.util.spec_from_file_location("made", ROOT / "docs" / "made.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page, language):
    """The code blocks of a page in a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def docstring_of(name):
    """A public name's; that of a value stands behind it."""
    home = f"mura_tf/{mt._HOME.get(name, '__init__').replace('.', '/')}.py"
    body = ast.parse((ROOT / home).read_text(encoding="utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if getattr(statement, "name", None) == name:
            return ast.get_docstring(statement)
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if name in [getattr(target, "id", None) for target in targets]:
            return ast.literal_eval(following.value)
    raise AssertionError(f"{home} does not define {name}")


@pytest.mark.parametrize("name", mt.__all__)
def test_every_public_name_has_a_docstring_with_an_example(name):
    text, _, examples = docstring_of(name).partition("Examples:\n")
    assert text.strip()
    assert ">>> " in examples


@pytest.mark.parametrize("name", ["BACKBONES", "__version__"])
def test_the_examples_of_values_run(name):
    """Which the doctests of modules do not find."""
    parsed = doctest.DocTestParser().get_doctest(docstring_of(name), {"mt": mt}, name, name, 0)
    assert doctest.DocTestRunner().run(parsed).failed == 0


WITH_PYTHON = [
    pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem == "cluster" else ())
    for page in PAGES
    if blocks(page, "python")
]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_its_python_runs(page, demo, monkeypatch, eagerly):
    """All blocks of a page, one after the other, beside the `demo`."""
    monkeypatch.chdir(demo.parent)
    code = "\n".join(blocks(page, "python"))
    if page.name == "README.md":
        for theirs, ours in IN_README.items():
            assert theirs in code
            code = code.replace(theirs, ours)
    exec(compile(code, page, "exec"), {})


def test_recipes_are_recipes():
    for page in PAGES:
        for block in blocks(page, "json"):
            mt.Recipe.from_dict(json.loads(block))


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_its_commands_parse(page):
    variables = {"PWD": "/work"}
    for block in blocks(page, "console"):
        lines = block.replace("\\\n", " ").splitlines()
        for line in (line for line in lines if line.startswith("$ ")):
            words = shlex.split(Template(line[2:]).substitute(variables), comments=True)
            while words and (set_here := re.fullmatch("([A-Z_]+)=(.*)", words[0])):
                variables[set_here[1]] = set_here[2]
                words.pop(0)
            if words[:1] == ["mura-tf"] and "..." not in words:
                command = COMMANDS[words[1]]
                command.make_context(words[1], words[2:], parent=typer.Context(command))


def test_every_command_has_a_section(made):
    text = made.MADE["commands"]()
    assert re.findall(r"^## `mura-tf ([\w-]+)`$", text, flags=re.MULTILINE) == list(COMMANDS)
    for name, command in COMMANDS.items():
        section = text.split(f"## `mura-tf {name}`")[1].split("\n## ")[0]
        for parameter in command.params:
            assert parameter.opts[0] in section, (name, parameter.opts)


def test_what_is_made_has_its_place(made):
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS)
    assert sorted(re.findall(r"^<!-- made: (.+?) --> .*\w", text, flags=re.MULTILINE)) == sorted(
        made.MADE
    )
    for name in ("head", "augmentations", "schedules", "optimizers", "trainable", "backbones"):
        assert made.filled(f"<!-- made: {name} -->", "a page").startswith("| ")


def test_every_public_name_has_its_place(made):
    files = made.files()
    for name in mt.__all__:
        page, _, identifier = made.place_of(name).partition("#")
        text = files.get(page) or made.filled((ROOT / page).read_text(encoding="utf-8"), page)
        assert f"::: {identifier}\n" in text


def test_the_readme_names_every_room(made):
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("| room |")[2]
    rooms = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.+?)\|", text, flags=re.MULTILINE)))
    modules = {path.stem for path in (ROOT / "mura_tf").glob("[!_]*.py")}
    assert set(rooms) == modules | set(made.ROOMS)


def test_every_extra_is_told():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    table = (ROOT / "docs" / "start.md").read_text(encoding="utf-8").partition("| extra |")[2]
    told = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert sorted(told) == sorted(setup["options.extras_require"])


# ------------------------------------------------------------------------------------------------
# The file formats, beside what a run really leaves


def told_names(heading):
    """What the first columns of each table below a heading of docs/files.md name."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    return [
        [
            name
            for row in table.splitlines()[2:]
            for name in re.findall("`([^`]+)`", row.split("|")[1])
        ]
        for table in tables
    ]


def header(path):
    return path.read_text(encoding="utf-8").partition("\n")[0].split(",")


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def test_a_run_folder_is_as_told(demo):
    run = mt.Run(demo / "small_cnn" / "mura" / "all" / "repeat0-member0")
    (views,), (predictions,) = told_names("Views table"), told_names("Predictions table")
    names, info, history = told_names("Run folder")
    assert files(run.path) == sorted(names)
    assert sorted(run.info) == sorted(info)
    assert header(run.path / "history.csv") == history
    assert header(run.path / "predictions.csv") == views + predictions


def test_an_experiment_folder_is_as_told(demo, tmp_path):
    recipe = mt.Recipe.load(demo / "small_cnn/mura/all/repeat0-member0/recipe.json")
    mt.run_experiment(
        recipe.changed({"stage": "imagenet"}),
        demo / "MURA-v1.1",
        demo,
        study_types=["wrist"],
        members=2,
        verbose=False,
    )
    (views,) = told_names("Views table")
    names, scores, facts = told_names("Experiment folder")
    assert sorted(names) == [name for name in files(demo) if name in names]
    assert header(demo / "views.csv") == views
    assert header(demo / "scores.csv") == scores
    assert list(json.loads((demo / "experiment.json").read_text())) == facts


def test_heatmap_scores_are_as_told(demo, tmp_path):
    from mura_tf.explain.scores import write_scores

    ensemble = mt.Ensemble((demo / "small_cnn" / "type" / "wrist").iterdir(), demo / "MURA-v1.1")
    write_scores(ensemble, demo / "MURA-v1.1", tmp_path, ["cam"])
    (columns,) = told_names("Folder of heatmaps")
    assert header(tmp_path / "heatmap_scores.csv") == columns
    assert files(tmp_path) == ["experiment.json", "heatmap_scores.csv"]


def test_a_synthetic_set_and_the_cache_are_as_told(demo, cache_dir):
    (columns,) = told_names("Synthetic data set")
    assert header(demo / "MURA-v1.1" / "lesions.csv") == columns
    assert {"images.u8", "index.jsonl"} <= set(files(cache_dir / "32px"))
    lines = (cache_dir / "32px" / "index.jsonl").read_text(encoding="utf-8").splitlines()
    (path, size, changed, _, _, _, _, digest, *_), *_ = (
        entry for entry in map(json.loads, lines) if entry[0].startswith(str(demo))
    )
    assert Path(path).stat().st_size == size
    assert isinstance(changed, int)
    assert int(digest, 16)
