"""Small radiographs on disk -> the data study, against NumPy and scikit-learn."""

import os

import numpy as np
import pandas as pd
import pytest
from mixtures import CLASSES, SIDE, TRAINING, rows_of, written_views
from sklearn.decomposition import IncrementalPCA
from sklearn.preprocessing import StandardScaler

from mura_tf.data import study as data_study
from mura_tf.data.cache import BadViewsError
from mura_tf.data.radiograph import read_radiograph
from mura_tf.data.study import IPCA_NAME, PCA_NAME, study_data
from mura_tf.data.views import load_mura


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return written_views(tmp_path_factory.mktemp("radiographs") / "images")


@pytest.fixture(scope="module")
def study(views):
    return study_data(views, image_size=SIDE, per_class=(6, 20))


# ------------------------------------------------------------------------------------------------
# Classes and grey levels


def test_every_view_is_counted(study, views):
    assert list(study.counts.index) == CLASSES and list(study.counts) == ["train", "valid"]
    assert study.counts.train.to_dict() == TRAINING
    assert study.counts.valid.sum() == (views.split == "valid").sum()


def test_grey_levels_are_those_of_the_images_without_padding(study, views):
    for name in CLASSES:
        word, study_type = name.split()
        chosen = (views.split == "train") & (views.study_type == study_type)
        chosen &= views.label == (word == "abnormal")
        images = [read_radiograph(path) for path in views.path[chosen]]
        levels = np.concatenate([image.ravel() for image in images])
        row = study.pixels.loc[name]
        assert row.images == len(images) == TRAINING[name]
        means = [image.mean() for image in images]
        expected = (levels.mean(), levels.std(), np.std(means))
        assert (row["mean"], row["std"], row["std_of_means"]) == pytest.approx(expected)
        shares = np.bincount(levels, minlength=256) / len(levels)
        np.testing.assert_allclose(study.histograms.loc[name], shares)
        assert shares[0] > 0  # black, and no padding


def test_a_training_image_of_each_class_is_a_sample(study, views):
    assert list(study.samples) == CLASSES
    training = views[views.split == "train"].set_index("path")
    for name, path in study.samples.items():
        row = training.loc[path]
        assert name == f"{('normal', 'abnormal')[row.label]} {row.study_type}"
    again = study_data(views, image_size=SIDE, per_class=[6], seed=1)
    assert again.samples != study.samples


def test_a_class_without_training_images_has_no_grey_levels(views):
    gone = (views.split == "train") & (views.study_type == "wrist") & (views.label == 1)
    study = study_data(views[~gone], image_size=SIDE, per_class=[6])
    name = "abnormal wrist"
    assert study.counts.loc[name].tolist()[0] == 0 and study.counts.valid[name] > 0
    assert study.pixels.images[name] == 0
    assert study.pixels.drop(columns="images").loc[name].isna().all()
    assert study.histograms.loc[name].isna().all()


# ------------------------------------------------------------------------------------------------
# PCA


def chosen_images(views, size):
    """The prepared squares that a PCA of `size` images per class gets, float (n, S * S)."""
    training = views[views.split == "train"].reset_index(drop=True)
    _, _, prepared = data_study.prepare_readable(training, SIDE)
    names = training.label.map({0: "normal ", 1: "abnormal "}) + training.study_type
    codes = pd.Index(CLASSES).get_indexer(names)
    chosen = data_study._balanced_sample(codes, size, seed=0)
    return prepared.images[prepared.rows[chosen]].reshape(len(chosen), -1).astype(float), names[
        chosen
    ]


def test_a_sample_has_as_many_of_each_class_as_there_are(views):
    for size in (6, 20):
        _, names = chosen_images(views, size)
        expected = {name: min(size, count) for name, count in TRAINING.items()}
        assert names.value_counts().to_dict() == expected
        assert len(set(names.iloc[:8])) > 1  # shuffled


def test_samples_hang_on_the_seed_and_hold_each_other(views):
    codes = np.repeat([0, 1, 2], [30, 4, 60])
    few, many = (data_study._balanced_sample(codes, size, seed=5) for size in (6, 20))
    assert set(few) < set(many) and len(few) == 16 and len(set(many)) == len(many) == 44
    assert few.tolist() == data_study._balanced_sample(codes, 6, seed=5).tolist()
    assert set(few) != set(data_study._balanced_sample(codes, 6, seed=6))


def test_pca_is_the_spectrum_of_the_standardised_pixels(study, views):
    for size, count in ((6, 24), (20, 68)):
        pixels, _ = chosen_images(views, size)
        deviation = pixels.std(axis=0)
        scaled = (pixels - pixels.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
        spectrum = np.linalg.svd(scaled, compute_uv=False) ** 2
        expected = np.cumsum(spectrum) / spectrum.sum()
        np.testing.assert_allclose(study.curves[PCA_NAME, size], expected)
        row = rows_of(study, size).loc[PCA_NAME]
        assert (row.images, row.kept) == (count, count)
        assert row.components == 1 + np.flatnonzero(expected >= 0.95)[0]
        assert row.seconds > 0


def test_incremental_pca_is_scikit_learns_in_batches_of_half_the_images(study, views):
    pixels, _ = chosen_images(views, 20)
    half = len(pixels) // 2
    oracle = IncrementalPCA(n_components=half, batch_size=half)
    oracle.fit(StandardScaler().fit_transform(pixels))
    curve = study.curves[IPCA_NAME, 20]
    np.testing.assert_allclose(curve, np.cumsum(oracle.explained_variance_ratio_), rtol=1e-6)
    row = rows_of(study, 20).loc[IPCA_NAME]
    assert (row.images, row.kept) == (68, 34)
    # both find the three patterns
    assert curve[2] == pytest.approx(study.curves[PCA_NAME, 20][2], abs=0.01)


def test_more_images_than_a_batch_holds(views, monkeypatch):
    monkeypatch.setattr(data_study, "BATCH", 15)
    monkeypatch.setattr(data_study, "KEPT", 5)
    study = study_data(views, image_size=SIDE, per_class=[20])
    pixels, _ = chosen_images(views, 20)
    oracle = IncrementalPCA(n_components=5, batch_size=15)
    oracle.fit(StandardScaler().fit_transform(pixels))
    row = rows_of(study, 20).loc[IPCA_NAME]
    assert row.kept == 5 and np.isnan(row.components)
    np.testing.assert_allclose(
        study.curves[IPCA_NAME, 20], np.cumsum(oracle.explained_variance_ratio_), rtol=1e-6
    )


def test_a_class_with_few_images_is_told(study):
    assert study.remarks == [
        "Classes with fewer than 20 training images, 1 of 4, bring all that they have: "
        "abnormal elbow 8."
    ]


def test_pca_is_left_out_where_it_would_take_too_much(views, monkeypatch):
    monkeypatch.setattr(data_study, "PCA_BYTES", 8 * 24 * SIDE**2)
    study = study_data(views, image_size=SIDE, per_class=(6, 20))
    assert list(rows_of(study, 6).index) == [PCA_NAME, IPCA_NAME]
    assert list(rows_of(study, 20).index) == [IPCA_NAME]
    assert "PCA of 68 images is left out" in study.remarks[-1]


def test_the_same_data_give_the_same_study(study, views):
    again = study_data(views, image_size=SIDE, per_class=iter([6, 20, 6]))
    tables = (one.reductions.drop(columns="seconds") for one in (again, study))
    pd.testing.assert_frame_equal(*tables)
    assert again.curves.keys() == study.curves.keys()
    for key, curve in study.curves.items():
        np.testing.assert_allclose(again.curves[key], curve, rtol=1e-9)


def test_fig_10_stands_beside_ours(views):
    rows = rows_of(study_data(views, image_size=SIDE, per_class=[10]), 10)
    published = rows[["published_images", "published_components", "published_seconds"]]
    assert published.loc[PCA_NAME].tolist() == [1400, 8, 6]
    assert published.loc[IPCA_NAME].tolist() == [1400, 11, 3.6]


# ------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"per_class": []}, "per_class must hold whole numbers"),
        ({"per_class": [10, 0]}, "per_class must hold whole numbers"),
        ({"per_class": [2.5]}, "per_class must hold whole numbers"),
        ({"image_size": 7}, "image_size must be a whole number from 8 up"),
    ],
)
def test_numbers_that_cannot_be(views, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        study_data(views, **settings)


def test_no_training_split_is_a_sentence(views):
    with pytest.raises(ValueError, match=r"needs a train split.*Received: valid\."):
        study_data(views[views.split == "valid"])


def test_too_few_images_for_a_pca(views):
    few = views[(views.split == "train") & (views.study_type == "elbow")]
    with pytest.raises(ValueError, match="need 4 training images or more"):
        study_data(few, image_size=SIDE, per_class=[1])
    fewest = study_data(views, image_size=SIDE, per_class=[1])
    assert rows_of(fewest, 1).kept.to_dict() == {PCA_NAME: 4, IPCA_NAME: 2}


@pytest.mark.filterwarnings("error")
def test_images_without_variance(views):
    same = views[views.split == "train"].assign(path=views.path.iloc[0])
    with pytest.raises(ValueError, match="images chosen are all the same"):
        study_data(same, image_size=SIDE, per_class=[6])


def test_unreadable_files(mura):
    os.truncate(mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png", 40)
    views = load_mura(mura)
    with pytest.raises(BadViewsError, match="1 files cannot be used"):
        study_data(views, image_size=SIDE, per_class=[2])
    study = study_data(views, image_size=SIDE, per_class=[2], skip_bad=True)
    assert study.counts.train.sum() == 7 and study.pixels.images.sum() == 6
    assert study.remarks[0].startswith("1 unreadable files of the training split")
