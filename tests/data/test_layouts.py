import pandas as pd
import pytest

from mura_tf.data.views import load_mura, load_views


def test_mura_from_the_folder_above(mura):
    pd.testing.assert_frame_equal(load_mura(mura.parent), load_mura(str(mura)))


def test_mura_in_a_renamed_folder(mura):
    renamed = mura.rename(mura.parent / "bones")
    views = load_mura(renamed)
    assert len(views) == 11
    assert views["path"].str.startswith(str(renamed)).all()


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*gone'. Expected MURA's layout"):
        load_mura(tmp_path / "gone")


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "MURA.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"is a file. Expected a folder with MURA's layout"):
        load_mura(tmp_path / "MURA.zip")


def test_neither_layout(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    pattern = r"no data set in .* MURA's layout .*; or FracAtlas' layout .* with: holiday.jpg"
    with pytest.raises(FileNotFoundError, match=pattern):
        load_views(tmp_path)


def test_several_data_sets(mura):
    (mura.parent / "copy" / "train" / "XR_ELBOW").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds 2 data sets: MURA-v1.1, copy. Expected one"):
        load_mura(mura.parent)
