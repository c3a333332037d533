"""Views table -> batches: their order, weights, preprocessing, and what `fit` sees of them."""

import gc
import inspect
import subprocess
import sys
import threading
import time

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from batches import COUNT, SIZE, VALUED, code, dataset, numbers_of, one_pass, order
from keras.src.applications import imagenet_utils

from mura_tf.data.boxes import load_boxes
from mura_tf.data.cache import BadViewsError
from mura_tf.data.pipeline import (
    _Kept,
    input_statistics,
    load_images,
    looked_up,
    make_dataset,
    preprocessing_table,
)
from mura_tf.data.views import load_mura

pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")  # Keras' own

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
    assert weights.tolist() == expected  # float32 knows these numbers


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


# In training


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


def test_a_data_set_that_is_gone_lets_its_file_go(views):
    """Else a loop over models keeps every one of them, and its cache cannot be made anew."""

    def mapped():
        gc.collect()
        return sum(isinstance(one, np.memmap) for one in gc.get_objects())

    before = mapped()
    batches = dataset(views)
    first = next(iter(batches.take(1)))[0]
    iterator = iter(dataset(views))  # whose data set nothing else keeps
    assert len(list(iterator)) == len(list(batches)) and mapped() > before
    del iterator, batches, first
    assert mapped() <= before  # of which other tests' may go meanwhile


def test_a_process_that_ends_waits_for_what_its_data_sets_call(monkeypatch):
    """TensorFlow's threads call until the buffers are full; else some ends would take for ever."""
    monkeypatch.setattr(_Kept, "ending", False)
    inside, done = threading.Event(), []

    def slow(step):
        inside.set()
        time.sleep(0.2)
        done.append(step)

    kept = _Kept(slow)
    thread = threading.Thread(target=kept, args=(1,))
    thread.start()
    inside.wait()
    _Kept.end(quiet=0.01)
    assert done == [1]
    thread.join()
    with pytest.raises(StopIteration):
        kept(2)
    assert done == [1]


END = """
import sys
import mura_tf as mt
batches = mt.make_dataset(mt.load_mura(sys.argv[1]), image_size=32, batch_size=2, training=True)
iterator = iter(batches)
next(iterator)
"""


def test_a_script_ends_though_its_data_set_was_left_half_read(mura):
    subprocess.run([sys.executable, "-W", "ignore", "-c", END, mura], check=True, timeout=120)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"targets": np.zeros(3)}, r"targets must have a row per view, \d+ of them. Received: 3"),
        ({"seed": -1}, "seed must be a whole number from 0 up. Received: -1"),
    ],
)
def test_what_fits_no_views(lesions, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_dataset(load_mura(lesions), image_size=32, training=True, **settings)


def test_boxes_are_of_views_with_keys(lesions):
    views = load_mura(lesions)
    with pytest.raises(ValueError, match=r"must be a views table, .* without view"):
        make_dataset(views.drop(columns="view"), image_size=32, boxes=load_boxes(lesions, views))
