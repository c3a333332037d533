"""Where runs are executed: processes of this machine, or a Ray cluster."""

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from mura_tf.cores import threads, usable_cores
from mura_tf.data.cache import default_cache_dir
from mura_tf.grid.worker import train_in_process
from mura_tf.models.backend import keras_settings

SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Lets several processes use one GPU: memory is taken as it is needed."""
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
"""Lets glibc keep what a step has freed for the next one: a quarter more images/s on a CPU."""
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NPROC")
"""What TensorFlow, torch (OMP) and jax (NPROC) take the number of their threads from."""

IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1", "RAY_py_gcs_connect_timeout_s": "5"}
"""Lets Ray give up on a server that is not Ray's within seconds, not a quarter of an hour."""

_QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
OBJECT_STORE = 100 * 2**20
"""Bytes that a Ray of our own keeps for objects: orders and failures are small, and its usual third
of the memory is refused where /dev/shm is small, as in a container."""
SHORT_FOLDER = "/tmp/ray"
"""Where Ray's sockets go if TMPDIR is too long: the system takes 107 bytes, and Ray adds 64."""


class Engine(Protocol):
    """Executes orders, such as those of `train_in_process`."""

    def submit(self, order: Mapping[str, Any]) -> Future[Any]:
        """Queues one order; the future raises `RunError` or what else went wrong."""

    def close(self) -> None:
        """Stops everything that still runs; nothing can be submitted any more."""


class LocalEngine:
    """Processes of this machine, `jobs` at a time, that share its cores evenly."""

    def __init__(self, jobs: int = 1):
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1. Received: {jobs!r}.")
        self._pool = ThreadPoolExecutor(jobs)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._environment = _environment(jobs > 1, min(threads(), usable_cores()) // jobs)

    def submit(self, order: Mapping[str, Any]) -> Future[None]:
        return self._pool.submit(train_in_process, order, self._environment, self._started)

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._pool.shutdown()

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.append(process)
        if self._closed:
            process.kill()


class RayEngine:
    """Tasks of a Ray cluster; every node sees the run folders and the data under the same paths.

    Args:
        address: of a running cluster, "host:port", "ray://host:port" or "auto"; by default Ray is
            started on this machine and stopped at the end.
        cpus: cores of one run.
        gpus: GPUs of one run; 0.2 puts five runs on one.
        work: what executes an order, given it and the environment that a process of these cores
            and GPUs wants; `train_in_process` by default.
        retries: how often an order is given to another process where its own has died.

    Raises:
        ImportError: the extra is not installed.
        ConnectionError: nobody answers at the address.
        OSError: Ray cannot be started on this machine.
        ValueError: no node of the cluster has so many cores and GPUs, or none ever could.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        *,
        work: Callable[[Mapping[str, Any], Mapping[str, str]], Any] | None = None,
        retries: int = 0,
    ):
        if address:
            os.environ.update(IMPATIENT)  # which Ray reads when it is imported
        try:
            import ray
        except ImportError:
            raise ImportError(
                "the engine 'ray' needs Ray, which is not installed. Install the extra on every "
                "node: pip install 'mura-tf[ray]'."
            ) from None
        if gpus > 1 and gpus % 1:
            raise ValueError(f"gpus must be a part of one or a whole number. Received: {gpus:g}.")
        self._task = ray.remote(work or train_in_process).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=retries
        )
        if address not in (None, "auto"):
            _require_listener(address)
        self._ray = ray
        self._environment = _environment(shared=gpus < 1, cores=int(cpus)) | _passed_on()
        self._tasks: list[ray.ObjectRef[Any]] = []
        if address:
            try:
                ray.init(address, **_QUIETLY)
            except ConnectionError as error:
                raise _nobody_answers(address, error) from None
        else:
            self._start()
        self._tell_state_dumps(False)
        self._require_node(cpus, gpus)

    def _start(self) -> None:
        settings = _QUIETLY | {"object_store_memory": OBJECT_STORE}
        try:
            self._ray.init("local", **settings)
        except OSError as error:
            if "AF_UNIX path length" not in str(error):
                raise
            try:
                self._ray.init("local", **settings, _temp_dir=SHORT_FOLDER)
            except OSError as other:
                raise OSError(
                    f"Ray cannot be started: its sockets do not fit into TMPDIR ({error}), and in "
                    f"{SHORT_FOLDER}: {other}. Set RAY_TMPDIR to a folder that can be written to "
                    "and whose path has 40 bytes at most."
                ) from None

    def submit(self, order: Mapping[str, Any]) -> Future[Any]:
        self._tasks.append(self._task.remote(dict(order), self._environment))
        return self._tasks[-1].future()

    def close(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()
        self._tell_state_dumps(True)

    def _tell_state_dumps(self, told: bool) -> None:
        """Ray prints 30 lines for a dead node; the futures say it in one. There is no option."""
        self._ray._private.worker._worker_logs_enabled = told

    def _require_node(self, cpus: float, gpus: float) -> None:
        """Ray itself would wait in silence until such a node joins."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        have = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
        if not any(cpus <= some and gpus <= others for some, others in have):
            self.close()
            raise ValueError(
                f"a task must fit on one node of the Ray cluster. Received: {cpus:g} CPUs and "
                f"{gpus:g} GPUs per task, and nodes with "
                + ", ".join(f"{some:g} CPUs and {others:g} GPUs" for some, others in have)
                + ". Ask for less, or add a node."
            )


def _environment(shared: bool, cores: int) -> dict[str, str]:
    """Of a process that has so many cores and may share the GPU."""
    environment = KEPT_MEMORY | dict.fromkeys(THREADS, str(max(1, cores)))
    return environment | SHARED_GPU if shared else environment


def _passed_on() -> dict[str, str]:
    """What the processes of other nodes would else take from their environment and keras.json."""
    return {
        "KERAS_BACKEND": keras_settings()["backend"],
        "MURA_TF_CACHE": os.path.abspath(default_cache_dir()),
    }


def _require_listener(address: str) -> None:
    """Ray itself takes a minute to say that nobody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not (host and port.isdecimal() and int(port) < 2**16):
            raise ValueError("which is no host:port")
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise _nobody_answers(address, error) from None


def _nobody_answers(address: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"no Ray cluster answers at {address!r} ({error}). Expected host:port of a running one, "
        "which `ray start --head` prints. Without an address Ray is started on this machine."
    )
