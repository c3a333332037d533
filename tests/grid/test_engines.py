"""Runs as processes of this machine, and as tasks of Ray."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from mura_tf.cores import usable_cores
from mura_tf.data.views import load_mura
from mura_tf.grid import engines
from mura_tf.grid.engines import LocalEngine, RayEngine
from mura_tf.grid.plan import _failure, plan_runs, run_plan
from mura_tf.grid.worker import RunError
from mura_tf.models.backend import keras_settings
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)


def what_a_run_is_given(order, environment, on_start=None):
    return environment


# ------------------------------------------------------------------------------------------------
# Processes of this machine


def test_jobs_must_be_at_least_one():
    with pytest.raises(ValueError, match=r"jobs must be at least 1. Received: 0"):
        LocalEngine(0)


def test_close_stops_what_runs_and_what_waits(endless):
    engine = LocalEngine()
    running, waiting = engine.submit(endless.order), engine.submit(endless.order)
    endless.wait_until_begun()
    engine.close()
    endless.wait_until_stopped()
    with pytest.raises(RunError, match="killed by signal 9"):
        running.result(0)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        engine.submit(endless.order)


def test_close_stops_a_process_that_is_just_being_started(endless, monkeypatch):
    """The moment between the start of a process and the engine's knowing of it."""
    closing, started = threading.Event(), []

    def popen(*args, **settings):
        started.append(original(*args, **settings))
        closing.wait()
        time.sleep(0.2)  # close has killed all that it knows
        return started[0]

    original = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    engine = LocalEngine()
    future = engine.submit(endless.order)
    while not started:
        time.sleep(0.01)
    closer = threading.Thread(target=engine.close, daemon=True)
    closer.start()
    closing.set()
    closer.join(10)
    assert future.done()
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("jobs", [1, 2, 10**6])
@pytest.mark.parametrize("asked", ["", "1", "1000000"])
def test_jobs_share_the_cores_and_the_gpu(monkeypatch, jobs, asked):
    """The threads that OMP_NUM_THREADS allows, of the cores that there are."""
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(engines, "train_in_process", what_a_run_is_given)
    environment = LocalEngine(jobs).submit({}).result()
    allowed = 1 if asked == "1" else usable_cores()
    cores = str(max(1, allowed // jobs))
    for name in engines.THREADS:
        assert environment[name] == cores
    assert ("XLA_PYTHON_CLIENT_PREALLOCATE" in environment) == (jobs > 1)
    assert ("TF_FORCE_GPU_ALLOW_GROWTH" in environment) == (jobs > 1)


# ------------------------------------------------------------------------------------------------
# Ray


@pytest.fixture
def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def nodes(monkeypatch):
    """The nodes of a cluster that needs not be started."""
    ray, nodes = pytest.importorskip("ray"), []
    monkeypatch.setattr(ray, "init", lambda *args, **settings: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    return nodes


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for address in (None, "127.0.0.1:6379"):
        with pytest.raises(ImportError, match=r"not installed. Install.*pip install 'mura-tf\[ray"):
            RayEngine(address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{port}", "refused"),
        ("ray://127.0.0.1:{port}", "refused"),
        ("127.0.0.1:99999", "no host:port"),
        ("127.0.0.1", "no host:port"),
        ("127.0.0.1:", "no host:port"),
        (":6379", "no host:port"),
        ("a cluster", "no host:port"),
        ("127.0.0.1:port", "no host:port"),
    ],
)
def test_an_address_nobody_answers(closed_port, address, reason):
    pytest.importorskip("ray")
    address = address.format(port=closed_port)
    started = time.monotonic()
    sentence = f"^no Ray cluster answers at '{re.escape(address)}' .*{reason}.*Expected host:port"
    with pytest.raises(ConnectionError, match=sentence):
        RayEngine(address)
    assert time.monotonic() - started < 10


def test_what_ray_says_of_an_address_is_told(nodes, monkeypatch):
    def init(*args, **settings):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ConnectionError, match=r"answers at 'auto' \(Could not find any.*Expected"):
        RayEngine("auto")
    with pytest.raises(ConnectionError, match=r"^Could not find any running Ray instance\.$"):
        RayEngine()  # no address that could be wrong


@pytest.mark.parametrize(
    ("needs", "has", "fits"),
    [
        ({"cpus": 2}, [{"CPU": 2.0}], True),
        ({"cpus": 3}, [{"CPU": 2.0}, {"CPU": 2.0}], False),
        ({"gpus": 0.2}, [{"CPU": 2.0}], False),
        ({"gpus": 0.2}, [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}], True),
        ({"cpus": 2, "gpus": 1}, [{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}], False),
        ({"gpus": 2}, [{"CPU": 2.0, "GPU": 1.0}], False),
    ],
)
def test_a_run_must_fit_on_a_node(nodes, needs, has, fits):
    nodes += [{"Alive": True, "Resources": resources} for resources in has]
    nodes.append({"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}})
    if fits:
        RayEngine(**needs).close()
        return
    sentence = r"must fit on one node .*Received: .* per task, and nodes with 2 CPUs and . GPU.*Ask"
    with pytest.raises(ValueError, match=sentence):
        RayEngine(**needs)


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"gpus": 1.5}, "gpus must be a part of one or a whole number. Received: 1.5"),
        ({"cpus": -1}, "cannot be negative"),
    ],
)
def test_what_no_run_can_need(nodes, needs, sentence):
    with pytest.raises(ValueError, match=sentence):
        RayEngine(**needs)


def test_a_plan_runs_on_ray(mura, tmp_path, monkeypatch, capfd):
    """All paths are relative, and seen from where this process is; no socket fits into TMPDIR."""
    ray = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 25)))
    for name in ("keras", "random"):  # what the user has there is not imported
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the user')")
    plan = plan_runs(RECIPE, "out", ["elbow"], scheme="direct", members=1)
    assert run_plan(plan, load_mura("data"), "out", engine=RayEngine()) == {}
    folder = tmp_path / plan[0].folder
    assert Run(folder).finished
    assert not list(folder.glob("*.txt"))
    assert not list(folder.glob("started.json"))
    assert not ray.is_initialized()
    printed = capfd.readouterr()
    assert "1 of 1 done: out/small_cnn/imagenet/elbow" in printed.out
    assert "\x1b" not in printed.out + printed.err


def test_sockets_that_fit_nowhere(nodes, monkeypatch):
    def init(*args, **settings):
        where = settings.get("_temp_dir", "a long one")
        raise OSError(f"AF_UNIX path length cannot exceed 107 bytes: {where}")

    monkeypatch.setattr("ray.init", init)
    sentence = (
        r"TMPDIR \(.*: a long one\), and in (/tmp/ray): .*: \1\. Set RAY_TMPDIR to .* 40 bytes"
    )
    with pytest.raises(OSError, match=sentence):
        RayEngine()


def test_what_a_run_gets_of_ray_and_how_it_ends(endless, monkeypatch, capfd):
    """On a machine whose /dev/shm is that of a container, and too small for Ray's defaults."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr("ray._private.utils.get_shared_memory_bytes", lambda: 64 * 2**20)
    monkeypatch.setattr("ray._private.ray_constants.REQUIRE_SHM_SIZE_THRESHOLD", 2**28)
    train = engines.train_in_process

    def train_or(order, environment):  # a task cannot be one of this module's functions
        match order.get("what"):
            case "resources":
                return ray.get_runtime_context().get_assigned_resources()
            case "environment":
                return environment
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        return train(order, environment)

    monkeypatch.setattr(engines, "train_in_process", train_or)
    monkeypatch.setattr(ray, "init", functools.partial(ray.init, num_cpus=2, num_gpus=1))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)  # it may be keras.json that tells
    with contextlib.closing(RayEngine(cpus=0.5, gpus=0.25)) as engine:
        assert engine.submit({"what": "resources"}).result() == {"CPU": 0.5, "GPU": 0.25}

        environment = engine.submit({"what": "environment"}).result()
        assert environment["TF_NUM_INTRAOP_THREADS"] == "1"
        assert environment["KERAS_BACKEND"] == keras_settings()["backend"]
        assert environment["MURA_TF_CACHE"] == os.environ["MURA_TF_CACHE"]
        assert "XLA_PYTHON_CLIENT_PREALLOCATE" in environment

        for order, sentence in (
            (endless.order | {"views": "none.csv"}, "[Errno 2] No such file or directory: 'none."),
            (endless.order | {"recipe": {"seed": -1}}, "seed must be a whole number"),
            ({"what": "die"}, "The worker died unexpectedly while executing this task."),
        ):
            failure = _failure(engine.submit(order).exception(), RECIPE)
            assert str(failure).startswith(sentence)
            assert "\n" not in str(failure)
            assert failure.final == ("seed" in sentence)

        engine.submit(endless.order)
        endless.wait_until_begun()
    endless.wait_until_stopped()
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_two_nodes_and_what_is_killed_on_them_is_run_again(mura, tmp_path, capfd):
    """Each node has room for one run; one loses its Ray worker, the other the training itself."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    recipe = dataclasses.replace(RECIPE, max_epochs=20, patience=20)
    views, types = load_mura(mura), ["elbow", "wrist"]
    undisturbed = plan_runs(recipe, tmp_path / "a", types, scheme="direct", members=1)
    one_core = LocalEngine(usable_cores())
    assert run_plan(undisturbed, views, tmp_path / "a", engine=one_core) == {}

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        plan = plan_runs(recipe, tmp_path / "b", types, scheme="direct", members=1)
        killer = threading.Thread(target=_kill_when_both_train, args=(plan,), daemon=True)
        killer.start()
        assert run_plan(plan, views, tmp_path / "b", engine=RayEngine(cluster.address)) == {}
        killer.join(0)
        assert not killer.is_alive()
    finally:
        cluster.shutdown()
    printed = capfd.readouterr().out
    assert printed.count("is tried again: ") == 2
    assert "is tried again: " + str(plan[0].folder) + ": The worker died unexpectedly" in printed
    assert "is tried again: " + str(plan[1].folder) + ": the process was killed by" in printed
    assert "Traceback" not in printed
    for (_, ours), (_, theirs) in zip(plan, undisturbed, strict=True):
        for name in ("history.csv", "predictions.csv"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def _kill_when_both_train(plan):
    started = [run.folder / "started.json" for run in plan]
    while not all(path.exists() for path in started):
        time.sleep(0.05)
    for path, kill in zip(started, (_kill_its_parent, _kill), strict=True):
        while not (path.parent / "history.csv").exists():
            time.sleep(0.05)
        kill(json.loads(path.read_text())["process"])


def _kill(process):
    os.kill(process, signal.SIGKILL)


def _kill_its_parent(process):
    _kill(int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(process)])))
