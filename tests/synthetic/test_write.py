"""A MURA-shaped data set as it is written: its files, shares, lesions, and what fails."""

import hashlib

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from mura_tf.data.radiograph import read_radiograph, resize_with_pad
from mura_tf.data.views import load_mura
from mura_tf.synthetic import write
from mura_tf.synthetic.anatomy import ANATOMIES
from mura_tf.synthetic.film import draw_view
from mura_tf.synthetic.write import write_synthetic_mura

KEY = ["split", "study_type", "patient", "study", "view"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_synthetic_mura(tmp_path_factory.mktemp("synthetic"), studies_per_type=8, seed=0)


@pytest.fixture(scope="module")
def views(folder):
    """The views table, with `shown`: whether the view shows a lesion."""
    views = load_mura(folder)
    lesions = pd.read_csv(folder / "lesions.csv")[KEY].drop_duplicates()
    merged = views.merge(lesions, on=KEY, how="left", indicator="shown", validate="1:1")
    return merged.assign(shown=merged["shown"] == "both")


@pytest.fixture(scope="module")
def thumbnails(views):
    """float (n_views, 32, 32) in [0, 1]."""
    return np.stack([resize_with_pad(read_radiograph(path), 32) for path in views["path"]]) / 255


def read_lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("split", ["train", "valid"])
def test_csv_files_list_exactly_the_tree(folder, split):
    root = folder.parent
    images = [path.relative_to(root).as_posix() for path in root.glob(f"*/{split}/*/*/*/*")]
    assert sorted(read_lines(folder / f"{split}_image_paths.csv")) == sorted(images)
    studies = [path.relative_to(root).as_posix() for path in root.glob(f"*/{split}/*/*/*")]
    expected = [f"{study}/,{int(study.endswith('positive'))}" for study in studies]
    assert sorted(read_lines(folder / f"{split}_labeled_studies.csv")) == sorted(expected)


def test_every_study_type_has_its_studies_and_both_labels(views):
    studies = views.drop_duplicates(KEY[:4])
    assert studies.groupby("study_type").size().to_dict() == dict.fromkeys(ANATOMIES, 8)
    assert (studies.groupby(["study_type", "split"])["label"].nunique() == 2).all()
    assert views.groupby(KEY[:4]).size().between(1, 4).all()


def test_patients_stay_in_one_split_and_recur_across_study_types(views):
    assert views.drop_duplicates(["patient", "split"])["patient"].is_unique
    assert not views.drop_duplicates(["patient", "study_type"])["patient"].is_unique
    assert (views["study"] == "study2").any()


@pytest.mark.parametrize("studies_per_type", [8, 9, 13, 60])
def test_shares_of_splits_and_labels(studies_per_type):
    studies = pd.DataFrame(write._plan(studies_per_type, seed=3))
    of_type = studies.groupby("study_type")
    valid = of_type["split"].apply(lambda split: (split == "valid").mean())
    assert valid.between(0.2, 0.35).all()
    assert of_type["label"].mean().between(0.35, 0.55).all()
    assert (studies.groupby(["study_type", "split"])["label"].nunique() == 2).all()
    assert not studies.duplicated(["study_type", "patient", "number"]).any()


def test_images_are_grey_and_sized_as_muras(views):
    images = [cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in views["path"]]
    assert all(image.ndim == 2 and image.dtype == np.uint8 for image in images)
    shapes = np.array([image.shape for image in images])
    assert shapes.max() == 512
    assert (shapes.max(axis=1) == 512).mean() > 0.5
    assert len(np.unique(shapes, axis=0)) > len(shapes) / 2
    assert (shapes[:, 0] > shapes[:, 1]).any() and (shapes[:, 0] < shapes[:, 1]).any()
    assert all(image.std() > 15 for image in images)


def test_same_seed_same_bytes_whatever_the_threads(folder, tmp_path, monkeypatch):
    np.random.seed(1)  # noqa: NPY002
    monkeypatch.setattr(write, "usable_cores", lambda: 1)
    assert hashes(write_synthetic_mura(tmp_path, studies_per_type=8, seed=0)) == hashes(folder)


def test_another_seed_plans_other_studies():
    assert write._plan(8, seed=0) != write._plan(8, seed=1)


def test_lesions_are_boxed_inside_abnormal_images(folder, views):
    lesions = pd.read_csv(folder / "lesions.csv")
    assert tuple(lesions.columns) == write.LESION_COLUMNS
    assert set(lesions["kind"]) == {"fracture", "hardware", "lytic"}
    rows = lesions.merge(views, on=KEY, how="left", validate="m:1")
    assert (rows["label"] == 1).all()
    for row in rows.itertuples():
        height, width = read_radiograph(row.path).shape
        assert row.x >= 0 and row.y >= 0 and row.width > 0 and row.height > 0
        assert row.x + row.width <= width and row.y + row.height <= height


def test_lesions_show_in_some_views_and_hide_in_others(views):
    abnormal = views[views["label"] == 1]
    assert 0.55 < abnormal["shown"].mean() < 0.85
    assert abnormal.groupby(KEY[:4])["shown"].any().mean() > 0.8


def test_a_classifier_tells_the_study_types_apart(views, thumbnails):
    train = views["split"].eq("train").to_numpy()
    pixels = thumbnails.reshape(len(views), -1)
    model = LogisticRegression(C=0.01, max_iter=300).fit(pixels[train], views["study_type"][train])
    found = model.predict(pixels[~train])
    assert accuracy_score(views["study_type"][~train], found) > 0.45  # chance: 0.14


def test_brightness_does_not_give_the_label_away(views, thumbnails):
    compared = (views["shown"] | (views["label"] == 0)).to_numpy()
    brightness = thumbnails.mean(axis=(1, 2))
    assert 0.35 < roc_auc_score(views["shown"][compared], brightness[compared]) < 0.65


def test_nothing_is_overwritten(tmp_path):
    target = tmp_path / "MURA-v1.1"
    target.mkdir()
    (target / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"must be missing or an empty folder.*Remove it"):
        write_synthetic_mura(tmp_path, studies_per_type=8)
    assert [path.name for path in tmp_path.rglob("*")] == ["MURA-v1.1", "mine.txt"]


def test_an_empty_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "draw_view", lambda *_: (np.zeros((4, 4), np.uint8), []))
    (tmp_path / "MURA-v1.1").mkdir()
    target = write_synthetic_mura(tmp_path, studies_per_type=8)
    assert target == tmp_path / "MURA-v1.1" and len(list(target.iterdir())) == 7


def test_a_link_to_an_empty_folder_is_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "draw_view", lambda *_: (np.zeros((4, 4), np.uint8), []))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "MURA-v1.1").symlink_to(tmp_path / "scratch")
    target = write_synthetic_mura(tmp_path, studies_per_type=8)
    assert target.is_symlink() and len(list((tmp_path / "scratch").iterdir())) == 7


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, error):
    draw, left = draw_view, iter(range(6))

    def fail_late(*arguments):
        if next(left, None) is None:
            raise error("the disk is full")
        return draw(*arguments)

    monkeypatch.setattr(write, "draw_view", fail_late)
    with pytest.raises(error, match="the disk is full"):
        write_synthetic_mura(tmp_path, studies_per_type=8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"studies_per_type": 7}, r"studies_per_type must be at least 8.*Received: 7"),
        ({"seed": -1}, r"seed must be at least 0\. Received: -1"),
    ],
)
def test_bad_arguments(tmp_path, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_synthetic_mura(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []
