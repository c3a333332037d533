"""Backbones and heads: their facts, their architecture, and what is refused."""

import importlib
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from networks import assert_weights_equal, outputs

from mura_tf.data.pipeline import preprocessing_table
from mura_tf.models.backbones import BACKBONES
from mura_tf.models.build import build_model

TABLE_III = {
    # backbone: ImageNet top-1, parameters, input resolution
    "mobilenet_v2": (0.747, 2_264_385, 300),
    "densenet169": (0.762, 12_651_201, 300),
    "efficientnet_b0": (0.763, 4_055_972, 224),
    "efficientnet_b1": (0.788, 6_581_640, 240),
    "xception": (0.790, 20_871_721, 300),
    "efficientnet_b2": (0.798, 7_775_610, 260),
    "efficientnet_b3": (0.811, 10_791_216, 300),
}

# of the others: `include_top=False` (Keras' own count, torchvision's for two ResNets) and the head,
# 4 numbers of batch norm and 1 weight per feature, and 1 bias
VGG = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
PLAIN = [
    # 3x3 convolutions with biases, which batch normalization's 4 numbers a filter replace
    ("cnn_2", (32, 64), 9 * (3 * 32 + 32 * 64) + 96),
    ("cnn_4", (32, 64, 128, 256), 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 480),
    ("cnn_13", VGG, 14_714_688),  # VGG-16 without its classifier
]
OTHER_COUNTS = {
    "densenet121": 7_037_504 + 5 * 1024 + 1,
    "resnet18": 11_176_512 + 2 * 4800 + 5 * 512 + 1,  # torch does not count moving statistics
    "resnet50": 23_587_712 + 5 * 2048 + 1,
    "resnet50_v1_5": 23_508_032 + 2 * 26_560 + 5 * 2048 + 1,
    "efficientnet_v2_b0": 5_919_312 + 5 * 1280 + 1,
    "mobilenet_v2_035": 410_208 + 5 * 1280 + 1,
    # a 5x5 and three 3x3 convolutions without bias, each with 4 numbers of batch norm per filter
    **{
        name + suffix: plain + 5 * filters[-1] + 1 + (3 * sum(filters) if suffix else 0)
        for name, filters, plain in PLAIN
        for suffix in ("", "_bn")
    },
    "small_cnn": 75 * 16 + 9 * (16 * 32 + 32 * 64 + 64 * 64) + 4 * 176 + 5 * 64 + 1,
}
COUNTS = {name: count for name, (_, count, _) in TABLE_III.items()} | OTHER_COUNTS
SIZE = 64  # the counts do not depend on it


@pytest.fixture(scope="module")
def built():
    """name -> what is to know of its model at 64 px; each is built once and let go."""
    known = {}

    def build(name):
        if name not in known:
            model = build_model(name, weights=None, image_size=75 if name == "xception" else SIZE)
            known[name] = SimpleNamespace(
                count=model.count_params(),
                name=model.name,
                inputs=model.input_shape,
                outputs=model.output_shape,
                layers=[type(layer) for layer in model.layers],
                nested=[layer.name for layer in model.layers if isinstance(layer, keras.Model)],
                frozen=[layer.name for layer in model.layers if not layer.trainable],
                fixed={weight.path.split("/")[-1] for weight in model.non_trainable_weights},
                trainable=len(model.trainable_weights),
                head=[layer.get_config() for layer in model.layers[-4:]],
            )
        return known[name]

    return build


# Facts


def test_no_backbone_is_missing_from_these_tests():
    assert set(COUNTS) == set(BACKBONES)


@pytest.mark.parametrize("name", TABLE_III)
def test_the_registry_is_table_iii(name):
    facts = BACKBONES[name]
    assert (facts.top1, facts.parameters, facts.image_size) == TABLE_III[name]


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(built, name):
    assert built(name).count == COUNTS[name] == BACKBONES[name].parameters


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2_035"])
def test_the_default_side_is_the_backbones(name):
    model = build_model(name, weights=None)
    assert model.input_shape == (None, *[BACKBONES[name].image_size] * 2, 3)
    assert model.count_params() == COUNTS[name]


@pytest.mark.parametrize(
    "name", [name for name, facts in BACKBONES.items() if facts.constructor.startswith("keras:")]
)
def test_the_native_preprocessing_is_keras(name):
    constructor = getattr(keras.applications, BACKBONES[name].constructor.removeprefix("keras:"))
    module = importlib.import_module(constructor.__module__)
    grey = np.arange(256, dtype=np.float32)[None, :, None, None].repeat(3, axis=-1)
    expected = np.asarray(module.preprocess_input(grey.copy())).reshape(256, 3)
    table = preprocessing_table(BACKBONES[name].preprocessing)
    np.testing.assert_allclose(table, expected, atol=3e-5)


# Architecture


@pytest.mark.parametrize("name", COUNTS)
def test_the_model_is_flat_and_named(built, name):
    facts = built(name)
    assert facts.nested == []
    assert facts.name == name
    side = 75 if name == "xception" else SIZE
    assert facts.inputs == (None, side, side, 3)
    assert facts.outputs == (None, 1)


@pytest.mark.parametrize("name", COUNTS)
def test_the_head_is_table_ii(built, name):
    facts = built(name)
    assert facts.layers[-4:] == [
        layers.GlobalAveragePooling2D,
        layers.BatchNormalization,
        layers.Dropout,
        layers.Dense,
    ]
    dropout, dense = facts.head[2:]
    assert dropout["rate"] == 0.5
    assert (dense["units"], dense["activation"], dense["use_bias"]) == (1, "sigmoid", True)
    assert dense["kernel_initializer"]["class_name"] == "GlorotNormal"


@pytest.mark.parametrize("name", COUNTS)
def test_nothing_is_frozen(built, name):
    facts = built(name)
    assert facts.frozen == []
    statistics = {"moving_mean", "moving_variance", "mean", "variance", "count"}
    assert facts.fixed - statistics <= {"seed_generator_state"}
    assert facts.trainable >= 8


def test_the_heads_kernel_is_glorot_normal():
    """Its deviation is sqrt(2 / (fan_in + fan_out)), cut off at two deviations."""
    keras.utils.set_random_seed(0)
    draws = [
        build_model("small_cnn", None).get_layer("probability").get_weights()[0] for _ in "abc"
    ]
    expected = (2 / (len(draws[0]) + 1)) ** 0.5
    assert np.std(draws) == pytest.approx(expected, rel=0.15)
    assert np.abs(draws).max() <= 2 * expected / 0.87962566 + 1e-6


FIFTEEN = ("pool", "dense:1024:relu")
SIXTEEN = (
    "squeeze_excite:16",
    "attention:3",
    "dropout:0.5",
    "pool",
    "dropout:0.7",
    "residual:512:0.7",
    "dropout:0.7",
    "dense:256:relu",
    "dropout:0.6",
)


@pytest.mark.parametrize(
    ("head", "trainable", "total", "fixed"),
    [(FIFTEEN, "none", 8_101_454, 7_037_504), (SIXTEEN, "all", 10_722_705, 86_720)],
    ids=["Fig. 15", "Fig. 16"],
)
def test_the_heads_of_003_have_its_parameter_counts(head, trainable, total, fixed):
    model = build_model("densenet121", None, head=head, classes=14, trainable=trainable)
    assert model.count_params() == total
    assert sum(math.prod(weight.shape) for weight in model.non_trainable_weights) == fixed


def test_a_squeeze_to_nothing_is_refused():
    build_model("small_cnn", None, image_size=SIZE, head=("squeeze_excite:64", "pool"))
    with pytest.raises(ValueError, match=r"at most\. Received: 'squeeze_excite:9999'\."):
        build_model("small_cnn", None, image_size=SIZE, head=("squeeze_excite:9999", "pool"))


def test_classes_are_a_distribution(images):
    model = build_model("small_cnn", None, image_size=SIZE, classes=5)
    distribution = model.predict(images, verbose=0)
    assert distribution.shape == (3, 5)
    np.testing.assert_allclose(distribution.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainable", "frozen"),
    [
        ("all", []),
        ("none", [1, 2, 3, 4]),
        ("last:1", [1, 2, 3]),
        ("last:3", [1]),
        ("from:stage3_conv", [1, 2]),
    ],
)
def test_what_is_frozen(trainable, frozen):
    model = build_model("small_cnn", None, trainable=trainable)
    for stage in range(1, 5):
        for layer in ("conv", "norm"):
            assert model.get_layer(f"stage{stage}_{layer}").trainable == (stage not in frozen)
    assert model.get_layer("probability").trainable


@pytest.mark.parametrize(
    ("backbone", "first"),
    [("efficientnet_b0", "block6a_expand_conv"), ("mobilenet_v2_035", "block_13_expand")],
)
def test_blocks_are_those_of_the_name(backbone, first):
    """Five blocks: EfficientNet-B0's 6a to 6d and 7a; the last four of MobileNetV2's, counted."""
    count = {"efficientnet_b0": 5, "mobilenet_v2_035": 4}[backbone]
    model = build_model(backbone, None, image_size=32, trainable=f"blocks:{count}")
    names = [layer.name for layer in model.layers]
    for layer in model.layers:
        assert layer.trainable == (names.index(layer.name) >= names.index(first))


def test_separable_convolutions_count_as_convolutions():
    model = build_model("xception", None, trainable="last:1")
    trained = [layer.name for layer in model.layers if layer.weights and layer.trainable]
    assert trained[:2] == ["block14_sepconv2", "block14_sepconv2_bn"]


def test_a_layer_without_a_name_of_its_own_is_the_same_in_every_model():
    """Keras numbers Xception's shortcuts on from one model of a process to the next."""
    first = []
    for _ in range(2):
        model = build_model("xception", None, image_size=96, trainable="from:conv2d_2")
        places = [place for place, one in enumerate(model.layers) if one.weights and one.trainable]
        first.append(places[0])
        assert isinstance(model.layers[places[0]], keras.layers.Conv2D)
    assert first[0] == first[1]


@pytest.mark.parametrize(
    ("trainable", "sentence"),
    [
        ("last:5", r"needs that many convolutions\. Received: 'last:5' for a backbone with 4"),
        ("blocks:1", r"needs that many blocks\. Received: 'blocks:1' for a backbone with 0"),
        ("from:stage9_conv", r"needs a layer of the backbone\. Received: 'stage9_conv'\. Near"),
    ],
)
def test_a_layer_that_is_not_there(trainable, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_model("small_cnn", None, trainable=trainable)


def test_regularization_is_of_the_heads_dense_kernels():
    model = build_model("small_cnn", None, head=("pool", "dense:8:relu"), l1=0.1, l2=0.2)
    kernels = [model.get_layer(name).kernel for name in ("head1_dense", "probability")]
    expected = sum(0.1 * np.abs(kernel).sum() + 0.2 * np.square(kernel).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("head", [FIFTEEN, SIXTEEN, ("flatten", "dense:8", "dropout:0.5")])
def test_every_dense_kernel_of_the_head_is_regularized(head):
    model = build_model("small_cnn", None, image_size=SIZE, head=head, classes=3, l1=0.1, l2=0.2)
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)]
    assert len(dense) == (7 if head == SIXTEEN else 2)
    for layer in dense:
        settings = keras.regularizers.serialize(layer.kernel_regularizer)["config"]
        assert settings == pytest.approx({"l1": 0.1, "l2": 0.2}), layer.name
    assert len(model.losses) == len(dense)


# Batch normalization


def norms(model):
    """Name -> momentum, epsilon of each batch normalization."""
    return {
        layer.name: (layer.momentum, layer.epsilon)
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    }


HEAD_WITH_NORM = ("pool", "batch_norm", "residual:8:0.5")


@pytest.mark.parametrize("name", ["cnn_2_bn", "small_cnn", "mobilenet_v2_035", "resnet18"])
def test_batch_norm_of_pytorch(name, tmp_path):
    own = norms(build_model(name, None, image_size=SIZE, head=HEAD_WITH_NORM))
    model = build_model(name, None, image_size=SIZE, head=HEAD_WITH_NORM, batch_norm="torch")
    model.save(tmp_path / "best.keras")
    found = norms(keras.models.load_model(tmp_path / "best.keras"))
    assert list(found) == list(own)
    assert len(found) >= 4 + 2
    for layer, (momentum, epsilon) in found.items():
        pretrained = name == "mobilenet_v2_035" and not layer.startswith("head")
        assert momentum == 0.9
        assert epsilon == (own[layer][1] if pretrained else 1e-5), layer


def test_own_batch_norm_is_keras():
    """Another momentum of the head, or another epsilon, would be other bits of the paper's."""
    assert norms(build_model("mobilenet_v2_035", None))["head1_batch_norm"] == (0.99, 1e-3)
    keras_own = norms(keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False))
    assert keras_own.items() <= norms(build_model("mobilenet_v2_035", None)).items()


def test_batch_norm_moves_as_pytorchs():
    """running = 0.9 running + 0.1 batch, from mean 0 and variance 1."""
    model = build_model("cnn_2_bn", None, image_size=32, head=("pool",), batch_norm="torch")
    images = np.random.default_rng(0).normal(2, 3, (4, 32, 32, 3)).astype("float32")
    before = keras.Model(model.input, model.get_layer("conv1").output)
    maps = outputs(before, images)
    model(images, training=True)
    norm = model.get_layer("conv1_norm")
    mean, variance = maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean, 0.1 * mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-3)


def test_an_unknown_batch_norm():
    with pytest.raises(ValueError, match=r"must be one of own, torch\. Received: 'pytorch'"):
        build_model("small_cnn", None, batch_norm="pytorch")


def test_the_output_is_a_probability_of_float32(images):
    probabilities = build_model("small_cnn", None, image_size=SIZE).predict(images, verbose=0)
    assert probabilities.shape == (3, 1) and probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2_035"])
def test_mixed_precision_keeps_the_output_float32(images, name):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = build_model(name, None, image_size=SIZE)
        probabilities = outputs(model, images)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert probabilities.dtype == np.float32
    assert np.isfinite(probabilities).all()
    assert model.get_layer("probability").compute_dtype == "float32"
    assert model.get_layer("pool").compute_dtype == "float16"
    assert {weight.dtype for weight in model.weights} <= {"float32", "uint32"}
    assert model.count_params() == COUNTS[name]


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2_035", "resnet18"])
def test_a_saved_model_predicts_the_same(tmp_path, images, name):
    model = build_model(name, None, image_size=SIZE)
    before = outputs(model, images)
    model.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")  # safe mode, no custom objects
    assert_weights_equal(loaded, model)
    np.testing.assert_allclose(outputs(loaded, images), before, rtol=1e-5)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


# Bad input


def test_an_unknown_backbone_gets_the_list():
    with pytest.raises(ValueError) as caught:
        build_model("vgg16", None)
    assert str(caught.value) == (
        f"backbone must be one of {', '.join(BACKBONES)}. Received: 'vgg16'."
    )


def test_xception_takes_less_than_71_pixels(tmp_path):
    """Keras' refuses them; the tables' small runs are of 64."""
    model = build_model("xception", None, image_size=64)
    assert model.count_params() == 20_871_721
    model.save(tmp_path / "small.keras")
    reloaded = keras.models.load_model(tmp_path / "small.keras")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(reloaded.predict(images), model.predict(images), rtol=1e-5)


def test_a_distribution_has_two_classes_or_more():
    with pytest.raises(ValueError, match=r"from 2 up\. Received: 1"):
        build_model("small_cnn", None, classes=1)
