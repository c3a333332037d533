import re
import shutil

import numpy as np
import pandas as pd
import pytest
from mura_folders import edit, prepend, remove_csvs

from mura_tf.data.mura import scan_mura
from mura_tf.data.views import load_mura

STUDY = "MURA-v1.1/train/XR_ELBOW/patient00001/study1_positive/"
IMAGE = f"{STUDY}image1.png"


def test_mura_as_shipped(mura):
    views = load_mura(mura)
    assert list(views) == ["split", "study_type", "patient", "study", "view", "label", "path"]
    assert views.index.equals(pd.RangeIndex(11))
    assert views.drop(columns="path").to_numpy().tolist() == [
        ["train", "elbow", "patient00001", "study1", "image1.png", 1],
        ["train", "elbow", "patient00001", "study1", "image2.png", 1],
        ["train", "elbow", "patient00001", "study1", "image10.png", 1],
        ["train", "elbow", "patient00002", "study1", "image1.png", 0],
        ["train", "elbow", "patient00002", "study2", "image1.png", 1],
        ["train", "wrist", "patient00001", "study1", "image1.png", 0],
        ["train", "wrist", "patient00003", "study1", "image1.png", 1],
        ["valid", "elbow", "patient00004", "study1", "image1.png", 1],
        ["valid", "elbow", "patient00005", "study1", "image1.png", 0],
        ["valid", "wrist", "patient00005", "study1", "image1.png", 0],
        ["valid", "wrist", "patient00006", "study1", "image1.png", 1],
    ]
    expected = mura / "train/XR_ELBOW/patient00001/study1_positive/image10.png"
    assert views["path"][2] == str(expected)
    assert views["label"].dtype == np.int64


def test_bare_tree_equals_csvs(mura):
    from_csvs = load_mura(mura)
    remove_csvs(mura)
    pd.testing.assert_frame_equal(load_mura(mura), from_csvs)


def test_csvs_of_one_split_only(mura):
    views = load_mura(mura)
    for csv in mura.glob("train_*.csv"):
        csv.unlink()
    pd.testing.assert_frame_equal(load_mura(mura), views)


@pytest.mark.parametrize("bare", [False, True])
def test_hidden_files_are_no_radiographs(mura, bare):
    hidden = "train/XR_ELBOW/patient00001/study1_positive/._image1.png"
    (mura / hidden).write_bytes(b"Mac OS X")
    with open(mura / "train_image_paths.csv", "a", encoding="utf-8") as csv:
        csv.write(f"MURA-v1.1/{hidden}\n")
    if bare:
        remove_csvs(mura)
    assert len(load_mura(mura)) == 11


def test_own_study_type_and_test_split(mura):
    study = mura / "test/XR_KNEE/patient00007/study1_positive"
    study.mkdir(parents=True)
    shutil.copy(mura / "train/XR_ELBOW/patient00001/study1_positive/image1.png", study)
    last = load_mura(mura).iloc[-1]
    assert (last["split"], last["study_type"], last["label"]) == ("test", "knee", 1)


def test_names_with_commas_in_a_bare_tree(mura):
    remove_csvs(mura)
    study = mura / "train/XR_ELBOW/Doe, John/study 1, left_positive"
    study.mkdir(parents=True)
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image1.png").rename(study / "a,b.png")
    views, findings = scan_mura(mura)
    row = views[views.patient == "Doe, John"].iloc[0]
    assert (row.study, row["view"], row.label, len(views)) == ("study 1, left", "a,b.png", 1, 11)
    assert not findings


def test_byte_order_mark_windows_lines_and_blank_lines(mura):
    views = load_mura(mura)
    csv = mura / "train_image_paths.csv"
    csv.write_bytes(b"\xef\xbb\xbf" + csv.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    pd.testing.assert_frame_equal(load_mura(mura), views)


# ------------------------------------------------------------------------------------------------
# What is wrong with one


def test_empty_tree(tmp_path):
    (tmp_path / "train" / "XR_ELBOW").mkdir(parents=True)
    with pytest.raises(ValueError, match="no radiograph found; expected MURA's layout"):
        load_mura(tmp_path)


@pytest.mark.parametrize("name", ["train_image_paths.csv", "valid_labeled_studies.csv"])
def test_csv_with_a_header(mura, name):
    prepend(mura / name, "path,label")
    with pytest.raises(ValueError, match=rf"{name}: the first line is a header, 'path,label'; exp"):
        load_mura(mura)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("train_image_paths.csv", "train/elbow/image1.png"),
        ("train_image_paths.csv", "MURA-v1.1/valid/XR_ELBOW/patient00009/study1_positive/a.png"),
        ("train_image_paths.csv", f"{IMAGE},1"),
        ("train_labeled_studies.csv", STUDY),
        ("train_labeled_studies.csv", f"{STUDY},2"),
    ],
)
def test_malformed_line(mura, name, line):
    edit(mura / name, "\n", f"\n{line}\n")
    pattern = re.escape(f"{name}: line 2 is '{line}'; expected one such as 'MURA-v1.1/train/XR_")
    with pytest.raises(ValueError, match=pattern):
        load_mura(mura)


def test_many_malformed_lines_are_counted(mura):
    (mura / "train_image_paths.csv").write_text("a/b\n" * 40)
    with pytest.raises(
        ValueError, match=r"malformed line \(40\): .*line 3 is 'a/b'.*; and 37 more"
    ):
        load_mura(mura)


def test_study_without_images(mura):
    with open(mura / "train_labeled_studies.csv", "a", encoding="utf-8") as csv:
        csv.write("MURA-v1.1/train/XR_ELBOW/patient00009/study1_negative/,0\n")
    pattern = r"no images \(1\): .*patient00009/study1_negative is listed here, but no image of it"
    with pytest.raises(ValueError, match=pattern):
        load_mura(mura)


def test_images_without_a_label(mura):
    edit(mura / "train_labeled_studies.csv", f"{STUDY},1\n", "")
    pattern = r"no label \(1\): .*patient00001/study1_positive has images here, but no label in"
    with pytest.raises(ValueError, match=pattern):
        load_mura(mura)


def test_one_csv_of_a_pair(mura):
    (mura / "valid_image_paths.csv").unlink()
    pattern = r"valid_image_paths.csv: there is no such file beside valid_labeled_studies.csv"
    with pytest.raises(FileNotFoundError, match=pattern):
        load_mura(mura)


def test_csv_label_against_the_folder(mura):
    edit(mura / "train_labeled_studies.csv", f"{STUDY},1", f"{STUDY},0")
    pattern = r"two labels \(3\): .*study1_positive/image1.png: label 0 contradicts its folder"
    with pytest.raises(ValueError, match=pattern):
        load_mura(mura)


def test_study_on_two_lines(mura):
    prepend(mura / "train_labeled_studies.csv", f"{STUDY},0")
    with pytest.raises(ValueError, match="study1_positive is listed with label 0 and with label 1"):
        load_mura(mura)


@pytest.mark.parametrize(
    ("name", "line"),
    [("train_labeled_studies.csv", f"{STUDY},1"), ("train_image_paths.csv", IMAGE)],
)
def test_listed_twice(mura, name, line):
    prepend(mura / name, line)
    with pytest.raises(
        ValueError, match=rf"listed twice \(1\): .*{name}: train/XR_ELBOW/.*on more"
    ):
        load_mura(mura)


def test_positive_and_negative_folder(mura):
    remove_csvs(mura)
    study = mura / "train/XR_ELBOW/patient00001/study1_negative"
    study.mkdir()
    (mura / IMAGE.removeprefix("MURA-v1.1/")).rename(study / "image1.png")
    with pytest.raises(ValueError, match="study1 of patient00001 has label 0 here and label 1 in"):
        load_mura(mura)


def test_tree_without_labels_or_images(mura):
    remove_csvs(mura)
    (mura / "train/XR_ELBOW/patient00001/study1_positive").rename(
        mura / "train/XR_ELBOW/patient00001/study1"
    )
    (mura / "train/XR_ELBOW/patient00009/study1_positive").mkdir(parents=True)
    with pytest.raises(ValueError) as raised:
        load_mura(mura)
    assert "2 problems in" in str(raised.value)
    assert "patient00009/study1_positive: the study has no PNG, JPEG or DICOM file" in str(
        raised.value
    )
    assert "expected the end _positive or _negative" in str(raised.value)


def test_a_study_type_may_not_be_called_overall(mura):
    (mura / "train/XR_WRIST").rename(mura / "train/XR_OVERALL")
    remove_csvs(mura)
    with pytest.raises(ValueError, match="'overall', as the row of all types"):
        load_mura(mura)
