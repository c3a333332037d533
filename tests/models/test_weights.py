"""Weights: "imagenet", a path and None are one network; what is no file of weights."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from networks import assert_weights_equal, outputs, shape_of_graph

from mura_tf.data.pipeline import preprocessing_table
from mura_tf.models.backbones import BACKBONES, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from mura_tf.models.build import build_model

SIZE = 64


@pytest.fixture(scope="module")
def b0(tmp_path_factory):
    """EfficientNet-B0's weights as Keras publishes them, with random numbers for the trained ones.

    `plain` is the network that Keras builds without "imagenet", holding those weights.
    """
    folder = tmp_path_factory.mktemp("b0")
    keras.utils.set_random_seed(0)
    plain = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    normalization = next(one for one in plain.layers if isinstance(one, layers.Normalization))
    normalization.set_weights(
        [np.array(IMAGENET_MEAN_RGB), np.array(IMAGENET_STD_RGB), np.array(0)]
    )
    published = folder / "efficientnetb0_notop.h5"
    plain.save(published)
    with pytest.MonkeyPatch.context() as patch:
        download = "keras.src.applications.efficientnet.file_utils.get_file"
        patch.setattr(download, lambda *arguments, **settings: str(published))
        keras_own = keras.applications.EfficientNetB0(
            include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3)
        )
        imagenet = build_model("efficientnet_b0", "imagenet", image_size=SIZE)
    keras_own.save_weights(folder / "b0.weights.h5")
    return SimpleNamespace(
        plain=plain,
        keras_own=keras_own,
        imagenet=imagenet,
        by_path=build_model("efficientnet_b0", published, image_size=SIZE),
        published=published,
        saved=folder / "b0.weights.h5",
    )


def features(model, images):
    """What the pooling layer gives: the backbone's part of the model."""
    return outputs(keras.Model(model.input, model.get_layer("pool").output), images)


def mean_over_places(extractor, images):
    return outputs(extractor, images).mean(axis=(1, 2))


def backbone_of(model):
    return keras.Model(model.input, model.get_layer("pool").input)


def test_a_path_is_the_same_network_as_imagenet(b0, images):
    assert repr(shape_of_graph(b0.by_path)) == repr(shape_of_graph(b0.imagenet))
    for layer in ("head1_batch_norm", "probability"):
        b0.by_path.get_layer(layer).set_weights(b0.imagenet.get_layer(layer).get_weights())
    expected = outputs(b0.imagenet, images)
    np.testing.assert_allclose(outputs(b0.by_path, images), expected, rtol=1e-5)
    np.testing.assert_allclose(
        features(b0.by_path, images), mean_over_places(b0.keras_own, images), rtol=1e-4, atol=1e-6
    )


def test_none_is_the_same_network_as_imagenet(b0):
    random = build_model("efficientnet_b0", None, image_size=SIZE)
    assert repr(shape_of_graph(random)) == repr(shape_of_graph(b0.imagenet))


def test_the_trap_that_build_model_avoids(b0, images):
    """The same file in Keras' own weights=None network loads without a word and is another one."""
    assert len(b0.plain.layers) == len(b0.keras_own.layers) - 1
    b0.plain.load_weights(b0.published)
    b0.plain.load_weights(b0.saved)
    assert_weights_equal(b0.plain, b0.keras_own)
    expected = mean_over_places(b0.keras_own, images)
    trapped = mean_over_places(b0.plain, images)
    assert np.abs(trapped - expected).max() > 0.1 * np.abs(expected).max()


def test_a_saved_efficientnet_predicts_the_same(b0, tmp_path, images):
    b0.by_path.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert_weights_equal(loaded, b0.by_path)
    np.testing.assert_allclose(outputs(loaded, images), outputs(b0.by_path, images), rtol=1e-5)


REAL = {
    "efficientnet_v2_b0": (
        "efficientnetv2b0_imagenet_notop.weights.h5",
        "keras.src.applications.efficientnet_v2.file_utils.get_file",
        lambda **settings: keras.applications.EfficientNetV2B0(**settings),
    ),
    "mobilenet_v2_035": (
        "mobilenet_v2_0.35_224_no_top.weights.h5",
        "keras.src.applications.mobilenet_v2.file_utils.get_file",
        lambda **settings: keras.applications.MobileNetV2(alpha=0.35, **settings),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_weights_are_those_that_keras_loads(shared, name):
    file, _, constructor = REAL[name]
    path = shared / "weights" / file
    if not path.is_file():
        pytest.skip(f"needs the weights {path}")
    side = 96
    grey = np.random.default_rng(1).integers(0, 256, (2, side, side))
    images = preprocessing_table(BACKBONES[name].preprocessing)[grey]
    theirs = constructor(include_top=False, weights=str(path), input_shape=(side, side, 3))
    expected = mean_over_places(theirs, images)
    ours = build_model(name, path, image_size=side)
    np.testing.assert_allclose(features(ours, images), expected, rtol=1e-4, atol=1e-5)


def test_real_imagenet_weights_are_those_of_the_path(shared, monkeypatch):
    file, download, _ = REAL["mobilenet_v2_035"]
    path = shared / "weights" / file
    if not path.is_file():
        pytest.skip(f"needs the weights {path}")
    ours = build_model("mobilenet_v2_035", path, image_size=96)
    monkeypatch.setattr(download, lambda *arguments, **settings: str(path))
    imagenet = build_model("mobilenet_v2_035", "imagenet", image_size=96)
    assert repr(shape_of_graph(imagenet)) == repr(shape_of_graph(ours))
    for mine, theirs in zip(ours.weights[:260], imagenet.weights[:260], strict=True):
        assert np.array_equal(mine.numpy(), theirs.numpy())  # the other 6 are the head's


def test_weights_as_text_or_path_and_random_otherwise(tmp_path, images):
    keras.utils.set_random_seed(1)
    first = build_model("small_cnn", None, image_size=SIZE)
    extractor = backbone_of(first)
    extractor.save_weights(tmp_path / "cnn.weights.h5")
    expected = features(first, images)
    for path in (tmp_path / "cnn.weights.h5", str(tmp_path / "cnn.weights.h5")):
        loaded = build_model("small_cnn", path, image_size=SIZE)
        assert_weights_equal(backbone_of(loaded), extractor)
        np.testing.assert_allclose(features(loaded, images), expected, rtol=1e-4, atol=1e-5)
    other = build_model("small_cnn", None, image_size=SIZE)
    assert not np.allclose(features(other, images), expected, rtol=0.1)


# Bad input


@pytest.mark.parametrize("weights", ["best.keras", "ImageNet", "", "weights.pkl"])
def test_weights_of_another_kind(weights):
    with pytest.raises(ValueError) as caught:
        build_model("small_cnn", weights)
    assert str(caught.value) == (
        "weights must be 'imagenet', None or the path of an .h5 file of backbone weights. "
        f"Received: {weights!r}."
    )


def test_weights_that_are_not_there(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    for path in (tmp_path / "none.h5", tmp_path / "folder.h5"):
        with pytest.raises(FileNotFoundError) as caught:
            build_model("small_cnn", path)
        assert str(caught.value) == (
            f"weights must be 'imagenet', None or the path of a file. There is none at {path}."
        )


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("file", ["other.weights.h5", "other.h5", "garbage.h5", "empty.weights.h5"])
def test_weights_that_do_not_fit(tmp_path, file):
    path = tmp_path / file
    if file.startswith("other"):
        other = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(5, 3)])
        other.save_weights(path) if ".weights" in file else other.save(path)
    else:
        path.write_bytes(b"" if file.startswith("empty") else b"no HDF5 " * 50)
    with pytest.raises(ValueError) as caught:
        build_model("small_cnn", path)
    assert str(caught.value).startswith(
        "the weights do not fit: expected those of small_cnn without its classifier. "
        f"Received: {path}, of which Keras says: "
    )


def test_small_cnn_has_no_imagenet_weights():
    with pytest.raises(ValueError) as caught:
        build_model("small_cnn", "imagenet")
    assert str(caught.value) == (
        "small_cnn has no ImageNet weights. Expected None (--weights none) or the path of an .h5 "
        "file. Received: 'imagenet'."
    )


def test_imagenet_weights_that_cannot_be_downloaded(monkeypatch):
    def refuse(**settings):
        raise Exception("URL fetch failure on https://weights: None -- no network")  # Keras' own

    monkeypatch.setattr(keras.applications, "MobileNetV2", refuse)
    with pytest.raises(ConnectionError, match=r"URL fetch failure .*Go online once, or give the"):
        build_model("mobilenet_v2", "imagenet")
