"""What libraries say of themselves, and what of it reaches the terminal."""

import logging
import re
import signal
import subprocess
import sys
import warnings

import pytest
from command_line import SMALL, call, on_terminal, run, with_modules

from mura_tf.cli.quiet import LEVEL, quiet
from mura_tf.terminal import Notice


def test_the_line_says_nothing_on_standard_error(lesions, tmp_path):
    """TensorFlow's processes and its own: training, scoring, explaining."""
    out = tmp_path / "out"
    train = ["train", lesions, out, "--scheme", "whole", *SMALL, "--preprocessing", "native"]
    line = [train, ["evaluate", out], ["explain", out, "--data", lesions, "--top", "confident:1"]]
    scores = []
    for arguments in line:
        process = run(*arguments)
        assert (process.returncode, process.stderr) == (0, "")
        assert "\u2501 " not in process.stdout  # no bar, either
        scores.append((out / "scores.csv").read_bytes())
    assert len(set(scores)) == 1

    process = run(*line[-1], "--verbose")  # behind the command as well
    assert process.returncode == 0
    assert re.search(r"^[IWE]\d{4} \d\d:", process.stderr, re.MULTILINE)


# ------------------------------------------------------------------------------------------------
# The import of TensorFlow, whose place another package takes


IMPORT = """
import os
from mura_tf.cli.quiet import quiet
with quiet(verbose=False):
    import tensorflow
os.write(2, b"and then")
"""


def _tensorflow(folder, code):
    """Runs `IMPORT`, where TensorFlow is a module of this code."""
    (folder / "tensorflow.py").write_text("import os, sys\n" + code)
    environment = with_modules(folder)
    environment.pop(LEVEL, None)
    return subprocess.run(
        [sys.executable, "-c", IMPORT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_an_import_writes_is_kept_back(tmp_path):
    process = _tensorflow(tmp_path, "os.write(2, b'I0000 oneDNN')")
    assert (process.returncode, process.stderr) == (0, "and then")


def test_what_python_writes_meanwhile_is_shown(tmp_path):
    process = _tensorflow(tmp_path, "print('a sentence', file=sys.stderr)")
    assert process.stderr == "a sentence\nand then"


def test_an_import_that_fails_is_told_with_what_it_wrote(tmp_path):
    process = _tensorflow(tmp_path, "os.write(2, b'why\\n')\nraise ImportError('no library')")
    assert process.returncode == 1
    assert process.stderr.startswith("why\n")
    assert process.stderr.endswith("ImportError: no library\n")


def test_an_import_that_crashes_is_told(tmp_path):
    """Such as on a processor that lacks an instruction, where a signal ends the process."""
    process = _tensorflow(tmp_path, "os.write(2, b'F0000 no AVX\\n')\nos.abort()")
    assert process.returncode == -signal.SIGABRT
    assert process.stderr == "F0000 no AVX\n"


def test_an_interrupted_import_tells_nothing_else(tmp_path):
    process = _tensorflow(tmp_path, "os.write(2, b'I0000')\nraise KeyboardInterrupt")
    assert "I0000" not in process.stderr
    assert process.stderr.endswith("KeyboardInterrupt\n")


def test_the_level_is_for_this_process_alone(tmp_path):
    """The runs' processes write logs of their own, with everything in them."""
    code = f"print(os.environ['{LEVEL}'], file=sys.stderr)\nimport atexit\n"
    code += f"atexit.register(lambda: print(os.environ.get('{LEVEL}'), file=sys.stderr))"
    assert _tensorflow(tmp_path, code).stderr == "3\nand thenNone\n"


def test_a_terminal_shows_that_it_is_loaded(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'I0000 oneDNN')")
    status, sent = on_terminal([sys.executable, "-c", IMPORT], with_modules(tmp_path))
    assert status == 0
    assert "Loading TensorFlow" in sent
    assert "oneDNN" not in sent


# ------------------------------------------------------------------------------------------------
# Warnings and logs


@pytest.fixture
def contradicting(mura):
    """A FracAtlas folder with one image in the folder of the other label."""
    folder = mura.parent / "FracAtlas"
    rows = ["image_id,hand,leg,hip,shoulder,mixed,fractured"]
    images = sorted(mura.rglob("*.png"))
    for number, image in enumerate(images):
        label = number % 2
        name = ("Non_fractured", "Fractured")[label if number else 1]
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        image.rename(folder / "images" / name / f"{number}.png")
        rows.append(f"{number}.png,1,0,0,0,0,{label}")
    (folder / "dataset.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_the_packages_warnings_are_sentences(contradicting, tmp_path):
    process = run("prepare", contradicting, "--image-size", 32, "--cache-dir", tmp_path)
    assert process.returncode == 0
    assert process.stderr == (
        f"Note: contradicting folder (1): {contradicting}/images/Fractured/0.png: label 0 "
        "contradicts its folder Fractured; expected both to agree. dataset.csv's label is used; "
        "move the file, or correct the row.\n"
    )


def test_a_notice_is_told_once_and_other_warnings_not_at_all(capsys):
    with quiet(verbose=False):
        for _ in range(2):
            warnings.warn("the radiographs are upside down.", Notice, stacklevel=1)
            warnings.warn("a function is deprecated.", UserWarning, stacklevel=1)
            logging.getLogger("a library").warning("so it begins")
    assert capsys.readouterr() == ("", "Note: the radiographs are upside down.\n")


def test_verbose_tells_other_warnings_and_logs(capsys, caplog):
    with pytest.warns(UserWarning, match="deprecated") as others, quiet(verbose=True):
        warnings.warn("a function is deprecated.", UserWarning, stacklevel=1)
        warnings.warn("the radiographs are upside down.", Notice, stacklevel=1)
        logging.getLogger("a library").warning("so it begins")
    assert len(others) == 1
    assert capsys.readouterr().err == "Note: the radiographs are upside down.\n"
    assert "so it begins" in caplog.text


def test_errors_are_logged(caplog):
    with quiet(verbose=False):
        logging.getLogger("a library").error("it is broken")
    assert "it is broken" in caplog.text


def test_all_is_as_before_when_a_command_ends(mura):
    before = (list(sys.meta_path), logging.root.manager.disable, warnings.showwarning)
    assert call("check", mura).exit_code == 0
    assert (list(sys.meta_path), logging.root.manager.disable, warnings.showwarning) == before
