"""The fast tests as on other machines, as far as this one can play them.

    python tests/anywhere.py [--only CONDITION ...] [arguments of pytest]

Runs them once under each condition and prints what became of them; exit status 1 if any failed. The
order is that of the files but under `random-order`, whose seed is printed; `-p no:randomly` and
that seed in `-p randomly --randomly-seed=...` repeat it.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARALLEL = ["-n", "auto", "--dist", "loadfile"]
IN_ORDER = ["-p", "no:randomly"]


def without_onednn(folder: Path) -> dict:
    """TensorFlow's own kernels."""
    return {"env": {"TF_ENABLE_ONEDNN_OPTS": "0"}}


def onednn_avx2(folder: Path) -> dict:
    """The kernels that TensorFlow has on a processor without AVX512."""
    return {"env": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}


def numpy_avx2(folder: Path) -> dict | str:
    """The loops of NumPy, OpenBLAS and OpenCV there."""
    import cv2
    import numpy as np

    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    newer = [name for name in found if name.startswith("AVX512") or name == "X86_V4"]
    if not newer:
        return "this processor has no AVX512"
    env = {"NPY_DISABLE_CPU_FEATURES": " ".join(newer), "OPENBLAS_CORETYPE": "Haswell"}
    if cv2.checkHardwareSupport(256):  # AVX512-SKX; naming one that lacks would print a line
        env["OPENCV_CPU_DISABLE"] = "AVX512-SKX"
    return {"env": env}


def one_core(folder: Path) -> dict | str:
    """Every pool has one thread, and sums are split otherwise."""
    if not hasattr(os, "sched_setaffinity"):
        return "this system binds no process to a core"
    core = min(os.sched_getaffinity(0))
    return {"preexec_fn": lambda: os.sched_setaffinity(0, {core})}


def random_order(folder: Path) -> dict:
    """No test leans on another that ran before it."""
    return {"arguments": [f"--randomly-seed={random.randrange(2**32)}"]}


def odd_folder(folder: Path) -> dict:
    """Of the code, where it is installed anew, and of what the tests write."""
    copy = folder / "R\N{LATIN SMALL LETTER O WITH DIAERESIS}ntgen bilder"
    python = _installed_copy(copy)
    return {"python": python, "cwd": copy, "arguments": [*IN_ORDER, "--basetemp", copy / "tmp"]}


CONDITIONS = {
    function.__name__.replace("_", "-"): function
    for function in (
        without_onednn,
        onednn_avx2,
        numpy_avx2,
        one_core,
        random_order,
        odd_folder,
    )
}


def _installed_copy(folder: Path) -> Path:
    """Copies this checkout as it is now; returns a Python that has the copy, and all else of ours.

    `.pth` files are read in a folder that belongs to the interpreter and in no other, so the one
    that makes this checkout importable does not count there.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    venv.create(folder / ".venv", symlinks=True)
    python = folder / ".venv/bin/python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(own, "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", folder]
    subprocess.run(install, check=True)
    return python


def run(name: str, arguments: list[str]) -> tuple[str, bool]:
    """Runs the tests under a condition; returns its line of the table, and whether all is well."""
    with tempfile.TemporaryDirectory(prefix="anywhere-") as temporary:
        folder = Path(temporary)
        condition = CONDITIONS[name](folder)
        if isinstance(condition, str):
            return f"{name:16} left out: {condition}", True
        of_condition = list(map(str, condition.get("arguments", IN_ORDER)))
        shown = [f"{key}={value}" for key, value in condition.get("env", {}).items()]
        print(f"\n{name}:", *shown, *of_condition, flush=True)
        report = folder / "report.xml"
        command = [condition.get("python", sys.executable), "-m", "pytest", "-q", *of_condition]
        env = os.environ | condition.get("env", {})
        if (ROOT.parent / "shared").is_dir():
            env.setdefault("MURA_TF_SHARED", str(ROOT.parent / "shared"))
        started = time.monotonic()
        process = subprocess.run(
            [*command, f"--junitxml={report}", *arguments],
            cwd=condition.get("cwd", ROOT),
            env=env,
            preexec_fn=condition.get("preexec_fn"),
        )
        seconds = time.monotonic() - started
        if not report.exists():
            return f"{name:16} pytest ended with status {process.returncode}", False
        suite = ElementTree.parse(report).getroot().find("testsuite")
        tests, failures, errors, skipped = (
            int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")
        )
        bad = failures + errors
        passed = tests - bad - skipped
        line = f"{name:16} {passed:6} {bad:6} {skipped:7} {seconds:7.0f}"
        if name == "random-order":
            line += f"  {of_condition[0]}"
        return line, process.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CONDITIONS, action="append")
    options, arguments = parser.parse_known_args()
    names = options.only or list(CONDITIONS)
    results = [run(name, arguments or PARALLEL) for name in names]
    print(f"\n{'condition':16} {'passed':>6} {'failed':>6} {'skipped':>7} {'seconds':>7}")
    for line, _ in results:
        print(line)
    return 0 if all(well for _, well in results) else 1


if __name__ == "__main__":
    sys.exit(main())
