"""Reports on the systems of documents 001 to 004, from runs that were never trained."""

import json

import numpy as np
import pandas as pd
import pytest
from document_runs import done, with_accuracies
from pages import listed, markdown
from run_folders import TWO_TYPES, finish, views_of
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from mura_tf.papers.document_reports import report_comparison
from mura_tf.papers.reproduce import find_experiment
from mura_tf.published import published_table
from mura_tf.reports.numbers import NOTHING
from mura_tf.training.run import Run


@pytest.fixture(scope="module")
def unified(tmp_path_factory):
    out = tmp_path_factory.mktemp("unified")
    experiment = find_experiment("unified_vs_specialised")
    systems = ["densenet121_unified", "densenet121_specialised", "cnn_4_specialised"]
    plan = done(experiment, out, systems=systems, members=2)
    return experiment, plan, report_comparison(experiment, plan, out), out / experiment.name


def test_scores_are_scikit_learns(unified):
    _, plan, report, _ = unified
    for row in report.scores.itertuples():
        runs = [run for run in plan if run.folder.parent.parent.name == row.system]
        views = pd.concat([pd.read_csv(run.folder / "predictions.csv") for run in runs])
        if row.study_type != "overall":
            views = views[views.study_type == row.study_type]
        key = ["study_type", "patient", "study", "view"]
        means = views.groupby(key)[["label", "probability"]].mean()
        decided = means.probability > 0.5
        assert row.views == row.studies == len(means)  # one view per study
        assert row.accuracy == pytest.approx(accuracy_score(means.label, decided))
        assert row.kappa == pytest.approx(cohen_kappa_score(means.label, decided))
        assert row.auroc == pytest.approx(roc_auc_score(means.label, means.probability))
    assert set(report.scores.study_type) == {"humerus", "wrist", "overall"}


def test_published_accuracies_stand_where_the_document_has_them(unified):
    _, _, report, folder = unified
    published = report.scores.set_index(["system", "study_type"]).published_accuracy
    assert published["densenet121_unified", "overall"] == 0.7832
    assert np.isnan(published["densenet121_unified", "wrist"])
    assert published["densenet121_specialised", "wrist"] == 0.83
    assert np.isnan(published["densenet121_specialised", "overall"])
    assert published["cnn_4_specialised", "wrist"] == 0.6844
    rows = markdown(folder, "Accuracy of views, by study type")
    assert rows[:5] == [
        ["System", "humerus", "wrist", "overall"],
        ["studies", "54", "70", "124"],
        ["published: total images", "727", "3,697", "14,656"],
        ["views", "54", "70", "124"],
        ["published: augmented total", "1,560", "10,411", "40,005"],
    ]
    assert ["published", "0.847", "0.830", "\u2013"] in rows
    quoted = "published: MURA's own model, as 001 quotes it (kappas, by 000)"
    assert [quoted, "0.600", "0.931", "0.705"] in rows
    assert ["published: ResNet-18 or ResNet-50", "0.826", "0.830", "0.785"] in rows


def test_a_report_of_one_type_has_its_published_accuracy(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    options = {"systems": ["densenet121_specialised"], "study_types": ["wrist"]}
    report_comparison(experiment, done(experiment, tmp_path, **options), tmp_path)
    _, row = markdown(tmp_path / experiment.name, "Result")
    assert row[2] == "wrist" and row[5] == "0.830"


def test_what_a_document_leaves_open_is_told_as_it_was_chosen(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    settings = {"image_size": 64, "batch_size": 16}
    plan = done(experiment, tmp_path, systems=["cnn_2_unified"], settings=settings)
    told = report_comparison(experiment, plan, tmp_path).deviations
    assert any("batches of 16, dropout of 0.5 and Adam 0.001." in one for one in told)
    assert "It resizes to a size that it does not name; here 64 pixels." in told
    assert not any(one.startswith(("Side of", "Views per step", "{")) for one in told)


def test_study_types_that_lack_are_told_unless_the_document_names_none(tmp_path):
    for name, system, sentence in (
        ("unified_vs_specialised", "resnet50_specialised", "ResNet-50, specialised"),
        ("densenet169", "base", None),
    ):
        experiment = find_experiment(name)
        plan = done(experiment, tmp_path, systems=[system], study_types=["wrist"])
        told = report_comparison(experiment, plan, tmp_path).deviations
        theirs = "the document has humerus, wrist."
        expected = [f"Study types of {sentence}: wrist; {theirs}"] if sentence else []
        assert [one for one in told if one.endswith(theirs)] == expected


def test_a_choice_that_concerns_no_run_is_not_told(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    plan = done(experiment, tmp_path, systems=["resnet50_unified"], settings={"batch_size": 16})
    told = report_comparison(experiment, plan, tmp_path).deviations
    assert not any("batches of" in one for one in told)
    assert "Views per step: 16; the document has 32." in told
    assert "It resizes to a size that it does not name; here 224 pixels." in told


def test_the_chosen_epoch_is_told_as_the_mean_over_models(unified):
    _, plan, report, _ = unified
    for row in report.epochs.itertuples():
        runs = [run for run in plan if run.folder.parent.parent.name == row.system]
        chosen = [Run(run.folder).history.set_index("epoch").loc[2] for run in runs]
        assert row.models == len(runs)
        assert row.val_accuracy == pytest.approx(np.mean([one.val_accuracy for one in chosen]))
        assert row.loss == pytest.approx(np.mean([one.loss for one in chosen]))


def test_the_loss_of_the_data_stands_beside_the_loss_where_there_is_a_penalty(tmp_path):
    experiment = find_experiment("fourteen_classes")
    plan = done(experiment, tmp_path, systems=["exp_1", "exp_3"])
    (penalized,) = [run for run in plan if run.recipe.l1]
    path = penalized.folder / "history.csv"
    pd.read_csv(path).assign(data_loss=0.125, val_data_loss=0.25).to_csv(path, index=False)
    report_comparison(experiment, plan, tmp_path)
    headers, *rows = markdown(tmp_path / experiment.name, "At the chosen epoch")
    assert headers[-2:] == ["Training loss, data alone", "Validation loss, data alone"]
    ours = {row[0]: row[-2:] for row in rows if row[0] != "published"}
    assert ours == {
        "1: frozen": [NOTHING, NOTHING],
        "3: last 4, L1 and L2, schedule": ["0.125", "0.250"],
    }
    assert {len(row) for row in rows} == {len(headers)}
    report_comparison(experiment, [run for run in plan if run != penalized], tmp_path)
    headers, *_ = markdown(tmp_path / experiment.name, "At the chosen epoch")
    assert headers[-1] == "Macro F1"


def test_published_values_of_the_unified_model_are_not_the_specialised_ones(unified):
    _, _, report, _ = unified
    values = report.epochs.set_index("system").published_val_accuracy
    assert values["densenet121_unified"] == 0.8103
    assert np.isnan(values["densenet121_specialised"])


def test_claims_are_answered_from_paired_samples(unified):
    _, _, report, _ = unified
    claims = report.claims.set_index(["claim", "measure"])
    scores = report.scores.set_index(["system", "study_type"])
    for measure, column in (("view_accuracy", "accuracy"), ("kappa", "kappa")):
        asked = claims.loc[
            "DenseNet-121: one model per study type is ahead of one for all", measure
        ]
        values = scores[column][:, "overall"]
        expected = values["densenet121_specialised"] - values["densenet121_unified"]
        assert asked.value == pytest.approx(expected)
        assert asked.low < asked.value < asked.high
    lacking = claims.loc["ResNet-50: one model per study type is ahead of one for all"]
    assert lacking.answer.tolist() == ["systems lacking"]


def test_the_pages_answer_on_both_measures(unified):
    _, _, report, folder = unified
    headers, *rows = markdown(folder, "The document's claims")
    asked = "DenseNet-121: one model per study type is ahead of one for all"
    at = [row[0] for row in rows].index(asked)
    measures = [row[headers.index("Measure")] for row in rows[at : at + 2]]
    assert measures == [
        "difference in accuracy of views, humerus and wrist",
        "difference in kappa of studies, humerus and wrist",
    ]
    assert rows[at + 1][0] == "" == rows[at + 1][-1]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(measure in page for measure in measures)
    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False)
    assert claims.claim.tolist() == report.claims.claim.tolist()


def test_a_constant_system_is_said_and_its_claims_cannot_be_told(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    systems = ["densenet121_unified", "densenet121_specialised"]
    plan = done(experiment, tmp_path, systems=systems)
    for number, run in enumerate(plan):
        path = run.folder / "predictions.csv"
        table = pd.read_csv(path, dtype={"patient": str})
        table.assign(probability=table.probability / 2).to_csv(path, index=False)
        info = Run(run.folder).info
        if number == 0:
            (run.folder / "run.json").write_text(
                json.dumps(info | {"constant": True, "auroc": 0.7})
            )
    report = report_comparison(experiment, plan, tmp_path)
    by_system = report.scores[report.scores.study_type == "overall"].set_index("system").auroc
    titles = dict(zip(report.scores.system, report.scores.title, strict=True))
    for system, sentence in zip(systems, report.constants[:2], strict=True):
        told = (
            f"{titles[system]} calls all 124 studies normal at 0.5; AUROC {by_system[system]:.3f}"
        )
        assert sentence.startswith(told)
    assert report.constants[2] == (
        f"{plan[0].folder}: the chosen epoch calls all views that it was selected on the same, so "
        "no score of its decisions says anything; their AUROC at image level is 0.700."
    )
    assert listed(tmp_path / experiment.name, "Constant decisions") == report.constants
    claims = report.claims.set_index(["claim", "measure"]).answer
    asked = claims["DenseNet-121: one model per study type is ahead of one for all"]
    assert (
        asked[["view_accuracy", "kappa"]].tolist() == ["cannot tell: both are constant at 0.5"] * 2
    )
    assert asked["auroc"] in ("yes", "no", "interval too wide")
    heading = "Kappa of studies with its 95 % interval, by study type"
    assert markdown(tmp_path / experiment.name, heading)[1][1:] == ["0.000 ‡"] * 3


def test_muras_readers_stand_beside_where_the_data_are_muras(tmp_path):
    table = published_table("table_i").query("split == 'valid' and label.notna()")
    table = table[table.study_type != "all"]
    counts = {name: tuple(rows.studies) for name, rows in table.groupby("study_type")}
    experiment = find_experiment("unified_vs_specialised")
    systems = ["densenet121_unified"]
    heading = (
        "Kappa of studies with its 95 % interval, by study type, beside MURA's radiologists and "
        "its own model"
    )
    rest = published_table("table_i").query("split == 'train' and label.notna()")
    rest = {name: tuple(rows.studies) for name, rows in rest.groupby("study_type") if name != "all"}
    reported, trained = views_of(counts), views_of(rest).assign(split="train")
    trained["patient"] = "train" + trained.patient
    plan = experiment.plan(tmp_path, sorted(counts), systems=systems)
    for run in plan:
        finish(run, reported)
        with_accuracies(run)
    path = experiment.folder(tmp_path) / "views.csv"
    pd.concat([trained, reported]).to_csv(path, index=False)
    report = report_comparison(experiment, plan, tmp_path)
    headers, *rows = markdown(tmp_path / experiment.name, heading)
    by_title = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    assert by_title["radiologist 2"]["wrist"] == "0.931"
    assert by_title["MURA's own model"]["finger"] == "0.389"
    assert by_title["MURA's own model"]["overall"] == "0.705"
    reported.to_csv(path, index=False)
    assert not len(report_comparison(experiment, plan, tmp_path).references)
    assert len(report.references) == 8 * 4


def test_a_report_is_written_whole(unified):
    experiment, _, report, folder = unified
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {
        "table.md", "report.html", "scores.csv", "claims.csv", "epochs.csv", "experiment.json",
        "views.csv", "kappa1.svg", "curves1.svg",
    }  # fmt: skip
    told = listed(folder, "Deviations from the document")
    assert told == report.deviations
    assert told[:2] == [
        "The studies are not those of the document, but others (humerus 54, wrist 70, overall "
        "124): the published values are there for orientation, and no difference is taken.",
        "Models per system and study type: 2; the document has 1.",
    ]
    assert told[2].startswith("Left out: the first CNN, specialised; ")
    assert {one for one in experiment.choices if "{" not in one} <= set(told)
    assert told[-1].endswith("padded with black to a square.")
    assert not any("by image, so" in sentence for sentence in told)
    assert {row[2] for row in markdown(folder, "Result")[1:]} == {"humerus, wrist"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not a medical device" in page and "DenseNet-121, specialised" in page


def test_a_type_that_lacks_a_member_is_missing(tmp_path):
    experiment = find_experiment("densenet169")
    plan = done(experiment, tmp_path, lacking=[1])
    report = report_comparison(experiment, plan, tmp_path)
    assert len(report.missing) == 1 and "base/wrist" in report.missing[0]
    base = report.scores[report.scores.system == "base"]
    assert base.study_type.tolist() == ["humerus"]  # no overall without all types
    assert "overall" in set(report.scores[report.scores.system == "modified"].study_type)
    headers, *rows = markdown(
        tmp_path / "densenet169",
        "Kappa of studies with its 95 % interval, by study type, beside MURA's radiologists and "
        "its own model",
    )
    readers = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    assert readers["radiologist 1"]["humerus"] == "0.867"
    assert readers["radiologist 3"]["overall"] == "0.778"


def test_what_is_told_of_runs_comes_from_their_folders(tmp_path):
    experiment = find_experiment("densenet169")
    done(experiment, tmp_path, backbones=["small_cnn"], systems=["base"])
    plan = experiment.plan(tmp_path, sorted(TWO_TYPES), systems=["base"])  # as without --backbones
    report = report_comparison(experiment, plan, tmp_path)
    assert set(report.scores.backbone) == {"small_cnn"}
    assert report.deviations[1] == "Backbone: small_cnn instead of densenet169."


def test_a_damaged_run_is_named_and_the_rest_reported(tmp_path):
    experiment = find_experiment("densenet169")
    plan = done(experiment, tmp_path)
    (plan[0].folder / "run.json").write_text("{")
    report = report_comparison(experiment, plan, tmp_path)
    assert str(plan[0].folder / "run.json") in report.missing[0]
    assert "base/humerus" in report.missing[1]
    scored = set(zip(report.scores.system, report.scores.study_type, strict=True))
    assert ("base", "wrist") in scored and ("modified", "overall") in scored
    assert not {("base", "humerus"), ("base", "overall")} & scored


def test_other_types_than_the_documents_are_told(tmp_path):
    experiment = find_experiment("resnet18")
    systems = ["frozen_two_linear", "two_linear_humerus"]
    plan = done(experiment, tmp_path, systems=systems, study_types=["wrist"])
    told = report_comparison(experiment, plan, tmp_path).deviations
    assert (
        "Study types of one type, Adam 0.01; then Adam 0.001: wrist; the document has humerus."
        in told
    )


@pytest.mark.parametrize("types", [["humerus"], ["humerus", "wrist"]])
def test_a_claim_is_answered_on_the_study_types_of_both(tmp_path, types):
    experiment = find_experiment("resnet18")
    systems = ["frozen_two_linear", "two_linear_humerus"]
    plan = done(experiment, tmp_path, systems=systems, study_types=types)
    report = report_comparison(experiment, plan, tmp_path)
    claim = "A model for one study type is ahead of one for all"
    asked = report.claims.set_index(["claim", "measure"]).loc[claim, "kappa"]
    kappas = []
    for system in systems:
        runs = [run for run in plan if run.folder.parts[-3] == system]
        views = pd.concat([pd.read_csv(run.folder / "predictions.csv") for run in runs])
        views = views[views.study_type.isin(types)]
        kappas.append(cohen_kappa_score(views.label, views.probability > 0.5))
    assert asked.value == pytest.approx(kappas[1] - kappas[0])
    assert asked.low < asked.value < asked.high


def test_nothing_finished_is_a_sentence(tmp_path):
    experiment = find_experiment("densenet169")
    plan = done(experiment, tmp_path, lacking=range(6))
    with pytest.raises(ValueError, match=r"no system of densenet169 .* 0 of 6 planned runs can be"):
        report_comparison(experiment, plan, tmp_path)


def test_what_the_paper_froze_is_told_with_the_papers_choices(tmp_path):
    experiment = find_experiment("freezing")
    plan = done(experiment, tmp_path, members=2, backbones=["efficientnet_b0"])
    report = report_comparison(experiment, plan, tmp_path)
    assert report.deviations[1:3] == [
        "Backbone: efficientnet_b0 instead of efficientnet_b3.",
        "Models per system and study type: 2; the document has 5.",
    ]
    told = " ".join(report.deviations)
    assert "The paper names no largest number of epochs; here it is 100." in told
    assert "stretches them" not in told  # the paper pads
    assert set(report.claims.measure) == {"kappa"} and len(report.claims) == 3
    text = (tmp_path / "freezing/table.md").read_text(encoding="utf-8")
    assert "single views; kappa, as in the document, and AUROC are of studies" in text
    kappas = report.scores.query("study_type == 'overall'").set_index("system").kappa
    pairs = (("all", "frozen"), ("all", "blocks"), ("blocks", "frozen"))
    expected = [kappas[one] - kappas[other] for one, other in pairs]
    assert report.claims.value.tolist() == pytest.approx(expected)
    assert report.scores.published_accuracy.isna().all()


def test_a_step_is_told_without_scores(tmp_path):
    experiment = find_experiment("resnet18")
    plan = done(experiment, tmp_path, systems=["intermediate_task", "frozen_two_linear"])
    report = report_comparison(experiment, plan, tmp_path)
    assert set(report.scores.system) == {"intermediate_task", "frozen_two_linear"}
    steps = report.epochs.set_index("system")
    assert list(steps.index) == ["frozen_two_linear", "study_types", "intermediate_task"]
    assert not np.isnan(steps.val_f1["study_types"])
    assert np.isnan(steps.val_f1["intermediate_task"])


def test_a_split_by_image_is_said_to_leak(tmp_path):
    experiment = find_experiment("fourteen_classes")
    plan = done(experiment, tmp_path, systems=["exp_1"])
    path = tmp_path / "fourteen_classes/views.csv"
    views = pd.read_csv(path, dtype=str)
    views.assign(split=["train", "test"] * (len(views) // 2)).to_csv(path, index=False)
    report = report_comparison(experiment, plan, tmp_path)
    assert any("views of one patient are trained on and reported" in s for s in report.deviations)
    assert not any(
        "views of one patient" in sentence
        for sentence in report_comparison(experiment, plan, _other(tmp_path, views)).deviations
    )


def test_a_holdout_by_image_leaks_and_is_the_documents(tmp_path):
    experiment = find_experiment("unified_vs_specialised")
    systems = ["densenet121_unified"]
    plan = done(experiment, tmp_path, systems=systems, split_by="image")
    told = report_comparison(experiment, plan, tmp_path).deviations
    assert sum("The holdout is split off by image" in sentence for sentence in told) == 1
    assert not any("the document has" in sentence for sentence in told)


def _other(tmp_path, views):
    views.to_csv(tmp_path / "fourteen_classes/views.csv", index=False)
    return tmp_path
