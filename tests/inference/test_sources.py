"""What a person gives -> studies."""

import errno
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mura_tf.inference import sources, walk, zips
from mura_tf.inference.sources import find_studies

TYPES = ("elbow", "wrist")


@pytest.fixture
def png():
    return cv2.imencode(".png", np.zeros((8, 6), np.uint8))[1].tobytes()


def put(folder, names, content):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def found(*given, **settings):
    with tempfile.TemporaryDirectory() as unpacked:
        return find_studies(given, TYPES, unpacked=Path(unpacked), **settings)


def told(*given, **settings):
    return [(study.name, study.study_type, study.files) for study in found(*given, **settings)]


def test_a_folder_of_images_is_a_study(tmp_path, png):
    folder = put(tmp_path, ["s/2.png", "s/1.jpg", "s/.hidden.png", "s/notes.txt"], png) / "s"
    assert told(folder) == [("s", "", ["1.jpg", "2.png"])]
    assert told(folder, each_file=True) == [("s/1.jpg", "", ["1.jpg"]), ("s/2.png", "", ["2.png"])]


def test_folders_name_the_study_type(tmp_path, png):
    folder = put(
        tmp_path,
        ["XR_WRIST/p1/s1/1.png", "Elbow/p2/s1/1.png", "XR_KNEE/p3/s1/1.png", "o/1.png"],
        png,
    )
    assert {name.partition("/")[2]: study_type for name, study_type, _ in told(folder)} == {
        "Elbow/p2/s1": "elbow", "XR_KNEE/p3/s1": "knee", "XR_WRIST/p1/s1": "wrist", "o": ""
    }  # fmt: skip


def test_files_are_studies_of_their_own_whatever_their_names(tmp_path, png):
    put(tmp_path, ["a.bin", "b/a.bin"], png)
    assert [files for _, _, files in told(tmp_path / "a.bin", tmp_path / "b/a.bin")] == [
        ["a.bin"], ["a.bin"]
    ]  # fmt: skip


def test_a_zip_is_the_folder_that_it_holds(tmp_path, png):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("XR_WRIST/s1/1.png", png)
        archive.writestr("XR_WRIST/s1/2.png", png)
        archive.writestr("../../outside.png", png)
    found = told(path)
    assert ("visit/XR_WRIST/s1", "wrist", ["1.png", "2.png"]) in found
    assert ("visit", "", ["outside.png"]) in found  # it does not leave its folder


def test_a_zip_of_an_old_program_of_windows_has_folders(tmp_path, png):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for study in ("s1", "s2"):
            entry = zipfile.ZipInfo()
            entry.filename = f"XR_WRIST\\p\\{study}\\1.png"
            archive.writestr(entry, png)
    assert told(path) == [
        (f"visit/XR_WRIST/p/{study}", "wrist", ["1.png"]) for study in ("s1", "s2")
    ]


def test_a_zip_whose_packed_bytes_are_damaged(tmp_path):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", bytes(1000))
    content = bytearray(path.read_bytes())
    content[30 + len("1.png")] = 0xFF  # zlib knows no such block, and zipfile not zlib's error
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a whole zip .*: .*invalid block type"):
        told(path)


def test_a_zip_has_limits_and_may_be_damaged(tmp_path, png, monkeypatch):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png)
    monkeypatch.setattr(zips, "ZIP_FILES", 2)
    with pytest.raises(ValueError, match=r"a zip may hold 2 files .* with 3 files"):
        told(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="must be a whole zip"):
        told(path)


def test_the_zips_of_an_upload_have_their_limits_together(tmp_path, png, monkeypatch):
    uploads = [(f"{number}.zip", tmp_path / f"upload{number}") for number in range(3)]
    for _, path in uploads:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.png", png)
    monkeypatch.setattr(zips, "ZIP_BYTES", 2 * len(png))
    assert len(sources.studies_of_uploads(uploads[:2], TYPES)) == 2
    shutil.rmtree(tmp_path / "upload0-unpacked")
    shutil.rmtree(tmp_path / "upload1-unpacked")
    with pytest.raises(ValueError, match=r"2\.zip with 3 files .*with the zips before it\. Send"):
        sources.studies_of_uploads(uploads, TYPES)


def test_a_table_names_views_and_what_is_known_of_them(tmp_path, png):
    put(tmp_path, ["i/1.png", "i/2.png", "i/3.png"], png)
    table = tmp_path / "views.csv"
    table.write_text(
        "patient,study,study_type,path\n7,s,WRIST,i/1.png\n7,s,WRIST,i/2.png\n8,s,,i/3.png\n"
    )
    assert told(table) == [
        ("WRIST/7/s", "wrist", ["i/1.png", "i/2.png"]),
        ("/8/s", "", ["i/3.png"]),
    ]
    assert len(told(table, each_file=True)) == 3
    table.write_text("file\n1.png\n")
    with pytest.raises(ValueError, match=r"with a column path\. Received: file"):
        told(table)


def test_a_table_without_studies_has_a_study_a_row(tmp_path, png, monkeypatch):
    """As spreadsheets write it; a path is of the table's folder, or of where one is."""
    put(tmp_path, ["i/1.png", "here/2.png"], png)
    table = tmp_path / "views.csv"
    monkeypatch.chdir(tmp_path / "here")
    table.write_text("Path;Study_Type\ni/1.png;wrist\n2.png;wrist\n")
    studies = found(table)
    assert [(study.study_type, len(study.views)) for study in studies] == [("wrist", 1)] * 2
    assert all(study.views[0].is_file() for study in studies)


def test_a_full_disk_is_no_damaged_zip(tmp_path, png, monkeypatch):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", png)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extract", full)
    with pytest.raises(OSError, match="No space left"):
        told(path)


def test_dicom_files_are_grouped_by_study_and_body_part(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    pixels = np.zeros((8, 8), np.uint16)
    for name, uid, part in (
        ("a", "1.2.3", "WRIST"),
        ("b/c", "1.2.3", "WRIST"),
        ("d", "1.2.3", "ELBOW"),
        ("e", "1.2.4", "WRIST"),
    ):
        content = radiograph(pixels, StudyInstanceUID=uid, BodyPartExamined=part)
        put(tmp_path, [f"{name}.dcm"], content)
    studies = found(tmp_path)
    assert [(study.name, study.study_type, len(study.views)) for study in studies] == [
        ("1.2.3 wrist", "wrist", 2), ("1.2.3 elbow", "elbow", 1), ("1.2.4", "wrist", 1)
    ]  # fmt: skip
    assert {study.type_from for study in studies} == {"dicom"}
    assert studies[0].files == [str(tmp_path / "a.dcm"), str(tmp_path / "b/c.dcm")]
    alone = found(tmp_path, each_file=True)
    assert [study.files for study in alone] == [["a.dcm"], ["d.dcm"], ["e.dcm"], ["c.dcm"]]
    assert [study.study_type for study in alone] == ["wrist", "elbow", "wrist", "wrist"]
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tmp_path.rglob("*.dcm")):
            archive.write(file, file.relative_to(tmp_path))
    study, *_ = found(path)
    assert study.files == ["visit/a.dcm", "visit/b/c.dcm"]


def test_body_parts_and_sides_are_not_averaged(tmp_path):
    """Also where a header has lost its StudyInstanceUID."""
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    pixels = np.zeros((8, 8), np.uint16)
    for name, uid, part, side in (
        ("l.dcm", "1.2.3", "WRIST", "L"),
        ("r.dcm", "1.2.3", "WRIST", "R"),
        ("hand.dcm", "", "HAND", "L"),
        ("wrist.dcm", "", "WRIST", "L"),
    ):
        content = radiograph(
            pixels, StudyInstanceUID=uid, BodyPartExamined=part, ImageLaterality=side
        )
        put(tmp_path / "visit", [name], content)
    found = [(name, study_type, len(files)) for name, study_type, files in told(tmp_path / "visit")]
    assert found == [
        ("visit hand", "hand", 1),
        ("1.2.3 L", "wrist", 1),
        ("1.2.3 R", "wrist", 1),
        ("visit wrist", "wrist", 1),
    ]
    (tmp_path / "visit/r.dcm").unlink()
    content = radiograph(pixels, StudyInstanceUID="1.2.3", BodyPartExamined="WRIST")
    put(tmp_path / "visit", ["unsaid.dcm"], content)  # of which side, where there is one
    found = [(name, len(files)) for name, _, files in told(tmp_path / "visit")]
    assert sorted(found) == [("1.2.3", 2), ("visit hand", 1), ("visit wrist", 1)]
    (tmp_path / "views.csv").write_text("study,path\ns,visit/l.dcm\ns,visit/wrist.dcm\n")
    assert [len(files) for *_, files in told(tmp_path / "views.csv")] == [2]


def test_slices_of_a_ct_are_no_views_of_the_radiographs_beside_them(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    pixels = np.zeros((8, 8), np.uint16)
    uids = {"StudyInstanceUID": "1.2.3"}
    put(tmp_path / "cd", ["1.dcm"], radiograph(pixels, **uids))
    put(tmp_path / "cd", ["2.dcm", "3.dcm"], radiograph(pixels, Modality="CT", **uids))
    names = [("1.2.3", 1), ("cd/2.dcm", 1), ("cd/3.dcm", 1)]
    assert [(name, len(files)) for name, _, files in told(tmp_path / "cd")] == names
    uploads = [(f"cd/{path.name}", path) for path in sorted((tmp_path / "cd").iterdir())]
    assert [(one.name, 1) for one in sources.studies_of_uploads(uploads, TYPES)] == names
    assert [name for name, *_ in told(tmp_path / "cd/2.dcm")] == ["2.dcm"]
    (alone,) = sources.studies_of_uploads([("2.dcm", tmp_path / "cd/2.dcm")], TYPES)
    assert alone.name == "2.dcm"


@pytest.mark.parametrize("unsaid", ["", "EXTREMITY", "Upper Extremity"])
def test_a_view_without_a_body_part_is_of_the_only_other(tmp_path, unsaid):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    pixels = np.zeros((8, 8), np.uint16)
    for name, part in (("a.dcm", unsaid), ("b.dcm", "WRIST")):
        content = radiograph(pixels, StudyInstanceUID="1.2.3", BodyPartExamined=part)
        put(tmp_path / "visit", [name], content)
    assert [(name, kind, len(files)) for name, kind, files in told(tmp_path / "visit")] == [
        ("1.2.3", "wrist", 2)
    ]
    content = radiograph(pixels, StudyInstanceUID="1.2.3", BodyPartExamined="HAND")
    put(tmp_path / "visit", ["c.dcm"], content)
    names = [(name, study_type) for name, study_type, _ in told(tmp_path / "visit")]
    assert names == [("1.2.3", ""), ("1.2.3 wrist", "wrist"), ("1.2.3 hand", "hand")]


def test_joined_studies_keep_their_place_and_who_said_their_type(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    pixels = np.zeros((8, 8), np.uint16)
    for name, uid, part in (
        ("1.dcm", "1.2.1", ""),
        ("2.dcm", "1.2.2", "WRIST"),
        ("3.dcm", "1.2.1", "WRIST"),
        ("XR_WRIST/4.dcm", "1.2.4", ""),
        ("5.dcm", "1.2.4", ""),
    ):
        content = radiograph(pixels, StudyInstanceUID=uid, BodyPartExamined=part)
        put(tmp_path / "visit", [name], content)
    studies = found(tmp_path / "visit")
    assert [(study.name, len(study.views)) for study in studies] == [
        ("1.2.1", 2),
        ("1.2.2", 1),
        ("1.2.4", 2),
    ]
    assert [study.type_from for study in studies] == ["dicom", "dicom", "given"]
    assert {study.study_type for study in studies} == {"wrist"}


def test_a_general_body_part_does_not_hide_the_folder_that_names_one(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    content = radiograph(np.zeros((8, 8), np.uint16), BodyPartExamined="EXTREMITY")
    put(tmp_path / "XR_WRIST", ["a.dcm"], content)
    (study,) = found(tmp_path / "XR_WRIST")
    assert (study.study_type, study.type_from) == ("wrist", "given")


def test_a_header_is_read_without_its_pixels(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    from dicom_files import radiograph

    content = radiograph(np.zeros((64, 64), np.uint16), BodyPartExamined="WRIST")
    put(tmp_path, ["a.dcm"], content[:-4000])  # grouping does not notice that they are cut
    read = []
    dcmread = pydicom.dcmread
    monkeypatch.setattr(
        pydicom, "dcmread", lambda *args, **named: read.append(dcmread(*args, **named)) or read[-1]
    )
    assert [study.study_type for study in found(tmp_path)] == ["wrist"]
    assert read and not any("PixelData" in dataset for dataset in read)


def test_a_cds_table_of_contents_is_no_radiograph(tmp_path, png):
    put(tmp_path, ["CD/DICOMDIR"], bytes(128) + b"DICM")
    put(tmp_path, ["CD/IMAGES/1.png"], png)
    assert told(tmp_path / "CD") == [("CD/IMAGES", "", ["1.png"])]
    uploads = [
        ("CD/DICOMDIR", tmp_path / "CD/DICOMDIR"),
        ("CD/1.png", tmp_path / "CD/IMAGES/1.png"),
    ]
    assert [one.files for one in sources.studies_of_uploads(uploads, TYPES)] == [["1.png"]]


def test_an_uploaded_zip_is_named_and_asked_for_a_radiograph_as_any(tmp_path, png):
    with zipfile.ZipFile(tmp_path / "upload", "w") as archive:
        archive.writestr("1.png", png)
    uploads = [("XR_WRIST.ZIP", tmp_path / "upload")]
    (study,) = sources.studies_of_uploads(uploads, TYPES)
    assert (study.name, study.study_type) == ("XR_WRIST", "wrist")
    with zipfile.ZipFile(tmp_path / "empty", "w") as archive:
        archive.writestr("1.tif", png)
    uploads = [("a.zip", tmp_path / "empty"), ("1.png", tmp_path / "1.png")]
    (tmp_path / "1.png").write_bytes(png)
    with pytest.raises(ValueError, match=r"Received: a\.zip, which holds none"):
        sources.studies_of_uploads(uploads, TYPES)


def test_a_study_type_gives_a_terminal_no_orders(tmp_path, png):
    put(tmp_path, ["XR_\x1b[2Jwrist\nother: normal/1.png"], png)
    assert [study.study_type for study in found(tmp_path)] == [r"\x1b[2jwrist\nother: normal"]


def test_no_two_studies_have_one_name(tmp_path, png):
    names = ["p1/s/1.png", "p2/s/1.png", "q/p2/s/1.png", "p1/x/1.png"]
    put(tmp_path, names, png)
    folders = [tmp_path / name for name in ("p1/s", "p2/s", "q/p2/s", "p1/x")]
    above = tmp_path.name
    assert [name for name, *_ in told(*folders)] == ["p1/s", f"{above}/p2/s", "q/p2/s", "x"]
    files = [name for name, *_ in told(*[tmp_path / name for name in names])]
    assert files == ["p1/s/1.png", f"{above}/p2/s/1.png", "q/p2/s/1.png", "x/1.png"]
    uploads = [("a.png", tmp_path / name) for name in names[:3]]
    uploaded = sources.studies_of_uploads(uploads, TYPES)
    assert [one.name for one in uploaded] == ["a.png", "a.png (2)", "a.png (3)"]


def test_what_is_given_twice_is_read_once(tmp_path, png, monkeypatch):
    put(tmp_path, ["p/s/1.png", "p/2.png"], png)
    monkeypatch.chdir(tmp_path)
    assert told("p", tmp_path / "p/s", "p/../p/2.png") == told("p")
    assert told("p/s", "p") == [("s", "", ["1.png"]), ("p", "", ["2.png"])]
    (study,) = found("p/2.png", "./p/2.png", tmp_path / "p/2.png")
    assert len(study.views) == 1


def test_a_path_that_goes_up_from_a_link_is_another_file(tmp_path, png):
    put(tmp_path, ["x/a.png", "y/a.png", "y/sub/b.png"], png)
    (tmp_path / "x/link").symlink_to(tmp_path / "y/sub")
    studies = found(tmp_path / "x/a.png", tmp_path / "x/link/../a.png", tmp_path / "y/a.png")
    views = [os.path.realpath(view) for study in studies for view in study.views]
    assert views == [str(tmp_path / "x/a.png"), str(tmp_path / "y/a.png")]


def test_a_table_that_is_given_twice_is_read_once(tmp_path, png):
    put(tmp_path, ["i/1.png", "i/2.png"], png)
    (tmp_path / "v.csv").write_text("study,path\ns,i/1.png\ns,i/2.png\n")
    (tmp_path / "w.csv").write_text("path\ni/1.png\ni/1.png\n")
    (study,) = found(tmp_path / "v.csv", tmp_path / "v.csv")
    assert len(study.views) == 2
    (study,) = found(tmp_path / "w.csv", tmp_path / "w.csv")
    assert len(study.views) == 1


def test_zips_of_one_name_keep_their_study_type(tmp_path, png):
    for folder in ("d1", "d2"):
        (tmp_path / folder).mkdir()
        with zipfile.ZipFile(tmp_path / folder / "XR_WRIST.zip", "w") as archive:
            archive.writestr("1.png", png)
    studies = told(tmp_path / "d1/XR_WRIST.zip", tmp_path / "d2/XR_WRIST.zip")
    assert [(name, kind) for name, kind, _ in studies] == [
        ("d1/XR_WRIST", "wrist"),
        ("d2/XR_WRIST", "wrist"),
    ]


def test_a_file_is_of_the_study_type_that_its_folder_names(tmp_path, png):
    put(tmp_path, ["XR_WRIST/p/s/1.png"], png)
    assert [kind for _, kind, _ in told(tmp_path / "XR_WRIST/p/s/1.png")] == ["wrist"]


def test_dicom_files_are_known_by_what_they_hold(tmp_path):
    """Such as dcmtk's storescp names them; in a CSV, too."""
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    content = radiograph(np.zeros((8, 8), np.uint16), BodyPartExamined="CHEST")
    put(tmp_path / "visit", ["CR.1.2.840.113704.7.1"], content)
    assert [study_type for _, study_type, _ in told(tmp_path / "visit")] == ["chest"]
    for text, expected in (("path", "chest"), ("path,study_type", "wrist")):
        row = "visit/CR.1.2.840.113704.7.1" + (",wrist" if "," in text else "")
        (tmp_path / "views.csv").write_text(f"{text}\n{row}\n")
        assert [study_type for _, study_type, _ in told(tmp_path / "views.csv")] == [expected]


def test_links_are_followed_and_a_link_back_is_not(tmp_path, png):
    put(tmp_path, ["there/s1/1.png"], png)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/s1").symlink_to(tmp_path / "there/s1")
    (tmp_path / "here/s1/back").symlink_to(tmp_path / "here")
    put(tmp_path, ["here/s2/1.png"], png)
    (tmp_path / "here/latest").symlink_to(tmp_path / "here/s2")  # which is read once
    assert told(tmp_path / "here") == [("here/s1", "", ["1.png"]), ("here/s2", "", ["1.png"])]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, png, monkeypatch):
    put(tmp_path, ["a/1.png", "b/1.png"], png)
    listed = os.scandir

    def refused(path):
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="/b"):
        told(tmp_path)


def test_nothing_to_read_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/1.tif").write_bytes(b"II*\0")
    (tmp_path / "views.csv").write_text("path\n")
    for name in ("empty", "scans", "views.csv"):
        with pytest.raises(ValueError, match=f"a radiograph in what is to be read.*{name}"):
            told(tmp_path / name)


def test_here_is_called_by_its_name_and_results_are_passed_over(tmp_path, png, monkeypatch):
    put(tmp_path, ["visit/1.png", "visit/found/studies/visit.png"], png)
    monkeypatch.chdir(tmp_path / "visit")
    assert told(".", out=Path("found")) == [("visit", "", ["1.png"])]


def test_a_name_that_is_no_text_is_told_as_it_can_be(tmp_path, png):
    try:
        put(tmp_path, [os.fsdecode(b"r\xf6ntgen.png")], png)
    except OSError:
        pytest.skip("this disk has text for names")
    assert told(tmp_path, each_file=True)[0][2] == [r"r\xf6ntgen.png"]


def test_a_folder_of_many_images_is_no_study(tmp_path, png, monkeypatch):
    monkeypatch.setattr(sources, "MOST_VIEWS", 2)
    put(tmp_path, ["a/1.png", "b/1.png", "b/2.png", "b/3.png"], png)
    with pytest.raises(ValueError, match=r"2 views at most\. Received: .*/b with 3\..*--each-file"):
        told(tmp_path)
    assert len(told(tmp_path, each_file=True)) == 4


def test_arrays_are_studies():
    pictures = [np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)]
    assert [study.name for study in found(*pictures)] == ["array 0", "array 1"]


def test_what_an_earlier_call_has_written_is_no_radiograph(tmp_path, png):
    put(tmp_path, ["visit/1.png", "visit/studies/visit.png", "visit/dicom/a.png"], png)
    names = sorted(name for name, *_ in told(tmp_path / "visit"))
    assert names == ["visit", "visit/dicom", "visit/studies"]  # folders of that name alone are not
    put(tmp_path / "visit", walk.WRITTEN, b"")
    assert told(tmp_path / "visit") == [("visit", "", ["1.png"])]


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_size_cannot_be_trusted_is_refused(tmp_path, png, packed):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packed) as archive:
        archive.writestr("1.png", png)
    with pytest.raises(ValueError, match=r"stored or deflated.*a\.zip, packed otherwise"):
        told(tmp_path / "a.zip")


def test_an_uploaded_folder_is_read_as_one_on_disk(tmp_path, png):
    put(tmp_path, ["CD/wrist/1.png", "CD/wrist/Thumbs.db", "CD/wrist/2"], png)
    put(tmp_path, [f"CD/viewer/{number}.dll" for number in range(120)], b"MZ")
    put(tmp_path, ["CD/wrist/._1.png", "CD/.thumbs/1.png", "CD/found/studies/1.png"], png)
    put(tmp_path / "CD/found", walk.WRITTEN, b"")
    uploads = [
        (str(path.relative_to(tmp_path)), path)
        for path in sorted((tmp_path / "CD").rglob("*"))
        if path.is_file()
    ]
    uploaded = sources.studies_of_uploads(uploads, TYPES)
    assert [(one.name, one.study_type, one.files) for one in uploaded] == told(tmp_path / "CD")
    assert uploaded[0].files == ["1.png", "2"]
    with pytest.raises(ValueError, match="Received: the upload, which holds none"):
        sources.studies_of_uploads([("CD/viewer/1.dll", tmp_path / "CD/viewer/1.dll")], TYPES)


def test_a_packed_file_in_an_uploaded_folder_is_passed_over(tmp_path, png):
    put(tmp_path, ["study/1.png"], png)
    with zipfile.ZipFile(tmp_path / "letter.docx", "w") as archive:
        archive.writestr("word/media/logo.png", png)
    uploads = [
        ("study/1.png", tmp_path / "study/1.png"),
        ("study/letter.docx", tmp_path / "letter.docx"),
    ]
    assert [one.files for one in sources.studies_of_uploads(uploads, TYPES)] == [["1.png"]]


def test_a_zip_named_twice_is_read_once(tmp_path, png):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.png", png)
    assert told(tmp_path / "a.zip", tmp_path / "a.zip") == [("a", "", ["1.png"])]


def test_a_zip_lies_below_folders_as_what_it_holds_does(tmp_path, png):
    put(tmp_path, ["XR_WRIST/p1/s1/1.png"], png)
    path = tmp_path / "XR_WRIST/p1/s2.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", png)
    assert told(path) == [("s2", "wrist", ["1.png"])]


@pytest.mark.parametrize("second", ["a/1.png", "b" * 300])
def test_a_zip_of_what_no_folder_can_hold(tmp_path, png, second):
    path = tmp_path / "visit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", png)
        archive.writestr(second, png)
    with pytest.raises(ValueError, match=rf"{path} must be a whole zip .*: [A-Z][a-z ]+\.$"):
        told(path)


def test_a_row_without_a_study_is_one_of_its_own(tmp_path, png):
    put(tmp_path, ["1.png", "2.png", "3.png"], png)
    (tmp_path / "views.csv").write_text("path,study\n1.png,\n2.png, \n3.png,s\n")
    found = told(tmp_path / "views.csv")
    assert [files for *_, files in found] == [["1.png"], ["2.png"], ["3.png"]]
    assert all(name for name, *_ in found)


def test_what_systems_leave_in_folders_is_no_study(tmp_path, png):
    put(tmp_path, ["s/1.png", "s/@eaDir/1.png/THUMB.jpg", "$RECYCLE.BIN/gone.png"], png)
    assert told(tmp_path) == [(f"{tmp_path.name}/s", "", ["1.png"])]
    named = {"v/1.png": tmp_path / "s/1.png", "v/@eaDir/1.png": tmp_path / "s/1.png"}
    (study,) = sources.studies_of_uploads(named.items(), TYPES)
    assert study.files == ["1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path, png):
    put(tmp_path, ["s/1.png"], png)
    os.mkfifo(tmp_path / "s/pipe")
    assert told(tmp_path / "s") == [("s", "", ["1.png"])]


def test_results_do_not_go_beside_originals(tmp_path, png):
    put(tmp_path, ["s/1.png"], png)
    with pytest.raises(ValueError, match=r"beside no originals.* another folder .*--out"):
        sources.require_apart([tmp_path / "s"], tmp_path / "a/../s")
    with pytest.raises(ValueError, match=r"beside no originals.*1\.png to be read"):
        sources.require_apart([tmp_path / "s/1.png"], tmp_path / "s")
    with pytest.raises(ValueError, match="beside no originals"):  # which would not be read
        sources.require_apart([tmp_path], tmp_path / "s")
    (tmp_path / "out").mkdir()
    sources.require_apart([tmp_path / "s/1.png", tmp_path], tmp_path / "out")


def test_one_dicom_file_in_two_folders_is_one_view(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    content = radiograph(np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2.3")
    put(tmp_path, ["a/1.dcm", "b/1.dcm"], content)
    (study,) = found(tmp_path / "a", tmp_path / "b")
    assert study.views == [tmp_path / "a/1.dcm"]
    put(tmp_path, ["b/1.dcm"], content + bytes(2))  # of the same name, and other bytes
    put(tmp_path, ["b/2.dcm"], content + bytes(2))
    assert len(found(tmp_path / "a", tmp_path / "b")[0].views) == 2
    assert len(found(tmp_path / "a", tmp_path / "b", each_file=True)) == 3


def test_a_bundles_own_study_type_goes_before_what_a_body_part_is_taken_for(tmp_path):
    pytest.importorskip("pydicom")
    from dicom_files import radiograph

    content = radiograph(
        np.zeros((8, 8), np.uint16), BodyPartExamined="CLAVICLE", ImageLaterality="LEFT"
    )
    put(tmp_path, ["1.dcm"], content)
    for types, expected in ((("shoulder",), "shoulder"), (("clavicle", "shoulder"), "clavicle")):
        (study,) = find_studies([tmp_path / "1.dcm"], types, unpacked=tmp_path)
        assert (study.study_type, study.type_from) == (expected, "dicom")


def test_a_name_gives_a_terminal_no_orders(tmp_path, png):
    put(tmp_path, ["s\x1b[2J\nx/1.png"], png)
    ((name, *_),) = told(tmp_path / "s\x1b[2J\nx")
    assert name == r"s\x1b[2J\nx"
