"""The order in which a plan's runs are begun, tried again, skipped and given up."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mura_tf.data.cache import BadViewsError
from mura_tf.data.views import load_mura, read_views
from mura_tf.files import write_json
from mura_tf.grid import plan as plan_module
from mura_tf.grid.engines import LocalEngine
from mura_tf.grid.plan import PlannedRun, _failure, plan_runs, run_plan
from mura_tf.grid.worker import RunError
from mura_tf.models.build import build_model
from mura_tf.training.failures import shortage
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run
from mura_tf.training.selection import selected_views, usable_views

RECIPE = Recipe(backbone="small_cnn", weights=None, image_size=32, max_epochs=1)
FILES = {"recipe.json", "run.json", "history.csv", "best.keras", "predictions.csv", ".lock"}


# ------------------------------------------------------------------------------------------------
# The order of the runs


class FakeEngine:
    """Finishes runs without training, four at a time.

    Attributes:
        fails: folder -> how many times a run fails before it succeeds.
        lost: folders in which nothing is found afterwards.
        final: whether another try is of no use.
        begun: folders, one per submitted order.
    """

    def __init__(self, fails=None, lost=(), final=False):
        self.fails, self.lost, self.begun, self.closed = dict(fails or {}), lost, [], False
        self._final = final
        self._pool = ThreadPoolExecutor(4)

    def submit(self, order):
        folder = Path(order["folder"])
        if order["recipe"]["initial"]:
            assert Run((folder / order["recipe"]["initial"]).resolve().parent).finished
        self.begun.append(folder)
        return self._pool.submit(self._train, folder)

    def close(self):
        self.closed = True
        self._pool.shutdown()

    def _train(self, folder):
        time.sleep(0.05)
        if self.fails.get(folder):
            self.fails[folder] -= 1
            raise RunError(f"no luck with {folder.parent.name}", self._final)
        if folder not in self.lost:
            finish(folder)


def finish(folder, **info):
    write_json(folder / "run.json", {"finished": True} | info)
    for name in ("best.keras", "predictions.csv"):
        (folder / name).touch()


@pytest.fixture
def views(mura):
    return load_mura(mura)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def plan(out):
    """The whole-data run, and those of two types that start from it."""
    return plan_runs(RECIPE, out, ["elbow", "wrist"], members=2)


@pytest.mark.parametrize("spelled", ["out", "a/../out", "./out"])
def test_a_run_waits_for_the_one_it_starts_from(views, tmp_path, monkeypatch, spelled):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    plan = plan_runs(RECIPE, spelled, ["elbow", "wrist"], members=2)
    engine = FakeEngine()
    assert run_plan(plan[::-1], views, spelled, engine=engine) == {}  # in whatever order
    assert engine.begun[0] == Path("out/small_cnn/mura/all/repeat0-member0")
    assert len(engine.begun) == len(set(engine.begun)) == 5
    assert engine.closed


def test_runs_that_wait_for_none_are_begun_together(views, out):
    class Engine(FakeEngine):
        def _train(self, folder):
            all_four.wait(10)
            super()._train(folder)

    all_four = threading.Barrier(4)
    plan = plan_runs(RECIPE, out, ["elbow", "wrist"], scheme="direct", members=2)
    assert run_plan(plan, views, out, engine=Engine()) == {}


def test_what_is_finished_is_left_alone(views, out, plan, capsys):
    for run in plan[:3]:
        finish(run.folder)
    engine = FakeEngine()
    assert run_plan(plan, views, out, engine=engine) == {}
    assert engine.begun == [run.folder for run in plan[3:]]
    printed = capsys.readouterr().out
    assert "3 of 5 runs were finished before." in printed
    assert f"5 of 5 done: {out}" in printed

    engine = FakeEngine()
    assert run_plan(plan, views, out, engine=engine, verbose=False) == {}
    assert engine.begun == []
    assert capsys.readouterr().out == ""


def test_what_a_kill_has_left_in_a_finished_run_is_removed(views, out, plan):
    run_plan(plan, views, out, engine=FakeEngine(), verbose=False)
    before = {path.name for path in plan[0].folder.iterdir()}
    for name in ("log.txt", "started.json", "resume.npz", ".part-1.csv"):
        (plan[0].folder / name).touch()
    engine = FakeEngine()
    assert run_plan(plan, views, out, engine=engine, verbose=False) == {}
    assert engine.begun == []
    assert {path.name for path in plan[0].folder.iterdir()} == before


def test_a_folder_that_two_plans_share_is_trained_once(views, out, plan):
    engine = FakeEngine()
    more = plan_runs(RECIPE, out, ["elbow", "wrist"], members=3)
    assert run_plan(plan + more, views, out, engine=engine) == {}
    assert len(engine.begun) == len(set(engine.begun)) == 7


def test_a_run_that_fails_is_tried_once_more(views, out, plan, capsys):
    (_, whole), (_, elbow), *_ = plan
    engine = FakeEngine(fails={whole: 1, elbow: 1})
    assert run_plan(plan, views, out, engine=engine) == {}
    assert Counter(engine.begun) == {run.folder: 1 for run in plan} | {whole: 2, elbow: 2}
    printed = capsys.readouterr().out
    assert f"failed and is tried again: {elbow}: no luck with elbow\n" in printed
    assert "failed: " not in printed


def test_what_cannot_mend_itself_is_not_tried_again(views, out, plan, capsys):
    elbow = plan[1].folder
    engine = FakeEngine(fails={elbow: 1}, final=True)
    assert run_plan(plan, views, out, engine=engine) == {elbow: "no luck with elbow"}
    assert Counter(engine.begun) == {run.folder: 1 for run in plan}
    assert capsys.readouterr().out.count("no luck") == 1


def test_a_run_that_fails_twice_is_reported_and_the_rest_goes_on(views, out, plan, capsys):
    elbow = plan[1].folder
    engine = FakeEngine(fails={elbow: 99})
    assert run_plan(plan, views, out, engine=engine) == {elbow: "no luck with elbow"}
    assert Counter(engine.begun) == {run.folder: 1 for run in plan} | {elbow: 2}
    assert all(Run(run.folder).finished for run in plan if run.folder != elbow)
    printed = capsys.readouterr().out
    assert printed.count("no luck") == 1
    assert f"failed again: {elbow}\n" in printed


def test_what_needs_a_failed_run_is_not_begun(views, out, plan):
    whole = plan[0].folder
    third = plan[1]._replace(folder=out / "small_cnn/type/elbow/third")
    third = third._replace(recipe=dataclasses.replace(RECIPE, initial="../repeat0-member0/b.keras"))
    direct = plan_runs(RECIPE, out, ["wrist"], scheme="direct", members=1)
    engine = FakeEngine(fails={whole: 99})
    failed = run_plan([third, *plan, *direct], views, out, engine=engine)
    assert engine.begun.count(whole) == 2
    assert set(engine.begun) == {whole, direct[0].folder}
    assert failed.pop(whole) == "no luck with all"
    assert failed.pop(third.folder) == f"not begun, because {plan[1].folder} failed"
    assert failed == {run.folder: f"not begun, because {whole} failed" for run in plan[1:]}


def test_a_run_that_leaves_nothing_has_failed(views, out, plan):
    """As one on a node that does not share the folder."""
    lost = [run.folder for run in plan[1:]]
    failed = run_plan(plan, views, out, engine=FakeEngine(lost=lost))
    assert set(failed) == set(lost)
    assert failed[lost[0]].startswith(f"the process ended well, but {lost[0]} holds no finished ")


def test_the_engine_is_closed_when_the_plan_is_stopped(views, out, plan, monkeypatch):
    def submit(order):
        raise KeyboardInterrupt

    engine = FakeEngine()
    monkeypatch.setattr(engine, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, views, out, engine=engine)
    assert engine.closed


class WrappedError(Exception):
    """As Ray wraps what a task raises."""

    def __init__(self, cause):
        super().__init__("ray::train_in_process() (pid=1)\nTraceback")
        self.cause = cause


@pytest.mark.parametrize(
    ("error", "reason", "final"),
    [
        (RunError("2 files:\n  a.png\n  b.png"), "2 files:\n  a.png\n  b.png", False),
        (WrappedError(RunError("it is full.")), "it is full.", False),
        (WrappedError(RunError("no network.", final=True)), "no network.", True),
        (WrappedError(ImportError("no mura_tf\nTraceback")), "no mura_tf", False),
        (OSError("the node is dead\n[state-dump]"), "the node is dead", False),
        (TimeoutError(), "TimeoutError", False),
        (type("OutOfMemoryError", (Exception,), {})("a node's\n..."), shortage(RECIPE), True),
    ],
)
def test_a_reason_is_the_runs_own_sentence_or_a_line(error, reason, final):
    failure = _failure(error, RECIPE)
    assert (str(failure), failure.final) == (reason, final)


# ------------------------------------------------------------------------------------------------
# What is wrong before anything is begun


def _another_recipe(plan, views):
    dataclasses.replace(plan[1].recipe, batch_size=3).save(plan[1].folder / "recipe.json")


def _other_data(plan, views):
    finish(plan[2].folder, data_fingerprint="0123456789abcdef")


def _bad_file(plan, views):
    Path(views.path[0]).write_bytes(b"")


def _no_such_type(plan, views):
    plan += plan_runs(RECIPE, plan[0].folder.parents[3], ["knee"], scheme="direct")


def _no_such_weights(plan, views):
    recipe = dataclasses.replace(RECIPE, backbone="resnet50", weights="none.h5")
    plan += plan_runs(recipe, plan[0].folder.parents[3], ["wrist"])


def _no_imagenet_weights(plan, views):
    recipe = dataclasses.replace(RECIPE, weights="imagenet")
    plan += plan_runs(recipe, plan[0].folder.parents[3] / "imagenet", ["wrist"])


def _one_type_to_tell_apart(plan, views):
    one = dataclasses.replace(RECIPE, study_types=("wrist",))
    apart = dataclasses.replace(one, task="study_type", balance="none", monitor="val_f1")
    out = plan[0].folder.parents[3]
    plan += [PlannedRun(one, out / "one"), PlannedRun(apart, out / "apart")]


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (_one_type_to_tell_apart, ValueError, "needs two study types or more. Rec.*: wrist alone"),
        (_another_recipe, ValueError, "of another recipe: batch_size is 3, asked for 8. Use anoth"),
        (_other_data, ValueError, "the fingerprint 0123456789abcdef. Received one with .*differ"),
        (_bad_file, BadViewsError, "1 files cannot be used.*\n.*image1.png: the file is empty"),
        (_no_such_type, ValueError, "study_types must be .*elbow, wrist. Received: knee."),
        (_no_such_weights, FileNotFoundError, "There is none at none.h5"),
        (_no_imagenet_weights, ValueError, "small_cnn has no ImageNet weights"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_begun(views, out, plan, spoil, error, sentence):
    out.mkdir()
    (out / "views.csv").write_text("of the runs that are there")
    spoil(plan, views)
    engine = FakeEngine()
    with pytest.raises(error, match=sentence):
        run_plan(plan, views, out, engine=engine)
    assert engine.begun == []
    assert engine.closed
    assert (out / "views.csv").read_text() == "of the runs that are there"


def test_another_data_set_is_refused_before_anything_is_begun(views, out, plan):
    assert run_plan(plan, views, out, engine=FakeEngine(), verbose=False) == {}
    kept = (out / "views.csv").read_bytes()
    for other, counts in (
        (views[:-1], "1 of the 11 views .* and 0 of 10 are new"),
        (views.assign(label=1 - views.label), "11 of the 11 views .* and 11 of 11 are new"),
        (views.assign(split="train"), "4 of the 11 views .* and 4 of 11 are new"),
        (views.assign(patient="p" + views.patient), "11 of the 11 views .* and 11 of 11 are new"),
    ):
        engine = FakeEngine()
        sentence = f"{out} holds runs on other views: {counts}.*another folder"
        with pytest.raises(ValueError, match=sentence):
            run_plan(plan, other, out, engine=engine)
        assert engine.begun == [] and engine.closed
        assert (out / "views.csv").read_bytes() == kept


def test_numbers_for_patients_and_missing_labels_are_read_back(views, out, plan):
    """By the processes of the runs, and by the next call."""
    numbers = views.assign(patient=range(len(views)), label=views.label.astype(float))
    numbers.loc[numbers.index[-1], ["split", "label"]] = "test", np.nan
    for engine in (FakeEngine(), FakeEngine()):
        assert run_plan(plan, numbers, out, engine=engine, verbose=False) == {}
    written = read_views(out / "views.csv")
    assert written.patient.tolist() == numbers.patient.astype(str).tolist()
    assert written.label.isna().sum() == 1


def test_the_same_views_elsewhere_and_in_another_order_go_on(views, mura, out, plan):
    assert run_plan(plan[:1], views, out, engine=FakeEngine(), verbose=False) == {}
    moved = load_mura(mura.rename(mura.with_name("elsewhere")))
    assert not set(moved.path) & set(views.path)
    assert run_plan(plan, moved[::-1], out, engine=FakeEngine(), verbose=False) == {}
    assert "elsewhere" in (out / "views.csv").read_text()


def test_views_of_which_nothing_was_trained_are_replaced(views, out, plan):
    """`views.csv` of a stopped check, and a document's runs with a `views.csv` of their own."""
    out.mkdir()
    views[:-1].to_csv(out / "views.csv", index=False)
    finish(out / "densenet169/base/wrist/member0")
    views[:-2].to_csv(out / "densenet169/views.csv", index=False)
    assert run_plan(plan, views, out, engine=FakeEngine(), verbose=False) == {}


def test_an_out_that_cannot_be_written_to_is_named_first(views, tmp_path, plan, monkeypatch):
    monkeypatch.setattr("mura_tf.grid.plan.usable_views", None)  # which may take an hour
    (tmp_path / "file").write_text("no folder")
    engine = FakeEngine()
    with pytest.raises(OSError, match="file/out"):
        run_plan(plan, views, tmp_path / "file/out", engine=engine)
    assert engine.begun == []


def test_the_data_are_known_again_by_what_a_views_table_has(views, out):
    """A worker reads the views back from `views.csv`, without what else the table had."""
    plan = plan_runs(RECIPE, out, ["elbow"], scheme="direct", members=1)
    recipe = plan[0].recipe
    *_, fingerprint = usable_views(selected_views(views, recipe), recipe)
    finish(plan[0].folder, data_fingerprint=fingerprint)
    assert run_plan(plan, views.assign(note="ours"), out, engine=FakeEngine()) == {}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("select_on", "holdout"),
        ("holdout", 0.4),
        ("holdout_by", "image"),
        ("image_size", 40),
        ("first_sizes", ("40:1",)),
    ],
)
def test_runs_that_select_other_views_are_checked_apart(views, out, setting, value, monkeypatch):
    def spy(views, recipe, *args, **settings):
        checked.append(getattr(recipe, setting))
        return views, views[:0], None, "a fingerprint"

    checked = []
    monkeypatch.setattr("mura_tf.grid.plan.selected_views", lambda views, recipe: views)
    monkeypatch.setattr("mura_tf.grid.plan.usable_views", spy)
    one = dataclasses.replace(RECIPE, image_size=48)
    other = dataclasses.replace(one, max_epochs=2, **{setting: value})
    plan = [
        *plan_runs(one, out, [], scheme="whole", members=3),
        *plan_runs(other, out / "other", [], scheme="whole", members=3),
    ]
    assert run_plan(plan, views, out, engine=FakeEngine()) == {}
    assert checked == [getattr(one, setting), value]


# ------------------------------------------------------------------------------------------------
# With real processes

PROGRAM = """
import json, signal, sys
from mura_tf.data.views import load_mura
from mura_tf.grid.plan import plan_runs, run_plan
from mura_tf.training.recipe import Recipe

signal.signal(signal.SIGINT, signal.default_int_handler)
recipe, data, out = Recipe.from_dict(json.loads(sys.argv[1])), *sys.argv[2:]
run_plan(plan_runs(recipe, out, [], scheme="whole", members=1), load_mura(data), out)
"""


@pytest.mark.parametrize("how", ["ctrl-c", pytest.param("killed", marks=pytest.mark.slow)])
def test_a_stopped_plan_leaves_no_process_and_goes_on_exactly(views, mura, tmp_path, how):
    recipe = dataclasses.replace(RECIPE, max_epochs=40, patience=40)
    (undisturbed,) = plan_runs(recipe, tmp_path / "a", [], scheme="whole", members=1)
    assert run_plan([undisturbed], views, tmp_path / "a", verbose=False) == {}

    plan = plan_runs(recipe, tmp_path / "b", [], scheme="whole", members=1)
    folder = plan[0].folder
    arguments = json.dumps(recipe.to_dict()), mura, tmp_path / "b"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], start_new_session=True, stderr=subprocess.PIPE
    )
    wait_for(lambda: (folder / "history.csv").exists())
    worker = json.loads((folder / "started.json").read_text())["process"]
    os.killpg(program.pid, signal.SIGINT if how == "ctrl-c" else signal.SIGKILL)
    _, printed = program.communicate(timeout=60)
    assert how == "killed" or b"KeyboardInterrupt" in printed
    wait_for(lambda: has_ended(worker))
    assert not Run(folder).finished

    assert run_plan(plan, views, tmp_path / "b", verbose=False) == {}
    for name in ("recipe.json", "history.csv", "predictions.csv"):
        assert (folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()
    for one in (folder, undisturbed.folder):
        assert {path.name for path in one.iterdir()} == FILES


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_ended(process):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True).stdout
    return not state or state.startswith(b"Z")


@pytest.mark.slow
def test_two_jobs_and_a_run_that_cannot_be_trained(views, tmp_path, out, capsys):
    (tmp_path / "bad.h5").write_text("once upon a time")
    bad = dataclasses.replace(RECIPE, weights=str(tmp_path / "bad.h5"))
    plan = plan_runs(bad, out / "bad", ["elbow"], members=1)
    plan += plan_runs(RECIPE, out / "good", ["elbow", "wrist"], members=1)
    failed = run_plan(plan, views, out, engine=LocalEngine(2))
    assert list(failed) == [run.folder for run in plan[:2]]
    assert "bad.h5" in failed[plan[0].folder]
    assert failed[plan[1].folder] == f"not begun, because {plan[0].folder} failed"
    assert all(Run(run.folder).finished for run in plan[2:])
    assert set(Run(plan[4].folder).predictions.study_type) == {"wrist"}
    printed = capsys.readouterr().out
    assert "is tried again" not in printed
    assert "Traceback" not in printed
    assert "Traceback" in (plan[0].folder / "log.txt").read_text()


def test_runs_that_wait_for_each_other_are_told(lesions, tmp_path):
    recipe = dataclasses.replace(RECIPE, initial="best.keras", stage="type")
    plan = [PlannedRun(recipe, tmp_path / "run")]
    with pytest.raises(ValueError, match="which wait for each other"):
        run_plan(plan, load_mura(lesions), tmp_path, verbose=False)


def test_a_start_that_is_gone_is_told_before_anything_is_trained(views, out, plan):
    run_plan(plan, views, out, engine=FakeEngine(), verbose=False)
    start = plan[0].folder / "best.keras"
    start.unlink()
    assert run_plan(plan, views, out, engine=FakeEngine(), verbose=False) == {}  # all is finished
    (plan[1].folder / "predictions.csv").unlink()
    engine = FakeEngine()
    with pytest.raises(FileNotFoundError, match=f"there is no {start}. Restore it, or delete"):
        run_plan(plan, views, out, engine=engine, verbose=False)
    assert not engine.begun


def test_weights_that_nothing_needs_any_more_may_be_gone(views, out, tmp_path):
    weights = tmp_path / "net.weights.h5"
    build_model("small_cnn", None, image_size=32).save_weights(weights)
    recipe = dataclasses.replace(RECIPE, weights=str(weights))
    plan = plan_runs(recipe, out, ["elbow"], members=1)
    run_plan(plan, views, out, engine=FakeEngine(), verbose=False)
    weights.unlink()
    more = plan_runs(recipe, out, ["elbow", "wrist"], members=1)
    assert run_plan(more, views, out, engine=FakeEngine(), verbose=False) == {}


def test_the_runs_read_the_pictures_that_the_plan_has_seen(mura, tmp_path, monkeypatch):
    """Also where `out` holds others under the same names."""
    monkeypatch.chdir(mura.parent)
    views = load_mura(mura.name)
    assert not os.path.isabs(views.path[0])
    out = tmp_path / "out"
    other = out / views.path[0]
    other.parent.mkdir(parents=True)
    other.write_bytes(Path(views.path[1]).read_bytes())
    plan = plan_runs(RECIPE, out, ["elbow"], scheme="direct", members=1)
    run_plan(plan, views, out, engine=FakeEngine(), verbose=False)
    seen = read_views(out / "views.csv").path
    assert all(map(os.path.samefile, seen, views.path))


def test_two_commands_cannot_begin_one_folder_with_two_splits(views, out, plan, monkeypatch):
    """The second begins while the first looks at its files."""
    other = views.assign(split=views.split.map({"train": "valid", "valid": "train"}))
    check = plan_module._check

    def checked(*settings):
        if not (out / "views.csv").exists():
            monkeypatch.setattr(plan_module, "_check", check)
            run_plan(plan, other, out, engine=FakeEngine(), verbose=False)
        return check(*settings)

    monkeypatch.setattr(plan_module, "_check", checked)
    with pytest.raises(ValueError, match="holds runs on other views"):
        run_plan(plan, views, out, engine=FakeEngine(), verbose=False)
