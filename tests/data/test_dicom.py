"""DICOM files as radiographs: against dcmtk's dcmj2pnm, and what is refused."""

import io
import shutil
import subprocess
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from dicom_files import radiograph

from mura_tf.data import dicom
from mura_tf.data.dicom import (
    dicom_header,
    parsed,
    read_dicom,
)
from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_radiograph,
    is_dicom,
    read_radiograph,
    read_size,
)
from mura_tf.data.stored_image import UnreadableImageError

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


def grey_frames():
    """The files that pydicom ships with one grey frame of 8 or 16 bits."""
    for path in sorted(path for path in FILES.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if not is_dicom(content):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        if (
            dataset.get("PhotometricInterpretation", "").startswith("MONOCHROME")
            and str(dataset.get("NumberOfFrames") or 1) == "1"
            and dataset.get("BitsAllocated") in (8, 16)
            and dataset.get("BitsStored", 0) >= 8
        ):
            yield path


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.filterwarnings("ignore")
def test_pixels_are_dcmtks(tmp_path):
    """On every file that pydicom ships and both can decode; JPEG 2000 dcmtk has not."""
    if not shutil.which("dcmj2pnm"):
        pytest.skip("needs dcmtk's dcmj2pnm")
    compared = 0
    for path in grey_frames():
        try:
            dataset = parsed(path.read_bytes(), path)
            ours, note = dicom._shown(dataset)  # also of other modalities
        except (BadRadiographError, UnreadableImageError):
            continue
        if note and dataset.PixelRepresentation:  # dcmtk shows the bits that no value uses, too
            continue
        source = path
        if dataset.file_meta.TransferSyntaxUID in JPEG_LS:
            source = tmp_path / "plain.dcm"
            subprocess.run(["dcmdjpls", path, source], check=True, capture_output=True)
        window = ["+Wl", "1"] if "VOILUTSequence" in dataset else []
        if "WindowWidth" in dataset and not window:
            window = ["+Wi", "1"]
        picture = tmp_path / "theirs.pgm"
        picture.unlink(missing_ok=True)
        command = ["dcmj2pnm", "--no-overlays", "+opb", *window, source, picture]
        subprocess.run(command, capture_output=True)
        if not picture.exists():
            assert dataset.file_meta.TransferSyntaxUID in JPEG_2000, path
            continue
        theirs = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, path
        compared += 1
    assert compared >= 40


def test_a_radiograph_of_pydicoms_reads_by_its_content(tmp_path):
    source = next(path for path in FILES.rglob("6154"))
    target = tmp_path / "no suffix"
    shutil.copy(source, target)
    image = read_radiograph(target)
    assert image.dtype == np.uint8 and image.shape == read_size(target)
    header = dicom_header(io.BytesIO(target.read_bytes()), target)
    assert header.study_type == "cspine" and header.study.startswith("1.3.6.1")


@pytest.mark.parametrize(
    ("part", "study_type"),
    [("WRIST", "wrist"), ("Lower Leg", "leg"), ("TIB FIB", "leg"), ("CLAVICLE", "shoulder"),
     ("THUMB", "finger"), ("SKULL", "skull"), ("", "")],
)  # fmt: skip
def test_a_body_part_names_the_study_type(part, study_type):
    content = radiograph(RAMP, BodyPartExamined=part, ImageLaterality="L")
    header = dicom_header(io.BytesIO(content), "x")
    assert header.study_type == study_type
    assert header.laterality == "L"
    assert not header.burned_in
    assert dicom_header(io.BytesIO(radiograph(RAMP, BurnedInAnnotation="YES")), "x").burned_in
    unpaired = radiograph(RAMP, ImageLaterality="U")
    assert dicom_header(io.BytesIO(unpaired), "x").laterality == ""


def test_pixels_that_no_decoder_is_there_for_are_no_damage(monkeypatch):
    lacking = SimpleNamespace(is_available=False)
    with monkeypatch.context() as without:
        without.setattr("pydicom.pixels.decoders.base.get_decoder", lambda _: lacking)
        with pytest.raises(ImportError, match=r"need decoders. Install the extra: .*\[dicom\]"):
            decode_radiograph(radiograph(RAMP), "x")
    dataset, packed = parsed(radiograph(RAMP), "x"), io.BytesIO()
    dataset.compress("1.2.840.10008.1.2.4.90")
    dataset.save_as(packed, enforce_file_format=True)
    assert decode_radiograph(packed.getvalue(), "x").shape == RAMP.shape
    monkeypatch.setattr(dicom, "find_spec", lambda name: None)  # Pillow alone is not enough
    with pytest.raises(ImportError, match="need decoders"):
        decode_radiograph(packed.getvalue(), "x")


def test_a_window_without_a_centre_is_none():
    whole = decode_radiograph(radiograph(RAMP), "x")
    np.testing.assert_array_equal(decode_radiograph(radiograph(RAMP, WindowWidth=16), "x"), whole)
    np.testing.assert_array_equal(decode_radiograph(radiograph(RAMP, WindowCenter=16), "x"), whole)


def test_a_negative_slope_keeps_the_polarity():
    """Which pydicom's own apply_windowing turns round."""
    falling = {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048}
    rescaled = decode_radiograph(radiograph(RAMP, WindowWidth=4096, **falling), "x")
    plain = decode_radiograph(radiograph(4095 - RAMP, WindowCenter=2048, WindowWidth=4096), "x")
    assert np.abs(rescaled.astype(int) - plain).max() <= 1
    assert rescaled[0, 0] > 250 > 5 > rescaled[-1, -1]


def test_monochrome1_is_turned_round():
    content = {
        colour: radiograph(
            RAMP, PhotometricInterpretation=colour, WindowCenter=2048, WindowWidth=4096
        )
        for colour in ("MONOCHROME1", "MONOCHROME2")
    }
    one, two = (decode_radiograph(content[colour], "x").astype(int) for colour in content)
    assert np.abs(one + two - 255).max() <= 1


def test_without_a_window_the_stored_bits_are_the_range():
    image = decode_radiograph(radiograph(RAMP, BitsStored=12, HighBit=11), "x")
    assert image[0, 0] == 0 and image[-1, -1] == 255
    signed = decode_radiograph(radiograph(np.int16(RAMP) - 2048, BitsStored=12, HighBit=11), "x")
    assert np.abs(signed.astype(int) - image).max() <= 1


def test_without_a_window_twelve_used_bits_of_sixteen_are_no_black_picture():
    """And their file says so, as a PNG's does."""
    content = radiograph(RAMP, BitsStored=16, HighBit=15)
    image, note = read_dicom(content).grey()
    expected = decode_radiograph(radiograph(RAMP, BitsStored=12, HighBit=11), "x")
    assert np.abs(image.astype(int) - expected).max() <= 1
    assert note == "12 of 16 bits are used, and scaled to all grey levels"
    windowed = radiograph(RAMP, BitsStored=16, HighBit=15, WindowCenter=2048, WindowWidth=4096)
    assert read_dicom(windowed).grey()[1] == ""
    signed, said = read_dicom(radiograph(np.int16(RAMP), BitsStored=16, HighBit=15)).grey()
    assert np.abs(signed.astype(int) - expected).max() <= 1 and said == note


def test_a_sign_that_no_value_has_is_no_bit_that_is_used():
    bright = np.int16(RAMP) * 8  # up to 32,760, of 32,767 that are possible
    image, note = read_dicom(radiograph(bright, BitsStored=16, HighBit=15)).grey()
    assert image.max() == 255 and note == "15 of 16 bits are used, and scaled to all grey levels"
    assert np.abs(image - bright / 32767 * 255).max() <= 1


@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [{}, {"PixelPaddingRangeLimit": 60000}])
def test_what_pads_the_image_is_black_and_no_grey_level_of_it(colour, limit):
    padded = RAMP.copy()
    padded[:, 50:] = 2**16 - 1
    padded[:, 60:] = 60000 if limit else 2**16 - 1
    said = {"BitsStored": 16, "HighBit": 15, "PhotometricInterpretation": colour}
    content = radiograph(padded, PixelPaddingValue=2**16 - 1, **said, **limit)
    image, note = read_dicom(content).grey()
    expected = decode_radiograph(radiograph(RAMP, **said), "x").astype(int)
    assert np.abs(image[:, :50] - expected[:, :50]).max() <= 1
    assert not image[:, 50:].any() and note.startswith("12 of 16 bits")
    alike = read_dicom(radiograph(np.full_like(RAMP, 7), PixelPaddingValue=7, **said)).grey()[0]
    assert (alike == decode_radiograph(radiograph(np.full_like(RAMP, 7), **said), "x")).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_by_the_standards_formulas(function):
    """PS3.3, C.11.2.1.2 and C.11.2.1.3, one value after the other."""
    centre, width = 1500, 800
    content = radiograph(RAMP, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = []
    for value in RAMP.ravel().astype(float):
        if function == "SIGMOID":
            expected.append(255 / (1 + np.exp(-4 * (value - centre) / width)))
        elif function == "LINEAR_EXACT":
            expected.append(255 * ((value - centre) / width + 0.5))
        else:
            expected.append(255 * ((value - centre + 0.5) / (width - 1) + 0.5))
    expected = np.clip(expected, 0, 255).reshape(RAMP.shape)
    assert np.abs(decode_radiograph(content, "x") - expected).max() <= 1


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 100, "WindowWidth": 0},
        {"WindowCenter": 100, "WindowWidth": -4096, "VOILUTFunction": "LINEAR_EXACT"},
        {"VOILUTSequence": []},
    ],
)
def test_a_window_that_cannot_be_is_none(window):
    np.testing.assert_array_equal(
        decode_radiograph(radiograph(RAMP, **window), "x"), decode_radiograph(radiograph(RAMP), "x")
    )


def test_an_empty_voi_table_leaves_the_window():
    window = {"WindowCenter": 2048, "WindowWidth": 1000}
    content = radiograph(RAMP, VOILUTSequence=[], **window)
    np.testing.assert_array_equal(
        decode_radiograph(content, "x"), decode_radiograph(radiograph(RAMP, **window), "x")
    )


def test_a_voi_table_wins_over_a_window():
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.add_new("LUTData", "OW", np.repeat(np.uint16([0, 255]), 2048).tobytes())
    content = radiograph(RAMP, WindowCenter=10, WindowWidth=5, VOILUTSequence=Sequence([table]))
    image = decode_radiograph(content, "x")
    assert set(image[:32].ravel()) == {0} and set(image[32:].ravel()) == {255}
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = bytes(range(256))  # a byte an entry
    image = decode_radiograph(radiograph(RAMP, VOILUTSequence=Sequence([table])), "x")
    assert np.array_equal(image, np.clip(RAMP, 0, 255))
    table.LUTDescriptor = [4096, 0, 8]
    with pytest.raises(BadRadiographError, match="VOI LUT has 128 of the 4096 entries"):
        decode_radiograph(radiograph(RAMP, VOILUTSequence=Sequence([table])), "x")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        *(({"Modality": name}, f"of the modality {name}; expected a radiograph, one of CR, DX, RG")
          for name in ("CT", "MR", "US", "SEG", "SC", "RTDOSE", "OT")),
        ({"Modality": ""}, "without a modality"),
        ({"NumberOfFrames": "2"}, "with 2 frames; expected one"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"in colour \(RGB\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"in colour \(PALETTE COLOR\)"),
        ({"BitsAllocated": 32}, "with 32 bits a pixel; expected 8 or 16"),
        ({"PixelData": RAMP.tobytes()[:100]}, "pixels that cannot be read"),
        ({"Rows": None}, "a header that cannot be read"),
        ({"Columns": [64, 64]}, "a header that cannot be read"),
        ({"WindowWidth": "nan", "WindowCenter": 3}, "its window or its rescale makes no grey"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "its window or its rescale makes no grey"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_a_sentence(settings, reason):
    with pytest.raises(BadRadiographError, match=rf"^x\.dcm: DICOM .*{reason}"):
        decode_radiograph(radiograph(RAMP, **settings), "x.dcm")


def test_no_pixels_no_dicom_and_half_a_file(tmp_path):
    content = radiograph(RAMP)
    dataset = parsed(content, "x")
    del dataset.PixelData
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    with pytest.raises(BadRadiographError, match="DICOM without pixels"):
        decode_radiograph(target.getvalue(), "x")
    with pytest.raises(BadRadiographError, match="not a DICOM file"):
        parsed(b"\0" * 200, "x")
    for length in (133, 200, 400, len(content) - 1000):
        with pytest.raises(BadRadiographError, match=r"^x: .*DICOM"):
            decode_radiograph(content[:length], "x")


def test_memory_that_runs_out_is_no_damaged_file(monkeypatch):
    def failing(*_, **__):
        raise MemoryError

    content = radiograph(np.zeros((8, 8), np.uint16))
    monkeypatch.setattr(pydicom, "dcmread", failing)
    with pytest.raises(MemoryError):
        decode_radiograph(content, "arm.dcm")


def test_pixels_that_are_not_as_many_as_the_header_says_are_refused():
    content = radiograph(RAMP.astype(np.uint8)[:1, :1])
    shifted = content.replace(b"\xe0\x7f\x10\0OB", b"\xe0\x7f\x10\0\0OB")  # so it has frames
    assert shifted != content
    with pytest.raises(
        BadRadiographError, match=r"^x: damaged: . x 1 x 1 pixels, where its header"
    ):
        decode_radiograph(shifted, "x")


@pytest.mark.parametrize("packing", ["JPEG2000Lossless", "JPEGLSLossless", "JPEGBaseline8Bit"])
def test_more_packed_pixels_than_the_header_says_are_refused_unread(packing, monkeypatch):
    from pydicom import encaps, uid

    dataset = parsed(radiograph(np.arange(2400, dtype=np.uint8).reshape(40, 60)), "x")
    if packing == "JPEG2000Lossless":
        dataset.compress(uid.JPEG2000Lossless)
    elif packing == "JPEGLSLossless":
        pytest.importorskip("jpeg_ls", reason="needs pyjpegls")
        dataset.compress(uid.JPEGLSLossless)
    else:
        _, packed = cv2.imencode(".jpg", dataset.pixel_array)
        dataset.PixelData = encaps.encapsulate([packed.tobytes()])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit

    def content():
        target = io.BytesIO()
        dataset.save_as(target, enforce_file_format=True)
        return target.getvalue()

    assert decode_radiograph(content(), "x").shape == (40, 60)
    frames = list(encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encaps.encapsulate(frames * 2)
    with pytest.raises(BadRadiographError, match=r"in frame 2, where its header says .* in one"):
        decode_radiograph(content(), "x")
    dataset.PixelData = encaps.encapsulate(frames)
    dataset.Rows, dataset.Columns = 60, 40
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", None)
    with pytest.raises(BadRadiographError, match=r"40 x 60 x 1 packed .* says 60 x 40 x 1 in one"):
        decode_radiograph(content(), "x")


def test_a_byte_lost_from_run_lengths_is_no_panic_of_the_decoder():
    from pydicom import uid

    values = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30)
    dataset = parsed(radiograph(values), "x")
    dataset.compress(uid.RLELossless)
    target = io.BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    content, refused = target.getvalue(), 0
    for place in range(len(content) - 1200, len(content), 50):
        try:
            decode_radiograph(content[:place] + content[place + 1 :], "x")
        except BadRadiographError:
            refused += 1
    assert refused


def test_pixels_that_begin_above_the_lowest_bit_are_refused():
    content = radiograph(RAMP, BitsStored=12, HighBit=15)
    with pytest.raises(BadRadiographError, match="highest bit is 15 of 12 stored; expected 11"):
        decode_radiograph(content, "x")


def test_a_deflated_file_is_read_and_one_without_bound_is_not(monkeypatch):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset = parsed(radiograph(RAMP), "x")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    content = file.getvalue()
    assert (decode_radiograph(content, "x") == decode_radiograph(radiograph(RAMP), "x")).all()
    monkeypatch.setattr(dicom, "_MOST_BYTES", 1000)
    for read in (decode_radiograph, lambda content, path: dicom_header(io.BytesIO(content), path)):
        with pytest.raises(BadRadiographError, match="deflated and holds more than 1,000 bytes"):
            read(content, "x")


@pytest.mark.parametrize("length", [0, 10, 10**9])
def test_the_bound_does_not_hang_on_what_the_file_says_of_itself(monkeypatch, length):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset = parsed(radiograph(RAMP), "x")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = bytes(3000)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    content = bytearray(file.getvalue())
    content[140:144] = length.to_bytes(4, "little")  # FileMetaInformationGroupLength
    whole = decode_radiograph(radiograph(RAMP), "x")
    assert (decode_radiograph(bytes(content), "x") == whole).all()
    monkeypatch.setattr(dicom, "_MOST_BYTES", 1000)
    with pytest.raises(BadRadiographError, match="deflated and holds more than 1,000 bytes"):
        decode_radiograph(bytes(content), "x")


@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["", "IDENTITY", "INVERSE", "LIN OD"])
def test_the_presentation_says_which_end_is_dark(tmp_path, colour, shape):
    content = radiograph(
        RAMP,
        PhotometricInterpretation=colour,
        **({"PresentationLUTShape": shape} if shape else {}),
        WindowCenter=2048,
        WindowWidth=4096,
    )
    image = decode_radiograph(content, "x")
    inverse = shape == "INVERSE" or (shape != "IDENTITY" and colour == "MONOCHROME1")
    assert (image[0, 0] > image[-1, -1]) == inverse
    if not shutil.which("dcmj2pnm"):
        pytest.skip("needs dcmtk's dcmj2pnm")
    source, picture = tmp_path / "a.dcm", tmp_path / "a.pgm"
    source.write_bytes(content)
    subprocess.run(["dcmj2pnm", "+opb", "+Wi", "1", source, picture], check=True)
    assert np.abs(image.astype(int) - cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)).max() <= 1


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_a_voi_table_in_every_encoding_is_dcmtks(tmp_path, syntax):
    """Implicit, where a negative first value is written as one without a sign, and big endian."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    entries = np.linspace(0, 4095, 4096).astype(np.uint16) // 7 * 7
    table.LUTDescriptor = [4096, -1000 + 2**16, 12]
    read = pydicom.dcmread(io.BytesIO(radiograph(RAMP, RescaleSlope=1, RescaleIntercept=-1000)))
    dataset = Dataset()  # a new one, which may be written in any order of bytes
    dataset.update(read)
    dataset.file_meta = read.file_meta
    little = pydicom.uid.UID(syntax).is_little_endian
    order = "<u2" if little else ">u2"
    table.add_new("LUTData", "OW", entries.astype(order).tobytes())
    dataset.VOILUTSequence = Sequence([table])
    dataset.PixelData = RAMP.astype(order).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    source, picture = tmp_path / "a.dcm", tmp_path / "a.pgm"
    dataset.save_as(
        source, implicit_vr=syntax.endswith(".1.2"), little_endian=little, enforce_file_format=True
    )
    image = read_radiograph(source).astype(int)
    assert np.abs(image - np.round(entries[RAMP] / 4095 * 255)).max() <= 1  # by its place
    if not shutil.which("dcmj2pnm"):
        pytest.skip("needs dcmtk's dcmj2pnm")
    subprocess.run(["dcmj2pnm", "+opb", "+Wl", "1", source, picture], check=True)
    expected = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE).astype(int)
    assert expected.min() == 0 and expected.max() == 255
    assert np.abs(image - expected).max() <= 1
