import os
import subprocess
import sys

import pytest

from mura_tf.cores import threads, usable_cores

PROGRAM = "import os; from mura_tf.cores import usable_cores; print(usable_cores())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_allocated_cores_are_counted():
    one = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, {{{one}}}); {PROGRAM}"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(run.stdout) == 1
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("machine", "expected"), [(6, 6), (None, 1)])
def test_without_an_allocation_the_machine_is_counted(monkeypatch, machine, expected):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    assert usable_cores() == expected


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("3,2", 3), ("", None), ("0", None)])
def test_threads_are_those_that_are_asked_for(monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads() == (expected or usable_cores())
