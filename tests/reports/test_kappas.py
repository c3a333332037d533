"""The table of kappas beside those who have read MURA's test set."""

import pandas as pd
import pytest

from mura_tf.published import OVERALL, mura_kappas
from mura_tf.reports.kappas import kappa_section

TYPES = sorted(set(mura_kappas().study_type) - {OVERALL})


def rows_of(title, types):
    said = {"kappa": 0.5, "kappa_low": 0.4, "kappa_high": 0.6, "studies": 100}
    return pd.DataFrame([{"title": title, "study_type": one} | said for one in types]).assign(
        called_abnormal=50
    )


@pytest.mark.parametrize("together", [[], ["finger and wrist"]])
def test_an_overall_is_of_all_study_types_whatever_others_have(together):
    ours = [
        rows_of("all", [*TYPES, OVERALL]),
        rows_of("fewer", [*TYPES[1:], OVERALL]),
        *(rows_of("two types", [one]) for one in together),
    ]
    _, note, headers, rows = kappa_section(pd.concat(ours), mura_kappas())
    by_title = {row[0]: dict(zip(headers, row, strict=True)) for row in rows}
    assert by_title["all"]["overall"] == "0.500"
    assert by_title["fewer"]["overall"] == "\N{EN DASH}" and by_title["fewer"][TYPES[1]] == "0.500"
    assert by_title["MURA's own model"]["overall"] == "0.705"
    assert "one of fewer is left out here" in note
    alone = kappa_section(ours[1], mura_kappas()[:0])[3]
    assert alone[0][-1] == "0.500"
