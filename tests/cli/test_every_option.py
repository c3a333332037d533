"""Each option of each command arrives at what the command calls, under its own name."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import assert_sentence, call
from typer.main import get_command

from mura_tf.cli import app
from mura_tf.training.recipe import Recipe

COMMANDS = get_command(app).commands
SKIPPING = {"--skip-bad": None, "--max-skipped": 0.1}
RAY = {"--engine": "ray", "--ray-address": "head:6379"}
SETTINGS = {"--weights": "none", "--image-size": 48, "--max-epochs": 3, "--select-on": "holdout"}
SET = {"weights": None, "image_size": 48, "max_epochs": 3, "select_on": "holdout"}


class Reached:
    """Stands for a function: keeps what it is given, and ends the command."""

    def __call__(self, *given, **settings):
        self.given, self.settings = given, settings
        raise RuntimeError("reached")


@pytest.fixture
def reached(monkeypatch):
    """Puts a `Reached` into the place of a function."""

    def place(name):
        monkeypatch.setattr(name, stand_in := Reached())
        return stand_in

    return place


def told(name, arguments, options, elsewhere=()):
    """Calls a command with its options; all that it has must be among them, but those that have
    tests elsewhere."""
    has = {one.opts[0] for one in COMMANDS[name].params if one.opts[0].startswith("--")}
    assert has and has <= options.keys() | {*elsewhere}, "an option has no test"
    words = [word for pair in options.items() for word in pair if word is not None]
    assert_sentence(call(name, *arguments, *words), "reached")


def test_train(reached, monkeypatch, tmp_path):
    monkeypatch.setattr("mura_tf.grid.engines.LocalEngine", lambda jobs: ("local", jobs))
    run_experiment = reached("mura_tf.experiment.run_experiment")
    (tmp_path / "recipe.json").write_text('{"l2": 0.5}')
    options = SETTINGS | SKIPPING | {
        "--scheme": "direct", "--types": "elbow,wrist", "--members": 2, "--repeats": 3,
        "--recipe": tmp_path / "recipe.json", "--backbone": "small_cnn", "--preprocessing": "unit",
        "--augment": "flip,zoom:0.1", "--batch-size": 4, "--learning-rate": 0.01, "--seed": 5,
        "--mixed-precision": None, "--jobs": 2, "--split": "patient:0.2", "--tensorboard": None,
        "--cache-dir": "cache",
    }  # fmt: skip
    told("train", ["data", "out"], options)
    recipe = SET | {
        "backbone": "small_cnn", "l2": 0.5, "preprocessing": "unit", "batch_size": 4, "seed": 5,
        "augment": ("flip", "zoom:0.1"), "learning_rate": 0.01, "mixed_precision": True,
    }  # fmt: skip
    assert run_experiment.given == (Recipe(**recipe), Path("data"), Path("out"))
    assert run_experiment.settings == {
        "scheme": "direct", "study_types": ("elbow", "wrist"), "members": 2, "repeats": 3,
        "split": "patient:0.2", "engine": ("local", 2), "skip_bad": 0.1, "tensorboard": True,
        "cache_dir": Path("cache"),
    }  # fmt: skip


REPRODUCE = SETTINGS | SKIPPING | {
    "--data": "data", "--out": "out", "--cache-dir": "cache", "--backbones": "small_cnn",
    "--systems": "a,b", "--types": "elbow,wrist", "--members": 2, "--repeats": 3,
    "--split": "document", "--split-by": "image", "--recipe": "fracatlas_frozen",
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({"--engine": "local", "--jobs": 2}, ("local", 2)),
        (RAY | {"--cpus-per-run": 2, "--gpus-per-run": 0.2}, ("ray", "head:6379", 2, 0.2)),
    ],
)
def test_reproduce(reached, monkeypatch, tmp_path, options, engine):
    monkeypatch.setattr("mura_tf.grid.engines.LocalEngine", lambda *given: ("local", *given))
    monkeypatch.setattr("mura_tf.grid.engines.RayEngine", lambda *given: ("ray", *given))
    monkeypatch.setattr("mura_tf.papers.reproduce.require_options", lambda *given: None)
    reproduce = reached("mura_tf.papers.reproduce.reproduce")
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"l2": 0.5}')
    options = REPRODUCE | {"--recipe": recipe} | options
    elsewhere = {"--list", "--dry-run", "--report-only"}
    elsewhere |= {*RAY, "--jobs", "--cpus-per-run", "--gpus-per-run"}  # of this machine, or of Ray
    told("reproduce", ["fourteen_classes"], options, elsewhere)
    experiment, out, data = reproduce.given
    assert (experiment.name, out, data) == ("fourteen_classes", Path("out"), Path("data"))
    assert reproduce.settings == {
        "engine": engine, "cache_dir": Path("cache"), "skip_bad": 0.1, "progress": True,
        "study_types": ("elbow", "wrist"), "systems": ("a", "b"), "settings": {"l2": 0.5} | SET,
        "backbones": ("small_cnn",), "members": 2, "repeats": 3, "split": "document",
        "split_by": "image",
    }  # fmt: skip


def test_predict(reached, monkeypatch, bundle):
    monkeypatch.setattr("mura_tf.inference.shards.ray_engine", lambda *given: given)
    read_into = reached("mura_tf.inference.shards.read_into")
    point = next(name for name in bundle.points if name != bundle.point().name)
    options = RAY | {
        "--out": "out", "--type": "wrist", "--each-file": None, "--point": point, "--dicom": None,
        "--cpus-per-shard": 2, "--gpus-per-shard": 0.5,
    }  # fmt: skip
    told("predict", [bundle.path, "a.png", "visit"], options)
    ours, files, out = read_into.given
    assert (ours.path, files, out) == (bundle.path, [Path("a.png"), Path("visit")], Path("out"))
    del read_into.settings["told"]
    assert read_into.settings == {
        "study_type": "wrist", "each_file": True, "point": point, "dicom": True,
        "engine": ("head:6379", 2, 0.5),
    }  # fmt: skip


def test_pack(reached):
    pack = reached("mura_tf.pack")
    options = {"--recogniser": "types", "--name": "Wrist", "--version": "2", "--licence": "Free."}
    told("pack", ["a", "b", "wrist.mura"], options)
    assert pack.given == ([Path("a"), Path("b")], Path("wrist.mura"))
    assert pack.settings == {
        "recogniser": Path("types"), "name": "Wrist", "version": "2", "licence": "Free.",
    }  # fmt: skip


def test_serve(reached, monkeypatch):
    pytest.importorskip("fastapi")
    doors = []
    monkeypatch.setattr("mura_tf.cli.serve._require_free", doors.append)
    create_app = reached("mura_tf.inference.server.create_app")
    told("serve", ["wrist.mura"], {"--port": 8400, "--workers": 3, "--keep": "kept"})
    assert (create_app.given, doors) == ((Path("wrist.mura"),), [8400])
    assert create_app.settings == {"workers": 3, "keep": Path("kept")}


def test_export(reached):
    export_bundle = reached("mura_tf.inference.export.export_bundle")
    told("export", ["wrist.mura"], {"--to": "openvino", "--out": "graphs"})
    assert export_bundle.given == (Path("wrist.mura"), "openvino", Path("graphs"))


def test_evaluate(reached, members):
    report_runs = reached("mura_tf.experiment.report_runs")
    told("evaluate", [members / "member0"], {"--out": "out"})
    assert report_runs.given == ([members / "member0"], Path("out"))


OF_OTHERS = {"--study", "--top", "--of", "--score", "--sanity"}
"""Which exclude each other, or go with one of these."""


@pytest.mark.parametrize("scored", [True, False])
def test_explain(reached, monkeypatch, members, scored):
    opened = {}

    def ensemble(*given, **settings):
        opened.update(settings, given=given)
        return SimpleNamespace(
            name="small_cnn", runs=[1], split="valid", study=None, top=lambda *order: order
        )

    monkeypatch.setattr("mura_tf.explain.ensemble.Ensemble", ensemble)
    write_scores = reached("mura_tf.explain.scores.write_scores")
    explain_studies = reached("mura_tf.reports.study_page.explain_studies")
    options = {
        "--data": "data", "--methods": "grad_cam", "--layer": "last", "--out": "out",
        "--cache-dir": "cache",
    }  # fmt: skip
    options |= {"--score": None, "--sanity": None} if scored else {}
    options |= {} if scored else {"--of": "predicted", "--top": "confident:3"}
    told("explain", [members / "member0"], options, OF_OTHERS)
    assert opened["given"] == ([members / "member0"], Path("data"), Path("cache"))
    assert opened["of"] == ("abnormal" if scored else "predicted")
    if scored:
        assert write_scores.given[1:] == (Path("data"), Path("out"), ("grad_cam",))
        assert write_scores.settings == {"layer": "last", "sanity": True, "progress": True}
    else:
        studies, *places, method = explain_studies.given[1:]
        assert (studies, method) == (("confident", 3), "grad_cam")
        assert places == [Path("data"), Path("out")]
        order = {"layer": "last", "order": "confident", "progress": True}
        assert explain_studies.settings == order


def test_study(reached, monkeypatch, mura):
    studied = {}
    monkeypatch.setattr(
        "mura_tf.data.study.study_data", lambda views, **settings: studied.update(settings) or 7
    )
    write = reached("mura_tf.reports.data_page.write_data_study")
    options = SKIPPING | {
        "--out": "out", "--image-size": 32, "--per-class": "2,3", "--cache-dir": "cache",
    }  # fmt: skip
    told("study", [mura], options)
    assert studied == {
        "image_size": 32, "per_class": [2, 3], "skip_bad": 0.1, "cache_dir": Path("cache"),
        "progress": True,
    }  # fmt: skip
    assert write.given == (7, Path("out"))


def test_prepare(reached, monkeypatch, mura):
    prepared = []

    def prepare_readable(*given, **settings):
        prepared.append((given[1:], settings))
        return [], [], None

    monkeypatch.setattr("mura_tf.data.cache.prepare_readable", prepare_readable)
    compact_cache = reached("mura_tf.data.cache.compact_cache")
    options = SKIPPING | {
        "--image-size": 48, "--resize": "area", "--compact": None, "--cache-dir": "cache",
    }  # fmt: skip
    told("prepare", [mura], options)
    settings = {"resize": "area", "skip_bad": 0.1, "progress": True}
    assert prepared == [((48, Path("cache")), settings)]
    assert compact_cache.given == (48, Path("cache"))
    assert compact_cache.settings == {"resize": "area"}


def test_synthesize(reached):
    write = reached("mura_tf.write_synthetic_mura")
    told("synthesize", ["out"], {"--studies-per-type": 9, "--seed": 4})
    assert write.given == (Path("out"), 9, 4)


def test_every_command_is_here_or_has_no_options_of_that_kind():
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(COMMANDS) - here == {"demo", "check"}
