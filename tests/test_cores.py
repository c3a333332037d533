import os
import subprocess
import sys

import pytest

from mura_tf import cores
from mura_tf.cores import threads, usable_cores

PROGRAM = "import os; from mura_tf.cores import usable_cores; print(usable_cores())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_allocated_cores_are_counted(monkeypatch, tmp_path):
    one = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, {{{one}}}); {PROGRAM}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(run.stdout) == 1
    monkeypatch.setattr(cores, "_GROUP", tmp_path)  # of a container that is given less
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({}, 6),
    ],
)
def test_a_containers_share_is_counted(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert usable_cores() == expected


@pytest.mark.parametrize(("machine", "expected"), [(6, 6), (None, 1)])
def test_without_an_allocation_the_machine_is_counted(monkeypatch, tmp_path, machine, expected):
    monkeypatch.setattr(cores, "_GROUP", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    assert usable_cores() == expected


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("3,2", 3), ("", None), ("0", None)])
def test_threads_are_those_that_are_asked_for(monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads() == (expected or usable_cores())
