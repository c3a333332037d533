"""The whole line on systems and disks that this machine plays: see `played`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SMALL, with_modules

PLAYED = Path(__file__).parent / "played"
ANY_TEXT_IS_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Stricter than cp1252: text that is written or read without an encoding fails, if it is more."""

LINE = """
import sys
from pathlib import Path
from mura_tf.cli import app

data, folder, *train = sys.argv[1:]
run, bundle = f"{folder}/run", f"{folder}/small.mura"
for arguments in (
    ["train", data, run, "--scheme", "whole", "--preprocessing", "native", *train],
    ["evaluate", run],
    ["pack", run, bundle, "--licence", "CC0"],
    ["predict", bundle, f"{data}/valid", "--out", f"{folder}/found"],
):
    assert not app(arguments, standalone_mode=False), arguments

from mura_tf.inference.workers import Workers

pool = Workers(bundle, 1, seconds=120)
image = next(Path(data).rglob("*.png"))
(found,) = pool.read([("a.png", image)], "elbow", False, None)
print("read:", found.row["decision"])
pool.close()
"""


def the_line(mura, folder, played, environment):
    """From radiographs to the answers of a server's process; what was printed."""
    environment = with_modules(PLAYED / played) | environment
    # what the worker, the server's process and this one share
    environment |= {"MURA_TF_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", LINE, mura, folder, *SMALL],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    logs = [path.read_text(encoding="utf-8") for path in folder.rglob("log.txt")]
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    assert "Traceback" not in done.stderr
    names = {path.name for path in folder.rglob("*")}
    assert {"best.keras", "report.html", "scores.csv", "findings.csv", "index.html"} <= names
    assert not [name for name in names if name.startswith(".part-")]
    return done.stdout


def test_windows_and_macos_as_far_as_this_system_can_play_them(mura, tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc, to see what is open")
    # of which file names are a part on Linux alone
    text = ANY_TEXT_IS_ASCII if os.fspath(tmp_path).isascii() else {}
    printed = the_line(mura, tmp_path / "out", "windows", text)
    assert "read: " in printed


CACHE = """
import sys
from pathlib import Path
from mura_tf.data.cache import compact_cache, prepare
from mura_tf.data.views import load_mura

views, cache = load_mura(sys.argv[1]), Path(sys.argv[2])
expected = prepare(views, 32, cache)
squares = expected.images[expected.rows].copy()
del expected
index = cache / "32px/index.jsonl"
first, second, *rest = index.read_text(encoding="utf-8").splitlines(keepends=True)
index.write_text(first.replace("]", "0]") + "".join(rest), encoding="utf-8")  # another version's
again = prepare(views, 32, cache)
assert (again.images[again.rows] == squares).all()
del again
Path(views.path[0]).write_bytes(Path(views.path[1]).read_bytes())
assert compact_cache(32, cache)[1] == len(views) - 1
"""


def test_what_is_mapped_is_let_go_before_the_cache_is_made_anew(mura, tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc, to see what is open")
    code = [sys.executable, "-W", "ignore", "-c", CACHE, mura, tmp_path / "cache"]
    done = subprocess.run(
        code, env=with_modules(PLAYED / "windows"), capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_a_share_without_modes_times_links_and_locks(mura, tmp_path):
    """The cache, which many processes write to, has its locks on a disk of this machine."""
    pytest.importorskip("fcntl")
    printed = the_line(mura, tmp_path / "out", "share", {})
    assert "read: " in printed
