"""A grid of small runs whose processes and disk fail at random moments, beside one left in peace.

    python tests/chaos.py [--seed N] [--moments 50] [--only KIND ...] [--minutes 20]

The grid is trained by one command, on processes of this machine and on the nodes of a Ray cluster
in turns. At moments that the seed draws something is killed, stopped for a while, filled or made
read-only. Whenever the command ends before the grid is done it is given again, and a grid that is
done before all moments have passed is begun anew. Exit status 1 if a grid does not end with the
files of the undisturbed one, or leaves anything behind; `--seed` draws the same moments again.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grids import differences

MEMBERS = 11
"""That start from one model on all study types, the twelfth run."""
CORES, JOBS = 2, 4
"""So that a run has one thread on either engine, as its last bits hang on that."""
DISK_MIB = 48
ENGINES = ("processes", "ray")


# ------------------------------------------------------------------------------------------------
# The command that is disturbed


def train(data: str, disk: str, engine: str, address: str) -> None:
    from mura_tf.experiment import run_experiment
    from mura_tf.grid.engines import LocalEngine, RayEngine
    from mura_tf.training.recipe import Recipe

    recipe = Recipe(
        backbone="small_cnn",
        weights=None,
        image_size=32,
        preprocessing="native",
        learning_rate=0.003,
        patience=8,
        max_epochs=8,
    )
    try:
        run_experiment(
            recipe,
            data,
            f"{disk}/out",
            study_types=["wrist"],
            members=MEMBERS,
            engine=LocalEngine(JOBS) if engine == "processes" else RayEngine(address),
            cache_dir=f"{disk}/cache",
        )
    except (ValueError, OSError, RuntimeError) as error:  # as `mura-tf` tells them
        sys.exit(f"Error: {error}")


# ------------------------------------------------------------------------------------------------
# What is disturbed


@dataclass
class Scene:
    """The grid at work, on `disk`, which is a file system of its own if `mounted`.

    Every process of ours has `mark` in its environment.
    """

    folder: Path
    disk: Path
    mounted: bool
    mark: str
    engine: str = ""
    command: subprocess.Popen | None = None
    cluster: object = None
    nodes: list = field(default_factory=list)

    def start(self, engine: str, log: Path) -> None:
        self.engine = engine
        if engine == "ray" and self.cluster is None:
            from ray.cluster_utils import Cluster

            self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
            self.nodes = [self.cluster.add_node(num_cpus=JOBS // 2) for _ in range(2)]
        address = self.cluster.address if engine == "ray" else ""
        arguments = [__file__, "--train", str(self.folder / "MURA-v1.1"), str(self.disk)]
        with open(log, "ab") as file:
            self.command = subprocess.Popen(
                [sys.executable, *arguments, engine, address],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def running(self) -> bool:
        return self.command is not None and self.command.poll() is None

    def workers(self) -> list[int]:
        """The processes that train."""
        return sorted(pid for pid, line in self.processes() if b"mura_tf.grid.worker" in line)

    def processes(self) -> Iterator[tuple[int, bytes]]:
        """Number and command line of each of ours but this one."""
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                ours = self.mark.encode() in (path / "environ").read_bytes()
                if ours and int(path.name) != os.getpid():
                    yield int(path.name), (path / "cmdline").read_bytes()

    def close(self) -> None:
        if self.running():
            self.command.kill()
            self.command.wait()
        if self.cluster is not None:
            self.cluster.shutdown()
            self.cluster = None


# ------------------------------------------------------------------------------------------------
# How it is disturbed. Each returns what it did, or None where there is nothing to do it to.


def worker_killed(scene: Scene, one: random.Random) -> str | None:
    """The process that trains a run."""
    workers = scene.workers()
    return _signalled(one.choice(workers), signal.SIGKILL) if workers else None


def command_killed(scene: Scene, one: random.Random) -> str | None:
    """The process that places the runs; those that train stop by themselves."""
    return _signalled(scene.command.pid, signal.SIGKILL) if scene.running() else None


def node_killed(scene: Scene, one: random.Random) -> str | None:
    """A node of the Ray cluster; another one joins."""
    if scene.engine != "ray" or not scene.running():
        return None
    node = scene.nodes.pop(one.randrange(len(scene.nodes)))
    scene.cluster.remove_node(node, allow_graceful=False)
    scene.nodes.append(scene.cluster.add_node(num_cpus=JOBS // 2))
    return "1 of 2"


def paused(scene: Scene, one: random.Random) -> str | None:
    """A worker or the command, for seconds."""
    seconds, pids = one.uniform(1, 4), scene.workers()
    pids += [scene.command.pid] if scene.running() else []
    if not pids:
        return None
    pid = one.choice(pids)
    try:
        said = _signalled(pid, signal.SIGSTOP)
        time.sleep(seconds)
    finally:
        _signalled(pid, signal.SIGCONT)
    return said and f"{said} for {seconds:.1f} s"


def disk_filled(scene: Scene, one: random.Random) -> str | None:
    """With a file, for seconds."""
    if not scene.mounted:
        return None
    seconds, ballast = one.uniform(1, 4), scene.disk / "ballast"
    try:
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(2**16)):
                pass
        time.sleep(seconds)
    finally:
        ballast.unlink(missing_ok=True)
    return f"for {seconds:.1f} s"


def disk_read_only(scene: Scene, one: random.Random) -> str | None:
    """For seconds. Where there is a mount, by a read-only one over it; files stay open below."""
    seconds = one.uniform(1, 4)
    with _read_only(scene):
        time.sleep(seconds)
    return f"for {seconds:.1f} s"


KINDS = {
    function.__name__.replace("_", " "): function
    for function in (
        worker_killed,
        command_killed,
        node_killed,
        paused,
        disk_filled,
        disk_read_only,
    )
}


def _signalled(pid: int, number: int) -> str | None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return None
    return f"process {pid}"


@contextlib.contextmanager
def _read_only(scene: Scene) -> Iterator[None]:
    if scene.mounted:
        _mount("--bind", scene.disk, scene.disk)
        try:
            _mount("-o", "remount,bind,ro", scene.disk)
            yield
        finally:
            subprocess.run(["umount", "--lazy", scene.disk], check=True)
        return
    folders = [scene.disk, *filter(Path.is_dir, scene.disk.rglob("*"))]
    modes = {folder: folder.stat().st_mode for folder in folders}
    try:
        for folder in folders:
            folder.chmod(modes[folder] & ~0o222)
        yield
    finally:
        for folder in folders:
            folder.chmod(modes[folder])


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


@contextlib.contextmanager
def small_disk(disk: Path) -> Iterator[str]:
    """A file system in memory at `disk`; yields why it is none, or ""."""
    disk.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", disk)
    except (OSError, subprocess.CalledProcessError):
        yield "nothing can be mounted here"
        return
    try:
        yield ""
    finally:
        while subprocess.run(["umount", "--lazy", disk], capture_output=True).returncode == 0:
            pass


# ------------------------------------------------------------------------------------------------


def left_processes(scene: Scene, seconds: float = 30) -> list[str]:
    """Ours that have not ended by themselves within seconds, and children nobody waited for."""
    deadline = time.monotonic() + seconds
    while (found := list(scene.processes())) and time.monotonic() < deadline:
        time.sleep(0.5)
    left = [f"process {pid} is left over: {line[:80]!r}" for pid, line in found]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                left.append(f"process {path.parent.name} is a zombie")
    return left


def undisturbed(scene: Scene, peace: Path) -> float:
    """Trains the grid in peace, into `peace`; returns its seconds."""
    started, log = time.monotonic(), scene.folder / "peace.txt"
    scene.start("processes", log)
    if scene.command.wait():
        sys.exit(f"The undisturbed grid failed:\n{log.read_text()}")
    shutil.copytree(scene.disk, peace)
    _empty(scene.disk)
    return time.monotonic() - started


def _empty(disk: Path) -> None:
    for path in disk.iterdir():
        shutil.rmtree(path)


def disturb(scene: Scene, kinds: list[str], draw: random.Random, mean: float) -> tuple[str, str]:
    """Waits, and does one of `kinds` as soon as it can; returns which, and what it did."""
    wait, order, one = draw.uniform(0, 2 * mean), draw.sample(kinds, len(kinds)), draw.random()
    time.sleep(wait)
    while True:
        for kind in order:
            if said := KINDS[kind](scene, random.Random(one)):
                return kind, said
            if kind == order[0] and not scene.running():
                return "", ""
        time.sleep(0.2)


def chaos(options: argparse.Namespace, scene: Scene, kinds: list[str]) -> list[str]:
    """Returns what is wrong at the end, in sentences."""
    draw, started = random.Random(options.seed), time.monotonic()
    peace, log = scene.folder / "peace", scene.folder / "log.txt"
    seconds = undisturbed(scene, peace)
    print(f"The undisturbed grid took {seconds:.0f} s.", flush=True)
    done, starts, grids, wrong, moment = Counter(), Counter(), 0, [], 0
    while not wrong:
        engine = ENGINES[starts.total() % len(ENGINES)]
        starts[engine] += 1
        scene.start(engine, log)
        while scene.running() and moment < options.moments:
            kind, said = disturb(scene, kinds, draw, seconds / 12)
            if kind:
                moment, done[kind] = moment + 1, done[kind] + 1
                clock = time.strftime("%M:%S", time.gmtime(time.monotonic() - started))
                print(f"{moment:3} {clock} {engine:9} {kind}: {said}", flush=True)
        if scene.command.wait() == 0:
            grids += 1
            wrong = differences(peace, scene.disk)
            if moment == options.moments:
                break
            _empty(scene.disk)
    if "Traceback" in (told := log.read_text()):
        wrong.append(f"The command ended so:\n{told[told.index('Traceback') :][:3000]}")
    print(f"\n{'kind':16} {'moments':>7}")
    for kind in kinds:
        print(f"{kind:16} {done[kind]:7}")
    print(
        f"{moment} moments in {time.monotonic() - started:.0f} s; the command was given "
        f"{' and '.join(f'{starts[name]} times on {name}' for name in ENGINES)}, and {grids} grids "
        "of 12 runs were done"
    )
    return wrong


def main() -> int:
    if sys.argv[1:2] == ["--train"]:
        train(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--minutes", type=float, default=20, help="after which it is ended")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    mark = os.environ["MURA_TF_CHAOS"] = uuid.uuid4().hex
    print(f"--seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as temporary,
        small_disk(Path(temporary, "disk")) as why_none,
    ):
        scene = Scene(Path(temporary), Path(temporary, "disk"), not why_none, mark)
        left_out = {"disk filled"} if why_none else set()
        if why_none and os.geteuid() == 0:
            left_out |= {"disk read only"}  # permissions do not bind root
        for kind in sorted(left_out):
            print(f"{kind} left out: {why_none}")
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 60 * options.minutes)
        from mura_tf.synthetic.write import write_synthetic_mura

        write_synthetic_mura(scene.folder, studies_per_type=12)
        try:
            kinds = [kind for kind in options.only or KINDS if kind not in left_out]
            wrong = chaos(options, scene, kinds)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            scene.close()
        wrong += left_processes(scene)
    print("\n".join(wrong) or "All is as in the undisturbed grid, and nothing is left over.")
    return 1 if wrong else 0


def _out_of_time(*_: object) -> None:
    raise TimeoutError("chaos has not ended within its minutes")


if __name__ == "__main__":
    sys.exit(main())
