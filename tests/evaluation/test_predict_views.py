"""Models and views on disk -> a predictions table."""

from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from networks import of_one_convolution

from mura_tf.data.pipeline import preprocessing_table
from mura_tf.data.radiograph import read_radiograph
from mura_tf.data.views import load_mura
from mura_tf.evaluation.predictions import predict_views
from mura_tf.evaluation.scores import score_systems
from mura_tf.training.run import load_predictions

SYSTEM = ["backbone", "stage", "repeat"]


@pytest.fixture(scope="module")
def tiny():
    return of_one_convolution()


def test_predict_views_keeps_rows_order_and_columns(mura, tiny):
    views = load_mura(mura)
    table = predict_views(tiny, views, stage="mura", repeat=1, member=2)
    assert list(table) == [*views, *SYSTEM, "member", "probability"]
    pd.testing.assert_frame_equal(table[list(views)], views)
    assert table[[*SYSTEM, "member"]].drop_duplicates().to_numpy().tolist() == [
        ["tiny", "mura", 1, 2]
    ]
    assert table.probability.dtype == np.float64
    assert table.probability.between(0, 1).all()
    assert table.probability.nunique() == len(views)
    assert predict_views(tiny, views[:2], backbone="mine").backbone.tolist() == ["mine"] * 2


def test_what_another_model_said_of_the_views_is_dropped(mura, tiny):
    views = load_mura(mura)
    others = views.assign(**{"p:normal elbow": 1.0, "weight": 2.0, "system": "other"})
    assert list(predict_views(tiny, others)) == list(predict_views(tiny, views))


@pytest.mark.parametrize("preprocessing", ["caffe", "tf"])
def test_predict_views_is_the_models_word_on_each_image(mura, tiny, preprocessing):
    """The images are 12 x 10; each is resized and padded on its own here, by TensorFlow."""
    views = load_mura(mura)
    table = predict_views(tiny, views, preprocessing=preprocessing)
    for path, probability in zip(table.path, table.probability, strict=True):
        grey = tf.image.resize_with_pad(read_radiograph(path)[..., None], 32, 32)
        level = np.rint(grey[..., 0]).astype(int)
        image = preprocessing_table(preprocessing)[level]
        assert probability == pytest.approx(float(tiny(image[None])[0, 0]), abs=5e-3)


def test_predict_views_does_not_depend_on_batches_or_the_order_of_rows(mura, tiny):
    views = load_mura(mura)
    table = predict_views(tiny, views)
    small = predict_views(tiny, views, batch_size=3)
    np.testing.assert_allclose(small.probability, table.probability, atol=1e-5)
    shuffled = views.sample(frac=1, random_state=0)
    mixed = predict_views(tiny, shuffled)
    assert mixed.index.equals(pd.RangeIndex(len(views)))
    assert mixed.path.tolist() == shuffled.path.tolist()
    by_path = mixed.set_index("path").probability[table.path]
    np.testing.assert_allclose(by_path, table.probability, atol=1e-5)


def test_a_predicted_table_is_scored_to_the_end(mura, tiny, tmp_path):
    views = load_mura(mura).query("split == 'valid'")
    table = predict_views(tiny, views)
    table.to_csv(tmp_path / "predictions.csv", index=False)
    scores = score_systems(load_predictions([tmp_path]))
    assert scores.study_type.tolist() == ["elbow", "wrist", "overall"]
    assert scores.n.tolist() == [2, 2, 4]


def test_a_model_of_another_library_is_enough(mura):
    """Anything with `input_shape`, `name` and `predict`, as the docstring's model has them."""
    level = SimpleNamespace(
        input_shape=(None, 32, 32, 3),
        name="mean",
        predict=lambda batches, verbose: np.concatenate(
            [images.numpy().mean(axis=(1, 2, 3))[:, None] / 255 for images, _, _ in batches]
        ),
    )
    views = load_mura(mura)
    table = predict_views(level, views, preprocessing="raw")
    assert table.backbone.unique().tolist() == ["mean"]
    assert table.probability.between(0.3, 0.7).all()


@pytest.mark.parametrize(
    ("shape", "outputs", "sentence"),
    [
        ((None, None, None, 3), 1, r"square of a fixed size .* \(None, None, None, 3\)"),
        ((None, 32, 32, 1), 1, r"3 channels.* \(None, 32, 32, 1\)"),
        ((None, 32, 32, 3), 2, r"Received: \(11, 2\) and 0 classes.*model.output\[:, 1:\]"),
    ],
)
def test_a_model_of_another_form_gets_a_sentence(mura, shape, outputs, sentence):
    model = SimpleNamespace(
        input_shape=shape, name="other", predict=lambda batches, verbose: np.ones((11, outputs))
    )
    with pytest.raises(ValueError, match=sentence):
        predict_views(model, load_mura(mura))


def test_a_model_that_says_no_number_gets_a_sentence(mura):
    model = of_one_convolution()
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    with pytest.raises(ValueError, match=r"be probabilities.*Received: \[nan\] and 2 others"):
        predict_views(model, load_mura(mura)[:3])


@pytest.mark.parametrize(("bias", "said"), [(3.0, r"\[3\."), (-2.0, r"\[-2\.")])
def test_a_model_without_a_sigmoid_gets_a_sentence(mura, bias, said):
    images = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    logits = keras.layers.Dense(1, kernel_initializer="zeros")(pooled)
    model = keras.Model(images, logits)
    model.layers[-1].bias.assign([bias])
    with pytest.raises(ValueError, match=f"must be probabilities.*Received: {said}.*sigmoid"):
        predict_views(model, load_mura(mura)[:3])
