"""A trained member as a function of uint8 squares: by Keras, or by a runtime that is quicker.

Each member takes what the cache and the decoder give, uint8 (B, S, S), and has the preprocessing
inside, so that nobody outside knows of BGR or means.
"""

import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mura_tf.cores import threads
from mura_tf.models.backend import require_backend


class Reading(NamedTuple):
    """What a member says of a batch.

    Attributes:
        outputs: float32 (B, K), probabilities: K = 1, of abnormality, or a distribution.
        maps: float32 before they are enlarged: (B, h, w, 1), the map of a head that learned where
            lesions are, or (B, h, w, K), class activation maps; None where the head has neither.
        weights: float32 (B,), how much each view counts in its study; None where all count alike.
    """

    outputs: np.ndarray
    maps: np.ndarray | None
    weights: np.ndarray | None = None


def as_reading(outputs: Mapping[str, np.ndarray]) -> Reading:
    """The named outputs of an exported graph."""
    probabilities = np.asarray(outputs["probabilities"])
    return Reading(probabilities, outputs.get("maps"), outputs.get("weights"))


class Member(Protocol):
    """What reads squares.

    Attributes:
        side: of the squares, pixels.
        outputs: K of its reading.
    """

    side: int
    outputs: int

    def read(self, squares: np.ndarray) -> Reading:
        """Reads uint8 (B, S, S)."""


class OpenVinoMember:
    """An exported member by OpenVINO, which needs neither Keras nor TensorFlow.

    Args:
        graph: an ONNX graph, or the `.xml` file of OpenVINO's own.
    """

    def __init__(self, graph: bytes | Path):
        import openvino

        core = openvino.Core()
        self._compiled = core.compile_model(
            core.read_model(io.BytesIO(graph) if isinstance(graph, bytes) else graph),
            "CPU",
            {
                "INFERENCE_NUM_THREADS": threads(),
                "INFERENCE_PRECISION_HINT": "f32",  # on processors that have fewer bits, too
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._lock = threading.Lock()  # a compiled model answers one at a time
        self.side = self._compiled.input("squares").partial_shape[-1].get_length()
        self.outputs = self._compiled.output("probabilities").partial_shape[-1].get_length()

    def read(self, squares: np.ndarray) -> Reading:
        with self._lock:
            found = self._compiled(squares).to_dict()
        return as_reading({name: found[output] for output in found for name in output.names})


class OnnxMember:
    """The same of an ONNX graph, by ONNX Runtime."""

    def __init__(self, graph: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]
        (squares,), said = self._session.get_inputs(), self._session.get_outputs()
        self.side = squares.shape[-1]
        self.outputs = said[self._names.index("probabilities")].shape[-1]

    def read(self, squares: np.ndarray) -> Reading:
        found = self._session.run(None, {"squares": squares})
        return as_reading(dict(zip(self._names, found, strict=True)))


class KerasMember:
    """A `best.keras`, with the preprocessing of its recipe in front, in float32.

    Args:
        path: of the `.keras` file.
        preprocessing: by Keras' names, see `make_dataset`.

    Raises:
        ValueError, ImportError: see `require_backend`.
    """

    def __init__(self, path: Path, preprocessing: str):
        require_backend()
        import keras

        from mura_tf.data.pipeline import looked_up, preprocessing_table
        from mura_tf.models.graph import in_float32, part_of, read_outputs

        self._prepare, self._table = looked_up, preprocessing_table(preprocessing)
        model = in_float32(keras.models.load_model(path, compile=False))
        self.side, self.outputs = model.input_shape[1], model.outputs[0].shape[-1]
        said, kernel = read_outputs(model)
        self._kernel = None if kernel is None else kernel.astype(np.float32)
        self._part = part_of(model, "outputs, weights and maps", lambda: said)

    def read(self, squares: np.ndarray) -> Reading:
        count = len(squares)
        filled = 1 << (count - 1).bit_length()  # each size of a batch is traced once: seconds
        squares = np.concatenate([squares, np.repeat(squares[-1:], filled - count, axis=0)])
        found = self._part.predict_on_batch(self._prepare(squares, self._table))
        said = {name: np.asarray(one, np.float32)[:count] for name, one in found.items()}
        maps = None if self._kernel is None else said["features"] @ self._kernel
        weights = said["weights"][:, 0] if "weights" in said else None
        return Reading(said["probabilities"], maps, weights)


_BATCH = 8


def read_all(member: Member, squares: np.ndarray, *, mirrored: bool = False) -> Reading:
    """`Member.read` batch by batch.

    Args:
        squares: uint8 (n, S, S).
        mirrored: whether outputs and weights are the mean of each square's and its mirror image's.
    """
    parts = [
        member.read(squares[start : start + _BATCH]) for start in range(0, len(squares), _BATCH)
    ]
    outputs = np.concatenate([part.outputs for part in parts])
    weights = _joined([part.weights for part in parts])
    if mirrored:
        turned = read_all(member, squares[:, :, ::-1])
        outputs = (outputs + turned.outputs) / 2
        weights = None if weights is None else (weights + turned.weights) / 2
    return Reading(outputs, _joined([part.maps for part in parts]), weights)


def _joined(maps: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [one for one in maps if one is not None]
    return np.concatenate(known) if len(known) == len(maps) else None
