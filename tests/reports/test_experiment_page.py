import json

import cv2
import numpy as np
import pandas as pd
import pytest
from pages import Page
from run_folders import TYPES
from sklearn.metrics import accuracy_score, cohen_kappa_score, recall_score, roc_auc_score

from mura_tf.data.table import VIEW_COLUMNS
from mura_tf.evaluation.scores import score_systems
from mura_tf.experiment import print_scores, report_runs
from mura_tf.published import published_table
from mura_tf.reports.curve_plots import plot_learning_curves
from mura_tf.reports.experiment_page import write_report
from mura_tf.reports.score_plots import plot_kappa
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run, load_predictions


def make_views(folder, study_types=TYPES, studies=12, split="valid", seed=0):
    """A views table of one split: 1 to 3 small radiographs per study, every other one abnormal."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, study_type in enumerate(study_types):
        for number in range(studies):
            for view in range(1 + (number + index) % 3):
                path = folder / f"{index}_{number}_{view}.png"
                cv2.imwrite(str(path), draw_bone(rng, bent=number % 2 == 1))
                rows.append(
                    {
                        "split": split,
                        "study_type": study_type,
                        "patient": f"patient{index}{number // 2:03d}",
                        "study": f"study{number % 2 + 1}",
                        "view": f"image{view + 1}.png",
                        "label": number % 2,
                        "path": str(path),
                    }
                )
    return pd.DataFrame(rows)


def draw_bone(rng, bent):
    height, width = int(rng.integers(150, 260)), int(rng.integers(110, 200))
    image = np.full((height, width), 18, np.uint8)
    middle = int(width / 2 + rng.integers(-15, 15))
    joint = (middle + (30 if bent else 0), height // 2)
    for start, end in (((middle, 0), joint), (joint, (middle, height))):
        cv2.line(image, start, end, 120, 44)
        cv2.line(image, start, end, 200, 26)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write_run(folder, views, recipe, skill=1.0, epochs=8, finished=True):
    """A run folder as `train` leaves it; a higher `skill` gives better probabilities."""
    rng = np.random.default_rng([recipe.run_seed, *folder.name.encode()])
    folder.mkdir(parents=True)
    recipe.save(folder / "recipe.json")
    noise = np.cumsum(rng.normal(0, 0.03, epochs))
    progress = 1 - np.exp(-np.arange(1, epochs + 1) / 3)
    history = pd.DataFrame(
        {
            "epoch": np.arange(1, epochs + 1),
            "learning_rate": recipe.learning_rate,
            "loss": 0.7 - 0.55 * progress,
            "kappa": 0.9 * progress,
            "val_loss": 0.7 - 0.3 * progress + abs(noise),
            "val_kappa": 0.6 * progress + noise,
        }
    )
    history.to_csv(folder / "history.csv", index=False)
    run = {
        "finished": finished,
        "recipe_hash": recipe.hash,
        "versions": {"mura_tf": "0.1.0", "keras": "3.15.1", "numpy": "2.4.6"},
        "backend": "tensorflow",
        "device": "CPU, 2 cores",
        "seed": recipe.seed,
        "data_fingerprint": "0123456789abcdef",
        "views": {"train": 8 * len(views), "valid": len(views), "test": 0},
        "seconds_per_epoch": [2.5] * epochs,
        "best_epoch": int(history.val_kappa.argmax()) + 1,
        "seconds": 2.5 * epochs,
        "skipped": 0,
    }
    (folder / "run.json").write_text(json.dumps(run))
    logits = skill * (2 * views.label - 1) + rng.normal(0, 1.3, len(views))
    predictions = views.assign(
        backbone=recipe.backbone,
        stage=recipe.stage,
        repeat=recipe.repeat,
        member=recipe.member,
        probability=1 / (1 + np.exp(-2 * logits)),
    )
    predictions.to_csv(folder / "predictions.csv", index=False)
    (folder / "best.keras").touch()
    return folder


def write_demo(root, studies=30):
    """What `mura-tf demo` leaves: a run on all study types, then two members for each type."""
    views = make_views(root / "data", studies=studies)
    recipe = Recipe("small_cnn", weights=None, image_size=64, batch_size=16, stage="mura")
    runs = [write_run(root / "runs/mura", views, recipe, skill=0.5, epochs=12)]
    for study_type in TYPES:
        for member in range(2):
            recipe = Recipe(
                "small_cnn",
                initial=str(root / "runs/mura/best.keras"),
                study_types=(study_type,),
                image_size=64,
                batch_size=16,
                stage="type",
                member=member,
            )
            rows = views[views.study_type == study_type]
            folder = root / "runs" / f"{study_type}_{member}"
            runs.append(write_run(folder, rows, recipe, skill=0.8, epochs=6 + member))
    return runs


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    runs = write_demo(root)
    return runs, write_report(runs, root / "report.html")


@pytest.fixture
def make_run(tmp_path):
    """Makes one finished run on the given study types and returns its folder."""

    def make(name="run", study_types=("elbow", "wrist"), change=lambda views: views, **settings):
        views = change(make_views(tmp_path / f"data_{name}", study_types))
        finished = settings.pop("finished", True)
        recipe = Recipe(**{"backbone": "small_cnn"} | settings)
        return write_run(tmp_path / name, views, recipe, finished=finished)

    return make


def test_page_needs_nothing_else(demo):
    page = Page(demo[1])
    names = [name for name, _ in page.tags]
    assert names.count("img") == 12
    assert not {"script", "link", "iframe", "object"} & set(names)
    for _, attributes in page.tags:
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith("#")
    assert "url(http" not in page.source and "@import" not in page.source
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Not a medical device" in page.text


def test_numbers_are_scikit_learns(demo):
    runs, path = demo
    views = pd.concat([pd.read_csv(run / "predictions.csv") for run in runs])
    page = Page(path)
    for number, stage in enumerate(["type", "mura"]):
        studies = (
            views[views.stage == stage]
            .groupby(["study_type", "patient", "study"])[["label", "probability"]]
            .mean()
        )
        table = page.table("Study type", number)
        assert list(table) == [*TYPES, "overall"]
        for name, cells in table.items():
            rows = studies if name == "overall" else studies.loc[name]
            decided = rows.probability > 0.5
            assert_cell(cells["Kappa"], cohen_kappa_score(rows.label, decided))
            assert_cell(cells["AUROC"], roc_auc_score(rows.label, rows.probability))
            assert_cell(cells["Accuracy"], accuracy_score(rows.label, decided))
            assert_cell(cells["Sensitivity"], recall_score(rows.label, decided))
            assert_cell(cells["Specificity"], recall_score(rows.label, decided, pos_label=0))
            assert int(cells["Studies"]) == len(rows)
    overall = page.table("Study type")["overall"]
    name = "small_cnn, fine-tuned per study type"
    assert page.table("System")[name]["Kappa"] == overall["Kappa"]
    kappa = float(overall["Kappa"].split()[0])
    assert f"Overall study-level kappa {kappa:.2f} [" in page.text
    assert "on 210 studies of the valid split, ensemble of 2 small_cnn" in page.text


def test_models_per_study_type_are_told_whatever_their_stage(make_run, tmp_path):
    runs = []
    for name in ("elbow", "wrist"):
        folder = make_run(name, study_types=(name,), weights=None, stage="imagenet")
        Run(folder).recipe.changed({"study_types": (name,)}).save(folder / "recipe.json")
        runs.append(folder)
    report_runs(runs, tmp_path / "report")
    text = " ".join(Page(tmp_path / "report/report.html").text.split())
    assert "valid split, one small_cnn per study type." in text


def assert_cell(cell, expected):
    """The cell shows `expected` with three decimals, inside its interval if it has one."""
    value, *limits = (float(text.strip("[],")) for text in cell.replace("\u2212", "-").split())
    assert value == pytest.approx(expected, abs=5.01e-4)
    if limits:
        assert limits[0] <= value <= limits[1]


def test_same_runs_give_the_same_bytes(demo, tmp_path):
    runs, path = demo
    assert write_report(runs, tmp_path / "again.html").read_bytes() == path.read_bytes()


def test_systems_are_scored_apart_and_the_most_special_comes_first(demo):
    scores = score_systems(load_predictions(demo[0]), intervals=False)
    columns = ["backbone", "stage", "repeat", "members", "split", "study_type"]
    assert list(scores.columns[:6]) == columns
    assert list(scores.stage) == ["type"] * 8 + ["mura"] * 8
    assert list(scores.members) == [2] * 8 + [1] * 8
    assert "kappa_low" not in scores


def test_a_system_with_a_test_split_is_reported_on_it(make_run, tmp_path):
    def half_test(views):
        odd = views.patient.str[-1].astype(int) % 2 == 1
        return views.assign(split=np.where(odd, "test", "valid"))

    page = Page(write_report([make_run(change=half_test)], tmp_path / "r.html"))
    assert "The test split is reported: no run trained or selected on it." in page.text
    (row,) = page.table("System").values()
    assert (row["Split"], row["Studies"], row["Members"]) == ("test", "12", "1")
    assert "optimistic" not in page.text


@pytest.mark.parametrize(("select_on", "optimistic"), [("valid", True), ("holdout", False)])
def test_the_protocol_is_named(make_run, tmp_path, select_on, optimistic):
    page = Page(write_report([make_run(select_on=select_on)], tmp_path / "r.html"))
    assert ("the scores are optimistic" in page.text) == optimistic
    assert ("a holdout, 10% of the training split by patient" in page.text) != optimistic


def test_a_split_that_shares_patients_with_training_is_told(make_run, tmp_path):
    folder = make_run(select_on="holdout")
    told = json.loads((folder / "run.json").read_text()) | {"of_trained_patients": {"valid": 7}}
    (folder / "run.json").write_text(json.dumps(told))
    page = Page(write_report([folder], tmp_path / "r.html"))
    assert "but 7 of its views are of patients that were trained on" in page.text


def test_every_device_that_a_run_was_trained_on_is_told(make_run, tmp_path):
    folder = make_run()
    told = json.loads((folder / "run.json").read_text())
    told |= {"earlier": [{"device": "a GPU", "versions": told["versions"] | {"keras": "3.0"}}]}
    (folder / "run.json").write_text(json.dumps(told))
    page = Page(write_report([folder], tmp_path / "r.html"))
    assert "a GPU" in page.text and "keras 3.0" in page.text and told["device"] in page.text


def test_text_from_outside_is_text(make_run, tmp_path):
    nasty = r'<script>alert("1")</script> & $x$_ \1 $\foo$'
    page = Page(write_report([make_run(study_types=("elbow", nasty))], tmp_path / "r.html"))
    assert nasty in page.table("Study type")
    assert "script" not in [name for name, _ in page.tags]


def test_a_missing_image_becomes_a_caption(make_run, tmp_path):
    run = make_run()
    for image in (tmp_path / "data_run").iterdir():
        image.unlink()
    page = Page(write_report([run], tmp_path / "r.html"))
    assert "there is no such file" in page.text
    assert "img" not in [name for name, _ in page.tags]


def test_a_type_with_one_class_is_flagged(make_run, tmp_path):
    def all_normal_elbows(views):
        return views.assign(label=views.label.where(views.study_type != "elbow", 0))

    page = Page(write_report([make_run(change=all_normal_elbows)], tmp_path / "r.html"))
    row = page.table("Study type")["elbow\N{DAGGER}"]
    assert row["Kappa"].startswith("0.000")
    assert row["AUROC"] == row["Sensitivity"] == "\N{EN DASH}"
    assert "have one label" in page.text


def test_an_incomplete_ensemble_is_told(make_run, tmp_path):
    runs = [make_run("a", ("elbow",), stage="type"), make_run("b", ("wrist",), stage="type")]
    views = load_predictions(runs[1:]).drop(columns=["backbone", "stage", "repeat", "member"])
    recipe = Recipe("small_cnn", stage="type", member=1, study_types=("wrist",))
    runs.append(write_run(tmp_path / "c", views, recipe))
    page = Page(write_report(runs, tmp_path / "r.html"))
    assert "The ensembles differ in members (1: elbow; 2: wrist)." in page.text


def test_settings_are_shown_where_they_differ(demo):
    settings = Page(demo[1]).table("Setting")
    names = ["weights", "initial", "study_types", "image_size", "batch_size", "member"]
    assert list(settings) == names
    assert settings["batch_size"]["Default"] == "8"
    assert settings["batch_size"]["small_cnn, whole-data model"] == "16"
    assert settings["member"]["small_cnn, fine-tuned per study type"] == "0, 1"


def test_runs_are_listed(demo):
    runs = Page(demo[1]).table("Run folder")
    whole, *types = map(str, demo[0])
    assert list(runs) == [*types, whole]
    first = runs[types[0]]
    history = pd.read_csv(demo[0][1] / "history.csv")
    assert (first["Trained on"], first["Epochs"]) == ("elbow", str(len(history)))
    assert first["Chosen"] == str(history.val_kappa.argmax() + 1)
    assert_cell(first["Image-level kappa"], history.val_kappa.max())
    assert first["Data fingerprint"] == "0123456789ab"


def test_unfinished_runs_are_named_and_nothing_is_written(make_run, tmp_path):
    runs = [make_run("done"), make_run("killed", finished=False), tmp_path / "nowhere"]
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"2 of 3 run folders without: .*killed, .*nowhere\."):
        write_report(runs, tmp_path / "out/report.html")
    with pytest.raises(ValueError, match="no folder"):
        write_report([], tmp_path / "out/report.html")
    (runs[0] / "predictions.csv").unlink()
    with pytest.raises(ValueError, match=r"predictions\.csv. Received 1 of 1 .*done\."):
        write_report(runs[:1], tmp_path / "out/report.html")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_report_survives_a_failure(make_run, tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    page.write_text("older")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    run = make_run()
    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_report([run], page)
    assert page.read_text() == "older"
    assert not list(tmp_path.glob(".part-*"))


def test_plots_save_as_pictures(demo, tmp_path):
    scores = score_systems(load_predictions(demo[0]))
    plot_kappa(scores).savefig(tmp_path / "kappa.png")
    plot_kappa(scores.drop(columns=["kappa_low", "kappa_high"]))
    history = pd.read_csv(demo[0][0] / "history.csv")
    plot_learning_curves([history], [3]).savefig(tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "kappa.png")).std() > 0
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 0
    many = pd.concat([scores.assign(repeat=repeat) for repeat in range(4)])
    with pytest.raises(ValueError, match="Received: 8"):
        plot_kappa(many)


def test_a_constant_system_and_run_are_said(tmp_path, capsys):
    views = make_views(tmp_path / "data", study_types=("elbow", "wrist"))
    folder = write_run(tmp_path / "run", views, Recipe("small_cnn", weights=None, stage="mura"))
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"constant": True, "auroc": 0.7}))
    table = pd.read_csv(folder / "predictions.csv", dtype={"patient": str})
    table.assign(probability=table.probability / 2).to_csv(folder / "predictions.csv", index=False)
    page = Page(write_report([folder], tmp_path / "report.html"))
    studies = table.groupby(["study_type", "patient", "study"])[["label", "probability"]].mean()
    auroc = roc_auc_score(studies.label, studies.probability)
    told = f"small_cnn, whole-data model calls all 24 studies normal at 0.5; AUROC {auroc:.3f}"
    assert told in page.text
    assert f"{folder}: the chosen epoch calls all views that it was selected on" in page.text
    assert "All studies are called the same at 0.5." in page.text
    marked = {"elbow\u2021", "wrist\u2021", "overall\u2021"}
    assert set(page.table("Study type")) == marked
    print_scores(report_runs([folder], tmp_path))
    assert told in " ".join(capsys.readouterr().out.split())


def test_muras_readers_stand_beside_muras_studies_alone(tmp_path):
    counts = published_table("table_i").query("split == 'valid' and label.notna()")
    rows = [
        ("valid", "wrist", f"p{row.label}{number}", "s", "1.png", int(row.label), "nowhere.png")
        for row in counts[counts.study_type == "wrist"].itertuples()
        for number in range(row.studies)
    ]
    views = pd.DataFrame(rows, columns=VIEW_COLUMNS)
    recipe = Recipe("small_cnn", weights=None, study_types=("wrist",))
    folder = write_run(tmp_path / "muras", views, recipe)
    other = write_run(tmp_path / "others", views[1:].reset_index(drop=True), recipe)
    beside = "beside MURA's radiologists and its own model"
    page = Page(write_report([folder], tmp_path / "report.html"))
    assert beside in page.text
    kappas = page.table("System", 1)
    assert kappas["radiologist 2"]["wrist"] == "0.931"
    ours, *_ = kappas.values()  # whose overall is of wrists alone
    missing = "\N{EN DASH}"
    assert ours["wrist"] != missing == ours["overall"] != kappas["radiologist 2"]["overall"]
    assert beside not in Page(write_report([other], tmp_path / "other.html")).text
