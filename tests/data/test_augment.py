"""Each augmentation: what it changes, by how much, and that it comes back from seed and epoch."""

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow as tf
from batches import SIZE, VALUED, dataset, one_pass
from keras.src.legacy.preprocessing.image import apply_affine_transform

from mura_tf.data import augment
from mura_tf.data.augment import Augmenter, brightened, contrasted, erased, gamma_changed, warped
from mura_tf.models.specs import AUGMENTATIONS


def test_every_augmentation_is_tested_here():
    tested = {spec.partition(":")[0] for spec in VALUED}
    assert tested | {"flip", "mixup"} == set(AUGMENTATIONS)  # see test_pipeline, test_mixup


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
    assert first[0].min() >= -1e-3 and first[0].max() <= 255 + 1e-3
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
    apart = np.abs(images[:, None] - images[None]).max(axis=(2, 3, 4)) > 0.01
    distinct = len(np.unique(apart, axis=0))
    assert distinct == 2 if spec.startswith("autocontrast") else distinct >= 15


@pytest.mark.parametrize("spec", ["flip", *VALUED])
def test_no_augmentation_in_evaluation(photos, spec):
    augmented, plain = one_pass(dataset(photos, augment=(spec,))), one_pass(dataset(photos))
    assert np.array_equal(augmented[0], plain[0])


@pytest.mark.parametrize("augment", VALUED)
def test_augmentations_do_not_follow_a_mixed_policy(views, augment):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        images = next(iter(dataset(views, training=True, augment=(augment,))))[0]
    finally:
        keras.config.set_dtype_policy("float32")
    assert images.dtype == tf.float32


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


# Grey values, against TensorFlow's own of one image


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (contrasted, lambda one, amount: tf.image.adjust_contrast(one, 1 + amount)),
        (brightened, lambda one, amount: tf.image.adjust_brightness(one, 255 * amount)),
        (
            gamma_changed,
            lambda one, amount: (
                255
                * tf.image.adjust_gamma(one / 255, 1 + amount if amount > 0 else 1 / (1 - amount))
            ),
        ),
    ],
)
def test_grey_values_change_as_tensorflow_changes_them(change, expected):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 16, 16, 1)).astype(np.float32)
    amounts = rng.uniform(-0.5, 0.5, 8).astype(np.float32)
    found = change(tf.constant(images), tf.constant(amounts[:, None, None, None])).numpy()
    assert found.min() >= 0 and found.max() <= 255
    for image, amount, one in zip(images, amounts, found, strict=True):
        wanted = np.clip(expected(image, amount), 0, 255)
        np.testing.assert_allclose(one, wanted, atol=1e-2)
        assert np.abs(one - image).max() > 1


def test_erased_is_one_rectangle_of_one_grey_value():
    rng = np.random.default_rng(0)
    draws = [tf.constant(rng.uniform(-1, 1, 200).astype(np.float32)) for _ in range(6)]
    found = erased(tf.fill((200, 64, 64, 1), -1.0), 0.5, draws).numpy()[..., 0]
    hit = (found >= 0).any(axis=(1, 2))
    assert 70 < hit.sum() < 130
    for image in found[hit]:
        rows, columns = np.nonzero(image >= 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        assert len(np.unique(image[image >= 0])) == 1
        assert 0.01 < height * width / 64**2 < 0.23  # 0.02 to 0.2, and a pixel more or less
        assert 0.2 < height / width < 4.5


def test_what_stands_beside_the_grey_values_is_warped_alone():
    rng = np.random.default_rng(0)
    grey = rng.uniform(0, 255, (6, 32, 32, 1)).astype(np.float32)
    both = tf.constant(np.concatenate([grey, grey], axis=-1))
    everything = Augmenter({"rotation": 20.0, "contrast": 0.5, "gamma": 0.5, "erase": 1.0})
    warps = Augmenter({"rotation": 20.0})
    seed = tf.constant([3, 4])
    changed, beside = np.moveaxis(everything(both, seed).numpy(), -1, 0)
    expected = warps(tf.constant(grey), seed).numpy()[..., 0]
    np.testing.assert_allclose(beside, expected, atol=1e-2)
    assert np.abs(changed - expected).max() > 10


# The one warp, against Keras' own of ImageDataGenerator

COUNT = 24


def parameters(side):
    draw = np.random.default_rng(0).uniform
    return {
        "theta": draw(-40, 40, COUNT),
        "tx": side * draw(-0.2, 0.2, COUNT),
        "ty": side * draw(-0.2, 0.2, COUNT),
        "shear": draw(-20, 20, COUNT),
        "zx": draw(0.8, 1.2, COUNT),
        "zy": draw(0.8, 1.2, COUNT),
    }


STILL = {"theta": 0.0, "tx": 0.0, "ty": 0.0, "shear": 0.0, "zx": 1.0, "zy": 1.0}


@pytest.mark.filterwarnings("ignore:Please import `affine_transform`")  # Keras' own
@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize("names", [*([name] for name in STILL), list(STILL)], ids="+".join)
def test_a_warp_is_keras_on_the_same_parameters(side, names):
    """On white noise, where a pixel's place counts most, and on the borders, too."""
    images = np.random.default_rng(1).uniform(0, 255, (COUNT, side, side, 1)).astype("float32")
    given = {name: np.full(COUNT, value) for name, value in STILL.items()}
    given |= {name: parameters(side)[name] for name in names}
    expected = [
        apply_affine_transform(
            image,
            **{name: values[index] for name, values in given.items()},
            row_axis=0,
            col_axis=1,
            channel_axis=2,
        )
        for index, image in enumerate(images)
    ]
    theta, tx, ty, shear, zx, zy = (values.astype("float32") for values in given.values())
    found = warped(tf.constant(images), theta, (tx, ty), shear, (zx, zy)).numpy()
    assert np.abs(found - images).max() > 20  # it does something
    np.testing.assert_allclose(found, np.stack(expected), atol=0.05)


def drawn(monkeypatch, specs, steps=50):
    """What the warps of some steps were called with: name -> float (steps * COUNT,)."""
    calls = []
    monkeypatch.setattr(augment, "warped", lambda images, **given: calls.append(given) or images)
    augmenter = Augmenter(specs)
    for step in range(steps):
        augmenter(tf.zeros((COUNT, 50, 50, 1)), tf.constant([7, step]))
    names = ("theta", "shear", "tx", "ty", "zx", "zy")
    values = [
        np.broadcast_to(
            [call["theta"], call["shear"], *call["shifts"], *call["zooms"]], (len(names), COUNT)
        )
        for call in calls
    ]
    return dict(zip(names, np.concatenate(values, axis=1), strict=True))


def test_parameters_are_drawn_as_image_data_generator_draws_them(monkeypatch):
    """Evenly, to both sides, and each on its own."""
    specs = {"rotation": 40.0, "shift": 0.2, "shear": 0.2, "zoom": 0.2}
    found = drawn(monkeypatch, specs)
    limits = {"theta": (0, 40), "shear": (0, 0.2), "tx": (0, 10), "ty": (0, 10)}
    limits |= {"zx": (1, 0.2), "zy": (1, 0.2)}
    for name, (middle, limit) in limits.items():
        even = scipy.stats.uniform(middle - limit, 2 * limit)
        assert scipy.stats.kstest(found[name], even.cdf).pvalue > 0.001, name
    correlations = np.corrcoef(list(found.values())) - np.eye(len(found))
    assert np.abs(correlations).max() < 0.12


def test_what_one_draws_does_not_hang_on_the_others(monkeypatch):
    alone = drawn(monkeypatch, {"zoom": 0.2}, steps=2)
    beside = drawn(monkeypatch, {"rotation": 10.0, "zoom": 0.2, "autocontrast": 0.5}, steps=2)
    for name in ("zx", "zy"):
        assert np.array_equal(alone[name], beside[name])
    assert (alone["theta"] == 0).all() and beside["theta"].any()


def test_grey_values_are_stretched_after_the_warp():
    """A warp of a black frame around grey shows no black where it is zoomed in enough."""
    images = np.zeros((COUNT, 40, 40, 1), np.float32)
    images[:, 10:30, 10:30] = np.random.default_rng(0).uniform(100, 120, (COUNT, 20, 20, 1))
    seed = tf.constant([3, 4])
    warp = Augmenter({"zoom": 0.9})(tf.constant(images), seed).numpy()
    both = Augmenter({"zoom": 0.9, "autocontrast": 1.0})(tf.constant(images), seed).numpy()
    low, high = (f(warp, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    assert (low > 50).any()
    np.testing.assert_allclose(both, (warp - low) / (high - low) * 255, atol=0.01)
