"""Abnormality detection in bone radiographs: the MURA studies with Keras and TensorFlow.

Every public name is loaded on first use, so `import mura_tf` imports neither TensorFlow nor pandas.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Recipe": "recipe",
    "BACKBONES": "backbones",
    "load_mura": "dataset",
    "load_fracatlas": "dataset",
    "load_views": "dataset",
    "patient_split": "dataset",
    "class_weights": "dataset",
    "summarize": "dataset",
    "check_dataset": "check",
    "check_views": "check",
    "write_synthetic_mura": "synthetic",
    "prepare": "cache",
    "make_dataset": "pipeline",
    "load_images": "pipeline",
    "build_model": "model",
    "CohenKappa": "keras_metrics",
    "cohen_kappa": "metrics",
    "train": "training",
    "Run": "run",
    "predict_views": "evaluate",
    "load_predictions": "evaluate",
    "study_probabilities": "evaluate",
    "score": "evaluate",
    "score_systems": "evaluate",
    "score_classes": "classes",
    "study_data": "data_study",
    "cam": "explain",
    "heatmaps": "explain",
    "Ensemble": "ensemble",
    "load_boxes": "localization",
    "plot_study": "study_pages",
    "plot_kappa": "plots",
    "plot_learning_curves": "plots",
    "write_report": "report",
    "run_experiment": "experiment",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'mura_tf' has no attribute {name!r}")
    value = getattr(import_module(f"mura_tf.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
