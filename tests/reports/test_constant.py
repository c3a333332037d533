"""The sentences on runs whose chosen epoch decides nothing."""

import json

import pytest

from mura_tf.reports.constant import constant_runs
from mura_tf.training.run import Run


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        ({"constant": True, "auroc": 0.7125}, "was selected on; their AUROC is 0.713."),
        ({"constant": True, "auroc": None}, "was selected on."),  # of study types, or of one label
        ({"constant": False, "auroc": 0.7125}, None),
        ({}, None),  # a run of before
    ],
)
def test_a_constant_run_is_told_with_its_auroc_where_it_has_one(tmp_path, said, ending):
    (tmp_path / "run.json").write_text(json.dumps({"finished": True} | said))
    sentences = constant_runs([Run(tmp_path)])
    assert len(sentences) == (ending is not None)
    if ending:
        (sentence,) = sentences
        assert sentence.startswith(f"{tmp_path}: ") and sentence.endswith(ending)
