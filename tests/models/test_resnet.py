"""The ResNets, against what torchvision and keras-hub publish of theirs.

`keras_hub_resnets.json` is what `python tests/models/test_resnet.py` writes of keras-hub's.
"""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from mura_tf.models.backbones import BACKBONES
from mura_tf.models.build import build_model
from mura_tf.models.resnet import resnet

SIZE = 64


def outputs(model, images):
    """What `predict` gives, without the seconds that it needs to compile."""
    return keras.ops.convert_to_numpy(model(images, training=False))


RESNETS = {
    # name: torchvision's parameters with its classifier, blocks per stage, the block
    "resnet18": (11_689_512, (2, 2, 2, 2), [(3, "stride"), (3, 1)]),
    "resnet50_v1_5": (25_557_032, (3, 4, 6, 3), [(1, 1), (3, "stride"), (1, 1)]),
}


@pytest.mark.parametrize("name", RESNETS)
def test_torchvisions_resnets(name):
    """Table 1 of He et al., with the strides where torchvision has them; no biases."""
    parameters, blocks, block = RESNETS[name]
    model = build_model(name, None, image_size=SIZE, head=("pool",), classes=1000)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert trained == parameters
    assert {layer.use_bias for layer in model.layers if isinstance(layer, layers.Conv2D)} == {False}
    conv = {
        layer.name: (layer.kernel_size[0], layer.strides[0], layer.filters)
        for layer in model.layers
        if isinstance(layer, layers.Conv2D)
    }
    expected = {"conv1_conv": (7, 2, 64)}
    wide = 4 if len(block) == 3 else 1
    for stage, count in enumerate(blocks):
        filters = 64 * 2**stage
        for number in range(count):
            stride = 2 if stage and not number else 1
            key = f"stack{stage}_block{number}"
            for place, (side, step) in enumerate(block, start=1):
                width = filters * (wide if place == len(block) else 1)
                step = stride if step == "stride" else step
                expected[f"{key}_{place}_conv"] = (side, step, width)
            if not number and (stage or wide > 1):
                expected[f"{key}_0_conv"] = (1, stride, filters * wide)
    assert conv == expected
    sides = [model.get_layer(f"stack{stage}_block0_out").output.shape[1] for stage in range(4)]
    assert sides == [SIZE // 4, SIZE // 8, SIZE // 16, SIZE // 32]


def test_keras_own_resnet50_strides_in_its_first_convolution():
    """So it is another network than torchvision's."""
    model = build_model("resnet50", None, image_size=SIZE)
    strides = {
        layer.name: layer.strides[0]
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.strides[0] > 1
    }
    shortcuts = {f"conv{stage}_block1_{place}_conv": 2 for stage in (3, 4, 5) for place in (0, 1)}
    assert strides == {"conv1_conv": 2} | shortcuts


def test_a_convolution_with_a_stride_is_padded_as_in_pytorch():
    """On both sides alike: Keras' "same" would see another window of an even image."""
    model = build_model("resnet18", None, image_size=SIZE)
    images = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype("float32")
    found = outputs(keras.Model(model.input, model.get_layer("conv1_conv").output), images)
    (kernel,) = model.get_layer("conv1_conv").get_weights()
    padded = np.pad(images[0], ((3, 3), (3, 3), (0, 0)))
    for row, column in ((0, 0), (0, 31), (17, 5), (31, 31)):
        window = padded[2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
        expected = np.einsum("yxc,yxcf->f", window, kernel)
        np.testing.assert_allclose(found[0, row, column], expected, rtol=1e-4, atol=1e-5)


HUBS = Path(__file__).with_name("keras_hub_resnets.json")


def of_keras_hub(name):
    """keras-hub's network, of random weights; a test that needs it is skipped without it."""
    models = pytest.importorskip("keras_hub.models")
    _, blocks, block = RESNETS[name]
    keras.utils.set_random_seed(0)
    return models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block" if len(block) == 3 else "basic_block",
        image_shape=(SIZE, SIZE, 3),
    )


def told(network):
    """Its layers with the shapes of their weights, and features under weights of a rule."""
    found = {layer.name: [list(one.shape) for one in layer.weights] for layer in network.layers[1:]}
    for number, weight in enumerate(network.weights):
        rng = np.random.default_rng(number)
        if len(weight.shape) == 4:
            weight.assign(rng.normal(0, math.prod(weight.shape[:3]) ** -0.5, weight.shape))
        else:  # of a batch normalization, whose variance is one of them
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    return {"layers": found, "features": outputs(network, images)[..., :4].ravel().tolist()}


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_are_what_was_told_of_keras_hubs(name):
    expected = json.loads(HUBS.read_text(encoding="utf-8"))[name]
    ours = told(resnet(SIZE, **BACKBONES[name].arguments))
    assert list(ours["layers"].items()) == list(expected["layers"].items())
    assert np.std(expected["features"]) > 0.1
    np.testing.assert_allclose(ours["features"], expected["features"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_are_keras_hubs_weight_for_weight(name, tmp_path):
    theirs = of_keras_hub(name)
    images = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    theirs.save_weights(tmp_path / "hub.weights.h5")
    ours = build_model(name, tmp_path / "hub.weights.h5", image_size=SIZE)
    names = [layer.name for layer in theirs.layers[1:]]
    assert [layer.name for layer in ours.layers[1 : 1 + len(names)]] == names
    part = keras.Model(ours.input, ours.get_layer("pool").input)
    expected = outputs(theirs, images)
    np.testing.assert_allclose(outputs(part, images), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def keras_hub(monkeypatch):
    """A stand-in for the package, whose presets are networks of random weights."""
    made = {}

    class ResNetBackbone:
        @staticmethod
        def from_preset(preset):
            name = {facts.constructor: name for name, facts in BACKBONES.items()}[
                f"keras_hub:{preset}"
            ]
            made[name] = resnet(32, **BACKBONES[name].arguments)
            for weight in made[name].weights:
                weight.assign(np.random.default_rng(0).uniform(0.5, 1, weight.shape))
            return made[name]

    package = SimpleNamespace(ResNetBackbone=ResNetBackbone)
    monkeypatch.setitem(sys.modules, "keras_hub", SimpleNamespace(models=package))
    monkeypatch.setitem(sys.modules, "keras_hub.models", package)
    return SimpleNamespace(made=made, ResNetBackbone=ResNetBackbone)


@pytest.mark.parametrize("name", RESNETS)
def test_imagenet_weights_of_a_resnet_are_keras_hubs(keras_hub, name):
    model = build_model(name, "imagenet", image_size=SIZE)
    weights = keras_hub.made[name].get_weights()
    assert len(weights) >= 100
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), weights, strict=False))


def test_a_resnets_weights_that_cannot_be_downloaded(keras_hub):
    def refuse(preset):
        raise OSError("no network")  # a requests.ConnectionError is one

    keras_hub.ResNetBackbone.from_preset = refuse
    with pytest.raises(ConnectionError, match=r"no network\. Go online once, or give the path"):
        build_model("resnet50_v1_5", "imagenet", image_size=SIZE)


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnets_weights_without_keras_hub_name_the_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "keras_hub.models", None)
    with pytest.raises(ImportError, match=r"the extra, pip install 'mura-tf\[resnet\]', or give"):
        build_model(name, "imagenet")


if __name__ == "__main__":
    content = {name: told(of_keras_hub(name)) for name in RESNETS}
    HUBS.write_text(json.dumps(content) + "\n", encoding="utf-8")
