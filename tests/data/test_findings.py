import pandas as pd

from mura_tf.data.findings import identical_files, studies_in_two_labels


def test_identical_files(tmp_path):
    content = {"a": b"xy", "b": b"xz", "c": b"xy", "empty1": b"", "empty2": b"", "d": b"xy"}
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    names = ["c", "b", "a", "empty1", "empty2", "folder", "gone", "d"]
    paths = [str(tmp_path / name) for name in names]
    assert identical_files(paths) == [[paths[0], paths[2], paths[7]]]


def test_a_study_of_three_labels_is_one_of_two():
    """The third is no label, which is said elsewhere."""
    views = pd.DataFrame({"path": ["a/1.png", "b/2.png", "c/3.png"], "label": [0, 1, 2]})
    views = views.assign(split="test", study_type="wrist", patient="p", study="s")
    (finding,) = studies_in_two_labels(views)
    assert "has label 0 here and label 1 in b" in finding.reason
