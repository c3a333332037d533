"""A predictions table's file."""

import numpy as np
import pytest
from prediction_tables import figure_1, predictions_of

from mura_tf.evaluation.predictions import read_predictions
from mura_tf.evaluation.scores import study_probabilities


def test_predictions_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    hard = [0.1 + 0.2, 1 / 3, 5e-324, 1 - 2**-53, 0.0, 1.0, np.float64(np.float32(0.7))]
    table = predictions_of(60)
    table["probability"] = np.concatenate([hard, rng.random(len(table) - len(hard))])
    table.to_csv(tmp_path / "predictions.csv", index=False)
    again = read_predictions(tmp_path / "predictions.csv")
    assert again.probability.to_numpy().tobytes() == table.probability.to_numpy().tobytes()
    assert again.to_dict("list") == table.to_dict("list")
    assert again[["label", "repeat", "member"]].dtypes.eq(int).all()
    again.to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "predictions.csv").read_bytes()


def test_keys_stay_text(tmp_path):
    table = figure_1(patient="007", study="1", study_type="NA", backbone="nan")
    table.to_csv(tmp_path / "predictions.csv", index=False)
    again = read_predictions(tmp_path / "predictions.csv")
    assert again.loc[0, ["patient", "study", "study_type", "backbone"]].tolist() == [
        *("007", "1", "NA", "nan")
    ]
    assert len(study_probabilities(again)) == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"study_type": None}, "no column study_type"), ({"repeat": "9" * 400}, "Overflow")],
)
def test_a_predictions_table_that_lacks_a_column_or_counts_too_far(tmp_path, changed, reason):
    table = predictions_of(2).assign(**changed).dropna(axis="columns")
    table.to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(ValueError, match=f"must be a predictions table, and is damaged: {reason}"):
        read_predictions(tmp_path / "predictions.csv")
