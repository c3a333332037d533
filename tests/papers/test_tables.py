"""Finished run folders with generated predictions -> a document's table, read back."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pages import lines_of, listed, markdown
from run_folders import SMALL, TYPES, finish, finished, views_of
from sklearn.metrics import accuracy_score, cohen_kappa_score
from table_i import mura_views

from mura_tf.grid.plan import PlannedRun
from mura_tf.papers.deviations import GREY, INPUTS
from mura_tf.papers.reproduce import find_experiment
from mura_tf.papers.tables import report_table
from mura_tf.published import OVERALL

DASH = "\N{EN DASH}"


def expected_scores(plan, study_type):
    """(backbone, stage) -> accuracies and kappas of the repeats, by scikit-learn."""
    runs = [run for run in plan if run.recipe.study_types]
    views = pd.concat([pd.read_csv(run.folder / "predictions.csv") for run in runs])
    views = views if study_type == OVERALL else views[views.study_type == study_type]
    study = ["study_type", "patient", "study"]
    found = {}
    for system, rows in views.groupby(["backbone", "stage"]):
        repeats = []
        for _, group in rows.groupby("repeat"):
            studies = group.groupby(study)[["label", "probability"]].mean()
            decided = studies.probability > 0.5
            repeats.append(
                (accuracy_score(studies.label, decided), cohen_kappa_score(studies.label, decided))
            )
        found[system] = np.transpose(repeats)
    return found


# ------------------------------------------------------------------------------------------------
# Constant systems, and those who have read MURA's test set


def test_a_constant_system_is_said_and_its_claims_cannot_be_told(tmp_path):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of(SMALL), members=2)
    for run in plan:
        if run.recipe.stage == "imagenet":
            path = run.folder / "predictions.csv"
            table = pd.read_csv(path, dtype={"patient": str})
            table.assign(probability=1 - table.probability / 2).to_csv(path, index=False)
    report = report_table(experiment, plan, tmp_path)
    (sentence,) = report.constants
    assert sentence.startswith("trained directly calls all 80 studies abnormal at 0.5; AUROC 0.")
    assert listed(tmp_path / "table_iv", "Constant decisions") == [sentence]
    told = "cannot tell: trained directly is constant at 0.5"
    assert set(report.claims[report.claims.measure == "kappa"].answer) == {told}
    assert len(report.claims[report.claims.measure == "auroc"]) == len(experiment.claims)


def test_muras_readers_stand_beside_where_the_studies_are_muras(table_iv, table_v):
    heading = (
        "Kappa of studies with its 95 % interval, by study type, beside MURA's radiologists and "
        "its own model"
    )
    headers, *rows = markdown(table_iv[2], heading)
    by_title = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    cells = table_iv[1].cells.set_index(["stage", "study_type"])
    ours = by_title["trained directly"]["wrist"]
    assert ours == f"{cells.kappa['imagenet', 'wrist']:.3f}"
    assert by_title["radiologist 2"]["wrist"] == "0.931"
    assert by_title["MURA's own model"]["finger"] == "0.389"
    assert heading.replace("'", "&#x27;") in (table_iv[2] / "report.html").read_text()
    assert heading not in (table_v[2] / "table.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------
# Numbers


@pytest.mark.parametrize("name", ["table_iv", "table_v"])
def test_the_csv_has_scikit_learns_scores_of_the_ensembles(name, request):
    plan, _, folder = request.getfixturevalue(name)
    table = pd.read_csv(folder / "table.csv", index_col="study_type")
    types = sorted({run.recipe.study_types[0] for run in plan if run.recipe.study_types})
    assert list(table.index) == [*types, OVERALL]
    for study_type in table.index:
        for (backbone, stage), (accuracies, kappas) in expected_scores(plan, study_type).items():
            cells = table.loc[study_type].filter(like=f"{backbone}/{stage} ")
            cells.index = cells.index.str.split().str[1]
            assert cells["accuracy"] == pytest.approx(accuracies.mean())
            assert cells["kappa"] == pytest.approx(kappas.mean())
            assert cells["repeats"] == len(kappas)
            assert cells["kappa_low"] <= cells["kappa"] <= cells["kappa_high"]
            if len(kappas) > 1:
                assert cells["kappa_std"] == pytest.approx(np.std(kappas, ddof=1))
                assert cells["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
            else:
                assert np.isnan(cells["kappa_std"].astype(float))


def test_the_difference_is_ours_minus_the_published(table_iv):
    table = pd.read_csv(table_iv[2] / "table.csv", index_col="study_type")
    for stage in ("imagenet", "type"):
        ours, theirs, minus = (
            table[f"efficientnet_b3/{stage} {name}"]
            for name in ("kappa", "published_kappa", "kappa_difference")
        )
        np.testing.assert_allclose(minus, ours - theirs, atol=1e-12)
        assert table[f"efficientnet_b3/{stage} accuracy_difference"].isna().all()


def test_pairs_are_all_pairs_of_systems(table_v):
    plan, report, folder = table_v
    expected = {
        system[0]: kappas.mean() for system, (_, kappas) in expected_scores(plan, OVERALL).items()
    }
    rows = markdown(folder, "Systems in pairs")[1:]
    names = find_experiment("table_v").backbones
    assert [tuple(row[:2]) for row in rows] == [
        (names[0], names[1]), (names[0], names[2]), (names[1], names[2])
    ]  # fmt: skip
    for (one, other, difference, _), pair in zip(rows, report.pairs.itertuples(), strict=True):
        assert float(difference) == pytest.approx(expected[one] - expected[other], abs=5.01e-4)
        assert pair.low <= pair.difference <= pair.high


# ------------------------------------------------------------------------------------------------
# What is told


def test_the_papers_recipe_on_muras_counts_leaves_the_choices(table_iv):
    _, report, folder = table_iv
    assert report.same_data and report.missing == []
    assert report.deviations[-3:] == [INPUTS["divides"], INPUTS["bgr"], GREY]
    assert len(report.deviations) == 7
    assert all("document has" not in sentence for sentence in report.deviations)
    assert listed(folder, "Deviations from the document") == report.deviations
    text = (folder / "table.md").read_text(encoding="utf-8")
    for number, sentence in enumerate(report.deviations, start=1):
        assert f"\n{number}. {sentence}\n" in text
    assert "Epochs were selected on the valid split. The valid split is also" in text


def test_other_data_are_told_and_not_subtracted_from(table_v):
    _, report, folder = table_v
    assert not report.same_data
    assert report.cells[["accuracy_difference", "kappa_difference"]].isna().all(axis=None)
    assert report.deviations[:3] == [
        "The studies are not those of the document, but others (elbow 36, overall 80, wrist 44): "
        "the published values are there for orientation, and no difference is taken.",
        "Members per ensemble: 2; the document has 5.",
        "Repeats: 2; the document has 3.",
    ]
    assert len(report.deviations) == 3 + 5
    assert not any(kind == "difference" for _, kind in lines_of(markdown(folder)[1:]))


def test_another_backbones_published_values_are_not_subtracted(tmp_path):
    experiment = find_experiment("table_iv")
    options = {"members": 1, "backbones": ["efficientnet_b0"]}
    plan = finished(experiment, tmp_path, mura_views(), **options)
    report = report_table(experiment, plan, tmp_path)
    assert report.same_data and report.cells.published_kappa.notna().all()
    assert report.cells[["accuracy_difference", "kappa_difference"]].isna().all(axis=None)


def test_some_of_muras_types_have_an_overall_of_their_own(tmp_path):
    experiment = find_experiment("table_iv")
    views = mura_views()
    views = views[views.study_type.isin(["elbow", "wrist"])]
    report = report_table(experiment, finished(experiment, tmp_path, views, members=1), tmp_path)
    assert report.same_data
    assert report.deviations[0] == (
        "Study types: elbow, wrist; the document has elbow, finger, forearm, hand, humerus, "
        "shoulder, wrist."
    )
    difference = report.cells.set_index(["stage", "study_type"]).kappa_difference
    published = report.cells.set_index(["stage", "study_type"]).published_kappa
    for found in (difference, published):
        assert found.isna().tolist() == [name == OVERALL for _, name in found.index]


def test_other_backbones_are_told(tmp_path):
    experiment = find_experiment("table_v")
    views = views_of(SMALL)
    names = ["xception", "small_cnn"]
    plan = finished(experiment, tmp_path, views, backbones=names, members=1, repeats=1)
    report = report_table(experiment, plan, tmp_path)
    assert report.deviations[1] == (
        "Backbones: xception, small_cnn; the document has mobilenet_v2, densenet169, xception."
    )
    cells = report.cells.set_index(["backbone", "study_type"]).published_kappa
    assert cells["xception", "elbow"] == 0.705 and np.isnan(cells["small_cnn", "elbow"])
    assert markdown(tmp_path / "table_v", "The document's claims")[1][1] == "systems lacking"


def test_settings_are_told_from_the_folders_not_from_the_plan(tmp_path):
    """--report-only gives no setting, and must still tell what was trained."""
    experiment = find_experiment("table_iv")
    plan = experiment.plan(tmp_path, ["elbow"], members=1)
    for run in plan:
        settings = {"weights": "weights/b3.h5", "image_size": 64, "select_on": "holdout"}
        finish(run, views_of({"elbow": (10, 10)}), **settings)
    report = report_table(experiment, plan, tmp_path)
    assert {
        "Initial weights: the file b3.h5; the document has ImageNet.",
        "Side of the images in pixels: 64; the document has each backbone's own.",
        "Epochs selected on: 10% of train, split off by patient; the document has valid.",
    } <= set(report.deviations)
    text = (tmp_path / "table_iv/table.md").read_text(encoding="utf-8")
    assert "The valid split is reported: no run trained or selected on it." in text


def test_a_missing_member_removes_its_ensemble_and_is_named(tmp_path):
    experiment = find_experiment("table_v")
    changed = {"backbones": ["xception", "mobilenet_v2"], "members": 2, "repeats": 2}
    views = views_of(SMALL)
    plan = experiment.plan(tmp_path, list(SMALL), **changed)
    lost = [
        index
        for index, run in enumerate(plan)
        if run.folder.parts[-4:]
        in [
            ("xception", "type", "elbow", "repeat1-member0"),
            ("mobilenet_v2", "type", "wrist", "repeat0-member1"),
            ("mobilenet_v2", "type", "wrist", "repeat1-member0"),
            ("mobilenet_v2", "type", "wrist", "repeat1-member1"),
        ]
    ]
    assert len(lost) == 4
    finished(experiment, tmp_path, views, lacking=lost, **changed)
    report = report_table(experiment, plan, tmp_path)
    assert report.missing == [
        f"{tmp_path}/xception/type/elbow: repeat 1 lacks 1 of 2 members, numbers 0.",
        f"{tmp_path}/mobilenet_v2/type/wrist: repeat 0 lacks 1 of 2 members, numbers 1.",
        f"{tmp_path}/mobilenet_v2/type/wrist: repeat 1 lacks 2 of 2 members, numbers 0, 1.",
    ]
    folder = tmp_path / "table_v"
    assert listed(folder, "Missing") == report.missing
    repeats = report.cells.set_index(["backbone", "study_type"])["repeats"].to_dict()
    assert repeats == {
        ("xception", "elbow"): 1,
        ("xception", "wrist"): 2,
        ("xception", OVERALL): 1,
        ("mobilenet_v2", "elbow"): 2,
    }
    shown = lines_of(markdown(folder)[1:])
    assert shown["Wrist", "here"][2:] == [DASH, DASH]
    assert shown["Wrist", "published"][2:] == ["", ""]
    assert "Repeats: 1 or 2; the document has 3." in report.deviations
    assert pd.read_csv(folder / "table.csv").filter(like="mobilenet").iloc[1:].isna().all(axis=None)


def test_runs_of_incomplete_ensembles_are_no_part_of_it(tmp_path):
    experiment = find_experiment("table_v")
    changed = {"backbones": ["xception", "mobilenet_v2"], "members": 2, "repeats": 1}
    plan = experiment.plan(tmp_path, ["elbow"], **changed)
    for run in plan[:-1]:  # all of Xception, the whole-data run and one member of MobileNetV2
        finish(run, views_of({"elbow": (9, 9)}), batch_size=8 if run in plan[:3] else 16)
    report = report_table(experiment, plan, tmp_path)
    assert len(report.missing) == 1
    assert not any("Views per step" in sentence for sentence in report.deviations)
    facts = json.loads((tmp_path / "table_v/experiment.json").read_text())
    assert facts["runs"] == 3
    assert {recipe["backbone"] for recipe in facts["recipes"]} == {"xception"}


def test_facts_list_what_differs_between_the_runs(tmp_path):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of({"elbow": (9, 9)}), members=1)
    path = plan[-1].folder / "run.json"
    info = json.loads(path.read_text())
    info |= {"device": "NVIDIA H200", "versions": {"keras": "3.16.0", "jax": "0.8.0"}}
    path.write_text(json.dumps(info))
    report_table(experiment, plan, tmp_path)
    facts = json.loads((tmp_path / "table_iv/experiment.json").read_text())
    assert facts["devices"] == ["NVIDIA H200", "none"]
    assert facts["versions"] == {"keras": ["3.15.1", "3.16.0"], "jax": ["0.8.0"]}


def test_nothing_complete_is_a_sentence_and_no_table(tmp_path):
    experiment = find_experiment("table_vi")
    plan = experiment.plan(tmp_path, ["elbow"], members=2, repeats=1)
    finish(plan[0], views_of({"elbow": (6, 6)}))
    finish(plan[1], views_of({"elbow": (6, 6)}))
    with pytest.raises(ValueError, match=r"no ensemble of table_vi .*: 2 of 12 planned runs"):
        report_table(experiment, plan, tmp_path)
    assert not (tmp_path / "table_vi").exists()


def test_runs_on_other_studies_are_a_sentence_and_no_table(tmp_path):
    experiment = find_experiment("table_iv")
    plan = experiment.plan(tmp_path, ["elbow"], members=1)
    for run in plan:
        studies = 10 if run.recipe.stage == "imagenet" else 11
        finish(run, views_of({"elbow": (studies, 10)}))
    with pytest.raises(ValueError, match="stage imagenet, repeat 0 lacks 1 of 21, the first: "):
        report_table(experiment, plan, tmp_path)
    assert not (tmp_path / "table_iv").exists()


def cut_short(text):
    """What is written of a table before its last number."""
    return text.rpartition(",")[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("no table"),
        lambda path: path.write_text(cut_short(path.read_text())),
        lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
    ],
    ids=["foreign", "cut", "bytes"],
)
def test_damaged_predictions_are_named_and_the_rest_reported(tmp_path, damage):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of({"elbow": (9, 9)}), members=2)
    path = plan[1].folder / "predictions.csv"
    damage(path)
    report = report_table(experiment, plan, tmp_path)
    assert report.missing[0].startswith(f"{path} must be a predictions table, and is damaged: ")
    assert set(report.cells.stage) == {"type"}


def test_a_run_whose_predictions_are_lost_is_missing(tmp_path):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of({"elbow": (9, 9)}), members=2)
    (plan[1].folder / "predictions.csv").unlink()
    report = report_table(experiment, plan, tmp_path)
    assert report.missing == [
        f"{tmp_path}/efficientnet_b3/imagenet/elbow: repeat 0 lacks 1 of 2 members, numbers 1."
    ]
    assert set(report.cells.stage) == {"type"}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("run.json", '{"finished": tr', "run.json must be JSON"),
        ("run.json", "[]", "run.json must be JSON: must hold one JSON object. Received: []"),
        ("history.csv", "", "history.csv must be a CSV with a row of numbers per epoch"),
        ("history.csv", "epoch,loss\n1,x\n", "history.csv must be a CSV"),
        ("history.csv", None, "row of numbers per epoch, and is gone. Put back what was there"),
        ("recipe.json", "{", "recipe.json must hold the run's settings: Expecting"),
        ("predictions.csv", "split\n", "predictions.csv must be a predictions table"),
    ],
)
def test_an_unreadable_run_is_named_and_the_rest_reported(tmp_path, name, content, sentence):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of({"elbow": (9, 9)}), members=2)
    path = plan[1].folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    report = report_table(experiment, plan, tmp_path)
    unreadable, incomplete = report.missing
    assert str(path) in unreadable and sentence in unreadable
    assert incomplete.endswith("imagenet/elbow: repeat 0 lacks 1 of 2 members, numbers 1.")
    assert set(report.cells.stage) == {"type"}
    text = (tmp_path / "table_iv/table.md").read_text(encoding="utf-8")
    assert f"- {unreadable}\n- {incomplete}\n" in text


def test_a_lost_run_that_others_started_from_is_told(tmp_path):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of({"elbow": (9, 9)}), members=2)
    (whole,) = (run for run in plan if run.recipe.stage == "mura")
    shutil.rmtree(whole.folder)
    report = report_table(experiment, plan, tmp_path)
    assert report.missing == [
        f"{whole.folder}: 2 of the runs reported started from its model, and it is not there, or "
        "not finished."
    ]
    assert set(report.cells.stage) == {"imagenet", "type"}


def test_skipped_views_are_told_once(tmp_path):
    experiment = find_experiment("table_iv")
    plan = finished(experiment, tmp_path, views_of(SMALL), members=2)
    for run in plan:
        info = json.loads((run.folder / "run.json").read_text())
        skipped = {None: 3, ("elbow",): 1, ("wrist",): 2}[run.recipe.study_types]
        (run.folder / "run.json").write_text(json.dumps(info | {"skipped": skipped}))
    sentence = "Left out because their files are unreadable: 3 views."
    report = report_table(experiment, plan, tmp_path)
    assert report.deviations.count(sentence) == 1
    direct = [run for run in plan if run.recipe.stage == "imagenet"]
    assert report_table(experiment, direct, tmp_path).deviations.count(sentence) == 1


# ------------------------------------------------------------------------------------------------
# Plans


def test_tables_iv_and_vi_share_the_runs_that_they_have_in_common(tmp_path):
    plans = [find_experiment(name).plan(tmp_path, TYPES) for name in ("table_iv", "table_vi")]
    iv, vi = ({run.folder: run.recipe for run in plan} for plan in plans)
    shared = set(iv) & set(vi)
    assert len(iv) == 71 and len(vi) == 4 * 106 and len(shared) == 36
    assert all(iv[folder] == vi[folder] for folder in shared)
    assert {iv[folder].stage for folder in shared} == {"mura", "type"}


def test_shared_runs_are_reported_by_both(table_iv):
    _, report, folder = table_iv
    out = folder.parent
    experiment = find_experiment("table_vi")
    plan = experiment.plan(out, TYPES, backbones=["efficientnet_b3"], repeats=1)
    assert all(isinstance(run, PlannedRun) and run.folder.is_dir() for run in plan)
    other = report_table(experiment, plan, out)
    mine = report.cells[report.cells.stage == "type"].set_index("study_type").kappa
    theirs = other.cells.set_index("study_type").kappa
    assert theirs.to_dict() == pytest.approx(mine.to_dict())
    shutil.rmtree(out / "table_vi")


def test_a_plan_is_the_documents_but_for_what_is_given(tmp_path):
    experiment = find_experiment("table_vi")
    assert len(experiment.plan(tmp_path, iter(TYPES))) == 4 * (1 + 7 * 5 * 3)
    changed = {"settings": {"batch_size": 4}, "backbones": ["xception"], "members": 2, "repeats": 1}
    plan = experiment.plan(f"{tmp_path}/x/..", TYPES, study_types=["elbow"], **changed)
    assert [run.recipe.batch_size for run in plan] == [4, 4, 4]
    assert {run.recipe.backbone for run in plan} == {"xception"}
    assert plan[1].needs == plan[0].folder == tmp_path / "xception/mura/all/repeat0-member0"
    with pytest.raises(ValueError, match=r"backbone must be one of .* Received: 'knee_net'"):
        experiment.plan(tmp_path, TYPES, backbones=["knee_net"])


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"initial": "elsewhere/best.keras"}, "--weights"),
        ({"study_types": ["elbow"]}, "--types"),
        ({"stage": "mura"}, "has its stages"),
        ({"member": 1}, "--members"),
        ({"repeat": 2}, "--repeats"),
    ],
)
def test_what_a_table_sets_run_by_run_is_refused_in_a_recipe(tmp_path, settings, option):
    ((name, _),) = settings.items()
    with pytest.raises(ValueError, match=rf"{name} .* set run by run.*Received.*{option}"):
        find_experiment("table_v").plan(tmp_path, TYPES, settings=settings)


def test_a_backbone_that_the_table_has_not_is_refused_in_a_recipe(tmp_path):
    sentence = r"table_iv has the backbones efficientnet_b3\. Received a .*'xception'.*--backbones"
    with pytest.raises(ValueError, match=sentence):
        find_experiment("table_iv").plan(tmp_path, TYPES, settings={"backbone": "xception"})


def test_a_whole_recipe_file_that_agrees_with_the_table_is_taken(tmp_path):
    experiment = find_experiment("table_iv")
    settings = replace(experiment.recipe, batch_size=4).to_dict()
    assert experiment.plan(tmp_path, TYPES, settings=settings)[0].recipe.batch_size == 4
