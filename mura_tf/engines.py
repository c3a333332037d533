"""Where runs are executed: processes of this machine, or a Ray cluster."""

import os
import socket
import subprocess
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from mura_tf.worker import train_in_process

SHARED_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Lets several processes use one GPU: memory is taken as it is needed."""
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
"""Lets glibc keep what a step has freed for the next one: a quarter more images/s on a CPU."""


class Engine(Protocol):
    """Executes orders of `train_in_process`."""

    def submit(self, order: Mapping) -> Future:
        """Queues one order; the future raises `RunError` or what else went wrong."""

    def close(self) -> None:
        """Stops everything that still runs."""


class LocalEngine:
    """Processes of this machine, `jobs` at a time, that share its cores evenly."""

    def __init__(self, jobs: int = 1):
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1. Received: {jobs!r}.")
        self._pool = ThreadPoolExecutor(jobs)
        self._processes: list[subprocess.Popen] = []
        self._closed = False
        self._environment = _environment(jobs > 1, (os.cpu_count() or 1) // jobs)

    def submit(self, order: Mapping) -> Future:
        return self._pool.submit(train_in_process, order, self._environment, self._started)

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()
        self._pool.shutdown()

    def _started(self, process: subprocess.Popen) -> None:
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

    Raises:
        ImportError: the extra is not installed.
        ConnectionError: nobody answers at the address.
    """

    def __init__(self, address: str | None = None, cpus: float = 1, gpus: float = 0):
        try:
            import ray
        except ImportError:
            raise ImportError(
                "the engine 'ray' needs Ray, which is not installed. Install the extra on every "
                "node: pip install 'mura-tf[ray]'."
            ) from None
        if address not in (None, "auto"):
            _require_listener(address)
        self._ray = ray
        try:
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise ConnectionError(
                f"no Ray cluster answers at {address!r}: {error}. Start one with "
                "`ray start --head` and give its address, or leave --ray-address out."
            ) from None
        environment = _environment(shared=gpus < 1, cores=int(cpus))
        task = ray.remote(train_in_process).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1
        )
        self._submit = lambda order: task.remote(dict(order), environment)
        self._tasks = []

    def submit(self, order: Mapping) -> Future:
        self._tasks.append(self._submit(order))
        return self._tasks[-1].future()

    def close(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


def _environment(shared: bool, cores: int) -> dict[str, str]:
    """Of a process that has so many cores and may share the GPU."""
    threads = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = KEPT_MEMORY | dict.fromkeys(threads, str(max(1, cores)))
    return environment | SHARED_GPU if shared else environment


def _require_listener(address: str) -> None:
    """Ray itself waits for minutes before it says that nobody is there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address!r}: {error}. Expected host:port of a running one "
            "(`ray start --head` prints it), or leave --ray-address out."
        ) from None
