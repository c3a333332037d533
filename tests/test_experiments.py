"""Every system of documents 001 to 004 through its real code path, at a small size."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
from experiment_names import DOCUMENTS

from mura_tf import (
    Run,
    build_model,
    load_images,
    load_mura,
    load_views,
    train,
    write_synthetic_mura,
)
from mura_tf.papers.document_reports import finished_systems, report_comparison
from mura_tf.papers.reproduce import find_experiment, reproduce
from mura_tf.papers.routing import compose
from mura_tf.published import published_table

PER_RUN = {"study_types": None, "member": 0, "initial": None, "stage": "imagenet"}
TYPES = ["elbow", "wrist"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A views table, as CSV, with the synthetic radiographs of two study types."""
    folder = tmp_path_factory.mktemp("data")
    views = load_mura(write_synthetic_mura(folder, studies_per_type=12, seed=3))
    views[views.study_type.isin(TYPES)].to_csv(folder / "views.csv", index=False)
    return folder / "views.csv"


def recipes(*, backbones, **settings):
    """One run of each kind that the documents have: document and system -> recipe."""
    found = {}
    for name in DOCUMENTS:
        experiment = find_experiment(name)
        options = {"settings": settings, "backbones": backbones}
        if any(system.per_type for system in experiment.systems):
            options["study_types"] = ["wrist"]
        for run in experiment.plan("out", TYPES, **options):
            kind = dataclasses.replace(run.recipe, **PER_RUN)
            if kind.backbone == "small_cnn" and ":" in kind.trainable:
                kind = dataclasses.replace(kind, trainable="last:2")  # it has four
            found.setdefault(kind, f"{name}-{run.folder.parent.parent.name}")
    return [pytest.param(kind, id=name) for kind, name in found.items()]


def trains(recipe, data, folder):
    """Trains, saves, reloads and predicts; returns the predictions."""
    views = load_views(data)
    if recipe.task == "type_and_abnormality":
        views = find_experiment("fourteen_classes").views(views)
    run = train(recipe, views, folder, verbose=0)
    predictions = pd.read_csv(run.path / "predictions.csv")
    reported = predictions[predictions.split != "holdout"]
    assert len(reported) == (views.split != "train").sum()
    assert (len(reported) < len(predictions)) == (recipe.select_on == "holdout")
    if recipe.task != "study_type":
        assert predictions.probability.between(0, 1).all()
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(run.history)
    return predictions


SMALL = {"weights": None, "image_size": 32, "max_epochs": 1}


@pytest.mark.parametrize("recipe", recipes(backbones=["small_cnn"], **SMALL))
def test_every_system_trains_saves_and_predicts(recipe, data, tmp_path, eagerly):
    trains(recipe, data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes(backbones=None, **SMALL))
def test_every_system_trains_with_its_own_backbone(recipe, data, tmp_path):
    trains(recipe, data, tmp_path)


def test_a_chain_from_the_data_to_the_report(data, tmp_path):
    """Study types first, then abnormality from its backbone, each in a process of its own."""
    experiment = find_experiment("resnet18")
    options = {"settings": SMALL, "backbones": ["small_cnn"], "systems": ["intermediate_task"]}
    report, failed = reproduce(experiment, tmp_path, data, **options)
    assert not failed and not report.missing
    folder = tmp_path / "resnet18"
    assert set(report.scores.system) == {"intermediate_task"}
    assert (folder / "report.html").is_file()
    again, _ = reproduce(experiment, tmp_path, **options)  # nothing is trained without data
    pd.testing.assert_frame_equal(again.scores, report.scores)
    plan = experiment.plan(tmp_path, TYPES, **options)
    assert report_comparison(experiment, plan, tmp_path).deviations == report.deviations


@pytest.mark.parametrize("name", ["exp_3", "exp_4", "exp_5", "exp_6"])
def test_the_published_losses_of_003_are_possible(name):
    """They contain the penalty, which is below a third of each on the kernels as they begin."""
    experiment = find_experiment("fourteen_classes")
    (system,) = [one for one in experiment.systems if one.name == name]
    recipe = system.recipe
    keras.utils.set_random_seed(0)
    settings = {"head": recipe.head, "l1": recipe.l1, "l2": recipe.l2, "classes": 14}
    model = build_model(recipe.backbone, None, image_size=32, **settings)
    penalty = float(sum(model.losses))
    rows = published_table("fourteen_classes").query("system == @name and metric == 'loss'")
    assert set(rows.split) == {"train", "valid"}
    assert 0 < penalty < rows.value.min() / 3


def test_each_view_goes_to_the_model_of_the_type_it_is_taken_for(data, tmp_path, eagerly):
    experiment, views = find_experiment("resnet18"), load_views(data)
    options = {"settings": SMALL, "backbones": ["small_cnn"]}
    plan = experiment.plan(tmp_path, TYPES, systems=["routed"], **options)
    for run in plan:
        train(run.recipe, views, run.folder, verbose=0)
    folders = {(run.folder.parts[-3], run.folder.parts[-2]): run.folder for run in plan}
    step = folders["study_types", "all"] / "predictions.csv"
    taken_for = pd.read_csv(step)
    taken_for["p:elbow"] = np.arange(len(taken_for)) % 2  # every second view, of both types
    taken_for["p:wrist"] = 1 - taken_for["p:elbow"]
    taken_for.to_csv(step, index=False, na_rep="nan")
    taken_for = taken_for.set_index("path")
    views.to_csv(tmp_path / "resnet18/views.csv", index=False)
    runs, missing = finished_systems(experiment, plan)
    assert missing == []
    compose(experiment, runs, views, tmp_path)
    path = tmp_path / "resnet18/routed/predictions.csv"
    routed = pd.read_csv(path).set_index("path")
    reported = views[views.split == "valid"]
    assert set(routed.index) == set(reported.path) and len(routed) == len(reported)
    images = load_images(reported, image_size=32, preprocessing="tf")
    said = {
        name: Run(folders["two_linear_humerus", name]).model().predict(images, verbose=0)[:, 0]
        for name in TYPES
    }
    for row, path in enumerate(reported.path):
        name = "elbow" if taken_for["p:elbow"][path] else "wrist"
        assert routed.recognised[path] == name
        assert routed.probability[path] == pytest.approx(said[name][row], abs=1e-5)
    assert 0 < (routed.recognised != routed.study_type).mean() < 1
    report = report_comparison(experiment, plan, tmp_path)
    assert "routed" in set(report.scores.system) and report.missing == []
    assert np.isfinite(report.scores.query("system == 'routed'").accuracy).all()
