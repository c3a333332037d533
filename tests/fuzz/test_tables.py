"""Views CSVs and predictions tables: as the csv module has them, or refused."""

import csv
import io

import numpy as np
import pandas as pd
from fuzzing import ODD_TEXT, damaged, fuzzed, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from mura_tf.data.table import SPLITS, VIEW_COLUMNS
from mura_tf.data.views import load_views
from mura_tf.evaluation.predictions import read_predictions
from mura_tf.evaluation.scores import score_systems

NAMES = st.sampled_from(["007", "elbow", "image1.png", "p 1", "Röntgen", 'a"b', "x,y", "a;b"])
VIEWS = {
    "split": st.sampled_from([*SPLITS, "Train", "val"]),
    "study_type": st.sampled_from(["elbow", "wrist", "hand"]),
    "patient": NAMES,
    "study": NAMES,
    "view": st.integers(0, 10**6).map("{}.png".format),
    "label": st.sampled_from(["0", "1"]),
    "path": NAMES,
}
"""Column -> what its cells hold, where nothing is wrong."""
PREDICTIONS = VIEWS | {
    "split": st.sampled_from(SPLITS),
    "backbone": st.just("small_cnn"),
    "stage": st.sampled_from(["mura", "type"]),
    "repeat": st.integers(0, 1).map(str),
    "member": st.integers(0, 1).map(str),
    "probability": st.floats(0, 1).map(repr),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


@st.composite
def tables(draw, cells):
    """Rows of text by column, in any order of the columns, some cells of which may be odd."""
    columns = draw(st.permutations(list(cells)))
    row = st.fixed_dictionaries({name: cells[name] for name in columns})
    rows = draw(st.lists(row, min_size=1, max_size=6))
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 3))):
            draw(st.sampled_from(rows))[draw(st.sampled_from(columns))] = draw(ODD_TEXT)
    return rows


def csv_text(rows, separator=","):
    target = io.StringIO()
    writer = csv.DictWriter(target, list(rows[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()


@fuzzed(5)
@given(data=st.data())
def test_views(data, tmp_path_factory):
    rows = data.draw(tables(VIEWS))
    upper = data.draw(st.booleans())
    named = [{name.upper() if upper else name: row[name] for name in row} for row in rows]
    text = csv_text(named, data.draw(st.sampled_from(",;\t")))
    content = text.encode(data.draw(st.sampled_from(ENCODINGS)), "surrogatepass")
    if bytes_too := data.draw(st.integers(0, 2)) == 0:
        content = data.draw(damaged(content))
    path = tmp_path_factory.getbasetemp() / "views.csv"
    path.write_bytes(content)
    views = read_or_refused("views CSV", lambda: load_views(path))
    if views is None:
        return
    assert list(views) == VIEW_COLUMNS and len(views)
    assert set(views.split) <= set(SPLITS)
    assert views.label.isin([0, 1, pd.NA]).all()
    if not bytes_too:
        for name in ("study_type", "patient", "study", "view"):
            assert views[name].tolist() == [row[name] for row in rows]
        labels = ["" if pd.isna(label) else str(label) for label in views.label]
        assert labels == [row["label"] for row in rows]


@fuzzed(6)
@given(data=st.data())
def test_predictions(data, tmp_path_factory):
    rows = data.draw(tables(PREDICTIONS))
    content = csv_text(rows).encode("utf-8", "surrogatepass")
    if bytes_too := data.draw(st.integers(0, 2)) == 0:
        content = data.draw(damaged(content))
    path = tmp_path_factory.getbasetemp() / "predictions.csv"
    path.write_bytes(content)

    def read():
        predictions = read_predictions(path)
        return predictions, score_systems(predictions, intervals=False)

    found = read_or_refused("predictions", read)
    if found is None or bytes_too:
        return
    predictions, scores = found
    for name in ("patient", "study", "view", "path"):
        assert predictions[name].tolist() == [row[name] for row in rows]
    expected = [float(row["probability"]) for row in rows]
    assert np.array_equal(predictions.probability, expected, equal_nan=True)
    assert scores.n.gt(0).all() and scores.accuracy.between(0, 1).all()
