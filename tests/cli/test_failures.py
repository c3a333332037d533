"""What a failure looks like, and the exit status, in real processes."""

import signal
import subprocess

import pytest
from command_line import call, command, run, with_modules
from run_folders import FEW_STUDIES, views_of


def test_an_error_is_a_sentence_without_a_traceback(tmp_path):
    process = run("evaluate", tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith(f"Error: no run.json below {tmp_path}")
    assert len(process.stderr.splitlines()) == 1


def test_an_error_of_the_system_names_the_file(mura, tmp_path):
    (tmp_path / "views.csv").mkdir()
    result = call("prepare", tmp_path / "views.csv")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'views.csv'}: Is a directory. Give another path, or mend this one.\n"
    )


def _unread(arguments, lines):
    """Exit status and errors of a process whose first lines alone are read, like by `head`."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read()
    return process.wait(), said


@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_has_enough_is_no_error(tmp_path, lines):
    """More is printed than a pipe and Python's buffer hold: 2,000 missing files."""
    views = views_of({"elbow": (1000, 1000)})
    views["path"] = [f"{tmp_path}/{number}.png" for number in range(len(views))]
    views.to_csv(tmp_path / "views.csv", index=False)
    assert _unread(["check", tmp_path / "views.csv"], lines) == (128 + signal.SIGPIPE, "")


def test_a_reader_that_is_gone_before_anything_is_printed(mura):
    assert _unread(["check", mura], 0) == (128 + signal.SIGPIPE, "")


def test_help_that_nobody_reads():
    assert _unread(["train", "--help"], 0)[1] == ""


def test_ctrl_c_is_one_sentence(tmp_path):
    """Its signal comes while TensorFlow, whose place another module takes, is imported."""
    lines = [
        "import os, signal, time",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",  # a shell's & has it ignored
        "os.kill(os.getpid(), signal.SIGINT)",
        "time.sleep(60)",
    ]
    (tmp_path / "tensorflow.py").write_text("\n".join(lines))
    count = ["reproduce", "table_iii", "--out", tmp_path, "--backbones", "small_cnn"]
    process = run(*count, env=with_modules(tmp_path))
    assert process.returncode == 128 + signal.SIGINT
    assert process.stderr == "Stopped. What is finished is kept; the same command does the rest.\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "memory ran out. Free some, or give less at a time."),
        (
            type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
            "memory ran out. Free some, or give less at a time.",
        ),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_without_a_word_is_told(tmp_path, monkeypatch, error, sentence):
    def failing(*arguments, **settings):
        raise error

    monkeypatch.setattr("mura_tf.data.check.check_dataset", failing)
    result = call("check", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"Error: {sentence}\n")


def test_the_other_statuses(tmp_path):
    views_of(FEW_STUDIES).to_csv(tmp_path / "views.csv", index=False)
    assert call("check", tmp_path / "views.csv").exit_code == 1
    assert call("check", tmp_path / "views.csv", "--fast").exit_code == 2
    assert call("check", "--help").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("", "out"), ("data", ""), ("data", "out", "--types", ""), ("data", "out", "--cache-dir=")],
)
def test_an_empty_argument_is_neither_this_folder_nor_everything(arguments):
    result = call("train", *arguments)
    assert result.exit_code == 2
    assert "an argument is empty" in " ".join(result.stderr.split())


def test_what_nobody_has_foreseen_keeps_its_traceback(tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("mura_tf.data.check.check_dataset", broken)
    with pytest.raises(KeyError):
        call("check", tmp_path)
