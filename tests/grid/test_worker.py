"""A run in a process of its own: what it leaves behind, and how it ends."""

import dataclasses
import errno
import json
import os
import platform
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from mura_tf.data.table import views_mark
from mura_tf.data.views import load_mura
from mura_tf.grid import worker
from mura_tf.grid.worker import FINAL, RunError, _failure, _is_final, train_in_process
from mura_tf.training.failures import shortage
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
        "mark": views_mark(views),
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
    assert seen == {"plan": "a plan", "host": platform.node()}


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
    ("change", "sentence", "final"),
    [
        ({"views": "nowhere.csv"}, "^.*No such file or directory: 'nowhere.csv'$", False),
        ({"recipe": {"seed": -1}}, "^seed must be a whole number from 0 up. Received: -1.$", True),
        # nobody foresaw it
        ({"recipe": None}, "^TypeError: 'NoneType' object is not iterable$", False),
    ],
)
def test_a_run_that_fails_says_why(order, change, sentence, final, tmp_path):
    with pytest.raises(RunError, match=sentence) as caught:
        train_in_process(order | change, {})
    assert caught.value.final == final
    folder = tmp_path / "runs/one"
    assert "Traceback" in (folder / "log.txt").read_text()
    assert {path.name for path in folder.iterdir()} == {"log.txt"}


def test_other_views_than_were_planned_are_refused(order, tmp_path):
    views = pd.read_csv(tmp_path / "views.csv", dtype=str)
    views[1:].to_csv(tmp_path / "views.csv", index=False)
    with pytest.raises(RunError, match="must hold the views that this run was planned") as caught:
        train_in_process(order, {})
    assert caught.value.final


def test_pictures_may_be_there_on_another_node(order, tmp_path):
    (tmp_path / pd.read_csv(tmp_path / "views.csv", dtype=str).path[0]).unlink()
    with pytest.raises(RunError, match="leaves out 1% at most") as caught:
        train_in_process(order | {"settings": {"cache_dir": "cache", "skip_bad": 0.01}}, {})
    assert not caught.value.final


def test_a_node_that_lacks_the_folder_of_the_command_says_so(order, tmp_path):
    elsewhere = str(tmp_path / "of another node")
    with pytest.raises(RunError, match=r"node, which is no folder .* Start it from") as caught:
        train_in_process(order | {"directory": elsewhere}, {})
    assert not caught.value.final


def changed(order, **settings):
    return order | {"recipe": dataclasses.replace(RECIPE, **settings).to_dict()}


@pytest.mark.parametrize("content", [None, "once upon a time"])
def test_weights_that_cannot_be_read_need_no_second_try(order, tmp_path, content):
    if content:
        (tmp_path / "some.h5").write_text(content)
    with pytest.raises(RunError, match=r"some\.h5") as caught:
        train_in_process(changed(order, weights="some.h5"), {})
    assert caught.value.final


def test_without_a_network_there_is_no_second_try(order, tmp_path):
    closed = {"KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    order = changed(order, backbone="mobilenet_v2_035", weights="imagenet")
    with pytest.raises(
        RunError, match=r"cannot be downloaded: .*Go online once, or give"
    ) as caught:
        train_in_process(order, closed)
    assert caught.value.final


def test_memory_that_runs_out_is_a_sentence_with_the_batch_size_to_try(order):
    """A layer of 25 GiB, and 16 GiB of addresses."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("this system limits no other process")
    order = changed(order, image_size=512, head=("flatten", "dense:50000"))
    limit = 16 * 2**30
    with pytest.raises(
        RunError, match=r"^memory ran out .* at 512 px\. Try batch_size 4"
    ) as caught:
        train_in_process(
            order,
            {},
            lambda process: resource.prlimit(process.pid, resource.RLIMIT_AS, (limit,) * 2),
        )
    assert caught.value.final


@pytest.mark.parametrize("kills", [7, 8])
def test_a_kill_for_want_of_memory_is_told_by_the_systems_count(
    order, tmp_path, monkeypatch, kills
):
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 9\noom_kill 7\n")
    monkeypatch.setattr(worker, "_KILLS", vmstat)

    def kill(process):
        vmstat.write_text(f"nr_free_pages 1\noom_kill {kills}\n")
        process.kill()

    sentence = (
        "memory ran out with batch_size 8 at 32" if kills > 7 else "killed by signal 9, by som"
    )
    with pytest.raises(RunError, match=sentence) as caught:
        train_in_process(order, {}, kill)
    assert not caught.value.final  # it may have ended another process


def test_a_killed_process_is_named_by_its_signal(order):
    with pytest.raises(RunError, match=r"by signal 9, .* want of memory, see .*one/log.txt$"):
        train_in_process(order, {}, lambda process: process.kill())


def test_a_process_that_dies_before_it_reads_its_order(order, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RunError, match=r"the process ended with status 1, see .*one/log.txt$"):
        train_in_process(order, {}, lambda process: process.wait())


TRIED = (
    "W0000 bfc_allocator.cc] Allocator (GPU_0_bfc) ran out of memory trying to allocate 2GiB. The "
    "caller indicates that this is not a failure, but there could be performance gains.\n"
)
"""What TensorFlow writes in the first epoch on a GPU, and goes on."""


@pytest.mark.parametrize(
    ("log", "status", "reason", "final"),
    [
        ("1/1 - 2s\nError: it is full.\n", 1, "it is full.", False),
        ("1/1 - 2s\nError: it is full.\n", FINAL, "it is full.", True),
        ("Error: Keras says: ValueError: no\n", 1, "Keras says: ValueError: no", False),
        ("Error: 2 files:\n  a.png\n  b.png\n", 1, "2 files:\n  a.png\n  b.png", False),
        ("Error: another library's\nError: ours\n", 1, "ours", False),
        ("E0000 tpu.cc] Error: no TPU\n", 1, "the process ended with status 1, see {}", False),
        ("2 files\nError: \n", 1, "the process ended with status 1, see {}", False),
        ("", 3, "the process ended with status 3, see {}", False),
        ("Error: a library's\n", -11, "the process was killed by signal 11, see {}", False),
        ("terminate called\n  what():  std::bad_alloc\n", -6, shortage(RECIPE), True),
        ("OOM when allocating a tensor\n", -9, shortage(RECIPE), False),
        (f"{TRIED}Epoch 2/9\n", -15, "the process was killed by signal 15, see {}", False),
    ],
)
def test_the_reason_is_the_last_sentence_or_what_the_end_means(
    tmp_path, log, status, reason, final
):
    path = tmp_path / "log.txt"
    path.write_text(log)
    failure = _failure(path, status, RECIPE.to_dict(), killed=False)
    assert (str(failure), failure.final) == (reason.format(path), final)


def from_(cause, error):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ValueError("a wrong setting"), True),
        (OSError("h5py's, of a damaged file"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (TimeoutError("the lock was not had"), False),
        (
            from_(OSError(errno.EIO, "Input/output error"), OSError("the cache cannot be read")),
            False,
        ),
        (from_(OSError(errno.ESTALE, "Stale file handle"), ValueError("it is damaged")), False),
        (from_(OSError("Unable to open file"), ValueError("the weights do not fit")), True),
        (from_(OSError(errno.ENOMEM, "Cannot allocate"), MemoryError("memory ran out")), True),
    ],
)
def test_what_the_system_refused_is_worth_another_try(error, final):
    assert _is_final(error) == final
