"""A run in a process of its own: what it leaves behind, and how it ends."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from mura_tf.data.views import load_mura
from mura_tf.grid.worker import RunError, _reason, train_in_process
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)
FILES = {"recipe.json", "run.json", "history.csv", "best.keras", "predictions.csv", ".lock"}


@pytest.fixture
def order(mura, tmp_path):
    """A run of one epoch; all paths are seen from `tmp_path`, where this process is not."""
    views = load_mura(mura)
    views["path"] = [os.path.relpath(path, tmp_path) for path in views.path]
    views.to_csv(tmp_path / "views.csv", index=False)
    return {
        "plan": "a plan",
        "recipe": RECIPE.to_dict(),
        "folder": "runs/one",
        "views": "views.csv",
        "settings": {"cache_dir": "cache", "verbose": 2},
        "directory": str(tmp_path),
    }


def test_a_finished_run_leaves_its_results_and_nothing_else(order, tmp_path):
    folder = tmp_path / "runs/one"
    folder.mkdir(parents=True)
    for stale in ("log.txt", "started.json"):
        (folder / stale).write_text("of a killed process")
    train_in_process(order, {})
    assert Run(folder).finished
    assert Run(folder).recipe == RECIPE
    assert {path.name for path in folder.iterdir()} == FILES
    assert (tmp_path / "cache/32px").is_dir()


def test_what_lies_in_the_users_folder_is_not_imported(order, tmp_path):
    """As it is not by `mura-tf`; both `python -m` and `python -c` would."""
    for name in ("keras", "random", "json", "mura_tf"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the user')")
    train_in_process(order, {})
    assert Run(tmp_path / "runs/one").finished


def test_what_the_user_has_set_is_kept_but_mura_tf_is_this_one(order, tmp_path):
    """PYTHONPATH goes on to the process, and no other mura_tf on it is taken for this one."""
    folder = tmp_path / "on the path"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("open('seen', 'w').close()")
    (folder / "mura_tf.py").write_text("raise RuntimeError('another')")
    train_in_process(order, {"PYTHONPATH": str(folder)})
    assert Run(tmp_path / "runs/one").finished
    assert (tmp_path / "seen").exists()


def test_while_it_works_it_says_where(endless, tmp_path):
    def look(process):
        process.stdin.write(json.dumps(endless.order).encode() + b"\n")
        endless.wait_until_begun()
        seen.update(json.loads((tmp_path / "endless/started.json").read_text()))
        assert os.getsid(process.pid) == process.pid  # Ctrl-C does not reach it
        process.kill()

    seen = {}
    with pytest.raises(RunError, match="killed by signal 9"):
        train_in_process(endless.order, {}, look)
    assert seen.pop("process") not in (0, os.getpid())
    assert seen == {"plan": "a plan", "host": os.uname().nodename}


def test_a_worker_stops_when_its_parent_is_killed(endless):
    code = (
        "import json; from mura_tf.grid.worker import *; train_in_process(json.loads(input()), {})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    with parent:
        parent.stdin.write(json.dumps(endless.order).encode() + b"\n")
        parent.stdin.flush()
        endless.wait_until_begun()
        parent.kill()
        endless.wait_until_stopped()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"views": "nowhere.csv"}, "^.*No such file or directory: 'nowhere.csv'$"),
        ({"recipe": {"seed": -1}}, "^seed must be a whole number from 0 up. Received: -1.$"),
        ({"recipe": None}, "^TypeError: 'NoneType' object is not iterable$"),  # nobody foresaw it
    ],
)
def test_a_run_that_fails_says_why(order, change, sentence, tmp_path):
    with pytest.raises(RunError, match=sentence):
        train_in_process(order | change, {})
    folder = tmp_path / "runs/one"
    assert "Traceback" in (folder / "log.txt").read_text()
    assert {path.name for path in folder.iterdir()} == {"log.txt"}


def test_a_killed_process_is_named_by_its_signal(order):
    with pytest.raises(RunError, match=r"killed by signal 9 .*too little memory.*one/log.txt$"):
        train_in_process(order, {}, lambda process: process.kill())


def test_a_process_that_dies_before_it_reads_its_order(order, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=r"the process ended with status 1, see .*one/log.txt$"):
        train_in_process(order, {}, lambda process: process.wait())


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        ("1/1 - 2s\nError: it is full.\n", 1, "it is full."),
        ("Error: Keras says: ValueError: no\n", 1, "Keras says: ValueError: no"),
        ("Error: 2 files:\n  a.png\n  b.png\n", 1, "2 files:\n  a.png\n  b.png"),
        ("Error: another library's\nError: ours\n", 1, "ours"),
        ("E0000 tpu.cc] Error: no TPU\n", 1, "the process ended with status 1, see {}"),
        ("", 3, "the process ended with status 3, see {}"),
        (
            "Error: a library's, long before\n",
            -11,
            "the process was killed by signal 11 (9: often too little memory), see {}",
        ),
    ],
)
def test_the_reason_is_the_last_sentence_or_what_the_end_means(tmp_path, log, status, reason):
    path = tmp_path / "log.txt"
    path.write_text(log)
    assert _reason(path, status) == reason.format(path)
