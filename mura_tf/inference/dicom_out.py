"""A finding as DICOM, in the study of its radiographs: the heatmaps, and a structured report.

Needs the extra `mura-tf[dicom]`: highdicom. Originals are read and never touched.
"""

import importlib.util
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mura_tf.data.radiograph import is_dicom, read_content
from mura_tf.files import written_whole
from mura_tf.inference.bundle import Bundle
from mura_tf.inference.findings import NOT_READ, Finding, View
from mura_tf.reports.overlay import overlaid

if TYPE_CHECKING:
    from highdicom.sr import Measurement
    from pydicom import Dataset

MANUFACTURER = "mura_tf"
SERIES = 9000
"""Number of the heatmaps' series, and one less than the report's."""
SCHEME = "99MURATF"
"""Of the codes that no standard has."""
EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""What a header must have, be it empty, and some have not."""
_WHOSE = ("StudyInstanceUID", "PatientID")
"""What the views of one study have in common, where objects can be made of it."""


def write_dicom(
    finding: Finding,
    out: str | os.PathLike[str],
    bundle: Bundle,
    point: str | None = None,
    *,
    name: str = "study",
) -> list[Path]:
    """Writes a study's heatmaps and report; nothing where it was not read or is no DICOM study.

    Args:
        finding: whose views come from DICOM files.
        out: the folder that gets `NAME-heatmapN.dcm` and `NAME-report.dcm`.
        bundle: what found it.
        point: name of the operating point that decided, see `Bundle.read`.
        name: that the files' names begin with.

    Returns:
        What was written: a secondary capture per view with a heatmap, RGB, and a structured report
        (TID 1500) with the probability, the decision, the operating point and the model. Nothing,
        and a warning in the finding, where the originals' headers do not allow it.

    Raises:
        ImportError: without the extra.
    """
    contents: dict[Path, bytes] = {}
    with _told(finding):
        originals = _originals(finding)
        if any(originals):
            captures = _captures(finding, originals, bundle)
            report = _report(finding, originals, bundle, point)
            contents = {
                Path(out) / f"{name}-heatmap{number}.dcm": one
                for number, one in enumerate(captures, start=1)
            } | {Path(out) / f"{name}-report.dcm": report}
    for path, content in contents.items():  # all or, where a header does not allow one, none
        with written_whole(path) as part:
            part.write_bytes(content)
    return list(contents)


def dicom_report(finding: Finding, bundle: Bundle, point: str | None = None) -> bytes:
    """The report of `write_dicom` alone, as the bytes of a file; b"" where there is none."""
    with _told(finding):
        originals = _originals(finding)
        if any(originals):
            return _report(finding, originals, bundle, point)
    return b""


@contextmanager
def _told(finding: Finding) -> Iterator[None]:
    """highdicom and pydicom raise whatever they meet in a header, which becomes a warning."""
    if importlib.util.find_spec("highdicom") is None:
        raise ImportError(
            "DICOM output needs highdicom, which is not installed. Install the extra: "
            "pip install 'mura-tf[dicom]'."
        )
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        finding.warnings.append(f"no DICOM objects can be made of it ({reason})")


def _originals(finding: Finding) -> list["Dataset | None"]:
    """The parsed file of each view that is DICOM and could be read; nothing of a study not read."""
    if finding.decision == NOT_READ:
        return []
    originals = [_original(view) for view in finding.views]
    known = filter(None, originals)
    whose = {tuple(str(one.get(name)) for name in _WHOSE) for one in known}
    if len(whose) > 1:
        raise ValueError(f"its views are of {len(whose)} DICOM studies or patients")
    return originals


def _captures(finding: Finding, originals: list["Dataset | None"], bundle: Bundle) -> list[bytes]:
    import highdicom

    pictured = [
        (overlaid(view.radiograph, view.heat), dataset)
        for view, dataset in zip(finding.views, originals, strict=True)
        if dataset is not None and view.radiograph is not None and view.heat is not None
    ]
    series = highdicom.UID()
    return [
        _encoded(_capture(picture, dataset, series, number, bundle.facts))
        for number, (picture, dataset) in enumerate(pictured, start=1)
    ]


def _original(view: View) -> "Dataset | None":
    """The parsed file of a view that could be read, if it is DICOM."""
    if view.radiograph is None or isinstance(view.source, np.ndarray):
        return None
    content = read_content(view.source)
    if not is_dicom(content):
        return None
    from mura_tf.data.dicom import parsed

    dataset = parsed(content, view.source)
    for keyword in EMPTY:
        dataset.setdefault(keyword, "")
    dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, for the names of studies and bundles, too
    return dataset


def _encoded(dataset: "Dataset") -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _capture(
    picture: np.ndarray, dataset: "Dataset", series: str, number: int, facts: Mapping[str, Any]
) -> "Dataset":
    import highdicom

    capture = highdicom.sc.SCImage.from_ref_dataset(
        dataset,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=series,
        series_number=SERIES,
        sop_instance_uid=highdicom.UID(),
        instance_number=number,
        manufacturer=MANUFACTURER,
        laterality=_laterality(dataset),
        patient_orientation=("L", "F"),  # asked for; the original's own stands below
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    capture.Laterality = _laterality(dataset) or ""
    capture.PatientOrientation = dataset.get("PatientOrientation")
    capture.SeriesDescription = "Heatmaps. RESEARCH, not for diagnosis"
    capture.ImageComments = f"{facts['name']} {facts['version']}. {facts['notice']}"
    burned = str(dataset.get("BurnedInAnnotation") or "").upper()
    if burned in ("YES", "NO"):  # its pixels are in the capture
        capture.BurnedInAnnotation = burned
    return capture


def _laterality(dataset: "Dataset") -> str | None:
    value = dataset.get("ImageLaterality") or dataset.get("Laterality")
    return value if value in ("L", "R") else None


def _report(
    finding: Finding, originals: list["Dataset | None"], bundle: Bundle, point_name: str | None
) -> bytes:
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    facts, point = bundle.facts, bundle.point(point_name)
    evidence = [dataset for dataset in originals if dataset is not None]
    version = f"{facts['version']} ({bundle.hash})".lstrip()
    algorithm = sr.AlgorithmIdentification(
        name=facts["name"],
        version=version,
        parameters=[
            f"operating point {point.name}: normal up to {point.low:.4f}, abnormal above "
            f"{point.high:.4f}",
            f"made by {facts['made_by']}",
            facts["notice"],
        ],
    )
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=highdicom.UID(), name=MANUFACTURER, model_name=f"{facts['name']} {version}"
        ),
    )
    measurements = [_measured("probability", "Probability of abnormality", finding.probability)]
    if not np.isnan(finding.calibrated):
        name = "Calibrated probability of abnormality"
        measurements.append(_measured("calibrated", name, finding.calibrated))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=highdicom.UID(), identifier=finding.study),
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                name=sr.CodedConcept("decision", SCHEME, "Decision at the operating point"),
                value=sr.CodedConcept(
                    finding.decision, SCHEME, f"{finding.decision.capitalize()} (research)"
                ),
            )
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup.from_source_image(dataset) for dataset in evidence
        ],
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=sr.CodedConcept("363680008", "SCT", "Radiographic imaging procedure"),
        imaging_measurements=[group],
    )
    report = sr.ComprehensiveSR(
        evidence=evidence,
        content=content,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES + 1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    report.SeriesDescription = "Findings. RESEARCH, not for diagnosis"
    return _encoded(report)


def _measured(code: str, meaning: str, value: float) -> "Measurement":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(
        name=sr.CodedConcept(code, SCHEME, meaning), value=round(value, 6), unit=codes.UCUM.NoUnits
    )
