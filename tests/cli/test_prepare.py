import cv2
import numpy as np
from command_line import assert_sentence, assert_wrong_usage, call


def test_the_cache_is_filled(mura, tmp_path, bars):
    result = call("prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0
    assert result.stdout == "11 views are ready at 40 px.\n"
    assert (tmp_path / "cache/40px/images.u8").stat().st_size == 11 * 40 * 40
    assert "Looking at the files" in bars.getvalue()
    assert "Preparing" in bars.getvalue()


def test_squares_by_area_have_a_cache_of_their_own(mura, tmp_path):
    prepare = ["prepare", mura, "--image-size", 8, "--cache-dir", tmp_path / "cache"]
    result = call(*prepare, "--resize", "area", "--compact")
    assert result.stdout.endswith("\n0 squares are dropped, 0.0 MB; 11 are left.\n")
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"8px-area"}
    assert call(*prepare, "--resize", "cubic").exit_code == 2


def test_bad_files_are_left_out_if_asked(mura, tmp_path):
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png").write_bytes(b"")
    prepare = ["prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache"]
    assert_sentence(call(*prepare), "or go on without them (--skip-bad)")
    assert call(*prepare, "--skip-bad").stdout == "10 views are ready at 40 px.\n"


def test_a_missing_folder(tmp_path):
    assert_sentence(call("prepare", tmp_path / "nowhere"), "nowhere")


def test_wrong_usage(mura):
    assert call("prepare", mura, "--image-size", 7).exit_code == 2


def test_most_files_are_not_left_out_unless_asked_for(mura, tmp_path):
    for image in sorted(mura.rglob("*.png"))[:4]:
        image.write_bytes(b"")
    prepare = ["prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache"]
    result = call(*prepare, "--skip-bad")
    assert_sentence(result, "4 of 11 views are left out: 4 x the file is empty")
    assert_sentence(result, "--skip-bad leaves out 20% at most")
    result = call(*prepare, "--skip-bad", "--max-skipped", 0.5)
    assert result.stdout == "7 views are ready at 40 px.\n"
    assert "Note: 4 of 11 views are left out: 4 x the file is empty" in result.stderr
    assert_wrong_usage(call(*prepare, "--max-skipped", 0.5), "--max-skipped goes with --skip-bad")


def test_what_changed_files_have_left_is_freed(mura, tmp_path):
    prepare = ["prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache"]
    call(*prepare)
    image = sorted(mura.rglob("*.png"))[0]
    cv2.imwrite(str(image), np.full((30, 20), np.arange(20) * 9, np.uint8))
    result = call(*prepare, "--compact")
    assert result.exit_code == 0
    assert result.stdout.endswith("\n1 squares are dropped, 0.0 MB; 11 are left.\n")
    assert (tmp_path / "cache/40px/images.u8").stat().st_size == 11 * 40 * 40


def test_files_of_other_kinds_are_told(mura, tmp_path):
    for csv in mura.glob("*.csv"):
        csv.unlink()
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image9.tif").write_bytes(b"")
    result = call("prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache")
    assert result.stdout == "11 views are ready at 40 px.\n"
    assert "image9.tif: no PNG, JPEG or DICOM image, so left out" in result.stderr
