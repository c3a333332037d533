"""Plans and costs of the documents' tables and systems; nothing is trained here."""

import numpy as np
import pandas as pd
import pytest
from experiment_names import DOCUMENTS, TABLES
from run_folders import FEW_STUDIES, TYPES, finish, views_of

from mura_tf.data.table import SPLITS
from mura_tf.data.tasks import class_names
from mura_tf.grid.progress import duration
from mura_tf.models.backbones import BACKBONES
from mura_tf.papers import reproduce as lib
from mura_tf.papers.documents import Comparison
from mura_tf.papers.parameters import ParameterTable
from mura_tf.papers.tables import Experiment
from mura_tf.training.recipe import Recipe

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


def test_a_folder_keeps_its_split(tmp_path, monkeypatch):
    views = views_of({"elbow": (30, 24), "wrist": (40, 30)})
    views["path"] = [f"{number}.png" for number in range(len(views))]
    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
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


def test_a_study_type_that_nothing_is_reported_of_is_refused_before_training(tmp_path, monkeypatch):
    views = views_of({"elbow": (8, 6), "wrist": (8, 6)})
    test = views[views.study_type == "elbow"].assign(split="test")
    views = pd.concat([views.assign(split="train"), views, test], ignore_index=True)
    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
    monkeypatch.setattr(lib, "run_plan", None)
    with pytest.raises(ValueError, match=r"needs views in test, .* Received: none of wrist\."):
        lib.reproduce(lib.find_experiment("table_v"), tmp_path, "data")


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

    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
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
    begun = tmp_path / "other/fourteen_classes/split.json"
    for content in ("{}", '{"split": 5}'):
        begun.write_text(content)
        with pytest.raises(ValueError, match=r"split.json must say .* text or document\. Received"):
            lib.reproduce(experiment, tmp_path / "other", "data", **options)
    begun.unlink()  # as runs of before have it
    with pytest.raises(ValueError, match=r"the split 'text'\. Received: --split document\."):
        lib.reproduce(experiment, tmp_path / "other", "data", split="document", **options)


# ------------------------------------------------------------------------------------------------
# Training, up to the plan


def test_everything_is_handed_to_the_plan(tmp_path, monkeypatch):
    views, seen = views_of(FEW_STUDIES), {}

    def run_plan(plan, views, out, **settings):
        seen.update(plan=plan, out=out, settings=settings)
        for run in plan[:-1]:
            finish(run, views)
        return {plan[-1].folder: "out of memory"}

    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
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
    table, sentence = lib.cost(experiment, begun, study_types=list(FEW_STUDIES), **settings)
    table = table.set_index("stage")
    assert table.done.tolist() == ["1/1", "4/8", "5/9"]
    assert table.loc["mura", ["M images", "hours", "GB"]].tolist() == ["0.0"] * 3
    left = 2 * (2925 + 2006 + 5765 + 3987)  # Table I: elbow, wrist
    assert sentence.startswith("9 runs, 5 of them finished; 8 start from 1 other.")
    assert f"sees {7 * left / 1e6:.2f} to {100 * left / 1e6:.2f} million images" in sentence


def test_prepared_images_are_counted_once_for_each_size(tmp_path, steps):
    views = views_of({"elbow": (40, 40), "wrist": (80, 60)})
    splits = [views.assign(split=name, patient=name + views.patient) for name in SPLITS]
    views = pd.concat(splits, ignore_index=True)
    views["path"] = [f"{row}.png" for row in views.index]
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


def test_the_cost_of_a_data_set_is_its_own(tmp_path, steps, monkeypatch):
    views = views_of({"elbow": (4000, 4000), "wrist": (8000, 4000)}).assign(split="train")
    views = pd.concat([views, views.assign(split="valid")])
    monkeypatch.setattr(lib, "load_views", lambda data, progress: views)
    experiment = lib.find_experiment("table_iv")
    settings = {"max_epochs": 3, "select_on": "holdout", "holdout": 0.25}
    _, sentence = lib.cost(experiment, tmp_path, "data", settings=settings, members=1)
    images = 3 * 0.75 * 3 * 20_000  # epochs, share trained on, direct and whole and type
    assert f"sees {images / 1e6:.2f} to {images / 1e6:.2f} million images" in sentence


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("table_v", {"systems": ["base"]}),
        ("table_v", {"backbones": ["knee_net"]}),
        ("table_v", {"settings": {"image_size": 8}}),
        ("resnet18", {"systems": ["base"]}),
        ("densenet169", {"split_by": "image"}),
        ("fourteen_classes", {"study_types": ["wrist"]}),
    ],
)
def test_options_that_no_data_could_mend(name, options):
    with pytest.raises(ValueError, match=r"Received: |Leave "):
        lib.require_options(lib.find_experiment(name), options)


@pytest.mark.parametrize("name", [*TABLES[1:], *DOCUMENTS])
def test_options_that_depend_on_the_data(name):
    lib.require_options(lib.find_experiment(name), {})
    if name != "fourteen_classes":  # which has one model for all study types
        lib.require_options(lib.find_experiment(name), {"study_types": ["knee"]})


def test_the_cost_of_the_other_split_is_its_own(tmp_path, steps):
    """85 % of MURA's 36,808 training images."""
    experiment = lib.find_experiment("fourteen_classes")
    _, sentence = lib.cost(experiment, tmp_path, systems=["exp_1"], split="document")
    least, most = (0.85 * 36_808 * epochs / 1e6 for epochs in (11, 150))
    assert f"sees {least:.2f} to {most:.2f}" in sentence
