import inspect

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras.src.applications import imagenet_utils

from mura_tf.data.cache import BadViewsError
from mura_tf.data.pipeline import (
    input_statistics,
    load_images,
    looked_up,
    make_dataset,
    preprocessing_table,
)
from mura_tf.models.specs import AUGMENTATIONS

SIZE = 32
COUNT = 21
VALUED = ["rotation:30", "shift:0.2", "shear:20", "zoom:0.3", "autocontrast:0.5"]


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """View k has a dark square of grey level 10 k + 20 and a white mark in its left half."""
    folder = tmp_path_factory.mktemp("views")
    rows = []
    for number in range(COUNT):
        image = np.full((SIZE, SIZE), code(number), np.uint8)
        image[4:8, 2:6] = 255
        path = folder / f"image{number}.png"
        cv2.imwrite(str(path), image)
        study_type = ["elbow", "wrist"][number % 3 == 0]
        label = int(number % 4 == 0)
        rows.append(("train", study_type, f"p{number}", "study1", path.name, label, str(path)))
    names = ["split", "study_type", "patient", "study", "view", "label", "path"]
    return pd.DataFrame(rows, columns=names)


def code(number):
    return 10 * number + 20


def numbers_of(images):
    """Which view each raw image is, by its lower right corner."""
    return [round((level - 20) / 10) for level in np.asarray(images)[:, -1, -1, 0]]


def dataset(views, **settings):
    settings = {"image_size": SIZE, "batch_size": 4, "preprocessing": "raw"} | settings
    return make_dataset(views, **settings)


def one_pass(batches):
    """An epoch: (images, labels, sample_weight), the batches put together."""
    return [np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True)]


def order(batches):
    return numbers_of(one_pass(batches)[0])


# All at once


@pytest.mark.parametrize("preprocessing", ["caffe", "tf", "torch", "raw"])
def test_all_images_at_once_and_their_statistics(views, preprocessing):
    expected = one_pass(dataset(views, preprocessing=preprocessing))[0]
    images = load_images(views, image_size=SIZE, preprocessing=preprocessing)
    np.testing.assert_array_equal(images, expected)
    found = input_statistics(views, image_size=SIZE, preprocessing=preprocessing)
    assert found["preprocessing"] == preprocessing
    assert found["mean"] == pytest.approx(expected.mean(dtype=float), abs=1e-4)
    assert found["deviation"] == pytest.approx(expected.std(dtype=float), rel=1e-5)
    assert found["low"] <= expected.min()
    assert found["high"] == expected.max()  # there is a white mark


# Batches


def test_batches_have_the_stated_shapes_and_dtypes(views):
    batches = dataset(views)
    assert [spec.shape.as_list() for spec in batches.element_spec] == [
        [None, SIZE, SIZE, 3],
        [None],
        [None],
    ]
    assert [spec.dtype for spec in batches.element_spec] == [tf.float32] * 3
    assert len(batches) == 6
    sizes = []
    for images, labels, weights in batches.as_numpy_iterator():
        assert images.shape == (len(labels), SIZE, SIZE, 3)
        assert labels.shape == weights.shape
        assert images.dtype == labels.dtype == weights.dtype == np.float32
        sizes.append(len(labels))
    assert sizes == [4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize("augment", [(), ("rotation:5",)])
def test_training_batches_have_the_same_spec(views, augment):
    assert (
        dataset(views, training=True, augment=augment).element_spec == dataset(views).element_spec
    )


def test_evaluation_keeps_every_row_in_its_order(views):
    batches = dataset(views)
    for _ in range(2):
        images, labels, _ = one_pass(batches)
        assert numbers_of(images) == list(range(COUNT))
        assert labels.tolist() == views.label.tolist()
        assert (images[:, 5, 3] == 255).all()  # nothing is flipped


def test_evaluation_follows_the_table_not_its_index(views):
    shuffled = views.sample(frac=1, random_state=0)
    images, labels, _ = one_pass(dataset(shuffled))
    assert numbers_of(images) == shuffled.index.tolist()
    assert labels.tolist() == shuffled.label.tolist()


def test_images_are_those_of_tensorflow(views):
    images = one_pass(dataset(views, image_size=45))[0]
    for path, image in zip(views.path, images, strict=True):
        png = tf.io.decode_png(tf.io.read_file(path), channels=3)
        assert np.abs(image - tf.image.resize_with_pad(png, 45, 45)).max() <= 1


@pytest.mark.parametrize("augment", VALUED)
def test_augmentations_do_not_follow_a_mixed_policy(views, augment):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        images = next(iter(dataset(views, training=True, augment=(augment,))))[0]
    finally:
        keras.config.set_dtype_policy("float32")
    assert images.dtype == tf.float32


def test_labels_may_be_floats_but_not_lacking(views):
    _, labels, weights = next(iter(dataset(views.astype({"label": float}))))
    _, same_labels, same_weights = next(iter(dataset(views)))
    assert np.array_equal(labels, same_labels) and np.array_equal(weights, same_weights)
    with pytest.raises(ValueError, match=r"Received one without label\. Views to be predicted"):
        dataset(views.drop(columns="label"))


@pytest.mark.parametrize("augment", [(), ("flip",), ("flip", "autocontrast:0.5")])
def test_training_shuffles_all_rows_anew_each_epoch(views, augment):
    batches = dataset(views, training=True, augment=augment)
    epochs = [one_pass(batches)[1:] for _ in range(2)]
    plain = dataset(views, training=True, augment=())
    orders = [order(plain) for _ in range(4)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in orders)
    assert len({tuple(epoch) for epoch in orders}) == 4
    for (labels, _), expected in zip(epochs, orders[:2], strict=True):
        assert labels.tolist() == views.label[expected].tolist()


@pytest.mark.parametrize("augment", [("flip",), ("flip", "rotation:30", "zoom:0.2")])
def test_the_same_seed_gives_the_same_epochs(views, augment):
    first = dataset(views, training=True, seed=3, augment=augment)
    second = dataset(views, training=True, seed=3, augment=augment)
    other = dataset(views, training=True, seed=4, augment=augment)
    for _ in range(2):
        ours, theirs, others = one_pass(first), one_pass(second), one_pass(other)
        for mine, yours in zip(ours, theirs, strict=True):
            assert np.array_equal(mine, yours)
        assert not np.array_equal(ours[0], others[0])


@pytest.mark.parametrize("augment", [("flip",), ("flip", "shift:0.1", "autocontrast:0.5")])
def test_first_epoch_k_is_the_kth_pass(views, augment):
    whole = dataset(views, training=True, augment=augment)
    one_pass(whole), one_pass(whole)
    later = dataset(views, training=True, augment=augment, first_epoch=2)
    for _ in range(2):
        for mine, yours in zip(one_pass(whole), one_pass(later), strict=True):
            assert np.array_equal(mine, yours)


def test_two_passes_at_once_are_two_epochs(views):
    batches = dataset(views, training=True, augment=())
    first, second = iter(batches), iter(batches)
    pairs = [(next(first)[0], next(second)[0]) for _ in range(len(batches))]
    orders = [numbers_of(np.concatenate(images)) for images in zip(*pairs, strict=True)]
    alone = dataset(views, training=True, augment=())
    assert sorted(orders) == sorted([order(alone), order(alone)])


def test_flips_happen_about_half_the_time_and_are_nothing_but_flips(views):
    plain = np.array([cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in views.path])
    batches = dataset(views, training=True, augment=("flip",), batch_size=8)
    flips = []
    for _ in range(20):
        images = one_pass(batches)[0]
        unflipped = plain[numbers_of(images)].astype(np.float32)[..., None].repeat(3, axis=-1)
        same = (images == unflipped).all(axis=(1, 2, 3))
        mirrored = (images == unflipped[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (same ^ mirrored).all()
        flips.append(mirrored)
    flips = np.array(flips)
    draws = flips.size  # 420 fair draws: four standard deviations are 0.1
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / draws**0.5
    for half in (flips[:, ::2], flips[:, 1::2], flips[:, :8], flips[:, -5:]):
        assert 0.3 < half.mean() < 0.7
    assert len({tuple(epoch) for epoch in flips.tolist()}) == 20


def test_without_flip_nothing_is_flipped(views):
    assert (one_pass(dataset(views, training=True, augment=()))[0][:, 5, 3] == 255).all()


# Weights


def test_sample_weights_are_the_papers_formula(views):
    labels, weights = one_pass(dataset(views))[1:]
    assert labels.tolist() == views.label.tolist()
    for study_type in ("elbow", "wrist"):
        mine = views.study_type == study_type
        abnormal, normal = (views[mine].label == 1).sum(), (views[mine].label == 0).sum()
        assert abnormal != normal
        ones, zeros = mine & (views.label == 1), mine & (views.label == 0)
        assert weights[ones] == pytest.approx(normal / (abnormal + normal))
        assert weights[zeros] == pytest.approx(abnormal / (abnormal + normal))
        assert weights[ones].sum() == pytest.approx(weights[zeros].sum())


def test_given_class_weights_are_used(views):
    given = {"elbow": (1.0, 2.0), "wrist": (3.0, 4.0), "hand": (9.0, 9.0)}
    weights = one_pass(dataset(views, class_weights=given))[2]
    expected = [given[row.study_type][row.label] for row in views.itertuples()]
    assert weights.tolist() == expected


@pytest.mark.parametrize("augment", [("flip",), ("flip", "rotation:10"), ("zoom:0.2",)])
def test_labels_and_weights_stay_with_their_images(views, augment):
    """The middle of an image codes its row; a rotation or zoom changes its borders."""
    given = {"elbow": (0.1, 0.2), "wrist": (0.3, 0.4)}
    batches = dataset(views, training=True, augment=augment, class_weights=given, seed=7)
    for _ in range(3):
        images, labels, weights = one_pass(batches)
        numbers = [round((level - 20) / 10) for level in images[:, 16, 16, 0]]
        assert sorted(numbers) == list(range(COUNT))
        assert labels.tolist() == views.label[numbers].tolist()
        expected = [given[views.study_type[row]][views.label[row]] for row in numbers]
        assert weights.tolist() == pytest.approx(expected)


# Preprocessing


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_is_keras(mode):
    grey = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    expected = imagenet_utils.preprocess_input(grey.copy(), data_format="channels_last", mode=mode)
    table = preprocessing_table(mode)
    assert table.shape == (256, 3) and table.dtype == np.float32
    np.testing.assert_allclose(table, expected.reshape(256, 3), atol=2e-6 * 128, rtol=0)


def test_caffe_in_rgb_is_keras_caffe_turned_round():
    grey = np.arange(256, dtype=np.float32)[:, None, None].repeat(3, axis=2)
    caffe = imagenet_utils.preprocess_input(grey.copy(), data_format="channels_last", mode="caffe")
    np.testing.assert_array_equal(preprocessing_table("caffe_rgb"), caffe[:, 0, ::-1])
    assert preprocessing_table("caffe_rgb")[0, 0] == pytest.approx(-123.68)  # red's mean first


def test_raw_is_the_grey_level_itself():
    assert np.array_equal(preprocessing_table("raw"), np.arange(256)[:, None] * np.ones(3))


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "raw"])
@pytest.mark.parametrize("augment", [(), ("autocontrast:0.001",)], ids=["table", "layers"])
def test_batches_are_preprocessed_on_both_paths(views, mode, augment):
    images = one_pass(dataset(views, preprocessing=mode, training=True, augment=augment))[0]
    levels = np.array([code(number) for number in order(dataset(views, training=True, augment=()))])
    grey = np.repeat(levels[:, None], 3, axis=1).astype(np.float32)
    if mode != "raw":
        grey = imagenet_utils.preprocess_input(grey, data_format="channels_last", mode=mode)
    np.testing.assert_allclose(images[:, -1, -1], grey, atol=1e-4)


def test_looked_up_is_indexing():
    squares = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    table = preprocessing_table("torch")
    assert np.array_equal(looked_up(squares, table), table[squares])
    assert looked_up(squares[:1, :1, :1], table).shape == (1, 1, 1, 3)


# Augmentations


def test_every_augmentation_is_tested_here():
    assert {spec.partition(":")[0] for spec in VALUED} | {"flip"} == set(AUGMENTATIONS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Low-contrast smooth images, so that every augmentation shows."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        noise = cv2.GaussianBlur(rng.random((SIZE, SIZE), np.float32), (0, 0), 3)
        grey = cv2.normalize(noise, None, 60, 180, cv2.NORM_MINMAX)
        paths.append(str(folder / f"image{number}.png"))
        cv2.imwrite(paths[-1], grey.astype(np.uint8))
    columns = {"split": "train", "study_type": "hand", "patient": "p", "study": "s", "view": "v"}
    return pd.DataFrame({"path": paths, "label": [0, 1] * 6} | columns)


@pytest.mark.parametrize("spec", VALUED)
def test_each_augmentation_changes_images_within_the_range(photos, spec):
    plain = one_pass(dataset(photos, training=True, augment=()))
    batches = dataset(photos, training=True, augment=(spec,))
    first, second = one_pass(batches), one_pass(batches)
    changed = np.abs(first[0] - plain[0]).max(axis=(1, 2, 3)) > 1
    if spec.startswith("autocontrast"):
        assert 2 <= changed.sum() <= 10  # fair draws for 12
    else:
        assert changed.all()
    assert first[0].min() >= 0 and first[0].max() <= 255
    assert np.array_equal(first[0][..., 0], first[0][..., 2])  # stays grey
    assert np.array_equal(first[1], plain[1]) and np.array_equal(first[2], plain[2])
    assert not np.array_equal(np.sort(first[0], axis=0), np.sort(second[0], axis=0))


@pytest.mark.parametrize("spec", VALUED)
def test_each_augmentation_comes_back_from_seed_and_epoch(photos, spec):
    """With batches of 1, twelve parallel calls an epoch."""
    settings = {"training": True, "augment": (spec,), "batch_size": 1}
    one = dataset(photos, seed=5, **settings)
    first, second = one_pass(one)[0], one_pass(one)[0]
    assert not np.array_equal(first, second)
    again = dataset(photos, seed=5, first_epoch=1, **settings)
    assert np.array_equal(one_pass(again)[0], second)


@pytest.mark.parametrize("spec", VALUED)
def test_images_of_a_batch_are_augmented_differently(views, spec):
    same = views.iloc[[0] * 16].assign(label=0)
    images = one_pass(dataset(same, training=True, augment=(spec,), batch_size=16))[0]
    distinct = len(np.unique(images.reshape(16, -1), axis=0))
    assert distinct == 2 if spec.startswith("autocontrast") else distinct >= 15


@pytest.mark.parametrize("spec", ["flip", *VALUED])
def test_no_augmentation_in_evaluation(photos, spec):
    augmented, plain = one_pass(dataset(photos, augment=(spec,))), one_pass(dataset(photos))
    assert np.array_equal(augmented[0], plain[0])


def test_autocontrast_stretches_to_the_whole_range(photos):
    images = one_pass(dataset(photos, training=True, augment=("autocontrast:1",)))[0]
    plain = one_pass(dataset(photos, training=True, augment=()))[0]
    low, high = (f(plain, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(images, (plain - low) / (high - low) * 255, atol=1e-2)


def test_autocontrast_of_a_flat_image_leaves_it(views, tmp_path):
    path = str(tmp_path / "flat.png")
    cv2.imwrite(path, np.full((SIZE, SIZE), 90, np.uint8))
    flat = views.iloc[:1].assign(path=path)
    images = one_pass(dataset(flat, training=True, augment=("autocontrast:1",)))[0]
    assert (images == 90).all()


def geometry(views, spec):
    """The bright spot's offsets from the centre, pixels: float (n, 2), (y, x)."""
    images = one_pass(dataset(views, training=True, augment=(spec,), batch_size=32))[0][..., 0]
    grid = np.arange(SIZE) - (SIZE - 1) / 2
    mass = images.sum(axis=(1, 2))
    assert (mass > 0).all()
    y = (images * grid[:, None]).sum(axis=(1, 2)) / mass
    x = (images * grid[None, :]).sum(axis=(1, 2)) / mass
    return np.stack([y, x], axis=1)


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """Two hundred times one image: a bright spot, 8 pixels right of the centre."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(image, (24, 16), 2, 255, -1)
    image = cv2.GaussianBlur(image, (0, 0), 1)
    path = str(tmp_path_factory.mktemp("spots") / "image1.png")
    cv2.imwrite(path, image)
    columns = {"split": "train", "study_type": "hand", "patient": "p", "study": "s", "view": "v"}
    return pd.DataFrame([{"path": path, "label": 0} | columns] * 200)


def test_rotation_is_in_degrees_to_either_side(spots):
    y, x = geometry(spots, "rotation:30").T
    start = geometry(spots, "autocontrast:1e-9")[0]
    angles = np.degrees(np.arctan2(y, x) - np.arctan2(*start))
    assert 25 < angles.max() < 31.5 and -31.5 < angles.min() < -25
    assert abs(angles.mean()) < 5
    np.testing.assert_allclose(np.hypot(y, x), np.hypot(*start), atol=0.4)


def test_shift_is_a_share_of_the_side_in_both_directions(spots):
    moved = geometry(spots, "shift:0.125") - geometry(spots, "autocontrast:1e-9")
    assert (np.abs(moved) < 0.125 * SIZE + 0.2).all()
    assert (moved.max(axis=0) > 3).all() and (moved.min(axis=0) < -3).all()


def test_shear_is_in_degrees_to_either_side(tmp_path, views):
    """A vertical line leans by at most that angle, to both sides."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[:, 15:17] = 255
    path = str(tmp_path / "line.png")
    cv2.imwrite(path, image)
    lines = views.iloc[[0] * 200].assign(path=path)
    images = one_pass(dataset(lines, training=True, augment=("shear:20",), batch_size=32))[0]
    grid = np.arange(SIZE)
    places = []
    for row in (8, 24):
        level = images[:, row, :, 0]
        places.append((level * grid).sum(axis=1) / level.sum(axis=1))
    angles = np.degrees(np.arctan((places[1] - places[0]) / 16))
    assert np.abs(angles).max() < 21
    assert angles.max() > 15 and angles.min() < -15


def test_zoom_is_a_share_in_and_out(spots):
    x = geometry(spots, "zoom:0.25")[:, 1]
    start = geometry(spots, "autocontrast:1e-9")[0, 1]
    factors = start / x
    assert factors.max() < 1.27 and factors.min() > 0.73
    assert factors.max() > 1.15 and factors.min() < 0.85


def test_zoom_draws_height_and_width_independently(tmp_path, views):
    """Of a bright square, which is no square afterwards."""
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[10:22, 10:22] = 255
    path = str(tmp_path / "square.png")
    cv2.imwrite(path, image)
    squares = views.iloc[[0] * 200].assign(path=path)
    images = one_pass(dataset(squares, training=True, augment=("zoom:0.25",), batch_size=32))[0]
    height, width = images[:, :, 16, 0].sum(axis=1), images[:, 16, :, 0].sum(axis=1)
    assert abs(np.corrcoef(height, width)[0, 1]) < 0.3
    assert height.std() > 0.1 * height.mean() and width.std() > 0.1 * width.mean()


@pytest.mark.parametrize("spec", ["rotation:40", "shift:0.2", "shear:20", "zoom:0.3"])
def test_what_is_uncovered_is_as_the_nearest_pixel(tmp_path, views, spec):
    """Black, it would be seen on a white image, and white on a black one."""
    for level in (255, 0):
        path = str(tmp_path / f"{level}.png")
        cv2.imwrite(path, np.full((SIZE, SIZE), level, np.uint8))
        flat = views.iloc[[0] * 16].assign(path=path)
        images = one_pass(dataset(flat, training=True, augment=(spec,)))[0]
        np.testing.assert_allclose(images, level, atol=1e-3)


# In training

pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras' own


def test_a_model_sees_each_row_once_an_epoch_in_fit(views):
    seen = []

    @keras.saving.register_keras_serializable("tests")
    class Recorder(keras.layers.Layer):
        def call(self, images):
            tf.py_function(lambda batch: seen.append(numbers_of(batch)), [images], [])
            return images

    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            Recorder(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("sgd", "binary_crossentropy", jit_compile=False)
    batches = dataset(views, training=True, augment=())
    model.fit(batches, validation_data=dataset(views), epochs=3, verbose=0)
    rows = [number for batch in seen for number in batch]
    assert len(rows) == 6 * COUNT
    fresh = dataset(views, training=True, augment=())
    for epoch in range(3):
        trained, validated = np.split(np.array(rows[2 * epoch * COUNT :][: 2 * COUNT]), 2)
        assert trained.tolist() == order(fresh)  # epoch k of fit is pass k: resume relies on it
        assert validated.tolist() == list(range(COUNT))


@pytest.mark.parametrize("augment", [("flip",), ("flip", *VALUED)], ids=["flip", "all"])
def test_fit_learns_from_the_batches(tmp_path, views, augment):
    rng = np.random.default_rng(0)
    bright = views.copy()
    for row, label in enumerate(views.label):
        path = str(tmp_path / f"image{row}.png")
        cv2.imwrite(path, (rng.random((SIZE, SIZE)) * 60 + 150 * label).astype(np.uint8))
        bright.loc[row, "path"] = path
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Rescaling(1 / 128),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(2.0), "binary_crossentropy", metrics=["accuracy"])
    batches = dataset(bright, training=True, augment=augment, preprocessing="caffe")
    model.fit(batches, epochs=5, verbose=0)
    evaluation = dataset(bright, preprocessing="caffe")
    assert model.evaluate(evaluation, verbose=0, return_dict=True)["accuracy"] == 1
    assert model.predict(evaluation, verbose=0).shape == (COUNT, 1)


# Bad input


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"preprocessing": "keras"},
            r"preprocessing must be one of caffe, caffe_rgb, tf, torch, unit, raw\. Rec.*'k",
        ),
        ({"preprocessing": "native"}, r"What is native depends on the backbone: BACKBONES\[name\]"),
        ({"augment": ("spin",)}, r"an augmentation must be one of .*Received: 'spin'"),
        ({"augment": ("rotation",)}, r"the augmentation 'rotation' needs a value"),
        (
            {"class_weights": {"elbow": (0.5, 0.5)}},
            r"class_weights must name every study type\. Received: \['elbow'\], without \['w",
        ),
        ({"batch_size": 0}, r"batch_size must be a whole number from 1 up\. Received: 0\."),
    ],
)
def test_bad_settings_get_a_sentence(views, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataset(views, training=True, **settings)


def test_no_row_gets_a_sentence(views):
    with pytest.raises(ValueError, match=r"views holds no row, expected at least one radiograph"):
        dataset(views[:0])


def test_unreadable_views_stop_it_before_it_starts(views):
    missing = views.assign(path=["none.png", *views.path[1:]])
    with pytest.raises(BadViewsError, match=r"1 files cannot be used.*\n  none.png: there is no"):
        dataset(missing)


def test_the_public_defaults_are_those_of_the_design():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(make_dataset).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert defaults["batch_size"] == 8
    assert (defaults["preprocessing"], defaults["augment"]) == ("caffe", ("flip",))
    assert (defaults["training"], defaults["seed"], defaults["first_epoch"]) == (False, 0, 0)
