"""A document's own tables with ours beside them, from runs that were never trained."""

import json

import numpy as np
import pandas as pd
import pytest
from document_runs import done, with_accuracies
from pages import markdown
from run_folders import TWO_TYPES, finish, views_of
from sklearn.metrics import accuracy_score

from mura_tf.papers.document_reports import report_comparison
from mura_tf.papers.reproduce import find_experiment
from mura_tf.training.run import Run
from mura_tf.training.selection import dealt_views


def test_one_model_of_all_types_has_the_row_of_these(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    views = views_of({"finger": (20, 16), "wrist": (24, 20)})
    plan = experiment.plan(tmp_path, ["finger", "wrist"], systems=["cnn_first_together"])
    for run in plan:
        finish(run, views)
        with_accuracies(run)
    views.to_csv(experiment.folder(tmp_path) / "views.csv", index=False)
    rows = report_comparison(experiment, plan, tmp_path).scores.set_index("study_type")
    assert list(rows.index) == ["finger", "wrist", "finger and wrist"]
    assert rows.published_accuracy["finger and wrist"] == 0.55
    studies = rows.studies
    assert studies["finger and wrist"] == studies["finger"] + studies["wrist"]


def test_one_model_of_two_types_has_its_own_row(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    views = views_of({"finger": (20, 16), "hand": (20, 16), "wrist": (24, 20)})
    systems = ["cnn_first_together", "cnn_first"]
    plan = experiment.plan(tmp_path, ["finger", "hand", "wrist"], systems=systems)
    for run in plan:
        finish(run, views)
        with_accuracies(run)
    views.to_csv(experiment.folder(tmp_path) / "views.csv", index=False)
    report = report_comparison(experiment, plan, tmp_path)
    rows = report.scores[report.scores.system == "cnn_first_together"].set_index("study_type")
    assert list(rows.index) == ["finger", "wrist", "finger and wrist"]
    assert rows.pooled.tolist() == [False, False, True]
    assert rows.published_accuracy.tolist()[2] == 0.55 and rows.published_accuracy.isna().sum() == 2
    (run,) = (run for run in plan if run.folder.parent.name == "finger+wrist")
    table = pd.read_csv(run.folder / "predictions.csv")
    expected = accuracy_score(table.label, table.probability > 0.5)
    assert rows.accuracy["finger and wrist"] == pytest.approx(expected)
    table = markdown(tmp_path / experiment.name, "Result")
    (shown,) = (row for row in table if "for two" in row[0])
    assert (shown[2], shown[5]) == ("finger, wrist", "0.550")
    own = report.scores[report.scores.system == "cnn_first"].set_index("study_type")
    assert not any(one.startswith("Study types of") for one in report.deviations)
    assert own.published_accuracy.isna().all()  # of the elbow alone
    losses = report.epochs.set_index("system").published_loss
    assert losses["cnn_first_together"] == 0.047 and np.isnan(losses["cnn_first"])


def test_images_are_counted_by_split_and_label_beside_the_documents(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    valid = views_of(TWO_TYPES)
    train = views_of({"humerus": (60, 40), "wrist": (80, 60)}).assign(split="train")
    train["patient"] = "train" + train.patient
    views = pd.concat([train, valid], ignore_index=True)
    views["path"] = views.index.astype(str)
    plan = experiment.plan(tmp_path, sorted(TWO_TYPES), systems=["densenet121_unified"])
    for run in plan:
        finish(run, valid)
        with_accuracies(run)
    views.to_csv(experiment.folder(tmp_path) / "views.csv", index=False)
    report = report_comparison(experiment, plan, tmp_path)
    dealt = dealt_views(views, plan[0].recipe)
    headers, *rows = markdown(tmp_path / experiment.name, "Images by split and label")
    assert headers == [
        *("Study type", "Label", "Trained on", "Published", "Selected on", "Published"),
        *("Reported", "Published"),
    ]
    published = {("humerus", "abnormal"): ("483", "116", "140"), ("wrist", "normal"): ("4,626",)}
    for study_type, label, *cells in rows:
        of_class = dealt[(dealt.study_type == study_type) & (dealt.label == (label == "abnormal"))]
        counts = of_class.split.value_counts()
        assert cells[::2] == [str(counts[name]) for name in ("train", "holdout", "valid")]
        expected = published.get((study_type, label), ())
        assert tuple(cells[1::2][: len(expected)]) == expected
    assert len(rows) == 4
    assert report.split_counts["count"].sum() == len(views)


def test_chosen_epochs_stand_beside_the_documents(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    systems = ["resnet50_unified", "resnet50_specialised", "densenet121_unified"]
    plan = done(experiment, tmp_path, systems=systems, members=2)
    for member, run in enumerate(plan):
        info = Run(run.folder).info | {"best_epoch": 1 + member % 2}
        (run.folder / "run.json").write_text(json.dumps(info))
    report_comparison(experiment, plan, tmp_path)
    assert markdown(tmp_path / experiment.name, "Chosen epochs, by study type") == [
        ["System", "humerus", "wrist", "overall"],
        ["ResNet-50, unified", "\u2013", "\u2013", "1.5"],
        ["published", "\u2013", "\u2013", "4"],
        ["ResNet-50, specialised", "1.5", "1.5", "\u2013"],
        ["published", "16", "4", "\u2013"],
    ]


def test_the_leaderboard_has_ours_at_its_place(tmp_path):
    experiment = find_experiment("fourteen_classes")
    plan = done(experiment, tmp_path, systems=["exp_1", "exp_6"])
    report = report_comparison(experiment, plan, tmp_path)
    heading = "The leaderboard that the document shows, with ours"
    _, *rows = markdown(tmp_path / experiment.name, heading)
    kappas = [float(row[2].split()[0]) for row in rows]
    assert kappas == sorted(kappas, reverse=True) and len(rows) == 11 + 2
    by_title = {row[0]: row[1:] for row in rows}
    assert by_title["base-comb2-xuan-v3 (ensemble), jzhang, Availink"] == ["1", "0.843"]
    assert by_title["dl-team7-dense121, the document's own"] == ["", "0.612"]
    for row in report.scores.query("study_type == 'overall'").itertuples():
        assert by_title[f"here: {row.title}"][1].startswith(f"{row.kappa:.3f} [")
