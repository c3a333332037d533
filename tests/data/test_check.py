import os
import shutil

import cv2
import pandas as pd
import pytest
from mura_folders import remove_csvs
from png_files import png_of_size

from mura_tf.data.check import check_dataset, check_views
from mura_tf.data.views import load_fracatlas, load_mura, load_views

ELBOW = "train/XR_ELBOW/patient00001/study1_positive/"
OTHER_ELBOW = "train/XR_ELBOW/patient00002/"
TRUNCATED = {
    f"IMG000{number}.jpg" for number in (4036, 4123, 4134, 4148, 4149, 4189, 4258, 4285, 4304)
}


def problems(table):
    """{(path, problem)} of a table whose reasons are all sentences with an expectation."""
    assert table.columns.to_list() == ["path", "problem", "reason"]
    assert table["reason"].str.contains("expected").all()
    return set(zip(table["path"], table["problem"], strict=True))


@pytest.mark.parametrize("bare", [False, True])
def test_nothing_wrong(mura, bare):
    if bare:
        remove_csvs(mura)
    table = check_dataset(mura.parent, progress=True)
    assert table.empty
    assert table.columns.to_list() == ["path", "problem", "reason"]


def test_the_folder_one_is_in_is_checked_as_any_other(mura, monkeypatch):
    remove_csvs(mura)
    monkeypatch.chdir(mura)
    assert check_dataset(".").empty


def test_a_file_on_two_rows_is_told_and_not_trained_on(mura, tmp_path):
    views = load_mura(mura)
    again = (
        views[views.split == "train"]
        .iloc[[0]]
        .assign(split="valid", patient="another", label=1 - views.label[0])
    )
    pd.concat([views, again]).to_csv(tmp_path / "views.csv", index=False)
    assert (views.path[0], "listed twice") in problems(check_dataset(tmp_path / "views.csv"))
    with pytest.raises(ValueError, match="these files are on more than one row"):
        load_views(tmp_path / "views.csv")


def test_a_name_with_a_space_is_another_spelling(mura, tmp_path):
    views, table = load_mura(mura), tmp_path / "views.csv"
    first = views.patient[0]
    views.loc[views.index[-1], "patient"] = f"{first} "
    views.to_csv(table, index=False)
    assert "two spellings" in {problem for _, problem in problems(check_dataset(table))}
    with pytest.raises(ValueError, match=f"spelled '{first}' and '{first} '"):
        load_views(table)


def test_a_studys_name_is_its_patients(mura, tmp_path):
    views, table = load_mura(mura), tmp_path / "views.csv"
    own = views[views.patient == views.patient[0]].index
    assert len(own) > 1 and len(set(views.study)) < views.patient.nunique()
    views.loc[own, "study"] = "study1 "  # all of one patient: no study is parted
    views.to_csv(table, index=False)
    assert load_views(table).study.tolist() == views.study.tolist()
    views.loc[own[0], "study"] = "study1"
    views.to_csv(table, index=False)
    with pytest.raises(ValueError, match="a study is spelled 'study1' and 'study1 '"):
        load_views(table)


@pytest.mark.parametrize("bare", [False, True])
def test_images_that_would_be_left_out(mura, bare):
    if bare:
        remove_csvs(mura)
    image = (mura / ELBOW / "image1.png").read_bytes()
    places = [
        "train/HAND/patient00001/study1_positive/image1.png",
        "train/XR_ELBOW/patient00009/image1.png",
        ELBOW + "image3.tif",
        ELBOW + "deeper/image4.png",
        "val/XR_ELBOW/patient00008/study1_positive/image1.png",
    ]
    for number, place in enumerate(places):
        (mura / place).parent.mkdir(parents=True, exist_ok=True)
        (mura / place).write_bytes(image + bytes(number))
    (mura / ELBOW / "._image1.png").write_bytes(b"")
    left_out = ["train/HAND", *places[1:3], ELBOW + "deeper"] if bare else places[:-1]
    expected = {(str(mura / place), "unlisted") for place in [*left_out, "val"]}
    assert problems(check_dataset(mura)) == expected


def test_a_views_csv_is_checked_as_a_table(mura, tmp_path):
    views = load_mura(mura)
    (mura / ELBOW / "image1.png").write_bytes(b"")
    views.to_csv(tmp_path / "views.csv", index=False)
    assert problems(check_dataset(tmp_path / "views.csv")) == {
        (str(mura / ELBOW / "image1.png"), "unreadable")
    }


def test_bad_files(mura):
    image = mura / ELBOW / "image1.png"
    jpeg = cv2.imencode(".jpg", cv2.imread(str(image)))[1].tobytes()
    contents = {
        ELBOW + "image1.png": (image.read_bytes()[:60], "truncated or corrupt PNG"),
        ELBOW + "image2.png": (b"", "the file is empty"),
        ELBOW + "image10.png": (b"once upon a time", "not a PNG, JPEG or DICOM image"),
        OTHER_ELBOW + "study1_negative/image1.png": (jpeg[:-9], "truncated JPEG"),
        OTHER_ELBOW + "study2_positive/image1.png": (png_of_size(0, 5), "PNG"),
    }
    for file, (content, _) in contents.items():
        (mura / file).write_bytes(content)
    folder = mura / "train/XR_WRIST/patient00001/study1_negative/image1.png"
    folder.unlink()
    folder.mkdir()
    gone = mura / "valid/XR_WRIST/patient00006/study1_positive/image1.png"
    gone.unlink()

    table = check_dataset(mura)
    expected = {(str(mura / file), "unreadable") for file in contents}
    expected |= {(str(folder), "unreadable"), (str(gone), "missing")}
    assert problems(table) == expected
    reasons = dict(zip(table["path"], table["reason"], strict=True))
    for file, (_, reason) in contents.items():
        assert reason in reasons[str(mura / file)]
    assert "a directory, not an image file" in reasons[str(folder)]
    assert "there is no such file" in reasons[str(gone)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_file_without_permission(mura):
    (mura / ELBOW / "image1.png").chmod(0)
    assert problems(check_dataset(mura)) == {(str(mura / ELBOW / "image1.png"), "unreadable")}


@pytest.mark.parametrize(
    ("copy", "problem", "reason"),
    [
        (ELBOW + "image2.png", "duplicate", "expected each image once"),
        (OTHER_ELBOW + "study2_positive/image1.png", "duplicate", "expected each image once"),
        (OTHER_ELBOW + "study1_negative/image1.png", "contradiction", "expected one label"),
        ("valid/XR_ELBOW/patient00004/study1_positive/image1.png", "leak", "expected one split"),
    ],
)
def test_identical_files(mura, copy, problem, reason):
    shutil.copy(mura / ELBOW / "image1.png", mura / copy)
    table = check_dataset(mura)
    assert problems(table) == {(str(mura / copy), problem)}
    assert f"byte-identical to {mura / ELBOW / 'image1.png'} (train, label 1)" in table["reason"][0]
    assert reason in table["reason"][0]


def test_one_class_and_no_validation_split(mura):
    remove_csvs(mura)
    shutil.rmtree(mura / "valid")
    shutil.rmtree(mura / "train/XR_WRIST/patient00003")
    table = check_dataset(mura)
    wrist = str(mura / "train/XR_WRIST/patient00001/study1_negative")
    assert problems(table) == {(str(mura / "train"), "no validation split"), (wrist, "one class")}
    assert "the only splits are: train; expected valid as well" in table["reason"][0]
    assert "all 1 views of wrist in train have label 0; expected both" in table["reason"][1]


def test_patient_in_two_splits(mura):
    remove_csvs(mura)
    (mura / "valid/XR_ELBOW/patient00004").rename(mura / "valid/XR_ELBOW/patient00001")
    table = check_dataset(mura)
    path = mura / "valid/XR_ELBOW/patient00001/study1_positive/image1.png"
    assert problems(table) == {(str(path), "patient in two splits")}
    assert (
        "patient00001 has views in several splits, 4 in train and 1 in valid" in table["reason"][0]
    )


def test_study_in_two_labels(mura):
    remove_csvs(mura)
    study = mura / "train/XR_ELBOW/patient00001/study1_negative"
    study.mkdir()
    (mura / ELBOW / "image1.png").rename(study / "image1.png")
    table = check_dataset(mura)
    assert problems(table) == {(str(study), "two labels")}
    assert f"label 1 in {mura / ELBOW}".rstrip("/") in table["reason"][0]


def test_what_the_loader_would_raise_is_listed_beside_the_rest(mura):
    csv = mura / "train_image_paths.csv"
    csv.write_text("path\n" + csv.read_text().replace("image10.png", "image10.png/", 1))
    with open(mura / "valid_labeled_studies.csv", "a", encoding="utf-8") as labels:
        labels.write("MURA-v1.1/valid/XR_ELBOW/patient00009/study1_negative/,0\n")
    (mura / ELBOW / "image1.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 problems in"):
        load_mura(mura)
    assert problems(check_dataset(mura)) == {
        (str(csv), "header"),
        (str(csv), "malformed line"),
        (str(mura / "valid_labeled_studies.csv"), "no images"),
        (str(mura / ELBOW / "image10.png"), "unlisted"),
        (str(mura / ELBOW / "image1.png"), "unreadable"),
    }


def test_no_data_set(tmp_path):
    table = check_dataset(tmp_path)
    assert table["problem"].tolist() == ["no data set"]
    assert "Expected MURA's layout" in table["reason"][0]


def test_check_views_sees_the_same_files(mura):
    (mura / ELBOW / "image2.png").write_bytes(b"")
    assert problems(check_views(load_mura(mura))) == {
        (str(mura / ELBOW / "image2.png"), "unreadable")
    }


def test_real_fracatlas(fracatlas):
    table = check_dataset(fracatlas.parent)
    counts = table["problem"].value_counts().to_dict()
    assert counts == {"duplicate": 14, "unreadable": 9, "contradicting folder": 1}
    names = table["path"].map(os.path.basename)
    assert names[table["problem"] == "contradicting folder"].tolist() == ["IMG0003298.jpg"]
    assert set(names[table["problem"] == "unreadable"]) == TRUNCATED
    assert table.loc[table["problem"] == "unreadable", "reason"].str.startswith("truncated").all()


@pytest.mark.filterwarnings("ignore:contradicting folder")
def test_real_fracatlas_as_views(fracatlas):
    views = load_fracatlas(fracatlas, seed=5)
    few = views[views["view"].isin([*TRUNCATED, "IMG0003298.jpg", "IMG0000019.jpg"])]
    found = check_views(few)["problem"].value_counts()
    assert found["unreadable"] == 9
    assert "contradicting folder" not in found  # which the layout says, and not the table


@pytest.mark.parametrize("kind", [int, object])
def test_patients_that_are_numbers(mura, kind):
    views = load_mura(mura)
    numbers = views.patient.str.removeprefix("patient").astype(int).astype(kind)
    assert check_views(views.assign(patient=numbers)).empty


def test_what_is_no_views_table(mura, tmp_path):
    views = load_mura(mura)
    with pytest.raises(ValueError, match=r"must be a views table.* without view\."):
        check_views(views.drop(columns="view"))
    views.loc[0, "patient"] = None
    with pytest.raises(ValueError, match=r"each view must have .* Received: 1 without patient"):
        check_views(views)
    (tmp_path / "folder.csv").mkdir()
    assert problems(check_dataset(tmp_path / "folder.csv")) == {
        (str(tmp_path / "folder.csv"), "no data set")
    }


def test_a_study_type_that_no_folder_can_have(mura):
    views = load_mura(mura)
    views.loc[views.study_type == "wrist", "study_type"] = "left/wrist"
    found = check_views(views)
    assert found.problem.tolist() == ["reserved name"]
    assert "'left/wrist', as no folder of runs can be" in found.reason[0]
