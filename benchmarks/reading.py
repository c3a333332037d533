"""Reading new radiographs: which runtime, how long from a cold start, under load, in what memory.

    python benchmarks/reading.py [--only backbones cold serve memory] [--quick]

Prints the section "Reading" of `benchmarks/README.md`. Members have random weights. All runtimes
take turns with the same batch of uint8 squares, and medians are printed. About a quarter of an hour
on two cores; `--quick` tries everything on next to nothing, and its numbers mean nothing.
"""

import argparse
import http.client
import importlib.util
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mura_tf import Bundle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BACKBONES = {
    "mobilenet_v2": "mobilenetv2_100",
    "densenet169": "densenet169",
    "xception": "legacy_xception",
    "efficientnet_b0": "tf_efficientnet_b0",
    "efficientnet_b1": "tf_efficientnet_b1",
    "efficientnet_b2": "tf_efficientnet_b2",
    "efficientnet_b3": "tf_efficientnet_b3",
}
"""The paper's seven, and what timm calls them."""
COLUMNS = {
    "predict": "Keras `predict`",
    "predict_on_batch": "`predict_on_batch`",
    "keras": "member by Keras",
    "onnx": "by ONNX Runtime",
    "openvino": "by OpenVINO",
    "timm": "timm (PyTorch)",
}
BATCHES = (1, 8)
TURNS = 5
USERS = 8
REQUESTS = 1000
FILES = 10_000
WRITTEN = 2000
"""Of the files, how many are read once more with tables, page and pictures."""
B0, SMALL = "efficientnet_b0", "small_cnn"
"""What starts cold and is served, and what reads many files: their memory is no net's."""
COMMAND = "from mura_tf.cli import app; app(prog_name='mura-tf')"

Read = Callable[[np.ndarray], object]


# ------------------------------------------------------------------------------------------------
# the runtimes


def backbones(folder: Path, quick: bool) -> None:
    """Images/s of each backbone and runtime."""
    if importlib.util.find_spec("timm"):
        import timm  # noqa: F401 - before TensorFlow: the process ends where torchvision comes after
    print(
        "Images/s, preprocessing included; members give heatmaps as well. Gain: the fastest one\n"
        "beside `predict_on_batch`. Heatmap: ONNX Runtime with one beside without, in time.\n"
    )
    print("| backbone | px | batch |", " | ".join(COLUMNS.values()), "| gain | heatmap |")
    print("| --- |" + " ---: |" * (len(COLUMNS) + 4))
    for backbone in ["mobilenet_v2"] if quick else BACKBONES:
        readers, side = _readers(backbone, folder)
        for batch in BATCHES:
            squares = np.random.default_rng(0).integers(0, 256, (batch, side, side), np.uint8)
            seconds = _in_turns(readers, squares, 1 if quick else TURNS)
            rates = {name: batch / one for name, one in seconds.items()}
            cells = [f"{rates[name]:.1f}" if name in rates else "" for name in COLUMNS]
            fastest = max(rates[name] for name in ("keras", "onnx", "openvino") if name in rates)
            cells.append(f"{fastest / rates['predict_on_batch']:.1f}")
            cells.append(f"{seconds['onnx'] / seconds['onnx, no maps']:.2f}")
            print(f"| {backbone} | {side} | {batch} |", " | ".join(cells), "|", flush=True)


def _readers(backbone: str, folder: Path) -> tuple[dict[str, Read], int]:
    """Runtime -> what reads uint8 squares with it; and the side of the squares."""
    import keras

    from mura_tf import build_model
    from mura_tf.data.pipeline import looked_up, preprocessing_table
    from mura_tf.inference.export import export_member
    from mura_tf.inference.members import KerasMember, OnnxMember, OpenVinoMember

    path = folder / f"{backbone}.keras"
    model = build_model(backbone, weights=None)
    model.save(path)
    model = keras.models.load_model(path, compile=False)
    table = preprocessing_table("caffe")
    exported = export_member(path, "caffe", "onnx", folder, backbone).path
    readers: dict[str, Read] = {
        "predict": lambda squares: model.predict(looked_up(squares, table), verbose=0),
        "predict_on_batch": lambda squares: model.predict_on_batch(looked_up(squares, table)),
        "keras": KerasMember(path, "caffe").read,
        "onnx": OnnxMember(exported.read_bytes()).read,
        "onnx, no maps": OnnxMember(_without_maps(exported)).read,
    }
    if importlib.util.find_spec("openvino"):
        readers["openvino"] = OpenVinoMember(exported.read_bytes()).read
    if importlib.util.find_spec("timm"):
        readers["timm"] = _timm(BACKBONES[backbone])
    return readers, model.input_shape[1]


def _without_maps(graph: Path) -> bytes:
    """The graph as it would be if nobody wanted heatmaps."""
    import onnx

    model = onnx.load(graph)
    for output in [one for one in model.graph.output if one.name == "maps"]:
        model.graph.output.remove(output)
    return model.SerializeToString()


def _timm(name: str) -> Read:
    import timm
    import torch

    model = timm.create_model(name, num_classes=1).eval()

    def read(squares: np.ndarray) -> object:
        with torch.inference_mode():
            images = torch.from_numpy(squares)[:, None].float().expand(-1, 3, -1, -1)
            return torch.sigmoid(model(images)).numpy()

    return read


def _in_turns(readers: dict[str, Read], squares: np.ndarray, turns: int) -> dict[str, float]:
    """Runtime -> seconds of a batch, the median of its turns."""
    for read in readers.values():
        read(squares)  # graphs are made
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(turns):
        for name, read in readers.items():
            time.sleep(0.2)  # until the threads of the one before no longer wait for more
            read(squares)  # the caches are this one's
            seconds[name].append(_seconds(lambda read=read: read(squares)))  # type: ignore[misc]
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# ------------------------------------------------------------------------------------------------
# from a cold start


@cache
def packed(folder: Path, backbone: str) -> Path:
    """An exported bundle of one member for wrists, trained for a step or two."""
    import mura_tf as mt
    from mura_tf.inference.export import export_bundle

    root = folder / "MURA-v1.1"
    views = mt.load_mura(root if root.exists() else mt.write_synthetic_mura(folder, 8, seed=0))
    recipe = mt.Recipe(backbone=backbone, weights=None, max_epochs=1, study_types=("wrist",))
    mt.train(recipe, views[views.study_type == "wrist"], folder / backbone, verbose=0)
    path = folder / f"{backbone}.mura"
    mt.pack(folder / backbone, path)
    export_bundle(path, "onnx")
    return path


def _radiograph(folder: Path) -> Path:
    return next((folder / "MURA-v1.1/valid/XR_WRIST").rglob("*.png"))


def cold(folder: Path, quick: bool) -> None:
    """Seconds from the start of a process to the finding it prints, and to its end."""
    bundle, plain = packed(folder, SMALL if quick else B0), folder / "plain.mura"
    _copy_without_graphs(bundle, plain)
    radiograph = str(_radiograph(folder))
    print(
        f"| from a cold start, {bundle.stem}, median | finding, s | end, s |\n| --- | ---: | ---: |"
    )
    for name, code, arguments in (
        ("`predict BUNDLE one.png`, exported", COMMAND, ["predict", str(bundle), radiograph]),
        ("`predict BUNDLE one.png`, Keras", COMMAND, ["predict", str(plain), radiograph]),
        ("`import keras` alone", "import keras; print()", []),
    ):
        turns = [_started(code, arguments) for _ in range(1 if quick else TURNS)]
        first, end = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"| {name} | {first:.1f} | {end:.1f} |", flush=True)


def _started(code: str, arguments: list[str]) -> tuple[float, float]:
    started = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None  # it is a pipe
        process.stdout.readline()
        first = time.perf_counter() - started
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}.")
    return first, time.perf_counter() - started


def _copy_without_graphs(bundle: Path, target: Path) -> None:
    import zipfile

    with zipfile.ZipFile(bundle) as whole, zipfile.ZipFile(target, "w") as copy:
        for entry in whole.infolist():
            if not entry.filename.endswith(".onnx"):
                copy.writestr(entry, whole.read(entry))


# ------------------------------------------------------------------------------------------------
# under load


def serve(folder: Path, quick: bool) -> None:
    """Requests of several users at once: how many are answered, how fast, in what memory."""
    from mura_tf import Bundle

    bundle = packed(folder, SMALL if quick else B0)
    requests, content = 20 if quick else REQUESTS, _radiograph(folder).read_bytes()
    model = 1000 * _bare(Bundle(bundle))
    with _server(bundle) as (port, process):
        _asked(port, content)  # the first waits for the process that reads
        memory, taken = [], []
        lock = threading.Lock()

        def ask(number: int) -> None:
            milliseconds = 1000 * _seconds(lambda: _asked(port, content))
            with lock:
                taken.append(milliseconds)
                if len(taken) in (requests // 10, requests // 2, requests):
                    memory.append(_resident(process.pid))

        with ThreadPoolExecutor(USERS) as users:
            seconds = _seconds(lambda: list(users.map(ask, range(requests))))
    each = 1000 * seconds / requests
    print(f"| serving {bundle.stem}, one worker | |\n| --- | ---: |")
    for name, value in (
        (f"requests of {USERS} users at once, answered", f"{len(taken):,} of {requests:,}"),
        ("the bare model, one view, ms", f"{model:.1f}"),
        ("wall time per request, ms, and of the bare model's", f"{each:.1f}, {each / model:.1f}"),
        (f"what one of {USERS} users waits, median, ms", f"{statistics.median(taken):.0f}"),
        ("MiB after a tenth, half, all", ", ".join(f"{one:,.0f}" for one in memory)),
    ):
        print(f"| {name} | {value} |")


def _bare(bundle: "Bundle") -> float:
    """Seconds of the members alone, without decoding, warnings or pictures, for one view."""
    side = bundle.facts["image_size"]
    square = np.random.default_rng(0).integers(0, 256, (1, side, side), np.uint8)
    return _in_turns({"model": bundle.members_for("wrist")[0].read}, square, 20)["model"]


@contextmanager
def _server(bundle: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", COMMAND, "serve", str(bundle), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield port, process
        finally:
            process.terminate()


def _asked(port: int, content: bytes) -> None:
    """Sends a radiograph; an answer that is none raises."""
    boundary = uuid.uuid4().hex
    head = 'Content-Disposition: form-data; name="{}"'
    body = (
        f"--{boundary}\r\n{head.format('study_type')}\r\n\r\nwrist\r\n"
        f'--{boundary}\r\n{head.format("files")}; filename="one.png"\r\n\r\n'
    ).encode()
    body += content + f"\r\n--{boundary}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    connection.request("POST", "/api/read", body, kind)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    if answer.status != 200 or told["studies"][0]["probability"] is None:
        raise RuntimeError(f"an answer of status {answer.status}: {told}")


# ------------------------------------------------------------------------------------------------
# memory


def memory(folder: Path, quick: bool) -> None:
    """MiB of a process that reads many files, without and with what `--out` writes."""
    bundle = packed(folder, SMALL)
    files, written = (200, 100) if quick else (FILES, WRITTEN)
    originals = sorted((folder / "MURA-v1.1").rglob("*.png"))
    for number in range(files):
        part = folder / f"links/{'first' if number < written else 'rest'}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{number:06d}.png").symlink_to(originals[number % len(originals)])
    print(f"| reading with {bundle.stem} | MiB at a tenth | at half | at the end | files/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, links, count, out in (
        (f"{files:,} files", "links", files, []),
        (f"{written:,} files, `--out`", "links/first", written, ["--out", str(folder / "out")]),
    ):
        where = [str(bundle), str(folder / links), "--each-file", "--type", "wrist", *out]
        seconds, seen = _watched(["predict", *where], count)
        cells = " | ".join(f"{one:,.0f}" for one in seen)
        print(f"| {name} | {cells} | {count / seconds:.0f} |", flush=True)


def _watched(arguments: list[str], count: int) -> tuple[float, list[float]]:
    """Seconds of a command that prints a line per file, and its MiB at three of them."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    started, seen, done = time.perf_counter(), [], 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # it is a pipe
        for line in process.stdout:
            done += ": wrist: " in line
            if ": wrist: " in line and done in (count // 10, count // 2, count):
                seen.append(_resident(process.pid))
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}.")
    return time.perf_counter() - started, seen


def _resident(pid: int) -> float:
    """MiB of a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(_resident(int(one)) for one in children)


PARTS = {"backbones": backbones, "cold": cold, "serve": serve, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="try all on next to nothing")
    arguments = parser.parse_args()
    packages = _versions("keras", "tensorflow", "onnxruntime", "openvino", "torch", "timm")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print("## Reading\n\n" + ", ".join([machine, *packages]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in arguments.only:
            print()
            started = time.perf_counter()
            PARTS[name](folder, arguments.quick)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


def _versions(*packages: str) -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for package in packages:
        with suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"


if __name__ == "__main__":
    main()
