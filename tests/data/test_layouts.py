import re

import cv2
import numpy as np
import pandas as pd
import pytest

from mura_tf.data.findings import identical_files
from mura_tf.data.mura import scan_mura
from mura_tf.data.views import load_fracatlas, load_mura, load_views
from mura_tf.terminal import Notice

STUDY = "MURA-v1.1/train/XR_ELBOW/patient00001/study1_positive/"
IMAGE = f"{STUDY}image1.png"
FLAGS = "image_id,hand,leg,hip,shoulder,mixed,fractured"


def edit(csv, old, new):
    text = csv.read_text()
    assert old in text
    csv.write_text(text.replace(old, new, 1))


def prepend(csv, line):
    csv.write_text(f"{line}\n{csv.read_text()}")


@pytest.fixture
def small_fracatlas(tmp_path):
    """FracAtlas' layout with four images, of which two are byte-identical."""
    folder = tmp_path / "FracAtlas"
    rng = np.random.default_rng(0)
    content = [rng.integers(0, 256, (12, 10), np.uint8) for _ in range(3)]
    files = ["Fractured/IMG1.jpg", "Fractured/IMG2.jpg"]
    files += ["Non_fractured/IMG3.jpg", "Non_fractured/IMG4.jpg"]
    for file, image in zip(files, [*content, content[2]], strict=True):
        (folder / "images" / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / file), image)
    (folder / "dataset.csv").write_text(
        f"{FLAGS}\nIMG1.jpg,1,0,0,0,0,1\nIMG2.jpg,0,1,0,0,1,1\n"
        "IMG3.jpg,1,1,0,0,0,0\nIMG4.jpg,0,0,0,1,0,0\n"
    )
    return folder


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*gone'. Expected MURA's layout"):
        load_mura(tmp_path / "gone")


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "MURA.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"is a file. Expected a folder with MURA's layout"):
        load_mura(tmp_path / "MURA.zip")


def test_neither_layout(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    pattern = r"no data set in .* MURA's layout .*; or FracAtlas' layout .* with: holiday.jpg"
    with pytest.raises(FileNotFoundError, match=pattern):
        load_views(tmp_path)


def test_several_data_sets(mura):
    (mura.parent / "copy" / "train" / "XR_ELBOW").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds 2 data sets: MURA-v1.1, copy. Expected one"):
        load_mura(mura.parent)


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


def test_byte_order_mark_windows_lines_and_blank_lines(mura):
    views = load_mura(mura)
    csv = mura / "train_image_paths.csv"
    csv.write_bytes(b"\xef\xbb\xbf" + csv.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    pd.testing.assert_frame_equal(load_mura(mura), views)


def test_study_without_images(mura):
    with open(mura / "train_labeled_studies.csv", "a") as csv:
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
    for csv in mura.glob("*.csv"):
        csv.unlink()
    study = mura / "train/XR_ELBOW/patient00001/study1_negative"
    study.mkdir()
    (mura / IMAGE.removeprefix("MURA-v1.1/")).rename(study / "image1.png")
    with pytest.raises(ValueError, match="study1 of patient00001 has label 0 here and label 1 in"):
        load_mura(mura)


def test_tree_without_labels_or_images(mura):
    for csv in mura.glob("*.csv"):
        csv.unlink()
    (mura / "train/XR_ELBOW/patient00001/study1_positive").rename(
        mura / "train/XR_ELBOW/patient00001/study1"
    )
    (mura / "train/XR_ELBOW/patient00009/study1_positive").mkdir(parents=True)
    with pytest.raises(ValueError) as raised:
        load_mura(mura)
    assert "2 problems in" in str(raised.value)
    assert "patient00009/study1_positive: the study has no PNG or JPEG file" in str(raised.value)
    assert "expected the end _positive or _negative" in str(raised.value)


def test_names_with_commas_in_a_bare_tree(mura):
    for csv in mura.glob("*.csv"):
        csv.unlink()
    study = mura / "train/XR_ELBOW/Doe, John/study 1, left_positive"
    study.mkdir(parents=True)
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image1.png").rename(study / "a,b.png")
    views, findings = scan_mura(mura)
    row = views[views.patient == "Doe, John"].iloc[0]
    assert (row.study, row["view"], row.label, len(views)) == ("study 1, left", "a,b.png", 1, 11)
    assert not findings


def test_a_study_type_may_not_be_called_overall(mura):
    (mura / "train/XR_WRIST").rename(mura / "train/XR_OVERALL")
    for csv in mura.glob("*.csv"):
        csv.unlink()
    with pytest.raises(ValueError, match="'overall', as the row of all types"):
        load_mura(mura)


def test_small_fracatlas(small_fracatlas):
    views = load_fracatlas(small_fracatlas.parent, fractions=(0.5, 0.25, 0.25))
    views = views.sort_values("study")
    assert views["study_type"].tolist() == ["hand", "mixed", "mixed", "shoulder"]
    assert views["patient"].tolist() == ["IMG1", "IMG2", "IMG3", "IMG3"]
    assert views["label"].tolist() == [1, 1, 0, 0]
    assert views["view"].tolist() == ["IMG1.jpg", "IMG2.jpg", "IMG3.jpg", "IMG4.jpg"]


def test_fracatlas_rows_without_files(small_fracatlas):
    for image in (small_fracatlas / "images" / "Fractured").iterdir():
        image.unlink()
    pattern = r"missing \(2\): .*IMG1.jpg: listed in dataset.csv but in neither image folder"
    with pytest.raises(FileNotFoundError, match=pattern):
        load_fracatlas(small_fracatlas)


def test_fracatlas_files_without_rows(small_fracatlas):
    edit(small_fracatlas / "dataset.csv", "IMG4.jpg,0,0,0,1,0,0\n", "")
    with pytest.warns(Notice, match=r"unlisted \(1\): .*IMG4.jpg: not listed in dataset.csv"):
        views = load_fracatlas(small_fracatlas)
    assert len(views) == 3


def test_fracatlas_without_rows(small_fracatlas):
    (small_fracatlas / "dataset.csv").write_text(f"{FLAGS}\n")
    with pytest.raises(ValueError, match="no radiograph found; expected FracAtlas' layout"):
        load_fracatlas(small_fracatlas)


def test_fracatlas_image_in_both_folders(small_fracatlas):
    images = small_fracatlas / "images"
    (images / "Non_fractured/IMG1.jpg").write_bytes((images / "Fractured/IMG1.jpg").read_bytes())
    with pytest.raises(ValueError, match=r"Non_fractured/IMG1.jpg: also lies in .*Fractured; exp"):
        load_fracatlas(small_fracatlas)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("fractured", "broken", "dataset.csv: no column fractured; expected image_id, hand"),
        ("IMG1.jpg,1,0,0,0,0,1", "IMG1.jpg,1,0,0,0,0,2", "line 2 has .*fractured=2; expected"),
        ("IMG2.jpg", "IMG1.jpg", "IMG1.jpg is on more than one line; expected one"),
        (FLAGS, FLAGS.split(",")[0] + '\n"', "not readable as CSV"),
    ],
)
def test_bad_fracatlas_csv(small_fracatlas, old, new, match):
    edit(small_fracatlas / "dataset.csv", old, new)
    with pytest.raises(ValueError, match=match):
        load_fracatlas(small_fracatlas)


def test_identical_files(tmp_path):
    content = {"a": b"xy", "b": b"xz", "c": b"xy", "empty1": b"", "empty2": b"", "d": b"xy"}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    names = ["c", "b", "a", "empty1", "empty2", "folder", "gone", "d"]
    paths = [str(tmp_path / name) for name in names]
    assert identical_files(paths) == [[paths[0], paths[2], paths[7]]]
