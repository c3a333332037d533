"""A member as one graph for other runtimes: uint8 squares in, what it says of them out.

A file counts only after it has said the same as Keras of the same images.
"""

import contextlib
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from mura_tf.files import folder_aside, written_whole
from mura_tf.inference.archive import hash_of, installed_runtimes
from mura_tf.inference.members import KerasMember, OnnxMember, OpenVinoMember, Reading, as_reading
from mura_tf.models.backend import require_backend

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    Graph: TypeAlias = tf.types.experimental.PolymorphicFunction

TOLERANCE = 1e-4
"""How far a probability of an exported graph may be from Keras' own."""
OPSET = 18
_TRIED = 4
"""Images on which a graph is run beside Keras."""


class Exported(NamedTuple):
    """A file that says what Keras says.

    Attributes:
        path: of it.
        difference: the largest one from Keras, of a probability, of a map relative to the largest
            value of all, or of a view's weight relative to it.
    """

    path: Path
    difference: float


def export_bundle(
    bundle: str | os.PathLike[str], to: str, out: str | os.PathLike[str] | None = None
) -> list[Exported]:
    """Exports every member of a bundle, or of run folders.

    Args:
        bundle: a `.mura` file or a run folder.
        to: a key of `FORMATS`.
        out: the folder that gets `member0.onnx ...`; by default ONNX goes into the bundle itself,
            beside the members, where reading finds it.

    Raises:
        ValueError: another format than onnx, or run folders, without `out`; see `export_member`.
    """
    from mura_tf.inference.bundle import Bundle

    opened = Bundle(bundle)
    into = opened.path if out is None and to == "onnx" else None
    if out is None and into is None:
        raise ValueError(
            "only ONNX graphs go into a bundle; everything else needs a folder of its own (--out). "
            f"Received: {to!r} and {bundle}."
        )
    begun = into and opened.hash
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) if out is None else Path(out)
        exported = []
        for name, model, preprocessing in opened.models(Path(aside)):
            exported.append(export_member(model, preprocessing, to, folder, name))
        if into is not None:
            if hash_of([into]) != begun:
                raise ValueError(
                    f"{into} must stay what it was while its members are exported. Received: "
                    "another one, packed meanwhile. Repeat the command."
                )
            _put_into(into, [one.path for one in exported])
    return exported


def _put_into(bundle: Path, graphs: list[Path]) -> None:
    """Adds graphs to a bundle, which stays as it was until all are in."""
    names = {f"members/{graph.name}" for graph in graphs}
    with (
        written_whole(bundle) as part,
        zipfile.ZipFile(bundle) as before,
        zipfile.ZipFile(part, "w") as after,
    ):
        for entry in before.infolist():
            if entry.filename not in names:
                after.writestr(entry, before.read(entry), entry.compress_type)
        for graph in graphs:
            after.write(graph, f"members/{graph.name}", zipfile.ZIP_DEFLATED)


def export_member(model: Path, preprocessing: str, to: str, out: Path, name: str) -> Exported:
    """Writes one member for another runtime and runs it beside Keras.

    Args:
        model: the `.keras` file.
        preprocessing: by Keras' names, see `make_dataset`; it becomes a part of the graph.
        to: a key of `FORMATS`.
        out: the folder that gets `name` with the format's suffix; OpenVINO's `.xml` has a `.bin`
            beside it, and TensorFlow's SavedModel is itself a folder.
        name: of the file, without suffix.

    Raises:
        ValueError: an unknown format, a folder of something else at that place, a backend other
            than TensorFlow, or a graph that says something else than Keras; nothing is left then.
        ImportError: what the format needs is not installed.
    """
    if to not in FORMATS:
        raise ValueError(f"a format must be one of {', '.join(FORMATS)}. Received: {to!r}.")
    require_backend()
    import keras

    from mura_tf.models.graph import in_float32

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"an export starts from TensorFlow's graph. Received: the backend {backend!r}. Set "
            "KERAS_BACKEND=tensorflow."
        )
    path = out / f"{name}{SUFFIXES[to]}"
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"an export replaces an earlier one alone. Received: {path}, a folder of something "
            "else. Give another folder (--out)."
        )
    write, read = FORMATS[to]
    graph = _graph(in_float32(keras.models.load_model(model, compile=False)), preprocessing)
    side = graph.input_signature[0].shape[1]
    squares = np.random.default_rng(0).integers(0, 256, (_TRIED, side, side), np.uint8)
    expected = KerasMember(model, preprocessing).read(squares)
    with folder_aside(out) as aside:
        part = aside / path.name
        write(graph, part)
        difference = max(_compared(expected, found, path) for found in read(part, squares))
        for entry in os.listdir(aside):
            if (out / entry).is_dir():
                shutil.rmtree(out / entry)
            os.replace(aside / entry, out / entry)
    return Exported(path, difference)


def _compared(expected: Reading, found: Reading, path: Path) -> float:
    differences = [np.abs(expected.outputs - found.outputs).max()]
    if expected.weights is not None:
        weights = np.nan if found.weights is None else found.weights
        differences.append(np.abs(weights / expected.weights - 1).max())
    if expected.maps is not None:
        maps = np.nan if found.maps is None else found.maps
        scale = np.abs(expected.maps).max() or 1
        differences.append(np.abs(expected.maps - maps).max() / scale)
    difference = float(np.max(differences))  # NaN, of what is lost or no number, is no less
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{path} was not kept: run beside Keras on {_TRIED} images it differs by "
            f"{difference:.2g}; expected {TOLERANCE:g} at most."
        )
    return difference


def _graph(model: "keras.Model", preprocessing: str) -> "Graph":
    """uint8 (B, S, S) -> {"probabilities": (B, K), "maps": ..., "weights": ...}, see `Reading`."""
    import keras
    import tensorflow as tf

    from mura_tf.data.pipeline import preprocessing_table
    from mura_tf.models.graph import read_outputs

    table = preprocessing_table(preprocessing)  # affine in the grey level, in every mode
    scale, shift = table[1] - table[0], table[0]
    outputs, kernel = read_outputs(model)
    part = keras.Model(model.input, outputs)
    side = model.input_shape[1]

    def said_of(squares: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(squares, tf.float32)[..., None] * scale + shift
        found = part(images, training=False)
        said = {"probabilities": found["probabilities"]}
        if "weights" in outputs:
            said["weights"] = found["weights"][:, 0]
        if kernel is not None:
            features = tf.cast(found["features"], tf.float32)
            said["maps"] = tf.tensordot(features, kernel.astype("float32"), 1)
        return said

    squares = tf.TensorSpec((None, side, side), tf.uint8, name="squares")
    graph = tf.function(said_of, input_signature=[squares])
    graph.part = part  # keeps the variables alive
    return graph


def _write_onnx(graph: "Graph", path: Path) -> None:
    with _quietly("onnx", "tf2onnx"):
        import onnx
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(graph, graph.input_signature, opset=OPSET)
    # Keras' Normalization keeps its mean and deviation as plain tensors: tf2onnx makes a required
    # input of each. Their values are known, so they become constants.
    captured = {
        symbol.name: value
        for value, symbol in graph.get_concrete_function().graph.captures
        if value.dtype != "resource"
    }
    for needed in list(model.graph.input):
        if needed.name in captured:
            constant = onnx.numpy_helper.from_array(captured[needed.name].numpy(), needed.name)
            model.graph.initializer.append(constant)
            model.graph.input.remove(needed)
    path.write_bytes(model.SerializeToString())


def _read_onnx(path: Path, squares: np.ndarray) -> list[Reading]:
    graph = path.read_bytes()
    with _quietly("onnxruntime"):
        return [one(graph).read(squares) for one in installed_runtimes() or [OnnxMember]]


def _write_saved_model(graph: "Graph", path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.part, module.graph = graph.part, graph
    tf.saved_model.save(module, str(path), signatures=graph)


def _read_saved_model(path: Path, squares: np.ndarray) -> list[Reading]:
    import tensorflow as tf

    found = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(squares))
    return [as_reading({name: value.numpy() for name, value in found.items()})]


def _write_litert(graph: "Graph", path: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = graph.get_concrete_function()
    # the converter would leave Keras' variables as resources that nothing fills: all NaN
    frozen = convert_variables_to_constants_v2(concrete)
    names = sorted(concrete.structured_outputs)
    named = tf.Module()
    named.graph = tf.function(
        lambda squares: dict(zip(names, frozen(squares), strict=True)),
        input_signature=graph.input_signature,
    )
    with tempfile.TemporaryDirectory() as folder, _quietly():
        forward = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(named, folder, signatures=named.graph, options=forward)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def _read_litert(path: Path, squares: np.ndarray) -> list[Reading]:
    with _quietly("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner()
        return [as_reading(runner(squares=squares))]


def _write_openvino(graph: "Graph", path: Path) -> None:
    with _quietly("openvino"), tempfile.TemporaryDirectory() as folder:
        import openvino

        onnx = Path(folder) / "member.onnx"
        _write_onnx(graph, onnx)
        openvino.save_model(openvino.convert_model(str(onnx)), str(path), compress_to_fp16=False)


def _read_openvino(path: Path, squares: np.ndarray) -> list[Reading]:
    with _quietly("openvino"):
        return [OpenVinoMember(path).read(squares)]


FORMATS: dict[
    str, tuple[Callable[["Graph", Path], None], Callable[[Path, np.ndarray], list[Reading]]]
] = {
    "onnx": (_write_onnx, _read_onnx),
    "openvino": (_write_openvino, _read_openvino),
    "litert": (_write_litert, _read_litert),
    "saved_model": (_write_saved_model, _read_saved_model),
}
"""Name -> what writes it, what reads it back, by each runtime that will."""
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "saved_model": ""}


@contextlib.contextmanager
def _quietly(*packages: str) -> Iterator[None]:
    """Without the converters' own warnings; a lacking package is a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in packages:
            extras = "'mura-tf[onnx,openvino]'"
            wanted = package.replace("_", "-") if package == "ai_edge_litert" else extras
            raise ImportError(
                f"this format needs {error.name}, which is not installed: pip install {wanted}."
            ) from None
        raise
