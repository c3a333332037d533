"""`mura-tf` in this process, in one of its own, and on a terminal."""

import os
import pty
import subprocess
import sys

from typer.testing import CliRunner

from mura_tf.cli import app

SMALL = ["--backbone", "small_cnn", "--weights", "none", "--image-size", "32"]
SMALL += ["--max-epochs", "1", "--members", "1"]
"""For `train`."""


def call(*arguments):
    """A result with `exit_code`, `stdout` and `stderr`; an unexpected exception passes through."""
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def assert_sentence(result, sentence):
    """It failed: one sentence on standard error, exit status 1."""
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def assert_wrong_usage(result, sentence):
    """It was refused: the sentence in a frame below the usage, exit status 2."""
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.replace("\u2502", "").split())
    assert "Traceback" not in result.stderr


def command(*arguments):
    """The arguments of a process of its own."""
    code = "from mura_tf.cli import app; app(prog_name='mura-tf')"
    return [sys.executable, "-c", code, *map(str, arguments)]


def with_modules(folder):
    """An environment in which Python finds the modules of a folder first."""
    before = os.environ.get("PYTHONPATH")
    folders = [str(folder), before] if before else [str(folder)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders)}


def run(*arguments, **settings):
    """`mura-tf` in a process of its own, between pipes."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, **settings
    )


def on_terminal(process, environment=os.environ):
    """The exit status of a process with such arguments, and all that a terminal was sent."""
    ours, its = pty.openpty()
    environment = environment | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(process, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    sent = []
    try:
        while part := os.read(ours, 65536):
            sent.append(part)
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    return process.wait(), b"".join(sent).decode()
