"""The `.mura` file, a zip: its members, and what tells it from another."""

import hashlib
import importlib.util
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mura_tf.files import is_refusal
from mura_tf.inference.members import KerasMember, Member, OnnxMember, OpenVinoMember

RUNTIMES: dict[str, Callable[[bytes], Member]] = {
    "openvino": OpenVinoMember,
    "onnxruntime": OnnxMember,
}
"""Package -> what reads an exported graph with it; the quicker one first, see `benchmarks/`."""


def installed_runtimes() -> list[Callable[[bytes], Member]]:
    """Those of `RUNTIMES` that are there, in their order."""
    return [one for package, one in RUNTIMES.items() if importlib.util.find_spec(package)]


def keras_file(bundle: Path | None, member: Mapping[str, Any], aside: Path) -> Path:
    """The `.keras` file of a member, of `bundle.json`.

    Args:
        bundle: that it lies in; None for a run folder's, which is where the facts say.
        member: of the facts.
        aside: a folder, for what lies in a bundle.
    """
    if bundle is None:
        return Path(member["file"])
    with zipfile.ZipFile(bundle) as archive:
        return Path(archive.extract(member["file"], aside))


def open_member(
    bundle: Path | None, member: Mapping[str, Any], inputs: Mapping[str, Any]
) -> Member:
    """A member, ready to read: by one of `RUNTIMES` where the bundle has its ONNX graph.

    Args:
        bundle, member: see `keras_file`.
        inputs: `preprocessing`, `image_size` and `classes` of the facts.

    Raises:
        ValueError: it is damaged, or reads something else.
    """
    with _model_errors_explained(f"{member['file']} in {bundle}" if bundle else member["file"]):
        opened = _opened(bundle, member, inputs["preprocessing"])
    expected = inputs["image_size"], len(inputs["classes"]) or 1
    if (opened.side, opened.outputs) != expected:
        raise ValueError(
            f"{member['file']} must read squares of {expected[0]} pixels and say {expected[1]} "
            f"probabilities, as its bundle says. Received: {opened.side} pixels and "
            f"{opened.outputs}. Pack it again."
        )
    return opened


def _opened(bundle: Path | None, member: Mapping[str, Any], preprocessing: str) -> Member:
    runtimes = installed_runtimes()
    if bundle is not None and runtimes:
        exported = str(PurePosixPath(member["file"]).with_suffix(".onnx"))
        with zipfile.ZipFile(bundle) as archive:
            if exported in archive.namelist():
                return runtimes[0](archive.read(exported))
    with tempfile.TemporaryDirectory() as folder:
        return KerasMember(keras_file(bundle, member, Path(folder)), preprocessing)


@contextmanager
def _model_errors_explained(model: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # Keras, the runtimes and zipfile raise whatever they meet
        if is_refusal(error):
            raise
        lines = [line for line in str(error).splitlines() if not line.startswith("Exception from")]
        reason = (lines or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"{model} must be a model of mura_tf's and is damaged or something else: {reason}. "
            "Pack the bundle again."
        ) from None


def hash_of(files: Iterable[Path]) -> str:
    """Twelve hexadecimal digits of the files' bytes."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()[:12]
