"""The study type recognised, then its model asked, from runs that were never trained."""

import pandas as pd
import pytest
from document_runs import done
from run_folders import TWO_TYPES
from sklearn.metrics import accuracy_score, cohen_kappa_score

from mura_tf.papers.document_reports import report_comparison
from mura_tf.papers.reproduce import find_experiment


def routed_by_hand(plan, out):
    """Writes what the routed system said: another type's specialist says 0.5 to a view more."""
    runs = {(run.folder.parts[-3], run.folder.parts[-2]): run.folder for run in plan}
    step = pd.read_csv(runs["study_types", "all"] / "predictions.csv", dtype={"patient": str})
    step["recognised"] = step.filter(like="p:").idxmax(axis=1).str[2:]
    key = ["study_type", "patient", "study", "view"]
    rows = []
    for study_type in TWO_TYPES:
        folder = runs["two_linear_humerus", study_type]
        said = pd.read_csv(folder / "predictions.csv", dtype={"patient": str})
        said = said.merge(step[[*key, "recognised"]], on=key)
        other = said.assign(probability=(said.probability + 0.5) % 1)
        rows.append(said.where(said.recognised == study_type, other))
    path = out / "resnet18/routed/predictions.csv"
    path.parent.mkdir()
    pd.concat(rows).to_csv(path, index=False)
    return path


def test_a_routed_system_is_scored_beside_one_model_and_told_specialists(tmp_path):
    experiment = find_experiment("resnet18")
    plan = done(experiment, tmp_path, systems=["routed"])
    before = report_comparison(experiment, plan, tmp_path)
    path = tmp_path / "resnet18/routed/predictions.csv"
    told = f"{path}: study type recognised, then its model is not put together from these runs yet."
    assert [one for one in before.missing if one.startswith(told)]
    assert "routed" not in set(before.scores.system)
    routed = pd.read_csv(routed_by_hand(plan, tmp_path), dtype={"patient": str})
    report = report_comparison(experiment, plan, tmp_path)
    assert report.missing == []
    (overall,) = report.scores.query("system == 'routed' and study_type == 'overall'").itertuples()
    decided = routed.probability > 0.5
    assert overall.accuracy == pytest.approx(accuracy_score(routed.label, decided))
    assert overall.kappa == pytest.approx(cohen_kappa_score(routed.label, decided))
    assert overall.backbone == "resnet18"
    right = (routed.recognised == routed.study_type).sum()
    assert 0 < right < len(routed)
    (remark,) = report.remarks
    assert remark.startswith(
        f"study type recognised, then its model: {right} of 124 views ({right / 124:.1%}) are taken"
    )
    assert remark in (tmp_path / "resnet18/table.md").read_text(encoding="utf-8")
    values = report.scores.query("study_type == 'overall'").set_index("system").accuracy
    claims = report.claims.query("measure == 'view_accuracy'").set_index("claim").value
    ahead = claims["Recognising the study type, then asking its model, is ahead of one for all"]
    assert ahead == pytest.approx(values["routed"] - values["frozen_two_linear"])
    told = claims["Being told the study type is ahead of recognising it"]
    assert told == pytest.approx(values["two_linear_humerus"] - values["routed"])
    left_out = [one for one in report.deviations if one.startswith("Left out: ")]
    assert left_out == ["Left out: frozen, linear; then frozen, abnormality."]
    assert not any(one.startswith("Study types of") for one in report.deviations)


def test_a_routed_system_of_other_runs_is_not_told(tmp_path):
    experiment = find_experiment("resnet18")
    plan = done(experiment, tmp_path, systems=["routed"])
    path = routed_by_hand(plan, tmp_path)
    table = pd.read_csv(path, dtype={"patient": str})
    own = table.recognised == table.study_type
    for changed in (
        table.assign(probability=table.probability.where(~own, 0.123)),
        table[1:],
        table.assign(recognised="wrist"),
    ):
        changed.to_csv(path, index=False)
        report = report_comparison(experiment, plan, tmp_path)
        assert "is not put together from these runs yet" in report.missing[0]
        assert "Left out: " in " ".join(report.deviations)
