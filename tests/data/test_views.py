import pandas as pd
import pytest

from mura_tf.data.table import VIEW_COLUMNS
from mura_tf.data.views import load_mura, load_views


def test_load_views_recognises_mura(mura):
    pd.testing.assert_frame_equal(load_views(mura.parent), load_mura(mura))


def test_a_views_table_comes_back_from_its_csv(mura, tmp_path):
    views = load_mura(mura)
    views.loc[0, "patient"] = "007"
    views.to_csv(tmp_path / "views.csv", index=False)
    pd.testing.assert_frame_equal(load_views(tmp_path / "views.csv"), views)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("split,study_type\ntrain,elbow\n", "must be a views table, a CSV with the columns split,"),
        ("", "must be a views table"),
        (f"{','.join(VIEW_COLUMNS)}\ntrain,elbow,p,s,v,2,v.png\n", "Received: label '2'"),
        (f"{','.join(VIEW_COLUMNS)}\nheld,elbow,p,s,v,1,v.png\n", "Received: split 'held'"),
    ],
    ids=["a column missing", "empty", "another label", "another split"],
)
def test_a_csv_that_is_no_views_table(tmp_path, text, sentence):
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_views(tmp_path / "views.csv")
