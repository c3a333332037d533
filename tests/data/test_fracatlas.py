import cv2
import numpy as np
import pandas as pd
import pytest
from mura_folders import edit

from mura_tf.data.splits import deal_patients, split_anew
from mura_tf.data.table import SPLITS
from mura_tf.data.views import load_fracatlas, load_views
from mura_tf.terminal import Notice

FLAGS = "image_id,hand,leg,hip,shoulder,mixed,fractured"


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


def test_small_fracatlas(small_fracatlas):
    views = load_fracatlas(small_fracatlas.parent, fractions=(0.5, 0.25, 0.25))
    views = views.sort_values("study")
    assert views["study_type"].tolist() == ["hand", "mixed", "mixed", "shoulder"]
    assert views["patient"].tolist() == ["IMG1", "IMG2", "IMG3", "IMG3"]
    assert views["label"].tolist() == [1, 1, 0, 0]
    assert views["view"].tolist() == ["IMG1.jpg", "IMG2.jpg", "IMG3.jpg", "IMG4.jpg"]


def test_real_fracatlas(fracatlas):
    with pytest.warns(Notice, match=r"contradicting folder \(1\): .*IMG0003298.jpg: label 0"):
        views = load_fracatlas(fracatlas)
    assert len(views) == 3432
    assert views["label"].sum() == 609  # IMG0003298 lies in Fractured/ as the 610th
    counts = views.groupby(["study_type", "label"]).size()
    assert counts.to_dict() == {
        ("hand", 0): 748,
        ("hand", 1): 323,
        ("hip", 0): 144,
        ("hip", 1): 8,
        ("leg", 0): 1611,
        ("leg", 1): 180,
        ("mixed", 0): 245,
        ("mixed", 1): 90,
        ("shoulder", 0): 75,
        ("shoulder", 1): 8,
    }
    assert views["study"].is_unique
    assert views["patient"].nunique() == 3432 - 14  # byte-identical files
    assert not views[["patient", "split"]].drop_duplicates()["patient"].duplicated().any()
    dealt = views.groupby(["study_type", "label"])["split"].value_counts()
    for (study_type, label), n in counts.items():
        for split, fraction in (("train", 0.70), ("valid", 0.15), ("test", 0.15)):
            assert abs(dealt[study_type, label, split] - fraction * n) <= 2


@pytest.mark.filterwarnings("ignore:contradicting folder")
def test_real_fracatlas_split_depends_on_the_seed_only(fracatlas):
    views = load_fracatlas(fracatlas)
    pd.testing.assert_frame_equal(load_views(fracatlas.parent, seed=0), views)
    other = load_fracatlas(fracatlas, seed=1, fractions=(0.5, 0.25, 0.25))
    assert other["split"].value_counts().to_dict() == {"train": 1716, "valid": 858, "test": 858}


@pytest.mark.filterwarnings("ignore:contradicting folder")
def test_real_fracatlas_split_anew_moves_two_images_alone(fracatlas):
    """Its eight fractured hips and eight shoulders are dealt 7, 0, 1."""
    views = load_fracatlas(fracatlas)
    dealt = views.patient.map(deal_patients(views, (0.8, 0.1, 0.1), 0)).map(dict(enumerate(SPLITS)))
    moved = views[split_anew(views, (0.8, 0.1, 0.1)).split != dealt]
    assert sorted(moved.study_type) == ["hip", "shoulder"] and moved.label.all()


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2)])
def test_fracatlas_fractions(tmp_path, fractions):
    with pytest.raises(ValueError, match=r"three positive numbers with sum 1.*Received: \(0.7"):
        load_fracatlas(tmp_path, fractions=fractions)


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


def test_a_csv_that_a_spreadsheet_has_saved(small_fracatlas):
    expected, csv = load_fracatlas(small_fracatlas), small_fracatlas / "dataset.csv"
    csv.write_text(csv.read_text().replace(",", "; "))
    pd.testing.assert_frame_equal(load_fracatlas(small_fracatlas), expected)
    csv.write_bytes(csv.read_bytes().replace(b"\n", b"\r"))
    pd.testing.assert_frame_equal(load_fracatlas(small_fracatlas), expected)


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


def test_two_images_of_one_name_and_two_labels_are_refused(small_fracatlas):
    """Which are one study; the loader says so, as that of every layout."""
    images = small_fracatlas / "images"
    (images / "Non_fractured/IMG1.png").write_bytes(
        (images / "Non_fractured/IMG3.jpg").read_bytes()
    )
    with open(small_fracatlas / "dataset.csv", "a", encoding="utf-8") as file:
        file.write("IMG1.png,1,0,0,0,0,0\n")
    with pytest.raises(ValueError, match="IMG1 of IMG1 has label"):
        load_fracatlas(small_fracatlas)
