import shutil

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.check import check_dataset
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


def test_labels_as_pandas_writes_them_beside_unknown_ones(mura, tmp_path):
    views = load_mura(mura)
    labels = views.label.astype(float)
    labels[views.split == "valid"] = np.nan
    views.assign(label=labels).to_csv(tmp_path / "views.csv", index=False)  # 1.0, 0.0 and none
    text = (tmp_path / "views.csv").read_text()
    assert ",1.0," in text
    found = load_views(tmp_path / "views.csv")
    assert found.label.isna().equals(views.split == "valid")
    known = views.split == "train"
    assert found.label[known].tolist() == views.label[known].tolist()
    (tmp_path / "views.csv").write_text(text.replace(",1.0,", ", 1 ,"))
    assert load_views(tmp_path / "views.csv").equals(found)


def test_a_csv_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"there is no file '.*gone\.csv'. Expected a views"
    ):
        load_views(tmp_path / "gone.csv")
    assert check_dataset(tmp_path / "gone.csv").problem.tolist() == ["no data set"]


def test_a_folders_name_contradicts_no_csv(tmp_path, mura):
    """What a folder is called says something in MURA's layout alone."""
    views = load_mura(mura)
    other = tmp_path / "covid_negative"
    other.mkdir()
    paths = [shutil.copy(path, other / f"{row}.png") for row, path in enumerate(views.path)]
    views.assign(path=paths).to_csv(tmp_path / "views.csv", index=False)
    assert check_dataset(tmp_path / "views.csv").empty
