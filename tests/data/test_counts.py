import pandas as pd
import pytest
from run_folders import TYPES
from table_i import table_i_views

from mura_tf.data.counts import class_weights, summarize
from mura_tf.data.views import load_mura

LABELS = ["Normal", "Abnormal"]


def test_class_weights():
    weights = class_weights(table_i_views().query("split == 'train'"))
    assert list(weights) == TYPES
    assert weights["elbow"] == pytest.approx((2006 / 4931, 2925 / 4931))
    assert weights["shoulder"] == pytest.approx((4168 / 8379, 4211 / 8379))


def test_class_weights_of_one_class():
    views = pd.DataFrame({"study_type": ["knee", "knee"], "label": [1, 1]})
    assert class_weights(views) == {"knee": (1.0, 0.0)}


def test_summarize_published():
    table = summarize(table_i_views())
    assert table.attrs == {"published": True, "differences": []}
    rows = [(name, label) for name in [*TYPES, "All types"] for label in LABELS]
    assert table.index.to_list() == [*rows, ("Total", "")]
    assert table.columns.to_list() == [
        ("train", "Studies"),
        ("train", "Images"),
        ("valid", "Studies"),
        ("valid", "Images"),
    ]
    assert table.loc[("elbow", "Abnormal")].tolist() == [660, 2006, 66, 230]
    assert table.loc[("Total", "")].tolist() == [13457, 36808, 1199, 3197]


def test_summarize_with_a_study_less():
    views = table_i_views()
    table = summarize(views[views["patient"] != "train-hand-0-0"])
    assert table.attrs["published"] is False
    assert table.attrs["differences"] == [
        "train, hand Normal: 1496 studies, Table I has 1497.",
        "train, hand Normal: 4056 images, Table I has 4059.",
        "train, All types Normal: 8279 studies, Table I has 8280.",
        "train, All types Normal: 21932 images, Table I has 21935.",
        "train, Total: 13456 studies, Table I has 13457.",
        "train, Total: 36805 images, Table I has 36808.",
    ]


def test_summarize_other_data(mura):
    table = summarize(load_mura(mura))
    assert table.attrs == {"published": None, "differences": []}
    assert table.loc[("elbow", "Abnormal")].tolist() == [2, 4, 1, 1]
    assert table.loc[("Total", "")].tolist() == [5, 7, 4, 4]
    train_only = table_i_views().query("split == 'train'")
    assert summarize(train_only).attrs["published"] is None


def test_class_weights_count_known_labels_alone():
    views = pd.DataFrame(
        {"study_type": ["knee", "knee", "knee", "hip"], "label": [1, 0, None, None]}
    )
    for labels in (views.label, views.label.astype("Int64")):
        assert class_weights(views.assign(label=labels)) == {"knee": (0.5, 0.5)}
