from command_line import assert_sentence, call


def test_the_cache_is_filled(mura, tmp_path, bars):
    result = call("prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 0
    assert result.stdout == "11 views are ready at 40 px.\n"
    assert (tmp_path / "cache/40px/images.u8").stat().st_size == 11 * 40 * 40
    assert "Looking at the files" in bars.getvalue()
    assert "Preparing" in bars.getvalue()


def test_bad_files_are_left_out_if_asked(mura, tmp_path):
    (mura / "train/XR_ELBOW/patient00001/study1_positive/image2.png").write_bytes(b"")
    prepare = ["prepare", mura, "--image-size", 40, "--cache-dir", tmp_path / "cache"]
    assert_sentence(call(*prepare), "or go on without them (--skip-bad)")
    assert call(*prepare, "--skip-bad").stdout == "10 views are ready at 40 px.\n"


def test_a_missing_folder(tmp_path):
    assert_sentence(call("prepare", tmp_path / "nowhere"), "nowhere")


def test_wrong_usage(mura):
    assert call("prepare", mura, "--image-size", 7).exit_code == 2
