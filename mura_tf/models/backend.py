"""Which backend Keras computes on, what it can do, and the settings of Keras that models need.

Keras itself is not imported to answer: where it is not loaded yet, its settings are read as it will
read them, so that a wrong one is a sentence and not the traceback of `import keras`.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

BACKENDS = {"tensorflow": True, "jax": True, "torch": True, "numpy": False, "openvino": False}
"""Every backend of Keras: whether it trains."""
EXTRAS = ("jax", "torch")
"""Those that `pip install 'mura-tf[NAME]'` brings."""
NEEDED = {"floatx": "float32", "image_data_format": "channels_last"}
"""The settings of Keras with which models are built, trained and asked."""
_LEGACY = "TF_USE_LEGACY_KERAS"


def keras_settings() -> dict[str, str]:
    """`backend`, `floatx` and `image_data_format`, as Keras has them or would have them."""
    if "keras" in sys.modules:
        import keras

        names = ("backend", *NEEDED)
        return {name: getattr(keras.config, name)() for name in names}
    defaults = {"backend": "tensorflow"} | NEEDED
    settings = {name: _written().get(name, value) for name, value in defaults.items()}
    return settings | {"backend": os.environ.get("KERAS_BACKEND") or settings["backend"]}


def require_backend(*, training: bool = False) -> None:
    """Says what is wrong with the backend or with Keras' settings, before anything is computed.

    Args:
        training: whether weights are to be changed, which not every backend can.

    Raises:
        ValueError: no backend of Keras; one that cannot train, where it has to; `floatx` or
            `image_data_format` other than `NEEDED`; TF_USE_LEGACY_KERAS.
        ImportError: the backend is not installed.
    """
    settings = keras_settings()
    backend = settings["backend"]
    if backend not in BACKENDS:
        raise ValueError(
            f"Keras' backend must be one of {', '.join(BACKENDS)}. Received: "
            f"{_received('backend', backend)}. Set KERAS_BACKEND=tensorflow."
        )
    if training and not BACKENDS[backend]:
        able = ", ".join(name for name, trains in BACKENDS.items() if trains)
        raise ValueError(
            f"Keras' backend must be one that trains: {able}. Received: "
            f"{_received('backend', backend)}. Set KERAS_BACKEND=tensorflow."
        )
    package = "jax" if backend == "numpy" else backend  # Keras' numpy imports it
    if not importlib.util.find_spec(package):
        mend = f"'mura-tf[{package}]'" if package in EXTRAS else package
        raise ImportError(
            f"Keras' backend needs {package}, which is not installed. Received: "
            f"{_received('backend', backend)}. "
            f"Install it: pip install {mend}; or set KERAS_BACKEND=tensorflow."
        )
    for name, needed in NEEDED.items():
        if settings[name] != needed:
            half = name == "floatx" and settings[name] != "float64"
            raise ValueError(
                f"Keras' {name} must be {needed!r}. Received: {_received(name, settings[name])}. "
                "Change it there"
                + (", and ask for float16 by the recipe's mixed_precision." if half else ".")
            )
    if os.environ.get(_LEGACY) in ("1", "true", "True"):  # what TensorFlow itself heeds
        raise ValueError(
            f"{_LEGACY}={os.environ[_LEGACY]} makes tf.keras another Keras than the one models are "
            f"built with, and heatmaps of tf-keras-vis fail between the two. Unset {_LEGACY} for "
            "this command."
        )


def accelerator() -> str:
    """The name of the GPU or TPU that Keras' backend computes on; "" on a CPU."""
    import keras

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return "" if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        import torch

        device = keras.ops.convert_to_tensor(0).device  # where Keras puts what it computes with
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return "" if device.type == "cpu" else device.type
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return ""


def _written() -> dict[str, Any]:
    """What keras.json says; Keras takes a damaged one for an empty one."""
    try:
        written = json.loads(_keras_json().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return written if isinstance(written, dict) else {}


def _keras_json() -> Path:
    """Where Keras looks for it."""
    home = os.path.expanduser("~")
    beside = Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return Path(os.environ.get("KERAS_HOME", beside), "keras.json").expanduser()


def _received(name: str, value: object) -> str:
    """A setting that cannot be, and where it is from."""
    if name == "backend" and os.environ.get("KERAS_BACKEND") == value:
        return f"{value!r}, from the environment variable KERAS_BACKEND"
    if _written().get(name) == value:
        return f"{value!r}, from {_keras_json()}"
    return f"{value!r}, set in this program"
