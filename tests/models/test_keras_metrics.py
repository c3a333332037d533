import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from mura_tf.evaluation.metrics import cohen_kappa
from mura_tf.models.keras_metrics import CohenKappa, DataLoss, LabelAccuracy

WIDEST = keras.backend.standardize_dtype("float64")
"""jax has no float64 unless it is told to; whether it calls it so depends on its version."""


def kappa_of(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def random_binary(seed, size=200, shift=0.4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    probabilities = np.clip(0.3 + shift * labels + rng.normal(0, 0.25, size), 0, 1)
    return labels, probabilities.astype(np.float32)


@pytest.mark.parametrize("seed", range(10))
def test_binary_is_scikit_learns(seed):
    labels, probabilities = random_binary(seed, shift=np.linspace(-0.4, 0.8, 10)[seed])
    expected = cohen_kappa_score(labels, probabilities > 0.5)
    assert kappa_of(CohenKappa(), (labels, probabilities)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("floatx", ["float16", "float32", "float64"])
def test_the_counts_are_float32_at_least(floatx):
    """float16 counts to 2,048 only, after which nothing is added any more."""
    labels, probabilities = random_binary(0, size=10_000)
    expected = cohen_kappa_score(labels, probabilities > 0.5)
    batches = [(labels[start:][:32], probabilities[start:][:32]) for start in range(0, 10_000, 32)]
    keras.config.set_floatx(floatx)
    try:
        metric = CohenKappa()
        assert kappa_of(metric, *batches) == pytest.approx(expected, abs=1e-6)
        assert kappa_of(CohenKappa(dtype="float16"), *batches) == pytest.approx(expected, abs=1e-6)
    finally:
        keras.config.set_floatx("float32")
    assert metric.dtype == (WIDEST if floatx == "float64" else "float32")
    again = CohenKappa.from_config(metric.get_config())
    assert again.dtype == metric.dtype


@pytest.mark.parametrize("column", [(1,), ()])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_labels_and_probabilities_may_be_columns(column, dtype):
    labels, probabilities = random_binary(0)
    batch = labels.astype(dtype).reshape(-1, *column), probabilities.reshape(-1, 1)
    expected = cohen_kappa_score(labels, probabilities > 0.5)
    assert kappa_of(CohenKappa(), batch) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("one_hot", [False, True])
def test_k_classes_are_scikit_learns(num_classes, one_hot):
    rng = np.random.default_rng(num_classes)
    labels = rng.integers(0, num_classes, 300)
    scores = rng.random((300, num_classes)) + 0.6 * np.eye(num_classes)[labels]
    expected = cohen_kappa_score(labels, scores.argmax(axis=1))
    given = np.eye(num_classes)[labels] if one_hot else labels
    assert kappa_of(CohenKappa(num_classes=num_classes), (given, scores)) == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("num_classes,width", [(None, 2), (None, 3), (2, 1), (2, 3), (3, 2)])
def test_predictions_of_another_width_are_refused(num_classes, width):
    """Whose columns would be counted as views, or left out."""
    metric = CohenKappa(num_classes=num_classes)
    with pytest.raises(ValueError, match=rf"Received: the shape \(4, {width}\).*num_classes"):
        metric.update_state([0, 1, 0, 1], np.full((4, width), 0.3))


def test_a_label_that_is_not_known_is_no_normal_one():
    """XLA casts NaN to 0."""
    compiled = keras.backend.backend() != "torch"  # which has no XLA
    model = keras.Sequential([keras.Input((1,)), keras.layers.Identity()])
    model.compile(loss="mse", metrics=[CohenKappa()], jit_compile=compiled)
    inputs, labels = np.float32([[0], [0], [1], [1], [0]]), np.float32([0, 0, 1, 1, np.nan])
    said = model.evaluate(inputs, labels, return_dict=True, verbose=0)
    assert np.isnan(said["kappa"])


def test_as_many_rows_as_classes_is_no_one_hot():
    scores = np.eye(3)[[0, 1, 2]]
    assert kappa_of(CohenKappa(num_classes=3), ([0, 1, 2], scores)) == pytest.approx(1)
    assert kappa_of(CohenKappa(num_classes=3), ([[0], [1], [1]], scores)) == pytest.approx(
        cohen_kappa_score([0, 1, 1], [0, 1, 2]), abs=1e-6
    )


@pytest.mark.parametrize("num_classes", [None, 3])
def test_sample_weights_are_scikit_learns(num_classes):
    rng = np.random.default_rng(1)
    labels, weights = rng.integers(0, num_classes or 2, 100), rng.random(100)
    if num_classes:
        scores = rng.random((100, 3)) + 0.4 * np.eye(3)[labels]
        predictions = scores.argmax(axis=1)
    else:
        scores = rng.random(100)
        predictions = scores > 0.5
    expected = cohen_kappa_score(labels, predictions, sample_weight=weights)
    metric = CohenKappa(num_classes=num_classes)
    assert kappa_of(metric, (labels, scores, weights)) == pytest.approx(expected, abs=1e-5)
    metric.reset_state()
    assert kappa_of(metric, (labels, scores, weights[:, None])) == pytest.approx(expected, abs=1e-5)


def test_several_batches_are_one():
    labels, probabilities = random_binary(2, size=103)
    metric = CohenKappa()
    batches = [
        (labels[start : start + 8], probabilities[start : start + 8]) for start in range(0, 103, 8)
    ]
    assert kappa_of(metric, *batches) == pytest.approx(
        cohen_kappa_score(labels, probabilities > 0.5), abs=1e-5
    )
    metric.reset_state()
    assert float(metric.result()) == 0
    assert kappa_of(metric, ([0, 1], [0.1, 0.9])) == pytest.approx(1)


def test_the_threshold_itself_is_normal():
    assert kappa_of(CohenKappa(), ([0, 1], [0.5, 0.500001])) == pytest.approx(1)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_one_class_on_both_sides_is_0(label, size):
    assert kappa_of(CohenKappa(), (np.full(size, label), np.full(size, float(label)))) == 0


def test_one_class_on_both_sides_with_weights_is_0():
    weights = np.random.default_rng(0).random(99)
    assert kappa_of(CohenKappa(), (np.ones(99), np.ones(99), weights)) == 0
    assert kappa_of(CohenKappa(), ([0, 1], [0.1, 0.9], [0, 0])) == 0


def test_nothing_seen_is_0():
    assert float(CohenKappa().result()) == 0


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [([0, 0, 0], [0.9] * 3), ([0, 1, 1], [0.9] * 3), ([0, 1], [0.1] * 2)],
)
def test_one_constant_side_is_0(labels, probabilities):
    assert kappa_of(CohenKappa(), (labels, probabilities)) == pytest.approx(0, abs=1e-6)


def test_rare_classes_keep_three_digits():
    """Ten abnormal views in ten thousand, where 1 - p_e loses digits in float32."""
    labels = np.arange(10_000) < 10
    predictions = np.roll(labels, 3)
    expected = cohen_kappa(labels, predictions)
    assert kappa_of(CohenKappa(), (labels, predictions.astype(float))) == pytest.approx(
        expected, rel=1e-3
    )


def test_it_is_the_packages_numpy_kappa():
    labels, probabilities = random_binary(3)
    assert kappa_of(CohenKappa(), (labels, probabilities)) == pytest.approx(
        cohen_kappa(labels, probabilities > 0.5), abs=1e-6
    )


@pytest.mark.parametrize("num_classes", [-1, 0, 1])
def test_too_few_classes_get_a_sentence(num_classes):
    with pytest.raises(ValueError, match=f"None .binary. or at least 2. Received: {num_classes}"):
        CohenKappa(num_classes=num_classes)


# Serialisation and training


@pytest.mark.parametrize("settings", [{}, {"name": "k3", "num_classes": 3, "dtype": "float64"}])
def test_config_round_trip(settings):
    metric = CohenKappa(**settings)
    copy = CohenKappa.from_config(metric.get_config())
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    for other in (copy, again):
        assert type(other) is CohenKappa
        assert (other.name, other.num_classes, other.dtype) == (
            settings.get("name", "kappa"),
            settings.get("num_classes"),
            WIDEST if "dtype" in settings else "float32",
        )


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential(layers)
    model.compile("sgd", "binary_crossentropy", metrics=[CohenKappa()])
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 4)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0.3).astype(np.float32)


def test_fit_logs_val_kappa_of_the_whole_epoch(model, data):
    inputs, labels = data
    logs = model.fit(
        *data, validation_data=data, batch_size=8, epochs=2, verbose=0, sample_weight=labels + 1
    ).history
    assert {"kappa", "val_kappa"} <= set(logs)
    predictions = model.predict(inputs, verbose=0)[:, 0] > 0.5
    assert logs["val_kappa"][-1] == pytest.approx(cohen_kappa_score(labels, predictions), abs=1e-5)


def test_sample_weights_of_fit_do_not_weigh_the_metric(model, data):
    """`metrics` stay unweighted; `weighted_metrics` would be weighted."""
    labels = data[1]
    plain = model.evaluate(*data, verbose=0, return_dict=True)
    weighted = model.evaluate(*data, sample_weight=labels * 3 + 0.1, verbose=0, return_dict=True)
    assert weighted["kappa"] == pytest.approx(plain["kappa"], abs=1e-6)
    assert weighted["loss"] != pytest.approx(plain["loss"], rel=0.01)


def test_a_saved_model_brings_the_metric_back(model, data, tmp_path):
    model.fit(*data, verbose=0)
    before = model.evaluate(*data, verbose=0, return_dict=True)
    model.save(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")  # safe mode, no custom_objects
    assert loaded.evaluate(*data, verbose=0, return_dict=True) == pytest.approx(before, rel=1e-5)
    assert "kappa" in before


def test_under_mixed_precision_the_counts_stay_float32():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        metric = CohenKappa()
        labels = np.arange(5000) % 2  # float16 counts only to 2048
        assert kappa_of(metric, (labels, labels.astype(np.float16))) == pytest.approx(1)
        assert metric.confusion.dtype == "float32"
    finally:
        keras.mixed_precision.set_global_policy("float32")


# Labels that are mixed of two

MIXED = [0.1, 0.4, 0.7, 0.9, 1.0, 0.0]
SAID = [[0.2], [0.6], [0.8], [0.3], [0.9], [0.1]]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_mixed_label_counts_as_the_nearer_one(shape):
    labels, said = np.reshape(MIXED, shape).astype(np.float32), np.array(SAID, np.float32)
    nearer, decided = np.array(MIXED) > 0.5, said[:, 0] > 0.5
    metric = LabelAccuracy()
    metric.update_state(labels, said)
    assert float(metric.result()) == pytest.approx(accuracy_score(nearer, decided))
    expected = cohen_kappa_score(nearer, decided)
    assert kappa_of(CohenKappa(), (labels, said)) == pytest.approx(expected)
    assert 0 < expected < accuracy_score(nearer, decided) < 1


def test_the_accuracy_of_whole_labels_is_keras():
    labels, said = np.array([0, 1, 1, 0, 1]), np.array(SAID[:5], np.float32)
    ours, theirs = LabelAccuracy(), keras.metrics.BinaryAccuracy()
    for metric in (ours, theirs):
        metric.update_state(labels[:, None], said)
    assert float(ours.result()) == pytest.approx(float(theirs.result()))


# The loss without its penalty


@pytest.mark.parametrize("categorical", [False, True])
def test_the_data_loss_is_the_mean_over_all_views_of_the_weighted_cross_entropy(categorical):
    """Of batches of different sizes; weights of 0.2 do not count for less than a view."""
    rng = np.random.default_rng(0)
    given = rng.dirichlet(np.ones(3), 50).astype(np.float32)
    labels, weights = rng.integers(0, 3 if categorical else 2, 50), rng.uniform(0, 0.5, 50)
    if categorical:
        chances, truth = given[np.arange(50), labels], np.eye(3, dtype=np.float32)[labels]
    else:
        given = given[:, :1]
        chances, truth = np.where(labels == 1, given[:, 0], 1 - given[:, 0]), labels
    metric = DataLoss(categorical=categorical)
    for rows in (slice(0, 32), slice(32, 50)):
        metric.update_state(truth[rows], given[rows], weights[rows])
    assert float(metric.result()) == pytest.approx((weights * -np.log(chances)).mean(), rel=1e-5)
    again = DataLoss.from_config(metric.get_config())
    again.update_state(truth, given)
    assert float(again.result()) == pytest.approx(-np.log(chances).mean(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_data_loss_of_fit_is_the_loss_less_the_penalty(data, smoothing):
    inputs, labels = data
    for l2 in (0.0, 0.3):
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(
            1, activation="sigmoid", kernel_regularizer=keras.regularizers.L2(l2)
        )
        model = keras.Sequential([keras.Input((4,)), dense])
        model.compile(
            "sgd",
            keras.losses.BinaryCrossentropy(label_smoothing=smoothing),
            weighted_metrics=[DataLoss(label_smoothing=smoothing)],
        )
        found = model.evaluate(
            inputs, labels, sample_weight=labels * 3 + 0.1, verbose=0, return_dict=True
        )
        penalty = l2 * float((np.asarray(dense.kernel) ** 2).sum())
        assert (penalty > 0.01) == (l2 > 0)
        assert found["data_loss"] == pytest.approx(found["loss"] - penalty, rel=1e-5)


@pytest.mark.parametrize(
    ("classes", "labels"), [(None, [0, 1, 2]), (None, [-1, 1, 1]), (3, [1, 2, 3])]
)
def test_a_label_that_is_none_is_no_view_less(classes, labels):
    metric = CohenKappa(num_classes=classes)
    shape = (3, classes) if classes else (3,)
    metric.update_state(labels, np.random.default_rng(0).uniform(size=shape))
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize(
    ("classes", "labels", "predictions"),
    [
        (None, [0, 1, 1], [0.1, 0.9, np.nan]),
        (None, [0, 1, 1], [[0.1], [0.9], [np.inf]]),
        (2, [0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [np.nan, 0.5]]),
        (2, [[1, 0], [0, 1], [0, 0]], [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]),
        (2, [[1, 0], [0, 1], [np.nan, 1]], [[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]),
    ],
)
def test_what_is_no_class_is_no_view_less(classes, labels, predictions):
    metric = CohenKappa(num_classes=classes)
    metric.update_state(np.float32(labels), np.float32(predictions), [1, 1, 0])
    assert float(metric.result()) == pytest.approx(1)  # as it is masked
    metric.update_state(np.float32(labels), np.float32(predictions))
    assert np.isnan(float(metric.result()))


def test_a_masked_label_counts_for_nothing():
    metric = CohenKappa()
    metric.update_state([0, 1, -1], [0.2, 0.8, 0.5], sample_weight=[1, 1, 0])
    assert float(metric.result()) == pytest.approx(1.0)
