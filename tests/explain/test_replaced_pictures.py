"""A probability is never shown beside a picture that it is not of."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mura_tf.explain.ensemble import Ensemble
from mura_tf.reports.experiment_page import write_report
from mura_tf.reports.study_page import explain_studies
from mura_tf.training.run import Run


@pytest.fixture
def copy(lesions, tmp_path):
    """A copy of the runs' data set, whose files may be replaced."""
    return shutil.copytree(lesions, tmp_path / "MURA-v1.1")


def folders(members):
    return sorted(members.iterdir())


def test_a_run_notes_the_pictures_that_it_predicted(members):
    for folder in folders(members):
        run = Run(folder)
        assert len(run.pictures) == len(run.predictions)


def test_the_same_pictures_elsewhere_are_explained(members, copy):
    ensemble = Ensemble(folders(members), copy)
    images, _ = ensemble.inputs(ensemble.reported)
    assert len(images) == len(ensemble.reported)


def test_a_replaced_picture_is_refused_and_the_others_are_shown(members, copy, tmp_path):
    ensemble = Ensemble(folders(members), copy)
    views = ensemble.reported
    cv2.imwrite(views.path[0], np.full((48, 40), 100, np.uint8))
    first = ensemble.study("/".join(views.iloc[0][["split", "study_type", "patient", "study"]]))
    with pytest.raises(ValueError, match=rf"1 of \d pictures are not those .*: {views.path[0]}\. "):
        explain_studies(ensemble, [first], copy, tmp_path / "out")
    others = views[views.patient != views.patient[0]].reset_index(drop=True)
    assert len(ensemble.heatmaps(others)) == len(others)


def test_a_run_that_did_not_note_its_pictures_is_explained(members, copy, tmp_path):
    old = shutil.copytree(folders(members)[0], tmp_path / "old")
    info = json.loads((old / "run.json").read_text())
    del info["pictures"]
    (old / "run.json").write_text(json.dumps(info))
    ensemble = Ensemble([old], copy)
    cv2.imwrite(ensemble.reported.path[0], np.full((48, 40), 100, np.uint8))
    assert len(ensemble.inputs(ensemble.reported)[0])


def test_a_report_says_so_in_place_of_a_replaced_picture(members, lesions, tmp_path):
    views = Run(folders(members)[0]).predictions
    kept = {path: Path(path).read_bytes() for path in views.path}
    try:
        for path in views.path:
            cv2.imwrite(path, np.full((48, 40), 100, np.uint8))
        page = write_report(folders(members), tmp_path / "report.html").read_text()
    finally:
        for path, content in kept.items():
            Path(path).write_bytes(content)
    assert "another picture than the one that was predicted" in page
    assert "data:image/jpeg" not in page
    page = write_report(folders(members), tmp_path / "report.html").read_text()
    assert "another picture" not in page and "data:image/jpeg" in page
