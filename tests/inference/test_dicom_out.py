"""Findings as DICOM objects: valid by dciodvfy, in the study of the originals."""

import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import radiograph

from mura_tf.inference import dicom_out
from mura_tf.inference.dicom_out import write_dicom
from mura_tf.inference.shards import read_into

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
pytest.importorskip("highdicom", reason="needs the extra dicom")
pytestmark = pytest.mark.filterwarnings("ignore")
TOLD = ("TextValue", "CodeMeaning")


@pytest.fixture
def study(tmp_path):
    """Two views of a wrist, as a DICOM study."""
    rng = np.random.default_rng(0)
    for number in (1, 2):
        pixels = rng.integers(0, 4096, (60, 50), np.uint16)
        content = radiograph(
            pixels,
            BitsStored=12,
            HighBit=11,
            StudyInstanceUID="1.2.840.1",
            BodyPartExamined="WRIST",
            ImageLaterality="L",
            PatientName="Doe^Jane",
            PatientBirthDate="",
            PatientSex="F",
            StudyDate="20200101",
            StudyTime="120000",
            StudyID="1",
            AccessionNumber="2",
            ReferringPhysicianName="",
        )
        (tmp_path / f"{number}.dcm").write_bytes(content)
    return tmp_path


def test_the_objects_belong_to_the_study_and_tell_the_finding(bundle, study, tmp_path):
    before = {path: path.read_bytes() for path in study.glob("*.dcm")}
    (finding,) = bundle.findings([study])
    written = write_dicom(finding, tmp_path / "out", bundle, name="wrist")
    assert [path.name for path in written] == [
        "wrist-heatmap1.dcm", "wrist-heatmap2.dcm", "wrist-report.dcm"
    ]  # fmt: skip
    *heatmaps, report = [pydicom.dcmread(path) for path in written]
    original = pydicom.dcmread(next(iter(before)))
    assert not any("BurnedInAnnotation" in dataset for dataset in heatmaps)  # nobody said
    for dataset in (*heatmaps, report):
        assert dataset.StudyInstanceUID == "1.2.840.1" and dataset.PatientID == "007"
        assert dataset.SeriesInstanceUID != original.SeriesInstanceUID
        assert "RESEARCH" in dataset.SeriesDescription
    assert {one.SeriesInstanceUID for one in heatmaps} != {report.SeriesInstanceUID}
    assert heatmaps[0].pixel_array.shape == (60, 50, 3)
    assert "medical device" in heatmaps[0].ImageComments
    told = [str(item.value) for item in report.iterall() if item.keyword in TOLD]
    text = "\n".join(told)
    for expected in (
        f"{finding.decision.capitalize()} (research)",
        f"1 ({bundle.hash})",
        "operating point doubt",
        bundle.facts["name"],
    ):
        assert expected in text
    (probability, *_) = [
        float(item.value) for item in report.iterall() if item.keyword == "NumericValue"
    ]
    assert finding.probability == pytest.approx(probability, abs=1e-5)
    assert {path: path.read_bytes() for path in before} == before


def assert_valid(paths):
    """By dicom3tools' dciodvfy."""
    if not shutil.which("dciodvfy"):
        pytest.skip("needs dicom3tools' dciodvfy")
    for path in paths:
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        assert "Error" not in told.stderr + told.stdout, told.stderr


def test_dciodvfy_finds_no_error(bundle, study, tmp_path):
    (finding,) = bundle.findings([study])
    assert_valid(write_dicom(finding, tmp_path / "out", bundle))


def test_pydicoms_radiographs_are_read_and_written_back(bundle, tmp_path):
    """Its three CRs of a cervical spine, which is read where somebody says that it is a wrist."""
    folder = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests/77654033"
    originals = sorted(path for path in folder.glob("CR*/*") if path.is_file())
    before = [path.read_bytes() for path in originals]
    (alone,) = bundle.findings(originals)
    assert alone.decision == "not read" and "cspine" in alone.study_type
    counts = read_into(bundle, originals, tmp_path / "out", study_type="wrist", dicom=True)
    assert counts["not read"] == counts["unreadable files"] == 0
    written = sorted((tmp_path / "out/dicom").iterdir())
    study, *_ = {pydicom.dcmread(path).StudyInstanceUID for path in originals}
    assert [path.name for path in written] == [
        f"{study}-{kind}.dcm" for kind in ("heatmap1", "heatmap2", "heatmap3", "report")
    ]
    assert {pydicom.dcmread(path).StudyInstanceUID for path in written} == {study}
    told = [
        float(item.value)
        for item in pydicom.dcmread(written[-1]).iterall()
        if item.keyword == "NumericValue"
    ]
    table = pd.read_csv(tmp_path / "out/findings.csv")
    assert told[0] == pytest.approx(table.probability[0], abs=1e-5)
    assert [path.read_bytes() for path in originals] == before
    assert_valid(written)


@pytest.mark.parametrize("said", ["YES", "NO"])
def test_what_is_burned_into_the_original_is_in_its_heatmap(bundle, study, tmp_path, said):
    for path in study.glob("*.dcm"):
        original = pydicom.dcmread(path)
        original.BurnedInAnnotation = said
        original.save_as(path)
    (finding,) = bundle.findings([study])
    *heatmaps, _ = write_dicom(finding, tmp_path / "out", bundle, name="wrist")
    assert {pydicom.dcmread(path).BurnedInAnnotation for path in heatmaps} == {said}


def test_what_is_no_dicom_study_gets_nothing(bundle, lesions, study, tmp_path):
    (finding, *_) = bundle.findings([lesions / "valid/XR_WRIST"])
    assert write_dicom(finding, tmp_path / "out", bundle) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = radiograph(np.zeros((8, 8), np.uint16), BodyPartExamined="SKULL")
    (tmp_path / "skull.dcm").write_bytes(content)
    (finding,) = bundle.findings([tmp_path / "skull.dcm"])
    assert finding.decision == "not read"
    assert write_dicom(finding, tmp_path / "out", bundle) == []


def test_a_header_that_lacks_what_may_be_empty(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (60, 50), np.uint16)
    content = radiograph(pixels, BodyPartExamined="WRIST")
    (tmp_path / "1.dcm").write_bytes(content)
    (finding,) = bundle.findings([tmp_path])
    assert len(write_dicom(finding, tmp_path / "out", bundle)) == 2
    assert not [one for one in finding.warnings if "DICOM" in one]


def test_where_no_report_can_be_made_no_heatmap_is_left(bundle, study, tmp_path, monkeypatch):
    def failing(*_):
        raise ValueError("a header of some maker")

    monkeypatch.setattr(dicom_out, "_report", failing)
    (finding,) = bundle.findings([study])
    assert write_dicom(finding, tmp_path / "out", bundle) == []
    assert not list(tmp_path.glob("out/*"))
    assert finding.warnings[-1].startswith("no DICOM objects can be made of it (a header of")


def test_memory_that_runs_out_is_no_fault_of_the_header(bundle, study, tmp_path, monkeypatch):
    def failing(*_):
        raise MemoryError

    monkeypatch.setattr(dicom_out, "_report", failing)
    (finding,) = bundle.findings([study])
    with pytest.raises(MemoryError):
        write_dicom(finding, tmp_path / "out", bundle)


def test_a_header_of_which_no_objects_can_be_made_is_a_warning(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (60, 50), np.uint16)
    content = radiograph(pixels, BodyPartExamined="WRIST", SOPClassUID="")
    (tmp_path / "1.dcm").write_bytes(content)
    (finding,) = bundle.findings([tmp_path])
    assert write_dicom(finding, tmp_path / "out", bundle) == []
    assert finding.warnings[-1].startswith("no DICOM objects can be made of it (")


@pytest.mark.parametrize("charset", ["ISO_IR 100", ["", "ISO 2022 IR 87"]])
def test_names_in_any_script(bundle, tmp_path, monkeypatch, charset):
    content = radiograph(
        np.random.default_rng(0).integers(0, 4096, (60, 50), np.uint16),
        SpecificCharacterSet=charset,
        StudyInstanceUID="1.2.840.1",
        BodyPartExamined="WRIST",
        PatientName="Yamada^Tarou=山田^太郎" if isinstance(charset, list) else "Müller^Jörg",
        StudyID="1",
    )
    path = tmp_path / "1.dcm"
    path.write_bytes(content)
    monkeypatch.setitem(bundle.facts, "name", "Handgelenk-ä-山")
    (finding,) = bundle.findings([path])
    written = write_dicom(finding, tmp_path / "out", bundle)
    assert len(written) == 2, finding.warnings
    for one in map(pydicom.dcmread, written):
        assert str(one.PatientName) == str(pydicom.dcmread(path).PatientName)
    assert "Handgelenk-ä-山" in pydicom.dcmread(written[0]).ImageComments
    if shutil.which("dciodvfy"):
        assert_valid(written)


def test_views_of_two_patients_make_no_object(bundle, study, tmp_path):
    dataset = pydicom.dcmread(study / "2.dcm")
    dataset.PatientID = "008"
    dataset.save_as(study / "2.dcm")
    (study / "views.csv").write_text("study,study_type,path\ns,wrist,1.dcm\ns,wrist,2.dcm\n")
    (finding,) = bundle.findings([study / "views.csv"])
    assert write_dicom(finding, tmp_path / "out", bundle) == []
    assert "its views are of 2 DICOM studies or patients" in finding.warnings[-1]
