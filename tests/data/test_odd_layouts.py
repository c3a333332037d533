"""Data sets as people have them: read where that is safe, otherwise one sentence per cause."""

import os
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from mura_folders import remove_csvs

from mura_tf.data.cache import prepare_readable
from mura_tf.data.check import check_dataset
from mura_tf.data.splits import with_validation
from mura_tf.data.table import VIEW_COLUMNS
from mura_tf.data.views import load_fracatlas, load_mura, load_views, read_views
from mura_tf.terminal import Notice

ELBOW = "train/XR_ELBOW/patient00001/study1_positive/"


def without_paths(views):
    return views.drop(columns="path")


def same(found, expected):
    pd.testing.assert_frame_equal(without_paths(found), without_paths(expected))
    assert all(map(os.path.exists, found.path))


def problems(table):
    return list(zip(table.path, table.problem, strict=True))


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 256, (12, 10), np.uint8))


# MURA's layout


def test_mura_two_folders_down(mura):
    views = load_mura(mura)
    below = mura.parents[1] / "unpacked" / "MURA" / "MURA-v1.1"
    shutil.copytree(mura, below)
    same(load_views(mura.parents[1] / "unpacked"), views)
    shutil.copytree(mura, mura.parents[1] / "unpacked" / "MURA" / "again")
    with pytest.raises(ValueError, match=r"holds 2 data sets: MURA/MURA-v1.1, MURA/again"):
        load_views(mura.parents[1] / "unpacked")


@pytest.mark.parametrize("name", ["val", "validation", "Valid", "VAL"])
@pytest.mark.parametrize("bare", [False, True])
def test_the_validation_split_by_another_name(mura, name, bare):
    views = load_mura(mura)
    (mura / "valid").rename(mura / name)
    for csv in mura.glob("valid_*.csv"):
        text = csv.read_text().replace("/valid/", f"/{name}/")
        csv.unlink()
        (mura / csv.name.replace("valid", name if name.islower() else "valid")).write_text(text)
    if bare:
        remove_csvs(mura)
    same(load_views(mura), views)
    assert check_dataset(mura).empty


def test_two_names_of_one_split(mura):
    remove_csvs(mura)
    views = load_mura(mura)
    shutil.copytree(mura / "valid", mura / "val")
    with pytest.warns(UserWarning, match=r"unlisted \(1\): .*/val: holds study types, so left out"):
        same(load_views(mura), views)


@pytest.mark.parametrize("study_type", ["XR_ELBOW", "ELBOW"])
def test_a_split_by_an_unknown_name_is_said(mura, study_type):
    remove_csvs(mura)
    views = load_mura(mura)
    shutil.copytree(mura / "valid/XR_ELBOW", mura / "holdout" / study_type)
    with pytest.warns(UserWarning, match=r"unlisted \(1\): .*/holdout: holds study types, so left"):
        same(load_views(mura), views)


@pytest.mark.parametrize("bare", [False, True])
def test_study_types_without_xr(mura, bare):
    views = load_mura(mura)
    for split in ("train", "valid"):
        for name in ("ELBOW", "WRIST"):
            (mura / split / f"XR_{name}").rename(mura / split / name)
    for csv in mura.glob("*.csv"):
        csv.write_text(csv.read_text().replace("XR_", ""))
    if bare:
        remove_csvs(mura)
    same(load_views(mura), views)
    assert check_dataset(mura).empty


def test_files_of_other_kinds_beside_images_are_said(mura):
    remove_csvs(mura)
    views = load_mura(mura)
    for name in ("image3.dcm", "image4.tif", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (mura / ELBOW / name).write_bytes(b"x")
    (mura / "train/Thumbs.db").write_bytes(b"x")
    with pytest.warns(
        UserWarning, match=r"unlisted \(2\): .*image3.dcm: DICOM beside PNG or JPEG, so"
    ):
        same(load_views(mura), views)
    assert problems(check_dataset(mura)) == [
        (str(mura / ELBOW / "image3.dcm"), "unlisted"),
        (str(mura / ELBOW / "image4.tif"), "unlisted"),
    ]


def test_two_spellings_of_a_study_type(mura):
    remove_csvs(mura)
    study = mura / "train/XR_Elbow/patient00009/study1_positive"
    study.mkdir(parents=True)
    shutil.copy(mura / ELBOW / "image1.png", study)
    with pytest.raises(ValueError, match=r"is spelled 'ELBOW' and 'Elbow'; expected one spelling"):
        load_mura(mura)
    assert (str(mura / "train"), "two spellings") in problems(check_dataset(mura))


def test_backslashes_are_read(mura):
    views = load_mura(mura)
    for csv in mura.glob("*.csv"):
        csv.write_text(csv.read_text().replace("/", "\\"))
    same(load_mura(mura), views)
    assert check_dataset(mura).empty


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_powershells_utf_16_is_read(mura, encoding):
    views = load_mura(mura)
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    for csv in mura.glob("*.csv"):
        csv.write_bytes((mark + csv.read_text()).encode(encoding))
    same(load_mura(mura), views)


def test_another_encoding_is_one_sentence(mura):
    csv = mura / "train_image_paths.csv"
    csv.write_bytes(csv.read_bytes().replace(b"patient00003", b"M\xfcller"))
    with pytest.raises(
        ValueError, match=r"encoding \(1\): .*line 7 is not UTF-8. Save the file as"
    ):
        load_mura(mura)
    assert (str(csv), "encoding") in problems(check_dataset(mura))


def test_many_malformed_lines_are_one_row(mura):
    csv = mura / "train_image_paths.csv"
    csv.write_text(csv.read_text() + "a/b\n" * 200)
    table = check_dataset(mura)
    assert problems(table) == [(str(csv), "malformed line")]
    assert table.reason[0].startswith("200 of the kind, the first: line 8 is 'a/b'; expected one")


@pytest.mark.parametrize("suffix", [".PNG", ".jpg"])
def test_images_under_another_suffix_are_one_row(mura, suffix):
    images = sorted(mura.rglob("*.png"))
    for image in images:
        image.rename(image.with_suffix(suffix))
    table = check_dataset(mura)
    assert problems(table) == [(str(mura), "another name")]
    assert table.reason[0].startswith(
        f"11 files are listed as .png and lie there as {suffix}, the first "
    )


def test_a_missing_folder_is_one_row(mura):
    shutil.rmtree(mura / "train/XR_ELBOW")
    table = check_dataset(mura)
    assert problems(table) == [(str(mura / "train/XR_ELBOW"), "missing")]
    assert table.reason[0].startswith("there is no such folder, and 5 files are to be in it; exp")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_an_unreadable_patient_is_a_row_and_the_rest_is_checked(mura):
    remove_csvs(mura)
    patient = mura / "train/XR_ELBOW/patient00002"
    patient.chmod(0)
    try:
        assert problems(check_dataset(mura)) == [(str(patient), "unreadable")]
    finally:
        patient.chmod(0o700)


def test_an_unreadable_patient_as_the_system_reports_it(mura, monkeypatch):
    """The test above, for where tests run as root."""
    remove_csvs(mura)
    patient, scandir = str(mura / "train/XR_ELBOW/patient00002"), os.scandir

    def refuse(folder):
        if str(folder) == patient:
            raise PermissionError(13, "Permission denied", patient)
        return scandir(folder)

    monkeypatch.setattr("mura_tf.data.findings.os.scandir", refuse)
    table = check_dataset(mura)
    assert (patient, "unreadable") in problems(table)
    assert table.reason[0].startswith("not readable (permission denied); expected a folder")


def test_links_in_a_loop(mura):
    remove_csvs(mura)
    views = load_mura(mura)
    loops = [mura / "train/XR_ELBOW/loop", mura / "train/XR_ELBOW/patient00001/above"]
    loops[0].symlink_to("loop")
    loops[1].symlink_to("..")
    with pytest.warns(
        UserWarning, match=r"unlisted \(2\): .*loop: a link to itself, or to a folder"
    ):
        same(load_mura(mura), views)
    assert problems(check_dataset(mura)) == [(str(loop), "unlisted") for loop in loops]


def test_linked_folders_are_read(mura, tmp_path):
    remove_csvs(mura)
    views = load_mura(mura)
    (mura / "train/XR_ELBOW").rename(tmp_path / "elsewhere")
    (mura / "train/XR_ELBOW").symlink_to(tmp_path / "elsewhere")
    same(load_mura(mura), views)
    assert check_dataset(mura).empty
    (tmp_path / "elsewhere/notes.png").touch()
    (tmp_path / "elsewhere/above").symlink_to(tmp_path / "elsewhere")
    for one, other in ("ab", "ba"):  # which lead into each other
        (tmp_path / "elsewhere" / one).mkdir()
        (tmp_path / "elsewhere" / one / "link").symlink_to(tmp_path / "elsewhere" / other)
    found = check_dataset(mura)
    assert str(mura / "train/XR_ELBOW/notes.png") in set(found[found.problem == "unlisted"].path)


def test_names_that_are_not_utf_8(mura):
    remove_csvs(mura)
    study = os.fsencode(mura / ELBOW)
    for name in (b"image\xe9.png", b"image\xff.png"):
        shutil.copy(mura / ELBOW / "image1.png", os.path.join(study, name))
    with pytest.raises(ValueError, match=r"name \(2\): .*image\\xe9.png: its name is not UTF-8"):
        load_mura(mura)
    table = check_dataset(mura)
    assert set(table.problem) == {"name"} and len(table) == 2
    table.to_csv(mura / "problems.txt")  # so it can be written


# A folder per class


@pytest.fixture
def classes(tmp_path):
    """train, val and test with a folder per class, 3, 2 and 1 images in each."""
    folder = tmp_path / "fractures"
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for name in ("fractured", "not fractured"):
            for number in range(count):
                seed = 100 * count + 10 * len(name) + number
                picture(folder / split / name / f"{number}.png", seed)
    return folder


def test_a_folder_per_class(classes):
    views = load_views(classes.parent)
    assert views.columns.tolist() == VIEW_COLUMNS
    counts = views.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("train", 0): 3,
        ("train", 1): 3,
        ("valid", 0): 2,
        ("valid", 1): 2,
        ("test", 0): 1,
        ("test", 1): 1,
    }
    assert (views.study_type == "bone").all()
    assert views.study.is_unique and views.patient.is_unique
    assert views.label.tolist() == [int("/fractured/" in path) for path in views.path]
    assert check_dataset(classes).empty


@pytest.mark.parametrize(
    "names",
    [("Normal", "Abnormal"), ("negative", "positive"), ("Non_fractured", "Fractured")],
)
def test_two_classes_without_a_split_are_training_views(tmp_path, names):
    for name in names:
        for number in range(6):
            picture(tmp_path / name / f"{number}.jpg", number + 10 * names.index(name))
    views = load_views(tmp_path)
    assert set(views.split) == {"train"}
    assert views.groupby("label").size().to_dict() == {0: 6, 1: 6}
    held = load_views(tmp_path, split="patient:0.34")
    assert held.groupby(["split", "label"]).size().to_dict() == {
        ("train", 0): 4,
        ("train", 1): 4,
        ("valid", 0): 2,
        ("valid", 1): 2,
    }


def test_equal_files_in_a_folder_per_class_are_one_patient(classes):
    shutil.copy(classes / "train/fractured/0.png", classes / "train/fractured/copy.png")
    views = load_views(classes)
    assert len(views) == 13 and views.patient.nunique() == 12 and views.study.is_unique


def test_patients_in_two_splits_are_told_when_they_are_loaded(classes):
    shutil.copy(classes / "train/fractured/0.png", classes / "val/fractured/copy.png")
    with pytest.warns(Notice, match="patient in two splits .* 1 in train and 1 in valid"):
        load_views(classes)


def test_what_is_left_out_beside_classes_and_splits_is_told(classes):
    picture(classes / "train" / "loose.png", 99)
    picture(classes / "holdout" / "normal" / "0.png", 98)
    picture(classes / "fractured" / "0.png", 97)
    (classes / "notes").mkdir()
    with pytest.warns(Notice, match=r"unlisted \(3\)"):
        load_views(classes)
    assert set(problems(check_dataset(classes))) == {
        (str(classes / name), "unlisted") for name in ("train/loose.png", "holdout", "fractured")
    }


def test_what_is_no_class_is_named(classes):
    (classes / "train" / "unclear").mkdir()
    picture(classes / "train" / "unclear" / "0.png", 99)
    with pytest.raises(ValueError, match=r"train/unclear: the folder's name gives no label; exp"):
        load_views(classes)
    assert problems(check_dataset(classes)) == [(str(classes / "train/unclear"), "no label")]


def test_classes_of_other_names_are_listed_in_the_refusal(tmp_path):
    for split in ("train", "val"):
        for name in ("cats", "dogs"):
            picture(tmp_path / split / name / "0.png", 0)
    with pytest.raises(
        FileNotFoundError, match=r"Received a folder with: train \(cats, dogs\), val \(cats, dogs\)"
    ):
        load_views(tmp_path)


# FracAtlas' layout


def test_fracatlas_without_its_csv(tmp_path):
    folder = tmp_path / "FracAtlas"
    for name in ("Fractured", "Non_fractured"):
        picture(folder / "images" / name / "IMG1.jpg", len(name))
    for load in (load_views, load_fracatlas):
        for root in (folder, tmp_path):
            with pytest.raises(
                FileNotFoundError, match=r"there is no .*FracAtlas/dataset.csv, which"
            ):
                load(root)
    assert load_views(folder / "images").label.tolist() == [1, 0]


def test_mura_beside_fracatlas_without_its_csv(mura, tmp_path):
    for name in ("Fractured", "Non_fractured"):
        picture(tmp_path / "all/FracAtlas/images" / name / "IMG1.jpg", len(name))
    (tmp_path / "all/x").mkdir()
    shutil.move(mura, tmp_path / "all/x/MURA-v1.1")
    assert len(load_mura(tmp_path / "all")) == 11


# Train alone


def test_a_part_of_train_becomes_valid(mura):
    shutil.rmtree(mura / "valid")
    remove_csvs(mura)
    for patient in range(10, 30):
        for name in ("ELBOW", "WRIST"):
            study = f"study1_{('negative', 'positive')[patient % 2]}"
            picture(mura / f"train/XR_{name}/patient000{patient}/{study}/image1.png", patient)
    views = load_views(mura, split="patient:0.25")
    assert set(views.split) == {"train", "valid"}
    assert views.groupby("patient").split.nunique().max() == 1
    assert 0.15 < (views.split == "valid").mean() < 0.35
    assert (
        without_paths(views)
        .drop(columns="split")
        .equals(without_paths(load_views(mura)).drop(columns="split"))
    )


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ("patient", r"share above 0 and below 1, such as patient:0.15. Received: 'patient'"),
        ("patient:1.5", "Received: 'patient:1.5'"),
        ("study:0.1", "must be one of patient, image, a colon"),
        ("patient:0.1", "Received a data set with the splits train, valid. Leave it out"),
    ],
)
def test_a_split_that_cannot_be_made(mura, split, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_validation(load_mura(mura), split)


# Views CSVs


def written(views, path, change=lambda text: text, **options):
    path.write_text(change(views.to_csv(index=False, **options)))
    return path


def test_paths_of_a_views_csv_are_relative_to_its_folder(mura, tmp_path, monkeypatch):
    views = load_mura(mura)
    relative = views.assign(path=[os.path.relpath(path, mura) for path in views.path])
    csv = written(relative, mura / "views.csv")
    same(load_views(csv), views)
    assert check_dataset(csv).empty
    monkeypatch.chdir(mura)  # or, as before, to where one is
    (tmp_path / "elsewhere").mkdir()
    same(load_views(written(relative, tmp_path / "elsewhere" / "views.csv")), views)


@pytest.mark.parametrize(
    "change",
    [
        str,
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(text.splitlines()[0], text.splitlines()[0].upper()),
        lambda text: text.replace(text.splitlines()[0], text.splitlines()[0].replace(",", " , ")),
        lambda text: text.replace("valid,", "val,"),
        lambda text: "\ufeff" + text,
    ],
    ids=["plain", "semicolons", "tabs", "upper case", "spaces", "val", "mark"],
)
def test_views_csvs_of_other_programs(mura, change):
    views = load_mura(mura)
    same(load_views(written(views, mura / "VIEWS.CSV", change)), views)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda views: views[:0], "Received: a header and no row"),
        (lambda views: views.assign(patient=""), "Received: no patient on line 2"),
        (
            lambda views: pd.concat(
                [views[:2], views[:1].map(lambda _: None), views[2:3].assign(patient="")]
            ),
            "Received: no patient on line 5",
        ),
        (lambda views: views.rename(columns={"label": "class"}), "Received: no column label in"),
        (lambda views: views.assign(Patient="p"), "Received: the column patient twice"),
        (
            lambda views: pd.concat([views, views[["patient"]]], axis=1),
            "Received: the column patient twice",
        ),
        (lambda views: views.assign(path="a\0.png"), "Received: a path that is no text on line 2"),
        (lambda views: views.assign(study_type="overall"), "study type is named 'overall'"),
        (lambda views: views.assign(study_type="Overall"), "study type is named 'Overall'"),
        (lambda views: pd.concat([views, views[:1]]), "more than one row; expected one row per"),
        (lambda views: views.assign(view="image1.png"), "patient00001/study1/image1.png"),
        (lambda views: views.assign(label=[0, *views.label[1:]]), "study1 of patient00001 has lab"),
        (
            lambda views: views.assign(study_type=["Elbow", *views.study_type[1:]]),
            "spelled 'Elbow' and 'elbow'; expected one spelling",
        ),
    ],
    ids=[
        "header",
        "empty",
        "below an empty line",
        "column",
        "Again",
        "again",
        "NUL",
        "overall",
        "Overall",
        "twice",
        "one name",
        "labels",
        "Elbow",
    ],
)
def test_a_views_csv_that_could_not_be_scored_is_refused_and_listed(mura, change, sentence):
    csv = written(change(load_mura(mura)), mura / "views.csv")
    with pytest.raises(ValueError, match=sentence):
        load_views(csv)
    assert check_dataset(csv).reason.str.contains(sentence).any()


def test_empty_lines_above_the_header(mura):
    views = load_mura(mura)
    csv = written(views, mura / "views.csv", lambda text: "\n\n" + text)
    same(load_views(csv), views)
    written(views.assign(patient=""), csv, lambda text: "\r\n\r\n" + text)
    with pytest.raises(ValueError, match="Received: no patient on line 4"):
        load_views(csv)


def test_rows_of_more_cells_than_the_header_are_refused(mura):
    """pandas takes their first cells for names, and each column for the one before."""
    csv = written(load_mura(mura), mura / "views.csv", lambda text: text.replace("\nt", "\nx,t"))
    with pytest.raises(ValueError, match="Received: its rows have more cells than its header"):
        load_views(csv)


def test_a_study_type_that_one_side_lacks_is_listed(mura):
    views = load_mura(mura)
    for split, lacking in (("train", "train"), ("valid", "valid or test")):
        some = views[(views.split != split) | (views.study_type != "wrist")]
        table = check_dataset(written(some, mura / "views.csv"))
        found = table[table.problem == "type in one split"]
        assert found.reason.str.contains(
            rf"^wrist has views in .* expected some in {lacking}"
        ).all()
        assert len(found) == 1


def test_a_views_csv_in_utf_16(mura):
    views = load_mura(mura)
    csv = mura / "views.csv"
    csv.write_bytes(views.to_csv(index=False).encode("utf-16"))
    same(read_views(csv), views)
    csv.write_bytes(b"split,\xff\n")
    with pytest.raises(ValueError, match="Received: line 1 is not UTF-8"):
        read_views(csv)


# What is left out is said


def test_what_skip_bad_leaves_out_is_said_and_bounded(mura):
    views = load_mura(mura)
    os.truncate(views.path[0], 20)
    with pytest.warns(
        UserWarning, match=r"^1 of 11 views are left out: 1 x truncated or corrupt P"
    ):
        assert len(prepare_readable(views, 32, skip_bad=True)[0]) == 10
    for path in views.path[1:4]:
        os.truncate(path, 0)
    sentence = (
        r"^4 of 11 views are left out: 3 x the file is empty \(.*\); 1 x truncated or corrupt PNG "
        r"\(.*\). --skip-bad leaves out 20% at most. Mend them, or allow more with --max-skipped"
    )
    with pytest.raises(ValueError, match=sentence):
        prepare_readable(views, 32, skip_bad=True)
    with pytest.warns(UserWarning, match=r"^4 of 11 views are left out: 3 x the file is empty"):
        readable, left_out, _ = prepare_readable(views, 32, skip_bad=0.5)
    assert (len(readable), len(left_out)) == (7, 4)
    with pytest.raises(ValueError, match=r"skip_bad must be True, False or a share in \[0, 1\]"):
        prepare_readable(views, 32, skip_bad=2)
