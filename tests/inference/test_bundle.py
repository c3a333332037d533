"""A bundle reads what its runs were trained for, as they predicted it, and says what it cannot."""

import errno
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from eager import run_eagerly

from mura_tf.data.class_folders import ANY_BONE
from mura_tf.data.radiograph import read_content
from mura_tf.data.views import load_mura
from mura_tf.evaluation.scores import study_probabilities
from mura_tf.explain.ensemble import Ensemble
from mura_tf.inference.bundle import BATCH, Bundle
from mura_tf.inference.findings import FINDING_COLUMNS, VIEW_COLUMNS
from mura_tf.inference.pack import pack
from mura_tf.inference.sources import Study
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import load_predictions
from mura_tf.training.train import train


@pytest.fixture(scope="module")
def study(lesions):
    return min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))


def test_plain_files_get_the_probabilities_of_the_predictions_table(bundle, members, lesions):
    found = bundle.read([lesions / "valid"])
    runs = [path.parent for path in members.glob("*/run.json")]
    expected = study_probabilities(load_predictions(runs))
    assert len(found) == len(expected) == 12
    key = expected.study_type.str.upper().radd("valid/XR_") + "/" + expected.patient
    by_patient = dict(zip(key, expected.probability, strict=True))
    for row in found.itertuples():
        assert row.type_from == "given"
        assert row.probability == pytest.approx(by_patient[row.study.rpartition("/")[0]], abs=1e-5)
    assert list(found) == FINDING_COLUMNS and list(found.attrs["views"]) == VIEW_COLUMNS


def test_a_zip_is_read_as_its_folder(bundle, lesions, tmp_path):
    with zipfile.ZipFile(tmp_path / "visits.zip", "w") as archive:
        for path in sorted((lesions / "valid/XR_WRIST").rglob("*.png")):
            archive.write(path, path.relative_to(lesions))
    found, expected = bundle.read(tmp_path / "visits.zip"), bundle.read(lesions / "valid/XR_WRIST")
    assert found.probability.tolist() == pytest.approx(expected.probability.tolist(), abs=1e-6)
    assert len(found) == 6 and found.probability.notna().all()


def test_a_study_type_may_have_capitals(bundle, monkeypatch):
    monkeypatch.setattr(bundle, "study_types", ("elbow", "Wrist"))
    given = bundle._begun(Study("s", study_type="wrist", type_from="given"), None)
    assert (given.study_type, given.type_from) == ("Wrist", "given")
    assert bundle._begun(Study("s", study_type="knee"), None).study_type == "knee"


def test_where_no_bone_is_known_none_that_is_said_matters(bundle, monkeypatch):
    """A bundle of a folder per class."""
    monkeypatch.setattr(bundle, "study_types", (ANY_BONE,))
    for said in (Study("s", study_type="wrist", type_from="dicom"), Study("s")):
        begun = bundle._begun(said, None)
        assert (begun.study_type, begun.type_from) == (ANY_BONE, "")


def test_findings_of_several_calls_are_put_together(bundle, study):
    first, second = bundle.read(study), bundle.read(study)
    assert pd.concat([first, second]).study.tolist() == [*first.study, *second.study]
    assert len(first.merge(second, on="study")) == 1
    assert len(pd.merge_ordered(first, second, on="study")) == 1
    assert pd.concat([first.probability, second.probability]).notna().all()
    means = first.groupby("study_type").agg({"probability": "mean", "views": "sum"})
    assert means.probability.tolist() == pytest.approx(first.probability.tolist())
    assert len(first[first.views > 0].attrs["views"]) == first.views[0]


def test_a_modern_recipe_is_read_as_it_predicted_and_shows_its_map(lesions, study, tmp_path):
    recipe = Recipe(
        "small_cnn",
        None,
        image_size=32,
        resize="area",
        mirrored=True,
        head=("map:4:0.5", "pool"),
        preprocessing="native",
        max_epochs=1,
        learning_rate=0.01,
    )
    with run_eagerly():
        run = train(recipe, load_mura(lesions), tmp_path / "run", verbose=0)
    bundle = pack([run.path], tmp_path / "modern.mura")
    found = bundle.read([lesions / "valid/XR_WRIST"])
    expected = study_probabilities(run.predictions)
    expected = expected[expected.study_type == "wrist"].set_index("patient").probability
    for row in found.itertuples():
        patient = row.study.split("/")[-2]
        assert row.probability == pytest.approx(expected[patient], abs=1e-5)
    (finding,) = bundle.findings([study])
    ensemble = Ensemble(run.path, lesions)
    views = ensemble.study(f"wrist/{study.parent.name}/study1")
    ours = np.stack([view.heat for view in finding.views])
    assert ours == pytest.approx(ensemble.heatmaps(views, "learned"), abs=1e-3)


def test_run_folders_read_as_their_bundle_does(bundle, members, study):
    from_runs = Bundle(sorted(path.parent for path in members.glob("*/run.json"))).read(study)
    packed = bundle.read(study)
    assert from_runs.probability.tolist() == pytest.approx(packed.probability.tolist(), rel=1e-5)


def test_runs_that_nobody_can_score_make_no_bundle(members, tmp_path):
    folders = shutil.copytree(members, tmp_path / "runs")
    for path in folders.glob("*/predictions.csv"):
        table = pd.read_csv(path, dtype=str)
        table.assign(split="test", label="").to_csv(path, index=False)
    with pytest.raises(ValueError, match="runs that predicted test alone, none of it to score"):
        Bundle(folders)


def test_heatmaps_are_those_of_explain(bundle, members, lesions, study):
    runs = [path.parent for path in members.glob("*/run.json")]
    ensemble = Ensemble(runs, lesions)
    views = ensemble.study(f"wrist/{study.parent.name}/study1")
    (finding,) = bundle.findings([study])
    ours = np.stack([view.heat for view in finding.views])
    assert ours == pytest.approx(ensemble.heatmaps(views), abs=1e-3)


def test_an_unknown_type_is_read_by_the_model_of_all_with_a_warning(bundle, study, tmp_path):
    shutil.copy(next(study.iterdir()), tmp_path / "a.png")
    row = bundle.read(tmp_path / "a.png").iloc[0]
    assert row.study_type == "" and row.decision != "not read"
    assert "unknown study type" in row.warnings


def test_a_type_that_the_bundle_has_not_is_not_read(bundle, study, tmp_path):
    folder = tmp_path / "XR_KNEE/patient1/study1"
    shutil.copytree(study, folder)
    row = bundle.read(folder).iloc[0]
    assert row.decision == "not read" and np.isnan(row.probability)
    assert "said to be knee; the bundle reads elbow, wrist" in row.warnings
    overridden = bundle.read(folder, study_type="wrist").iloc[0]
    assert overridden.decision != "not read" and overridden.type_from == "given"
    with pytest.raises(ValueError, match="one that the bundle reads, elbow, wrist"):
        bundle.read(folder, study_type="knee")


def test_a_file_that_cannot_be_read_is_a_row_and_the_rest_goes_on(bundle, study, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    found = bundle.read([bad, study])
    assert found.decision[0] == "not read" and "bad.png: not a PNG" in found.warnings[0]
    assert found.decision[1] != "not read"
    mixed = tmp_path / "wrist"
    shutil.copytree(study, mixed)
    (mixed / "z.png").write_bytes(b"no image")
    row = bundle.read(mixed).iloc[0]
    assert row.decision != "not read"
    assert f"1 of its {row.views} files cannot be read" in row.warnings


def test_pictures_unlike_the_training_images_are_said_to_be(bundle):
    rng = np.random.default_rng(0)
    pictures = {
        "blank": np.full((60, 50), 90, np.uint8),
        "inverted?": 255 - rng.integers(5, 90, (60, 50), np.uint8),
        "its mean grey level": rng.integers(200, 256, (60, 50), np.uint8),
    }
    pictures["inverted?"][10:-10, 10:-10] = 40
    found = bundle.read(list(pictures.values()), study_type="wrist")
    for warnings, expected in zip(found.warnings, pictures, strict=True):
        assert expected in warnings


def test_coloured_marks_are_warned_of(bundle, tmp_path):
    grey = np.random.default_rng(0).integers(5, 90, (60, 50, 1), np.uint8).repeat(3, axis=2)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    grey[40:44, 4:14] = 0, 0, 255
    cv2.imwrite(str(tmp_path / "marked.png"), grey)
    plain, marked = bundle.read([tmp_path / "grey.png", tmp_path / "marked.png"]).warnings
    assert "marked.png: coloured marks are burnt into the picture, 1.33% of it" in marked
    assert "coloured" not in plain


def test_arrays_must_be_grey(bundle):
    for wrong in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"an array must be a grey image, uint8"):
            bundle.read(wrong)


def test_operating_points_decide(bundle, lesions):
    assert set(bundle.points) == {"paper", "kappa", "doubt"}
    for name, point in bundle.points.items():
        found = bundle.read(lesions / "valid", point=name)
        assert found.decision.tolist() == found.probability.map(point.decide).tolist()
    with pytest.raises(ValueError, match=r"one of paper, kappa, doubt\. Received: 'best'"):
        bundle.read(lesions / "valid", point="best")


def test_reading_an_exported_bundle_needs_neither_keras_nor_tensorflow(bundle, study, tmp_path):
    pytest.importorskip("tf2onnx")
    from mura_tf.inference.export import export_bundle

    path = tmp_path / "exported.mura"
    shutil.copy(bundle.path, path)
    export_bundle(path, "onnx")
    code = (
        "import sys, json, mura_tf as mt\n"
        f"found = mt.Bundle({str(path)!r}).read({str(study)!r})\n"
        "print(found.probability[0], 'keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    probability, *loaded = done.stdout.split()
    assert loaded == ["False", "False"]
    assert float(probability) == pytest.approx(bundle.read(study).probability[0], abs=1e-4)


def test_the_file_is_a_zip_that_any_tool_opens(bundle):
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.testzip() is None
        facts = json.loads(archive.read("bundle.json"))
        card = archive.read("MODEL_CARD.md").decode()
        names = archive.namelist()
    assert {"members/member0.keras", "members/member1.keras", "calibration.svg"} <= set(names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".npy"))]
    assert facts["study_types"] == ["elbow", "wrist"] and "medical device" in facts["notice"]
    for told in ("# lesions, version 1", "few: unreliable", "CC0.", "Not a medical device"):
        assert told in card


@pytest.mark.parametrize("damage", ["no zip", "cut", "no json", "other format", "no member"])
def test_a_damaged_bundle_is_refused(bundle, tmp_path, damage):
    path = tmp_path / "damaged.mura"
    content = bundle.path.read_bytes()
    if damage == "no zip":
        path.write_bytes(b"x" * 100)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        with zipfile.ZipFile(bundle.path) as whole, zipfile.ZipFile(path, "w") as archive:
            for name in whole.namelist():
                entry = whole.read(name)
                if name == "bundle.json":
                    if damage == "no json":
                        entry = b"{"
                    elif damage == "other format":
                        entry = json.dumps(json.loads(entry) | {"format": 99}).encode()
                elif damage == "no member" and name.endswith("1.keras"):
                    continue
                archive.writestr(name, entry)
    with pytest.raises(ValueError, match="must be a bundle"):
        Bundle(path)


def remade(bundle, path, change=None, **entries):
    """The bundle with `change` made to its facts, and these entries as they are given."""
    with zipfile.ZipFile(bundle.path) as whole, zipfile.ZipFile(path, "w") as archive:
        for name in whole.namelist():
            content = entries.get(Path(name).stem, whole.read(name))
            if name == "bundle.json" and change:
                facts = json.loads(content)
                content = json.dumps(change(facts) or facts)
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: [facts], r"of format 1\. Received: one that has"),
        (lambda facts: facts.update(study_types=None), "has no list as study_types"),
        (lambda facts: facts.update(image_size=32.5), "has no whole number as image_size"),
        (lambda facts: facts.pop("operating_points") and None, "lacks operating_points"),
        (lambda facts: facts["calibration"].pop("slope") and None, "lacks slope in calibration"),
        (lambda facts: facts["members"][1].update(file=3), r"has no text as members\[1\].file"),
        (lambda facts: facts.update(inputs=dict.fromkeys(facts["inputs"], np.nan)), "no number as"),
        (
            lambda facts: facts["study_types"].append("hip") or by_type(facts),
            "no member that reads",
        ),
        (lambda facts: facts.update(classes=["normal"]), "has no class abnormal elbow"),
        (lambda facts: facts.update(study_types=[]), "has no study type"),
        (lambda facts: facts.update(operating_points=[]), "has no operating point paper"),
        (lambda facts: facts["operating_points"].append(facts["operating_points"][0]), "or two"),
        (
            lambda facts: facts["operating_points"][-1].update(low=0.7, high=0.2),
            "has an operating point doubt from 0.7 to 0.2",
        ),
        (
            lambda facts: facts["inputs"].update(low=255.0, high=255.0),
            "low is not below their high",
        ),
    ],
)
def test_what_bundle_json_must_say(bundle, tmp_path, change, reason):
    with pytest.raises(ValueError, match=rf"x.mura must be a bundle.*{reason}"):
        Bundle(remade(bundle, tmp_path / "x.mura", change))


def by_type(facts):
    for member in facts["members"]:
        member["study_types"] = ["elbow", "wrist"]


def test_a_member_that_is_none_is_refused(bundle, study, tmp_path):
    damaged = remade(bundle, tmp_path / "x.mura", member1=b"no model")
    with pytest.raises(ValueError, match=r"members/member1.keras in .*x.mura must be a model of"):
        Bundle(damaged).read(study)


def test_a_member_of_other_inputs_is_refused(bundle, study, tmp_path):
    larger = remade(bundle, tmp_path / "x.mura", lambda facts: facts.update(image_size=64))
    with pytest.raises(ValueError, match=r"member0.keras must read squares of 64 pixels .*: 32 pi"):
        Bundle(larger).read(study)


def test_nothing_there_is_a_sentence(bundle, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no bundle .*mura-tf pack"):
        Bundle(tmp_path / "none.mura")
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        bundle.read(tmp_path / "nowhere")


def test_a_single_view_where_training_had_more(bundle, study, tmp_path):
    facts = dict(bundle.facts)
    image = cv2.imread(str(next(study.iterdir())), cv2.IMREAD_GRAYSCALE)
    bundle.facts = facts | {"views_per_study": {"wrist": 3.0}}
    try:
        row = bundle.read(image, study_type="wrist").iloc[0]
    finally:
        bundle.facts = facts
    assert "a single view; the studies of wrist it was tried on had 3" in row.warnings


def test_views_are_decoded_batch_by_batch(bundle, lesions, tmp_path, monkeypatch):
    decoded = []

    def read(path, original=read_content):
        decoded.append(path)
        return original(path)

    monkeypatch.setattr("mura_tf.inference.bundle.read_content", read)
    for copy in range(8):
        shutil.copytree(lesions / "valid", tmp_path / str(copy))
    files = sorted(tmp_path.rglob("*.png"))
    next(iter(bundle.findings(files)))
    assert len(decoded) == BATCH < len(files)


def test_a_full_disk_is_no_damaged_member(bundle, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mura_tf.inference.archive._opened", full)
    with pytest.raises(OSError, match="No space left"):
        Bundle(bundle.path).open()


def test_a_member_that_says_no_number_decides_nothing(bundle, lesions, monkeypatch):
    """One view of a study is told; the others are read."""
    expected = bundle.read(lesions / "valid/XR_WRIST")
    whole = Bundle.members_for

    class Broken:
        def __init__(self, member, column):
            self.member, self.column = member, column

        def read(self, squares):
            said = self.member.read(squares)
            weights = np.ones(len(squares), np.float32)
            {"outputs": said.outputs[:, 0], "weights": weights}[self.column][0] = np.nan
            return said._replace(weights=weights)

    for column in ("outputs", "weights"):
        monkeypatch.setattr(
            Bundle,
            "members_for",
            lambda self, name, column=column: [Broken(one, column) for one in whole(self, name)],
        )
        found = bundle.read(lesions / "valid/XR_WRIST")
        told = found.attrs["views"].warnings.str.contains("the model says nothing of it")
        assert told.tolist() == [True] + [False] * (len(told) - 1)
        assert "image1.png: the model says nothing of it" in found.warnings[0]
        assert found.probability[1:].tolist() == pytest.approx(expected.probability[1:].tolist())
        alone = bundle.read(next((lesions / "valid/XR_WRIST").rglob("*.png")), study_type="wrist")
        assert alone.decision[0] == "not read" and np.isnan(alone.probability[0])


def test_of_an_unknown_study_type_all_abnormal_classes_are_shown(lesions, tmp_path):
    views = load_mura(lesions)
    recipe = Recipe(
        "small_cnn",
        None,
        image_size=32,
        task="type_and_abnormality",
        monitor="val_f1",
        balance="none",
        max_epochs=1,
    )
    with run_eagerly():
        run = train(recipe, views, tmp_path / "run", verbose=0)
    bundle = Bundle(run.path)
    path = shutil.copy(views[views.split == "valid"].path.iloc[0], tmp_path)
    (finding,) = bundle.findings([path])
    (known,) = bundle.findings([path], study_type="wrist")
    assert not finding.study_type and finding.decision != "not read"
    assert finding.probability == pytest.approx(known.probability, abs=1e-6)
    assert finding.views[0].heat.shape == known.views[0].heat.shape == (32, 32)
