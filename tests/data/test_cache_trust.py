"""The cache serves each file's own picture, or none."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from mura_tf.data import store as store_module
from mura_tf.data.cache import compact_cache, prepare
from mura_tf.data.radiograph import read_radiograph, resize_with_pad

SIZE = 32


@pytest.fixture
def views(tmp_path):
    """20 files, each of a grey of its own."""
    paths = []
    for number in range(20):
        path = tmp_path / "data" / f"image{number}.png"
        path.parent.mkdir(exist_ok=True)
        draw(path, number)
        paths.append(str(path))
    return pd.DataFrame({"path": paths})


def draw(path, number):
    image = np.full((SIZE, SIZE), number + 20, np.uint8)
    image[0] = range(SIZE)
    content = cv2.imencode(".png", image)[1].tobytes()
    with open(path, "wb") as file:
        file.write(content.ljust(400, b"\0"))  # behind its end, so that all have one size


@pytest.fixture(autouse=True)
def another_process(monkeypatch):
    """What other tests have read counts for nothing here."""
    monkeypatch.setattr(store_module, "_CHECKED", set())
    return lambda: store_module._CHECKED.clear()


def files(cache):
    folder = cache / f"{SIZE}px"
    return folder / "images.u8", folder / "index.jsonl"


def assert_served(prepared, views):
    """Every square is that of its file."""
    squares = prepared.images[prepared.rows]
    for path, square, size in zip(views.path, squares, prepared.sizes, strict=True):
        image = read_radiograph(path)
        assert np.array_equal(square, resize_with_pad(image, SIZE))
        assert tuple(size) == image.shape


@pytest.mark.parametrize("line", [0, 7, 19])
def test_a_line_lost_from_the_index_costs_its_file_alone(views, cache, decoded, line):
    prepare(views, SIZE, cache)
    _, index = files(cache)
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
    decoded.clear()
    assert_served(prepare(views, SIZE, cache), views)
    assert decoded == [f"image{line}.png"]


def test_lines_in_another_order_name_the_same_squares(views, cache, decoded):
    prepare(views, SIZE, cache)
    _, index = files(cache)
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(reversed(lines)))
    decoded.clear()
    assert_served(prepare(views, SIZE, cache), views)
    assert decoded == []


def test_squares_that_are_not_what_the_index_says_are_prepared_again(
    views, cache, decoded, another_process
):
    prepare(views, SIZE, cache)
    images, _ = files(cache)
    content = bytearray(images.read_bytes())
    content[3 * SIZE**2 + 5] ^= 1
    row = SIZE**2
    content[8 * row : 9 * row], content[9 * row : 10 * row] = (
        content[9 * row : 10 * row],
        content[8 * row : 9 * row],
    )
    images.write_bytes(content)
    decoded.clear()
    another_process()
    with pytest.warns(UserWarning, match=r"^3 images in .*images.u8 are not those that its index"):
        prepared = prepare(views, SIZE, cache)
    assert_served(prepared, views)
    assert sorted(decoded) == ["image3.png", "image8.png", "image9.png"]
    another_process()
    decoded.clear()
    assert_served(prepare(views, SIZE, cache), views)
    assert decoded == []


def test_each_square_is_checked_once_per_process(views, cache, monkeypatch, another_process):
    prepare(views, SIZE, cache)
    checked = []
    monkeypatch.setattr(
        store_module, "_fits", lambda images, entry: checked.append(entry.row) or True
    )
    another_process()
    prepare(views[:5], SIZE, cache)
    prepare(views[3:9], SIZE, cache)
    assert sorted(checked) == list(range(9))


def replaced_as_rsync_does(path, number):
    """Another picture under the name, of the same size and time of change."""
    status, part = os.stat(path), f"{path}.part"
    draw(part, number)
    os.replace(part, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(path).st_mtime_ns == status.st_mtime_ns
    return status.st_size == os.stat(path).st_size


def test_a_replaced_file_of_the_same_size_and_time_is_a_change(views, cache, decoded):
    prepare(views, SIZE, cache)
    decoded.clear()
    assert replaced_as_rsync_does(views.path[4], 100)
    assert_served(prepare(views, SIZE, cache), views)
    assert decoded == ["image4.png"]


def test_a_file_written_over_and_dated_back_is_a_change(views, cache, decoded):
    prepare(views, SIZE, cache)
    decoded.clear()
    status = os.stat(views.path[4])
    draw(views.path[4], 100)
    os.utime(views.path[4], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(views.path[4]).st_ino == status.st_ino
    assert_served(prepare(views, SIZE, cache), views)
    assert decoded == ["image4.png"]


def test_a_file_of_known_content_is_not_decoded_again(views, cache, decoded, tmp_path):
    """A data set that was moved, copied or touched keeps its squares."""
    whole = prepare(views, SIZE, cache)
    decoded.clear()
    os.utime(views.path[2])
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    moved = views.assign(path=views.path.str.replace("/data/", "/moved/"))
    for table in (views, moved):
        prepared = prepare(table, SIZE, cache)
        assert prepared.rows.tolist() == whole.rows.tolist()
        assert_served(prepared, table)
    assert decoded == []
    assert files(cache)[0].stat().st_size == 20 * SIZE**2


def test_a_damaged_square_is_not_lent_to_a_file_of_equal_content(views, cache, tmp_path):
    prepare(views, SIZE, cache)
    images, _ = files(cache)
    content = bytearray(images.read_bytes())
    content[6 * SIZE**2] ^= 1
    images.write_bytes(content)
    copy = shutil.copy(views.path[6], tmp_path / "copy.png")
    one = pd.DataFrame({"path": [str(copy)]})
    assert_served(prepare(one, SIZE, cache), one)


def test_an_index_of_another_version_is_made_anew_with_a_sentence(views, cache, decoded):
    images, index = files(cache)
    images.parent.mkdir(parents=True)
    images.write_bytes(bytes(20 * SIZE**2))
    with open(index, "w", encoding="utf-8") as lines:
        for path in views.path:
            status = os.stat(path)
            lines.write(json.dumps([path, status.st_size, status.st_mtime_ns, "00"]) + "\n")
    with pytest.warns(UserWarning, match=r"^20 files in .* were prepared by another version"):
        assert_served(prepare(views, SIZE, cache), views)
    assert len(decoded) == 20
    assert images.stat().st_size == 20 * SIZE**2  # the old squares are gone


def test_another_reader_makes_the_cache_anew(views, cache, decoded, monkeypatch):
    prepare(views, SIZE, cache)
    decoded.clear()
    monkeypatch.setattr(store_module, "READER_VERSION", 99)
    with pytest.warns(UserWarning, match="20 files in .* prepared by another version"):
        prepare(views, SIZE, cache)
    assert len(decoded) == 20


# Compacting


def test_compacting_frees_the_squares_of_files_that_changed_or_are_gone(views, cache, decoded):
    before = prepare(views, SIZE, cache)
    held = before.images[before.rows].copy()
    for number in range(5):
        draw(views.path[number], 100 + number)
    os.unlink(views.path[19])
    left = views[:19]
    prepare(left, SIZE, cache)
    images, _ = files(cache)
    assert images.stat().st_size == 25 * SIZE**2
    assert compact_cache(SIZE, cache) == (6, 19)
    assert images.stat().st_size == 19 * SIZE**2
    decoded.clear()
    assert_served(prepare(left, SIZE, cache), left)
    assert decoded == []
    assert np.array_equal(before.images[before.rows], held)  # who had them mapped still has
    assert compact_cache(SIZE, cache) == (0, 19)


def test_what_a_killed_compaction_began_is_removed(views, cache):
    prepare(views, SIZE, cache)
    begun = cache / f"{SIZE}px" / ".part-elsewhere-1-images.u8"
    begun.write_bytes(b"half")
    compact_cache(SIZE, cache)
    assert not begun.exists()


def test_compacting_nothing(cache):
    assert compact_cache(SIZE, cache) == (0, 0)


def test_a_kill_between_the_two_renames_of_compacting_loses_no_picture(views, cache, tmp_path):
    prepare(views, SIZE, cache)
    draw(views.path[0], 100)
    prepare(views, SIZE, cache)
    code = (
        "import os, signal, sys\n"
        "from mura_tf.data.cache import compact_cache\n"
        "real = os.replace\n"
        "def die(old, new):\n"
        "    real(old, new)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = die\n"
        f"compact_cache({SIZE}, sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache)])
    assert done.returncode == -signal.SIGKILL
    store_module._CHECKED.clear()
    with pytest.warns(UserWarning, match=r"are not those that its index names|cut short"):
        assert_served(prepare(views, SIZE, cache), views)


# A disk that does not do as asked


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks(views, cache, monkeypatch, reason):
    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError) as caught:
        prepare(views, SIZE, cache)
    assert str(caught.value) == (
        f"the cache of prepared images in {cache / f'{SIZE}px'} cannot be locked: "
        f"{os.strerror(reason)}. Give another folder, with --cache-dir or in $MURA_TF_CACHE, or "
        "mend this one."
    )


def test_a_full_disk_names_the_folder_and_what_is_needed(views, cache, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError) as caught:
        prepare(views, SIZE, cache)
    assert str(caught.value) == (
        f"the cache of prepared images in {cache / f'{SIZE}px'} cannot be written: No space left "
        "on device; 20 views take 0.00 GB, and those done are kept. Give another folder, with "
        "--cache-dir or in $MURA_TF_CACHE, or mend this one."
    )


def test_a_cache_folder_that_is_a_file(views, cache):
    cache.write_bytes(b"")
    with pytest.raises(OSError, match=r"cache of prepared images in .* cannot be made: .*--cache"):
        prepare(views, SIZE, cache)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_serves_what_it_has(views, cache):
    prepare(views, SIZE, cache)
    folder = cache / f"{SIZE}px"
    for path in [*folder.iterdir(), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    assert_served(prepare(views, SIZE, cache), views)
    folder.chmod(0o700)


def test_a_path_that_goes_up_from_a_link_is_the_file_that_is_read(tmp_path):
    """`link/../a.png` is beside where the link leads, and not beside the link."""
    for folder, grey in (("home", 10), ("shared", 200)):
        (tmp_path / folder / "images").mkdir(parents=True)
        image = np.full((8, 8), grey, np.uint8)
        image[:4] += 40
        cv2.imwrite(str(tmp_path / folder / "images/a.png"), image)
    (tmp_path / "shared/tables").mkdir()
    (tmp_path / "home/tables").symlink_to(tmp_path / "shared/tables")
    path = str(tmp_path / "home/tables/../images/a.png")
    views = pd.DataFrame({"path": [path]})
    prepared = prepare(views, 8, tmp_path / "cache")
    np.testing.assert_array_equal(prepared.images[0], read_radiograph(path))
    assert prepared.images[0].min() == 200
