"""Abnormality detection in bone radiographs: the MURA studies with Keras and TensorFlow.

Every public name is loaded on first use, so `import mura_tf` imports neither TensorFlow nor pandas.
"""

from importlib import import_module

__version__ = "0.2.0"
"""The version of the package, which each `run.json` repeats.

Examples:
    >>> mt.__version__.count(".")
    2
"""

_HOME = {
    "Recipe": "training.recipe",
    "BACKBONES": "models.backbones",
    "load_mura": "data.views",
    "load_fracatlas": "data.views",
    "load_views": "data.views",
    "patient_split": "data.splits",
    "class_weights": "data.counts",
    "summarize": "data.counts",
    "check_dataset": "data.check",
    "check_views": "data.check",
    "write_synthetic_mura": "synthetic.write",
    "prepare": "data.cache",
    "make_dataset": "data.pipeline",
    "load_images": "data.pipeline",
    "build_model": "models.build",
    "CohenKappa": "models.keras_metrics",
    "cohen_kappa": "evaluation.metrics",
    "train": "training.train",
    "Run": "training.run",
    "predict_views": "evaluation.predictions",
    "load_predictions": "evaluation.predictions",
    "study_probabilities": "evaluation.predictions",
    "score": "evaluation.predictions",
    "score_systems": "evaluation.predictions",
    "score_classes": "evaluation.classes",
    "study_data": "data.study",
    "cam": "explain.heatmaps",
    "heatmaps": "explain.heatmaps",
    "Ensemble": "explain.ensemble",
    "load_boxes": "explain.localization",
    "plot_study": "reports.study_page",
    "plot_kappa": "reports.score_plots",
    "plot_learning_curves": "reports.curve_plots",
    "write_report": "reports.experiment_page",
    "run_experiment": "experiment",
    "Bundle": "inference.bundle",
    "pack": "inference.pack",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'mura_tf' has no attribute {name!r}")
    try:
        home = import_module(f"mura_tf.{_HOME[name]}")
    except (ImportError, ValueError):  # often Keras', of a backend that is not there
        from mura_tf.models.backend import require_backend

        require_backend()
        raise
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
