from mura_tf.data.findings import identical_files


def test_identical_files(tmp_path):
    content = {"a": b"xy", "b": b"xz", "c": b"xy", "empty1": b"", "empty2": b"", "d": b"xy"}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    names = ["c", "b", "a", "empty1", "empty2", "folder", "gone", "d"]
    paths = [str(tmp_path / name) for name in names]
    assert identical_files(paths) == [[paths[0], paths[2], paths[7]]]
