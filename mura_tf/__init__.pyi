# ruff: noqa: I001  # in the order in which a radiograph meets them
"""Every public name, and the module that it is in; `__init__.py` reads it here, too."""

from .training.recipe import Recipe as Recipe
from .models.backbones import BACKBONES as BACKBONES
from .data.views import load_mura as load_mura
from .data.views import load_fracatlas as load_fracatlas
from .data.views import load_grazpedwri as load_grazpedwri
from .data.views import load_views as load_views
from .data.splits import patient_split as patient_split
from .data.counts import class_weights as class_weights
from .data.counts import summarize as summarize
from .data.check import check_dataset as check_dataset
from .data.check import check_views as check_views
from .synthetic.write import write_synthetic_mura as write_synthetic_mura
from .data.cache import prepare as prepare
from .data.pipeline import make_dataset as make_dataset
from .data.pipeline import load_images as load_images
from .models.build import build_model as build_model
from .models.keras_metrics import CohenKappa as CohenKappa
from .evaluation.metrics import cohen_kappa as cohen_kappa
from .training.train import train as train
from .training.run import Run as Run
from .evaluation.predictions import predict_views as predict_views
from .training.run import load_predictions as load_predictions
from .evaluation.scores import study_probabilities as study_probabilities
from .evaluation.scores import score as score
from .evaluation.scores import score_systems as score_systems
from .evaluation.classes import score_classes as score_classes
from .data.study import study_data as study_data
from .explain.heatmaps import cam as cam
from .explain.heatmaps import heatmaps as heatmaps
from .explain.detection import boxes_of as boxes_of
from .explain.ensemble import Ensemble as Ensemble
from .data.boxes import load_boxes as load_boxes
from .reports.study_page import plot_study as plot_study
from .reports.score_plots import plot_kappa as plot_kappa
from .reports.curve_plots import plot_learning_curves as plot_learning_curves
from .reports.experiment_page import write_report as write_report
from .experiment import run_experiment as run_experiment
from .inference.bundle import Bundle as Bundle
from .inference.pack import pack as pack

__version__: str
