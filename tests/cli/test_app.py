"""The commands together: help, completion, the installed command."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, command, run

COMMANDS = ["synthesize", "check", "prepare", "study", "train", "evaluate", "explain"]
COMMANDS += ["reproduce", "demo"]
"""In the order in which data meets them."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_every_command_has_a_file_and_its_tests():
    room = Path(sys.modules["mura_tf.cli"].__file__).parent
    for name in COMMANDS:
        assert (room / f"{name}.py").is_file()
        assert Path(__file__).with_name(f"test_{name}.py").is_file()


def test_help_lists_the_commands_in_order_and_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from mura_tf.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "print('imported', *sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    shown, imported = process.stdout.split("imported ")
    assert re.findall(r"^│ ([a-z]+) +[A-Z]", shown, re.MULTILINE) == COMMANDS
    assert "Not a medical device" in shown
    heavy = {"tensorflow", "keras", "pandas", "numpy", "sklearn", "matplotlib", "cv2"}
    assert not heavy & set(imported.split())


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("train", ["What is trained", "The recipe", "The machine", "Data and output"]),
        ("reproduce", ["Data and output", "What is trained", "The recipe", "The machine"]),
        ("explain", ["Data and output", "What is shown", "How it is looked for"]),
    ],
)
def test_many_options_are_in_panels(name, panels):
    shown = call(name, "--help").stdout
    titles = re.findall(r"^╭─ (.+?) ─+╮$", shown, re.MULTILINE)
    assert titles == ["Arguments", "Options", *panels]
    options = shown.partition("╭─ Options ")[2].partition("╰")[0]
    assert "--help" in options and "--out" not in options and "--types" not in options


def test_help_tells_defaults_in_words():
    assert "[default: all]" in " ".join(call("train", "--help").stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["diagnose"],
        ["--verbose"],
        ["check"],
        ["check", ".", "--fast"],
        ["train", ".", "out", "--members", "0"],
        ["train", ".", "out", "--image-size", "large"],
    ],
)
def test_wrong_usage_exits_2(arguments):
    assert call(*arguments).exit_code == 2


def test_the_installed_command_is_this_one():
    installed = os.path.join(os.path.dirname(sys.executable), "mura-tf")
    if not os.path.exists(installed):
        pytest.skip("mura-tf is not installed beside this Python")
    process = subprocess.run([installed, "--help"], capture_output=True, text=True, check=True)
    assert "synthesize" in process.stdout


# ------------------------------------------------------------------------------------------------
# Completion, by typer


def _named(**variables):
    """An environment in which the shell is named, as nobody can know that of the test's."""
    return os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"} | variables


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown(shell):
    shown = run("--show-completion", shell, env=_named())
    assert shown.returncode == 0
    assert "_MURA_TF_COMPLETE" in shown.stdout
    assert shown.stderr == ""


def test_completion_is_installed(tmp_path):
    installed = run("--install-completion", "bash", env=_named(HOME=str(tmp_path)))
    assert installed.returncode == 0
    (script,) = tmp_path.rglob("mura-tf.sh")
    assert "_MURA_TF_COMPLETE" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mura-tf s", {"synthesize", "study"}),
        ("mura-tf train --sel", {"--select-on"}),
        ("mura-tf train data out --scheme two", {"two-stage"}),
    ],
)
def test_a_shell_is_told_how_to_go_on(typed, offered):
    variables = {"_MURA_TF_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    variables["COMP_CWORD"] = str(len(typed.split()) - 1)
    process = subprocess.run(
        command(), env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert set(process.stdout.split()) == offered
    assert process.stderr == ""
