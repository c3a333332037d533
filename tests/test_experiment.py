"""The whole line: what it refuses before hours of training, and what it leaves out."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.views import load_mura
from mura_tf.experiment import report_runs, run_experiment
from mura_tf.grid.plan import PlannedRun, require_reported_labels
from mura_tf.inference.members import Reading
from mura_tf.inference.pack import pack
from mura_tf.training.recipe import Recipe
from mura_tf.training.train import train


def test_study_types_may_be_given_once(mura, tmp_path):
    """What is checked before the data are read is what is trained after."""
    recipe = Recipe(backbone="small_cnn", weights=None)
    with pytest.raises(ValueError, match=r"study_types must be among .* Received: knee\."):
        run_experiment(
            recipe,
            mura,
            tmp_path / "runs",
            scheme="direct",
            study_types=iter(["knee"]),
            verbose=False,
        )


def test_runs_that_say_nothing_about_abnormality_are_left_out(
    members, lesions, tmp_path, eagerly, monkeypatch
):
    recipe = Recipe(
        "small_cnn", None, image_size=32, task="study_type", balance="none", max_epochs=1
    )
    with pytest.raises(ValueError, match="of which the task 'study_type' says nothing"):
        run_experiment(recipe, lesions, tmp_path / "refused", scheme="whole", members=1)
    run = train(recipe, load_mura(lesions), tmp_path / "types", verbose=0)
    scores = report_runs([run.path, members / "member0"], tmp_path / "report")
    alone = report_runs([members / "member0"], tmp_path / "alone")
    assert scores.kappa.tolist() == pytest.approx(alone.kappa.tolist())
    with pytest.raises(ValueError, match="of which runs of the task 'study_type' say nothing"):
        report_runs([run.path], tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"a recogniser is one run. Received: .* above 2"):
        pack([members / "member0"], tmp_path / "one.mura", recogniser=members)
    bundle = pack([members / "member0"], tmp_path / "one.mura", recogniser=run.path)
    path = shutil.copy(next((lesions / "valid").rglob("*.png")), tmp_path)
    assert bundle.read([path]).type_from.tolist() == ["recognised"]
    assert bundle.facts["recogniser"]["mirrored"] is False

    class Silent:
        def read(self, squares):
            return Reading(np.full((len(squares), 2), np.nan, np.float32), None, None)

    monkeypatch.setattr(bundle, "_recogniser", Silent(), raising=False)
    assert bundle.read([path]).type_from.tolist() == [""]  # no number is no study type


def test_a_reported_split_without_labels_is_refused_before_training(lesions, tmp_path):
    views = load_mura(lesions)
    *_, known, last = sorted(views[views.split == "valid"].patient.unique())
    views = views.assign(
        split=views.split.mask(views.patient.isin([known, last]), "test"),
        label=views.label.astype("Int64").mask(views.patient == last),
    )
    views.to_csv(tmp_path / "views.csv", index=False)
    recipe = Recipe("small_cnn", None, image_size=32, max_epochs=1)
    with pytest.raises(ValueError, match="scores need labels of 0 and 1"):
        run_experiment(recipe, tmp_path / "views.csv", tmp_path / "out", members=1, verbose=False)
    assert not (tmp_path / "out").exists()


def test_what_is_reported_is_known_before_training(lesions):
    """Valid in the place of a test split without labels, of the plan's own study types."""
    views = load_mura(lesions).astype({"label": "Int64"})
    held = views[views.split == "valid"].assign(split="test", label=pd.NA)
    recipe = Recipe("small_cnn", None, study_types=("wrist",))
    plan = [PlannedRun(recipe, Path("run"))]
    require_reported_labels(plan, pd.concat([views, held]))
    labelled = views[(views.split == "valid") & (views.study_type == "elbow")].assign(split="test")
    require_reported_labels(plan, pd.concat([views, held, labelled]))
    with pytest.raises(ValueError, match="a test split without any, and no valid split"):
        require_reported_labels(plan, pd.concat([views[views.split == "train"], held]))
