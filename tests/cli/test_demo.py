import shutil
from dataclasses import replace

import pandas as pd
import pytest
from command_line import assert_sentence, call

from mura_tf import demo


def test_a_data_set_that_is_not_synthetic_is_not_taken_for_the_demonstrations(mura, tmp_path):
    shutil.copytree(mura, tmp_path / "out/MURA-v1.1")
    result = call("demo", tmp_path / "out")
    assert_sentence(result, "the demonstration is of synthetic radiographs. Received:")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"MURA-v1.1"}


@pytest.mark.slow  # eight runs, a process each
def test_the_whole_line(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "STUDIES_PER_TYPE", 8)
    monkeypatch.setattr(demo, "MEMBERS", 1)
    monkeypatch.setattr(demo, "RECIPE", replace(demo.RECIPE, max_epochs=1, image_size=32))
    result = call("demo", tmp_path / "demo")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"Report: {tmp_path / 'demo/report.html'}" in result.stdout
    scores = pd.read_csv(tmp_path / "demo/scores.csv")
    assert scores.groupby("stage").size().to_dict() == {"mura": 8, "type": 8}
    assert len(list(tmp_path.rglob("best.keras"))) == 1 + 7
