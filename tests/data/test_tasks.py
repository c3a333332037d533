import numpy as np
import pandas as pd
import pytest

from mura_tf.data.tasks import abnormality_of, class_names, class_of, targets_of, type_and_label

VIEWS = pd.DataFrame({"study_type": ["wrist", "elbow", "wrist", "elbow"], "label": [0, 1, 1, 1]})
PAIRS = ("normal elbow", "abnormal elbow", "normal wrist", "abnormal wrist")


@pytest.mark.parametrize(
    ("task", "classes", "targets"),
    [
        ("abnormality", (), [0, 1, 1, 1]),
        ("study_type", ("elbow", "wrist"), [[0, 1], [1, 0], [0, 1], [1, 0]]),
        (
            "type_and_abnormality",
            PAIRS,
            [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]],
        ),
    ],
)
def test_classes_and_targets(task, classes, targets):
    assert class_names(VIEWS, task) == classes
    found = targets_of(VIEWS, task, classes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, targets)


def test_mura_has_fourteen_classes():
    types = ["elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist"]
    views = pd.DataFrame({"study_type": types, "label": 0})
    assert len(class_names(views, "type_and_abnormality")) == 14


def test_abnormality_is_the_sum_over_the_abnormal_classes():
    probabilities = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0], [0, 0.5, 0, 0.5]])
    np.testing.assert_allclose(abnormality_of(probabilities, PAIRS), [0.6, 0, 1])
    assert np.isnan(abnormality_of(probabilities[:, :2], ("elbow", "wrist"))).all()


def test_a_probability_that_float32_puts_past_1_is_1():
    outputs = np.array([[1.0000002], [-1e-9], [0.3]], np.float32)
    np.testing.assert_allclose(abnormality_of(outputs, ()), [1, 0, 0.3])
    assert abnormality_of(outputs, ()).max() <= 1


def test_a_class_called_abnormally_is_no_abnormal_class():
    assert np.isnan(abnormality_of(np.array([[1.0]]), ("abnormality",))).all()


@pytest.mark.parametrize("task", ["study_type", "type_and_abnormality"])
def test_a_class_names_what_it_stands_for(task):
    for view, name in zip(VIEWS.itertuples(), class_of(VIEWS, task), strict=True):
        label = view.label if task == "type_and_abnormality" else None
        assert type_and_label(name) == (view.study_type, label)
