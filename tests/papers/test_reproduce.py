"""`mura-tf reproduce`: plans, costs, reports and refusals; nothing is trained here."""

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from run_folders import TYPES, finish, finished, views_of
from typer.testing import CliRunner

from mura_tf.cli import app
from mura_tf.data.tasks import class_names
from mura_tf.grid.progress import duration
from mura_tf.models.backbones import BACKBONES
from mura_tf.papers import reproduce as lib
from mura_tf.papers.documents import Comparison
from mura_tf.papers.parameters import ParameterTable
from mura_tf.papers.tables import Experiment
from mura_tf.training.recipe import Recipe

COUNTS = {"elbow": (12, 10), "wrist": (12, 10)}
TABLES = ["table_iii", "table_iv", "table_v", "table_vi", "tables_v_vi"]
DOCUMENTS = [
    "densenet169",
    "fourteen_classes",
    "freezing",
    "inputs",
    "resnet18",
    "unified_vs_specialised",
]
SMALL = ["--backbones", "small_cnn", "--members", "2", "--repeats", "1"]


def call(*arguments):
    """A result with `exit_code`, `stdout` and `stderr`; an unexpected exception passes through."""
    arguments = ["reproduce", *map(str, arguments)]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def assert_sentence(result, sentence):
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def steps(monkeypatch):
    """Makes a step of each backbone 10 images/s, and keeps the recipes that were measured."""
    measured = []

    def measure_step(recipe):
        measured.append(recipe)
        return 10.0, BACKBONES[recipe.backbone].parameters

    training = SimpleNamespace(measure_step=measure_step)  # the real one imports TensorFlow
    monkeypatch.setitem(sys.modules, "mura_tf.training.train", training)
    return measured


@pytest.fixture
def begun(tmp_path):
    """The folder of a finished Table V with one small backbone."""
    out, views = tmp_path / "runs", views_of(COUNTS)
    experiment = lib.find_experiment("table_v")
    finished(experiment, out, views, backbones=["small_cnn"], members=2, repeats=1)
    views.to_csv(out / "views.csv", index=False)
    return out


# ------------------------------------------------------------------------------------------------
# Experiments


def test_every_experiment_is_found():
    assert lib.experiment_names() == sorted(TABLES + DOCUMENTS)
    kinds = [ParameterTable, *[Experiment] * 4, *[Comparison] * 6]
    for name, kind in zip(TABLES + DOCUMENTS, kinds, strict=True):
        experiment = lib.find_experiment(name)
        assert isinstance(experiment, kind)
        assert experiment.name == name


def test_experiments_are_the_papers():
    plans = {name: lib.find_experiment(name).plan("out", TYPES) for name in TABLES[1:]}
    assert {name: len(plan) for name, plan in plans.items()} == {
        "table_iv": 35 + 1 + 35,
        "table_v": 3 * (1 + 7 * 5 * 3),
        "table_vi": 4 * (1 + 7 * 5 * 3),
        "tables_v_vi": 742,
    }
    for name in TABLES[1:]:
        assert lib.find_experiment(name).recipe == Recipe()


def test_an_unknown_table_lists_the_known_ones():
    assert_sentence(
        call("table_vii"),
        "an experiment must be one of densenet169, fourteen_classes, freezing, inputs, resnet18, "
        "table_iii, table_iv, table_v, table_vi, tables_v_vi, unified_vs_specialised. Received: "
        "'table_vii'.",
    )


def test_every_system_of_every_document_is_listed():
    result = call("--list")
    assert result.exit_code == 0
    for name in TABLES + DOCUMENTS:
        assert re.search(rf"^{name} \(document 00[0-4]\)$", result.stdout, re.MULTILINE)
    for name in DOCUMENTS:
        for system in lib.find_experiment(name).systems:
            assert f"  {system.title} " in result.stdout
    assert re.search(r"efficientnet_b3, trained directly +35 runs .* kappa 0\.6890", result.stdout)
    assert re.search(r"ResNet-18, unified +1 runs .* accuracy 0\.785, overall", result.stdout)
    listed = lib.listing().set_index(["command", "system"])
    b3 = listed.loc["table_vi", "efficientnet_b3, fine-tuned per study type"]
    # MURA's 36,808 training images once for the whole model and 15 times by type; 7 to 100 epochs
    assert (b3.runs, b3.images) == ("106", f"{36808 * 16 * 7 / 1e6:.1f}\u2013{58.9:.0f}")


def test_an_experiment_must_be_named():
    result = call()
    assert result.exit_code == 2
    assert "an experiment must be named, one of densenet169" in result.stderr


@pytest.mark.parametrize(
    ("name", "option"),
    [("table_v", "--systems"), ("resnet18", "--repeats"), ("table_v", "--split-by")],
)
def test_options_that_an_experiment_has_not(name, option, tmp_path):
    value = {"--systems": "base", "--repeats": "2", "--split-by": "image"}[option]
    result = call(name, "--out", tmp_path, "--dry-run", option, value)
    field = option[2:].replace("-", "_")
    assert_sentence(result, f"{name} has the options backbones, members, ")
    assert f"Received: {field}." in result.stderr


def test_options_are_checked_before_the_data_are_read(tmp_path):
    result = call("table_v", "--out", tmp_path, "--data", tmp_path, "--split-by", "image")
    assert_sentence(result, "table_v has the options backbones, members, ")


def test_a_dry_run_of_a_documents_systems(tmp_path, steps):
    """Steps are measured once for each size, batch and head."""
    result = call("densenet169", "--out", tmp_path, "--dry-run", "--types", "wrist")
    assert result.exit_code == 0
    assert [(recipe.side, recipe.batch_size) for recipe in steps] == [(224, 8), (320, 8)]
    assert "3 runs, 0 of them finished; 0 start from 0 others." in result.stdout


SLOW_DOCUMENTS = {"unified_vs_specialised", "fourteen_classes"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW_DOCUMENTS else name
        for name in DOCUMENTS
    ],
)
def test_steps_of_every_document_are_measured(name, tmp_path, eagerly):
    """Real ones, at a small size; `small_cnn` has not as many convolutions as 003 unfreezes."""
    settings = {"image_size": 32, "weights": None, "batch_size": 2, "trainable": "all"}
    options = {"settings": settings, "backbones": ["small_cnn"]}
    table, sentence = lib.cost(lib.find_experiment(name), tmp_path, **options)
    assert len(table) > 1 and "0 of them finished" in sentence


def test_models_on_disk_have_heads(tmp_path, eagerly):
    """The net of two convolutions has 20,000 parameters, its dense layer 56 * 56 * 64 * 128."""
    options = {"systems": ["cnn_2_unified"], "settings": {"batch_size": 1}}
    _, sentence = lib.cost(lib.find_experiment("unified_vs_specialised"), tmp_path, **options)
    assert "keeps 0.10 GB of models" in sentence


def test_a_split_of_all_views_is_what_is_counted(tmp_path, steps):
    """003 trains on 80 % of Table I's 40,005 images, at least for 11 epochs."""
    experiment = lib.find_experiment("fourteen_classes")
    _, sentence = lib.cost(experiment, tmp_path, systems=["exp_1"])
    assert f"sees {0.8 * 40_005 * 11 / 1e6:.2f} to {0.8 * 40_005 * 150 / 1e6:.2f}" in sentence


def test_a_folder_keeps_its_split(tmp_path, monkeypatch):
    views = views_of({"elbow": (30, 24), "wrist": (40, 30)})
    views["path"] = [f"{number}.png" for number in range(len(views))]
    monkeypatch.setattr(lib, "load_views", lambda data: views)
    experiment = lib.find_experiment("fourteen_classes")
    path = tmp_path / "fourteen_classes/views.csv"
    run_info = path.parent / "exp_1/all/member0/run.json"
    run_info.parent.mkdir(parents=True)
    run_info.write_text("{}")
    experiment.views(views).to_csv(path, index=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"holds runs on other views: .* another split"):
        lib.reproduce(experiment, tmp_path, "data", split_by="image")
    assert path.read_bytes() == before


def test_a_folder_has_one_split_of_two(tmp_path, monkeypatch):
    valid = views_of({"elbow": (30, 24), "wrist": (40, 30)})
    train = valid.assign(split="train", patient="train" + valid.patient)
    views = pd.concat([train, valid], ignore_index=True)
    views["path"] = views.index.astype(str)
    seen = []

    def run_plan(plan, views, out, **settings):
        seen.append(views)
        views.to_csv(out / "views.csv", index=False)
        for run in plan:
            if not run.folder.exists():
                finish(run, views[views.split != "train"])
                history = pd.read_csv(run.folder / "history.csv")
                history[["accuracy", "val_accuracy"]] = 0.5
                history.to_csv(run.folder / "history.csv", index=False)
                classes = class_names(views, "type_and_abnormality")
                path = run.folder / "predictions.csv"
                table = pd.read_csv(path, dtype={"patient": str})
                shares = np.random.default_rng(0).dirichlet(np.ones(len(classes)), len(table))
                table[[f"p:{name}" for name in classes]] = shares
                table.to_csv(path, index=False)
        return {}

    monkeypatch.setattr(lib, "load_views", lambda data: views)
    monkeypatch.setattr(lib, "run_plan", run_plan)
    experiment = lib.find_experiment("fourteen_classes")
    options = {"systems": ["exp_1"]}

    def told(**more):
        report, _ = lib.reproduce(experiment, tmp_path / "one", **options | more)
        return "MURA's validation set as test set (Fig. 30): here" in " ".join(report.deviations)

    assert told(data="data", split="document")
    assert (seen[0].split == "test").sum() == len(valid)
    assert told() and told(data="data") and told(split="document")
    with pytest.raises(
        ValueError, match=r"the split 'document'\. Received: --split text\. Use anot"
    ):
        told(data="data", split="text")
    report, _ = lib.reproduce(experiment, tmp_path / "other", "data", **options)
    assert "--split document is the other." in " ".join(report.deviations)
    (tmp_path / "other/fourteen_classes/split.json").unlink()  # as runs of before have it
    with pytest.raises(ValueError, match=r"the split 'text'\. Received: --split document\."):
        lib.reproduce(experiment, tmp_path / "other", "data", split="document", **options)


def test_the_cost_of_the_other_split_is_its_own(tmp_path, steps):
    """85 % of MURA's 36,808 training images."""
    experiment = lib.find_experiment("fourteen_classes")
    _, sentence = lib.cost(experiment, tmp_path, systems=["exp_1"], split="document")
    least, most = (0.85 * 36_808 * epochs / 1e6 for epochs in (11, 150))
    assert f"sees {least:.2f} to {most:.2f}" in sentence


# ------------------------------------------------------------------------------------------------
# Reports


def test_report_only_needs_no_data(begun):
    result = call("table_v", "--out", begun, "--report-only", *SMALL)
    assert result.exit_code == 0
    assert f"Table: {begun}/table_v/table.md" in result.stdout
    assert f"Report: {begun}/table_v/report.html" in result.stdout
    assert "Missing" not in result.stdout
    assert (begun / "table_v/report.html").is_file()
    assert pd.read_csv(begun / "table_v/table.csv").study_type.tolist() == [*COUNTS, "overall"]


def test_a_report_alone_names_its_command_where_no_other_did(begun, monkeypatch):
    path = begun / "table_v/experiment.json"

    def report(command):
        monkeypatch.setattr(sys, "argv", [command])
        assert call("table_v", "--out", begun, "--report-only", *SMALL).exit_code == 0
        return json.loads(path.read_text())["commands"]

    path.unlink(missing_ok=True)
    assert report("bin/first") == report("second") == ["first"]


def test_report_only_tells_what_is_missing(begun):
    more = ["--backbones", "small_cnn,xception", "--members", "2", "--repeats", "1"]
    result = call("table_v", "--out", begun, "--report-only", *more)
    assert result.exit_code == 0
    for study_type in COUNTS:
        folder = begun / "xception/type" / study_type
        assert f"Missing: {folder}: repeat 0 lacks 2 of 2 members" in result.stdout


def test_report_only_of_some_types(begun):
    result = call("table_v", "--out", begun, "--report-only", *SMALL, "--types", "wrist")
    assert result.exit_code == 0
    assert pd.read_csv(begun / "table_v/table.csv").study_type.tolist() == ["wrist", "overall"]


def test_report_only_where_nothing_was_begun(tmp_path):
    result = call("table_iv", "--out", tmp_path / "nowhere", "--report-only")
    assert_sentence(result, f"{tmp_path}/nowhere/views.csv is not there")
    assert not (tmp_path / "nowhere").exists()


def test_report_only_of_what_was_not_trained(begun):
    result = call("table_vi", "--out", begun, "--report-only")
    assert_sentence(result, "no ensemble of table_vi is complete")
    assert_sentence(call("table_v", "--out", begun, "--report-only", *SMALL, "--types", "knee"), "")


def test_training_needs_data(tmp_path):
    result = call("table_iv", "--out", tmp_path)
    assert result.exit_code == 2 and "--data is needed to train" in result.stderr
    result = call("table_iv", "--out", tmp_path, "--data", tmp_path / "nowhere")
    assert result.exit_code == 1 and "nowhere" in result.stderr


@pytest.mark.parametrize("mode", [["--report-only"], ["--dry-run"], ["--data", "nowhere"]])
def test_an_unknown_backbone_is_named(begun, steps, mode):
    mode = ["--data", begun / "views.csv"] if mode[-1] == "nowhere" else mode
    result = call("table_v", "--out", begun, "--backbones", "knee_net", *mode)
    assert_sentence(result, "Received: 'knee_net'.")
    assert steps == []


OTHER_VALUES = [
    ["--members", "0"],
    ["--repeats", "x"],
    ["--engine", "slurm"],
    ["--select-on", "train"],
    ["--unknown"],
]


@pytest.mark.parametrize("option", OTHER_VALUES)
def test_wrong_usage_has_exit_code_2(option):
    assert call("table_iv", *option).exit_code == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray-address", "auto"], "--ray-address is an option of Ray. Add --engine ray"),
        (["--cpus-per-run", "2"], "--cpus-per-run is an option of Ray. Add --engine ray"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run is an option of Ray. Add --engine ray"),
        (["--engine", "ray", "--jobs", "2"], "--jobs is of this machine. With --engine ray give"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
def test_options_of_the_other_engine_are_refused(options, sentence, mode, tmp_path, steps):
    result = call("table_v", "--out", tmp_path, "--data", tmp_path, *options, *mode)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.replace("\u2502", "").split())
    assert steps == []


# ------------------------------------------------------------------------------------------------
# Training, up to the plan


def test_everything_is_handed_to_the_plan(begun, tmp_path, monkeypatch):
    views, seen = views_of(COUNTS), {}

    def run_plan(plan, views, out, **settings):
        seen.update(plan=plan, out=out, settings=settings)
        for run in plan[:-1]:
            finish(run, views)
        return {plan[-1].folder: "out of memory"}

    monkeypatch.setattr(lib, "load_views", lambda data: views)
    monkeypatch.setattr(lib, "run_plan", run_plan)
    experiment, out = lib.find_experiment("table_iv"), tmp_path / "new"
    settings = {"engine": "an engine", "cache_dir": "cache", "skip_bad": True}
    options = {"settings": {"weights": None, "max_epochs": 3}, "backbones": ["small_cnn"]}
    report, failed = lib.reproduce(experiment, out, "data", members=2, **options, **settings)
    assert seen["settings"] == settings and seen["out"] == out
    assert len(seen["plan"]) == 2 * 2 + 1 + 2 * 2
    assert {(run.recipe.weights, run.recipe.max_epochs) for run in seen["plan"]} == {(None, 3)}
    assert list(failed.values()) == ["out of memory"]
    assert report.missing == [
        f"{out}/small_cnn/type/wrist: repeat 0 lacks 1 of 2 members, numbers 1."
    ]
    assert (out / "table_iv/table.md").is_file()

    result = call("table_iv", "--out", tmp_path / "cli", "--data", "data", *SMALL)
    assert_sentence(result, "1 runs failed; see above. Repeat the command.")
    assert "Missing: " in result.stdout and "Report: " in result.stdout


# ------------------------------------------------------------------------------------------------
# Cost


def test_the_cost_of_table_iv_by_hand(tmp_path, steps):
    """MURA has 36,808 training images; 7 epochs are the fewest and 100 the most."""
    table, sentence = lib.cost(lib.find_experiment("table_iv"), tmp_path)
    assert [recipe.backbone for recipe in steps] == ["efficientnet_b3"]
    assert table.to_numpy().tolist() == [
        ["efficientnet_b3", "imagenet", 300, "0/35", "1.3\u201318", "36\u2013511", "1.5", "10.0"],
        ["efficientnet_b3", "mura", 300, "0/1", "0.3\u20133.7", "7.2\u2013102", "0.0", "10.0"],
        ["efficientnet_b3", "type", 300, "0/35", "1.3\u201318", "36\u2013511", "1.5", "10.0"],
        ["all", "", "", "0/71", "2.8\u201340", "79\u20131125", "3.1", ""],
    ]
    epoch = 36808 * (5 + 1 + 5)
    hours = [epochs * epoch / 10 / 3600 for epochs in (7, 100)]
    assert sentence == (
        "71 runs, 0 of them finished; 35 start from 1 other. What is left sees "
        f"{7 * epoch / 1e6:.2f} to {100 * epoch / 1e6:.2f} million images, "
        f"{duration(hours[0] * 3600)} to {duration(hours[1] * 3600)} on this machine, one run at a "
        f"time, and keeps {71 * 10_791_216 * 4 / 1e9:.2f} GB of models, and "
        f"{40_005 * 300**2 / 1e9:.2f} GB of prepared images, a byte a pixel, in the cache."
    )
    assert not list(tmp_path.iterdir())


def test_finished_runs_cost_nothing(begun, steps):
    settings = {"backbones": ["small_cnn"], "members": 2, "repeats": 2}
    experiment = lib.find_experiment("table_v")
    table, sentence = lib.cost(experiment, begun, study_types=list(COUNTS), **settings)
    table = table.set_index("stage")
    assert table.done.tolist() == ["1/1", "4/8", "5/9"]
    assert table.loc["mura", ["M images", "hours", "GB"]].tolist() == ["0.0"] * 3
    left = 2 * (2925 + 2006 + 5765 + 3987)  # Table I: elbow, wrist
    assert sentence.startswith("9 runs, 5 of them finished; 8 start from 1 other.")
    assert f"sees {7 * left / 1e6:.2f} to {100 * left / 1e6:.2f} million images" in sentence


def test_prepared_images_are_counted_once_for_each_size(tmp_path, steps):
    views = views_of({"elbow": (40, 40), "wrist": (80, 60)})
    views = pd.concat([views, views.assign(split="train"), views.assign(split="test")])
    views.to_csv(tmp_path / "views.csv", index=False)
    names = ["mobilenet_v2", "densenet169", "xception"]  # 224, 320 and 299 px
    experiment, settings = lib.find_experiment("table_v"), {"max_epochs": 1}
    arguments = (experiment, tmp_path / "out", tmp_path / "views.csv")
    _, sentence = lib.cost(*arguments, backbones=names, settings=settings)
    sides = [BACKBONES[name].image_size for name in names]
    expected = sum(3 * 220 * side**2 for side in set(sides)) / 1e9
    assert f" and {expected:.2f} GB of prepared images" in sentence
    _, sentence = lib.cost(*arguments, backbones=names, settings=settings | {"image_size": 500})
    assert f" and {3 * 220 * 500**2 / 1e9:.2f} GB of prepared images" in sentence


@pytest.mark.parametrize("mode", ["--dry-run", "--report-only"])
def test_settings_that_the_finished_runs_have_not_are_refused(begun, steps, mode):
    types = ["--types", "elbow,wrist"]
    arguments = ["table_v", "--out", begun, mode, *SMALL, *types]
    result = call(*arguments, "--image-size", "96")
    assert_sentence(result, "holds a run of another recipe: image_size is None, asked for 96.")
    assert steps == []
    assert call(*arguments, "--max-epochs", "100").exit_code == 0  # as it was


def test_the_cost_of_a_data_set_is_its_own(tmp_path, steps, monkeypatch):
    views = views_of({"elbow": (4000, 4000), "wrist": (8000, 4000)}).assign(split="train")
    views = pd.concat([views, views.assign(split="valid")])
    monkeypatch.setattr(lib, "load_views", lambda data: views)
    experiment = lib.find_experiment("table_iv")
    settings = {"max_epochs": 3, "select_on": "holdout", "holdout": 0.25}
    _, sentence = lib.cost(experiment, tmp_path, "data", settings=settings, members=1)
    images = 3 * 0.75 * 3 * 20_000  # epochs, share trained on, direct and whole and type
    assert f"sees {images / 1e6:.2f} to {images / 1e6:.2f} million images" in sentence


def test_a_dry_run_says_what_would_be_done(tmp_path, steps):
    arguments = ["--out", tmp_path, "--dry-run", "--backbones", "mobilenet_v2_035,efficientnet_b3"]
    result = call("table_vi", *arguments, "--types", "elbow,wrist", "--members", "2")
    assert result.exit_code == 0
    for backbone, side in (
        ("mobilenet_v2_035", 224),
        ("efficientnet_b3", 300),
    ):  # whole, on 80 columns
        assert re.search(rf"{backbone}\W+mura\W+{side}\W+0/1\W", result.stdout)
        assert re.search(
            rf"{backbone}\W+type\W+{side}\W+0/12\W+0\.6.8\.8\W+17.245\W", result.stdout
        )
    assert "26 runs, 0 of them finished; 24 start from 2 others." in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_an_unknown_study_type(tmp_path, steps):
    result = call("table_iv", "--out", tmp_path, "--dry-run", "--types", "elbow,knee")
    assert_sentence(result, "study_types must be among elbow, finger, forearm, hand, humerus,")
    assert "Received: knee." in result.stderr
    assert steps == []


# ------------------------------------------------------------------------------------------------
# Table III


def test_table_iii_is_counted(tmp_path):
    """With TensorFlow, for the smallest of the pretrained backbones."""
    result = call("table_iii", "--out", tmp_path, "--backbones", "mobilenet_v2_035")
    assert result.exit_code == 0
    assert "416609" in result.stdout.replace(",", "")
    assert f"Table: {tmp_path}/table_iii" in result.stdout
    text = (tmp_path / "table_iii/table.md").read_text(encoding="utf-8")
    assert "| mobilenet_v2_035 | 224 x 224 | n/a | 416,609 | n/a | n/a |" in text


def test_a_dry_run_of_table_iii_builds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("mura_tf.papers.parameters.report_parameters", None)
    result = call("table_iii", "--out", tmp_path, "--dry-run")
    assert result.exit_code == 0
    assert "table_iii builds 7 models and counts their parameters; nothing is" in result.stdout
    assert not list(tmp_path.iterdir())


def test_table_iii_of_an_unknown_backbone(tmp_path):
    result = call("table_iii", "--out", tmp_path, "--backbones", "mobilenet_v2,vgg")
    assert_sentence(result, "Received: 'vgg'.")
    assert not list(tmp_path.iterdir())
