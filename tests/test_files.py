import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mura_tf import files
from mura_tf.files import remove_lost_parts, remove_parts, write_json, written_whole


@pytest.fixture
def umask():
    """Sets the umask for a test and puts the old one back."""
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_whole_in_new_folders(tmp_path):
    path = tmp_path / "runs" / "elbow" / "history.csv"
    with written_whole(path) as part:
        part.write_text("epoch,loss\n")
        assert not path.exists()
    assert path.read_text() == "epoch,loss\n"
    assert names(path.parent) == ["history.csv"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_no_part(tmp_path, error):
    path = tmp_path / "best.keras"
    path.write_text("old")
    with pytest.raises(type(error)), written_whole(path) as part:
        part.write_text("half of the ne")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["best.keras"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_full_disk_is_told_with_the_files_name(tmp_path):
    with (
        pytest.raises(OSError, match="No space left") as caught,
        written_whole(tmp_path / "a.csv"),
        open("/dev/full", "w", encoding="utf-8") as full,
    ):
        full.write("as pandas and others do, without a name")
    assert caught.value.filename == str(tmp_path / "a.csv")


def test_what_fails_elsewhere_is_not_told_of_the_file(tmp_path):
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "a.csv"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.filename is None


def test_a_failing_rename_leaves_no_part(tmp_path):
    path = tmp_path / "scores.csv"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError), written_whole(path) as part:
        part.write_text("new")
    assert names(tmp_path) == ["scores.csv"]


def test_a_part_that_the_block_moved_away_is_the_blocks_error(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_whole(path) as part:
        part.unlink()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["scores.csv"]


def test_concurrent_readers_never_see_a_part(tmp_path):
    path = tmp_path / "table.csv"
    texts = [str(digit) * 200_000 for digit in range(10)]
    path.write_text(texts[0])
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            text = path.read_text()
            seen.append(text[0])
            assert text in texts

    errors = []

    def record():
        try:
            read()
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=record) for _ in range(2)]
    for reader in readers:
        reader.start()
    for count in range(60):
        with written_whole(path) as part, open(part, "w", encoding="utf-8") as file:
            for start in range(0, 200_000, 50_000):
                file.write(texts[count % 10][start : start + 50_000])
                file.flush()
    done.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert seen
    assert names(tmp_path) == ["table.csv"]


def test_two_writers_leave_the_file_of_one_of_them(tmp_path):
    path = tmp_path / "recipe.json"
    with written_whole(path) as first, written_whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # its block ended last
    assert names(tmp_path) == ["recipe.json"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    with written_whole(tmp_path / "report.html") as part:
        part.write_text("")
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == mode
    assert umask(mask) == mask  # and stays as it was


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_modes(tmp_path, monkeypatch, reason):
    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    write_json(tmp_path / "run.json", {"seed": 1})
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 1}
    assert names(tmp_path) == ["run.json"]


def test_a_disk_that_could_not_keep_the_file_is_no_disk_without(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_json(tmp_path / "run.json", {"seed": 1})
    assert names(tmp_path) == []


def open_elsewhere(monkeypatch, times):
    """Refuses the first renames, as Windows does while another program has the file open."""

    def replace(part, path):
        refused.append(path)
        if len(refused) <= times:
            raise PermissionError(errno.EACCES, "Access is denied")
        original(part, path)

    refused, original = [], os.replace
    monkeypatch.setattr(os, "replace", replace)


def test_a_file_that_somebody_has_open_is_waited_for(tmp_path, monkeypatch):
    open_elsewhere(monkeypatch, times=3)
    write_json(tmp_path / "run.json", {"seed": 1})
    assert names(tmp_path) == ["run.json"]


def test_a_file_that_stays_open_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    open_elsewhere(monkeypatch, times=10**9)
    with pytest.raises(PermissionError, match="another program has it open") as caught:
        write_json(tmp_path / "run.json", {"seed": 1})
    assert caught.value.filename == str(tmp_path / "run.json")
    assert names(tmp_path) == []


def test_a_rename_that_is_not_permitted_is_not_waited_for(tmp_path, monkeypatch):
    def refuse(*_):
        refused.append(1)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    refused = []
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match="not permitted") as caught:
        write_json(tmp_path / "run.json", {"seed": 1})
    assert len(refused) == 1 and caught.value.filename == str(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["best.keras", "model.weights.h5", "curves.png", "LICENSE"])
def test_the_part_keeps_the_suffix_and_the_folder(tmp_path, name):
    path = tmp_path / name
    with written_whole(str(path)) as part:
        assert part.parent == tmp_path
        assert part.suffixes == path.suffixes
        assert part.name.startswith(".part-")


def test_remove_parts_takes_what_a_killed_process_left_and_nothing_else(tmp_path):
    pid = os.fork()
    if pid == 0:  # the child dies inside the block, as by SIGKILL
        with written_whole(tmp_path / "best.keras") as part:
            part.write_text("half")
            os._exit(9)
    os.waitpid(pid, 0)
    (tmp_path / "history.csv").write_text("epoch\n")
    assert len(names(tmp_path)) == 2
    remove_parts(tmp_path)
    assert names(tmp_path) == ["history.csv"]
    remove_parts(tmp_path)  # nothing to do is no error
    remove_parts(tmp_path / "none")


def test_a_part_that_another_process_removes_is_no_error(tmp_path, monkeypatch):
    (tmp_path / ".part-1").touch()
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: os.stat(tmp_path / "gone"))
    remove_parts(tmp_path)


def test_write_json_is_indented_and_round_trips(tmp_path):
    content = {"kappa": 0.1 + 0.2, "backbone": "größer", "versions": {"keras": None}}
    write_json(tmp_path / "run.json", content)
    text = Path(tmp_path / "run.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert text.startswith('{\n  "kappa"') and text.endswith("}\n")


def test_write_json_of_what_json_does_not_know_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "run.json", {"seed": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "run.json", {"seed": {1, 2}})
    assert json.loads((tmp_path / "run.json").read_text()) == {"seed": 1}
    assert names(tmp_path) == ["run.json"]


def test_what_a_killed_process_had_begun_is_removed_and_no_other(tmp_path):
    code = (
        "import os, signal, sys; from mura_tf.files import written_whole; "
        "begun = written_whole(sys.argv[1]); begun.__enter__(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "scores.csv"], check=False)
    (tmp_path / ".part-elsewhere-1-x.csv").touch()
    assert len(names(tmp_path)) == 2
    with written_whole(tmp_path / "views.csv") as part:
        remove_lost_parts(tmp_path)
        assert names(tmp_path) == sorted([".part-elsewhere-1-x.csv", part.name])
    remove_parts(tmp_path)
    assert names(tmp_path) == ["views.csv"]


def test_what_is_refused_is_told_with_the_files_name(tmp_path):
    """And not with that of the part, which nobody has given."""
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "folder.csv"):
        pass
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder.csv"), None)
    long = tmp_path / f"a.{'b' * 300}"
    with pytest.raises(OSError, match="File name too long") as caught, written_whole(long):
        pass
    assert caught.value.filename == str(long)
