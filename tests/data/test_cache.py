"""Radiographs on disk -> squares in the cache, in one process."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from caches import SIZE, files, images_in, squares, table

from mura_tf.data.cache import (
    BadViewsError,
    compact_cache,
    data_fingerprint,
    default_cache_dir,
    prepare,
    prepare_readable,
)
from mura_tf.data.radiograph import read_radiograph, resize_with_pad
from mura_tf.data.views import load_mura
from mura_tf.terminal import Notice


@pytest.fixture
def views(tmp_path):
    return table(images_in(tmp_path / "data", 6))


def test_prepared_squares_are_the_images_resized_and_padded(views, cache):
    prepared = prepare(views, SIZE, cache)
    assert prepared.images.dtype == np.uint8
    assert prepared.images.shape == (6, SIZE, SIZE)
    assert not prepared.images.flags.writeable
    for path, square, digest in zip(views.path, squares(prepared), prepared.digests, strict=True):
        content = Path(path).read_bytes()
        image = tf.io.decode_png(content)
        expected = tf.image.resize_with_pad(image, SIZE, SIZE).numpy()[..., 0]
        assert np.abs(square - expected).max() <= 1
        assert digest == hashlib.blake2b(content, digest_size=16).hexdigest()


def test_the_second_time_nothing_is_decoded(views, cache, no_decoding):
    first = prepare(views, SIZE, cache)
    no_decoding()
    second = prepare(views, SIZE, cache)
    assert np.array_equal(squares(first), squares(second))
    assert np.array_equal(first.digests, second.digests)


def test_a_subset_in_another_order_is_served(views, cache, no_decoding):
    whole = prepare(views, SIZE, cache)
    no_decoding()
    part = prepare(views.iloc[[4, 0, 2]], SIZE, cache)
    assert np.array_equal(squares(part), squares(whole)[[4, 0, 2]])


def test_a_superset_adds_what_is_lacking(views, cache, decoded):
    before = squares(prepare(views.iloc[2:4], SIZE, cache))
    assert sorted(decoded) == ["image2.png", "image3.png"]
    decoded.clear()
    whole = prepare(views, SIZE, cache)
    assert sorted(decoded) == ["image0.png", "image1.png", "image4.png", "image5.png"]
    assert np.array_equal(squares(whole)[2:4], before)
    assert np.array_equal(squares(whole), squares(prepare(views, SIZE, cache.parent / "other")))


def test_squares_handed_out_stay_valid_while_the_cache_grows(views, cache):
    first = prepare(views.iloc[:2], SIZE, cache)
    before = squares(first).copy()
    prepare(views, SIZE, cache)
    assert np.array_equal(squares(first), before)


def test_a_path_listed_twice_is_one_square(views, cache, decoded):
    prepared = prepare(pd.concat([views, views]), SIZE, cache)
    assert len(decoded) == len(prepared.images) == 6
    assert np.array_equal(prepared.rows[:6], prepared.rows[6:])


def test_a_relative_path_is_the_same_square(views, cache, no_decoding, monkeypatch):
    first = prepare(views, SIZE, cache)
    no_decoding()
    folder = os.path.dirname(views.path[0])
    monkeypatch.chdir(folder)
    again = prepare(views.assign(path=[os.path.relpath(path) for path in views.path]), SIZE, cache)
    assert again.rows.tolist() == first.rows.tolist()


def test_a_bad_file_is_listed_by_the_path_of_the_table(tmp_path, cache, monkeypatch):
    (tmp_path / "empty.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadViewsError) as caught:
        prepare(table(["empty.png"]), SIZE, cache)
    assert caught.value.problems.path.tolist() == ["empty.png"]


def test_each_size_has_its_own_folder(views, cache):
    prepare(views, SIZE, cache)
    assert prepare(views, 48, cache).images.shape == (6, 48, 48)
    assert sorted(path.name for path in cache.iterdir()) == ["32px", "48px"]


def test_each_way_to_a_square_has_its_own_folder(views, cache):
    plain = squares(prepare(views, 20, cache)).copy()
    area = squares(prepare(views, 20, cache, resize="area"))
    for path, square in zip(views.path, area, strict=True):
        assert np.array_equal(square, resize_with_pad(read_radiograph(path), 20, "area"))
    assert not np.array_equal(area, plain)
    assert np.array_equal(squares(prepare(views, 20, cache)), plain)
    assert sorted(path.name for path in cache.iterdir()) == ["20px", "20px-area"]
    assert compact_cache(20, cache, resize="area") == (0, 6)
    with pytest.raises(ValueError, match=r"must be one of bilinear, area\. Received: 'cubic'"):
        prepare(views, 20, cache, resize="cubic")


def test_a_changed_file_is_prepared_again(views, cache, decoded):
    before = squares(prepare(views, SIZE, cache)).copy()
    white = np.full((40, 40), 255, np.uint8)
    cv2.imwrite(views.path[3], white)
    decoded.clear()
    after = prepare(views, SIZE, cache)
    assert decoded == ["image3.png"]
    assert (squares(after)[3] == 255).all()
    others = [0, 1, 2, 4, 5]
    assert np.array_equal(squares(after)[others], before[others])


def test_another_size_is_a_change(views, cache, decoded):
    prepare(views, SIZE, cache)
    decoded.clear()
    path = views.path[1]
    status = os.stat(path)
    with open(path, "ab") as file:
        file.write(b"\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    prepare(views, SIZE, cache)
    assert decoded == ["image1.png"]


def test_progress_is_shown_on_request(views, cache, bars):
    prepare(views, 48, cache)
    assert bars.getvalue() == ""
    prepare(views, SIZE, cache, progress=True)
    assert "Looking at the files" in bars.getvalue() and "Preparing" in bars.getvalue()


def test_the_cache_folder_by_default(views, tmp_path, monkeypatch):
    monkeypatch.setenv("MURA_TF_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"
    prepare(views, SIZE)
    assert (tmp_path / "mine" / "32px" / "images.u8").stat().st_size == 6 * SIZE**2
    monkeypatch.delenv("MURA_TF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "mura_tf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "mura_tf"


def test_a_full_disk_keeps_what_was_there(views, cache, monkeypatch, decoded):
    prepare(views.iloc[:2], SIZE, cache)
    before = files(cache)

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            prepare(views, SIZE, cache)
    assert files(cache)[1] == before[1]
    decoded.clear()
    prepared = prepare(views, SIZE, cache)
    assert len(decoded) == 4
    assert len(prepared.images) == 6
    assert np.array_equal(squares(prepared), squares(prepare(views, SIZE, cache.parent / "other")))


# Damage


@pytest.mark.parametrize("length", [0, 2 * SIZE**2, 3 * SIZE**2 + 17])
def test_a_cache_cut_short_warns_and_is_mended(views, cache, decoded, length):
    prepare(views, SIZE, cache)
    whole = files(cache)
    images = cache / f"{SIZE}px" / "images.u8"
    os.truncate(images, length)
    rows = length // SIZE**2
    decoded.clear()
    with pytest.warns(Notice) as caught:
        prepared = prepare(views, SIZE, cache)
    assert [str(warning.message) for warning in caught] == [
        f"{images} is cut short: expected 6 images, found {rows}. "
        f"The other {6 - rows} are prepared again."
    ]
    assert len(decoded) == 6 - rows
    assert files(cache) == whole
    assert squares(prepared).tobytes() == whole[0]


def test_a_cache_without_its_images_is_mended(views, cache):
    prepare(views, SIZE, cache)
    whole = files(cache)
    (cache / f"{SIZE}px" / "images.u8").unlink()
    with pytest.warns(Notice, match="expected 6 images, found 0"):
        prepare(views, SIZE, cache)
    assert files(cache) == whole


def test_an_index_with_half_a_line_is_mended(views, cache, decoded):
    prepare(views, SIZE, cache)
    whole = files(cache)
    index = cache / f"{SIZE}px" / "index.jsonl"
    os.truncate(index, len(whole[1]) - 10)
    decoded.clear()
    prepare(views, SIZE, cache)
    assert decoded == ["image5.png"]
    assert files(cache) == whole


def test_a_lost_index_is_made_again(views, cache, decoded):
    prepare(views, SIZE, cache)
    whole = files(cache)
    (cache / f"{SIZE}px" / "index.jsonl").unlink()
    decoded.clear()
    prepare(views, SIZE, cache)
    assert len(decoded) == 6
    assert files(cache) == whole


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"\0\0\0\0\n", b"5\n", b"[]\n", b'[["a"], 1, 2, "b"]\n', b"\xff\xfe\n"]
)
def test_garbage_in_the_index_gets_a_sentence(views, cache, line):
    prepare(views, SIZE, cache)
    index = cache / f"{SIZE}px" / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], line, *lines[3:]])
    index.write_bytes(damaged)
    with pytest.raises(ValueError) as caught:
        prepare(views, SIZE, cache)
    assert str(caught.value) == (
        f"{index} must hold one JSON list a line and does not. Delete the folder "
        f"{index.parent}: it is made again from the radiographs."
    )
    assert index.read_bytes() == damaged
    shutil.rmtree(index.parent)
    assert len(prepare(views, SIZE, cache).images) == 6


# Bad files


def test_all_bad_files_are_listed_and_the_good_ones_kept(views, cache, tmp_path, no_decoding):
    bad = {
        views.path[1]: "truncated or corrupt PNG",
        str(tmp_path / "empty.png"): "the file is empty",
        str(tmp_path / "missing.png"): "there is no such file",
        str(tmp_path): "a directory, not an image file",
        str(tmp_path / "text.png"): "not a PNG, JPEG or DICOM image",
        f"{views.path[0]}/image.png": "Not a directory",
    }
    os.truncate(views.path[1], 100)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"Fracture")
    mixed = table([*dict.fromkeys([*views.path, *bad])])
    with pytest.raises(BadViewsError) as caught:
        prepare(mixed, SIZE, cache)
    problems = caught.value.problems
    assert list(problems) == ["path", "reason"]
    expected = {path: f"{path}: {reason}" for path, reason in sorted(bad.items())}
    assert problems.set_index("path").reason.to_dict() == expected
    message = str(caught.value).splitlines()
    assert message[0] == "6 files cannot be used, expected a readable PNG, JPEG or DICOM in each:"
    assert message[1:-1] == [f"  {sentence}" for sentence in expected.values()]
    assert message[-1] == "Replace them, or go on without them (--skip-bad)."
    no_decoding()
    prepare(views.drop(index=1), SIZE, cache)


def test_many_bad_files_are_counted(tmp_path, cache):
    missing = table([str(tmp_path / f"image{number:02}.png") for number in range(13)])
    with pytest.raises(BadViewsError, match=r"^13 files cannot .*\n(.*\n){10}  and 3 more\n"):
        prepare(missing, SIZE, cache)


# Fingerprint


def test_the_fingerprint_does_not_depend_on_the_root_or_the_order(views, cache, tmp_path):
    prepared = prepare(views, SIZE, cache)
    fingerprint = data_fingerprint(views, prepared.digests)
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    moved = shutil.copytree(tmp_path / "data", tmp_path / "elsewhere")
    elsewhere = views.assign(path=[str(moved / view) for view in views["view"]])
    there = prepare(elsewhere, SIZE, cache)
    assert data_fingerprint(elsewhere, there.digests) == fingerprint
    shuffled = views.sample(frac=1, random_state=0)
    digests = prepare(shuffled, SIZE, cache).digests
    assert data_fingerprint(shuffled, digests) == fingerprint
    assert data_fingerprint(views, prepare(views, 48, cache).digests) == fingerprint


def test_an_unknown_label_has_one_fingerprint_on_every_pandas(views, cache):
    """Whose text of <NA> is "<NA>" before pandas 3, and missing from it on."""
    digests = prepare(views, SIZE, cache).digests
    unknown = views.assign(label=views.label.astype("Int64").where(views.index > 0))
    told = views.assign(label=views.label.astype(object).where(views.index > 0, "unknown"))
    assert data_fingerprint(unknown, digests) == data_fingerprint(told, digests)


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", 1), ("split", "valid"), ("study_type", "wrist"), ("patient", "p9"), ("study", "s9")],
)
def test_the_fingerprint_tells_every_column(views, cache, column, value):
    digests = prepare(views, SIZE, cache).digests
    changed = views.copy()
    changed.loc[0, column] = value
    assert changed[column][0] != views[column][0]
    assert data_fingerprint(changed, digests) != data_fingerprint(views, digests)


def test_the_fingerprint_tells_a_byte_and_a_missing_row(views, cache):
    digests = prepare(views, SIZE, cache).digests
    fingerprint = data_fingerprint(views, digests)
    with open(views.path[2], "ab") as file:  # the same pixels, another file
        file.write(b"\n")
    assert data_fingerprint(views, prepare(views, SIZE, cache).digests) != fingerprint
    assert data_fingerprint(views[1:], digests[1:]) != fingerprint


def test_the_index_is_one_json_list_a_line(views, cache):
    prepare(views, SIZE, cache)
    for line, path in zip(files(cache)[1].splitlines(), views.path, strict=True):
        status = os.stat(path)
        assert json.loads(line)[:3] == [path, status.st_size, status.st_mtime_ns]


def test_unreadable_files_are_left_out_if_asked(mura):
    views = load_mura(mura)
    whole, problems, prepared = prepare_readable(views, 32)
    assert whole.equals(views) and problems.empty and len(prepared.rows) == 11
    os.truncate(views.path[3], 10)
    with pytest.raises(BadViewsError, match=r"^1 files cannot be used"):
        prepare_readable(views, 32)
    readable, problems, prepared = prepare_readable(views, 32, skip_bad=True)
    assert readable.equals(views.drop(3).reset_index(drop=True)) and len(prepared.rows) == 10
    assert problems.path.tolist() == [views.path[3]]


def test_nothing_readable_is_an_error_all_the_same(mura):
    views = load_mura(mura)
    for path in views.path:
        os.truncate(path, 10)
    with pytest.raises(BadViewsError, match=r"^11 files cannot be used"):
        prepare_readable(views, 32, skip_bad=True)
