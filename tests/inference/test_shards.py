"""Many studies into one folder: the same here, on a cluster and after a kill."""

import shutil
import signal
import subprocess
import threading
import time
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from command_line import command
from filelock import FileLock

from mura_tf.inference import shards
from mura_tf.inference.bundle import Bundle
from mura_tf.inference.shards import SHARDS, ray_engine, read_into


@pytest.fixture
def many(tmp_path):
    """Radiographs, each a study: three shards, the last of them short."""
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(130):
        cv2.imwrite(str(folder / f"{number:03d}.png"), rng.integers(5, 90, (48, 40), np.uint8))
    return folder


@pytest.fixture
def small(monkeypatch):
    """Shards of two views."""
    monkeypatch.setattr(shards, "VIEWS", 2)


@pytest.fixture
def decoded(monkeypatch):
    """The paths that are decoded."""
    from mura_tf.data.radiograph import read_content

    paths = []

    def read(path):
        paths.append(path)
        return read_content(path)

    monkeypatch.setattr("mura_tf.inference.bundle.read_content", read)
    return paths


def files_below(folder):
    paths = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return paths - {".lock"}


def assert_same(ours, theirs):
    """Two folders of findings that differ in nothing but the last bits of floats."""
    assert files_below(ours) == files_below(theirs)
    for name in ("findings.csv", "views.csv"):
        pd.testing.assert_frame_equal(pd.read_csv(ours / name), pd.read_csv(theirs / name))


def stopped_after(count):
    """What `told` does to be stopped as by a kill, when so many studies are done."""
    seen = []

    def told(record):
        seen.append(record)
        if len(seen) == count:
            raise KeyboardInterrupt

    return told


def test_shards_say_what_read_says(bundle, lesions, tmp_path, small):
    told = []
    counts = read_into(bundle, [lesions / "valid"], tmp_path / "out", told=told.append)
    expected = bundle.read(lesions / "valid")
    table = pd.read_csv(tmp_path / "out/findings.csv", keep_default_na=False)
    assert [record.row["study"] for record in told] == expected.study.tolist()
    assert table.study.tolist() == expected.study.tolist()
    assert table.decision.tolist() == expected.decision.tolist()
    assert table.probability.tolist() == pytest.approx(expected.probability.tolist(), abs=1e-6)
    assert counts["normal"] + counts["doubtful"] + counts["abnormal"] == len(expected)
    assert files_below(tmp_path / "out") == {
        "findings.csv", "views.csv", "index.html",
        *pd.read_csv(tmp_path / "out/views.csv").heatmap,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["views.csv", "findings.csv", "index.html"])
def test_a_file_of_somebody_else_is_not_replaced(bundle, lesions, tmp_path, name):
    (tmp_path / name).write_text("study,path\ns,1.png\n")
    with pytest.raises(ValueError, match=rf"{name} must be of an earlier call.* another folder"):
        read_into(bundle, [lesions / "valid"], tmp_path)
    assert (tmp_path / name).read_text() == "study,path\ns,1.png\n"


def test_what_was_read_before_a_kill_is_not_read_again(bundle, lesions, tmp_path, small, decoded):
    sources, out = [lesions / "valid/XR_WRIST"], tmp_path / "out"
    read_into(bundle, sources, tmp_path / "undisturbed")
    files = len(decoded)
    decoded.clear()
    with pytest.raises(KeyboardInterrupt):
        read_into(bundle, sources, out, told=stopped_after(4))
    assert 0 < len(decoded) < files and not (out / "findings.csv").exists()
    read_into(bundle, sources, out)
    assert len(decoded) == files, "each file once, over both calls"
    assert_same(out, tmp_path / "undisturbed")


def test_a_shard_whose_removal_was_begun_is_read_again(bundle, lesions, tmp_path, small):
    sources, out = [lesions / "valid/XR_WRIST"], tmp_path / "out"
    read_into(bundle, sources, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        read_into(bundle, sources, out, told=stopped_after(4))
    next(out.glob(f"{SHARDS}/*/records.jsonl")).unlink()
    read_into(bundle, sources, out)
    assert_same(out, tmp_path / "undisturbed")


def test_two_calls_into_one_folder_take_turns(bundle, lesions, tmp_path, small):
    out = tmp_path / "out"
    out.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(out / ".lock"):
            call = pool.submit(read_into, bundle, [lesions / "valid/XR_WRIST"], out)
            assert not wait([call], timeout=1).done
            assert files_below(out) == set()
        assert call.result()["not read"] == 0


def test_processes_that_die_without_a_word_are_a_sentence(bundle, lesions, tmp_path):
    class Dying:
        def submit(self, order):
            future = Future()
            future.set_exception(RuntimeError())
            return future

        def close(self):
            pass

    with pytest.raises(RuntimeError, match=r"were not read: RuntimeError What is done is kept"):
        read_into(bundle, [lesions / "valid/XR_WRIST"], tmp_path / "out", engine=Dying())


def test_changed_files_and_another_model_are_not_mixed_in(
    bundle, members, lesions, tmp_path, small, decoded
):
    folder, out = tmp_path / "wrist", tmp_path / "out"
    shutil.copytree(lesions / "valid/XR_WRIST", folder)
    with pytest.raises(KeyboardInterrupt):
        read_into(bundle, [folder], out, told=stopped_after(6))
    (changed, *_) = sorted(folder.rglob("*.png"))
    cv2.imwrite(str(changed), np.random.default_rng(1).integers(60, 99, (48, 40), np.uint8))
    decoded.clear()
    with pytest.raises(KeyboardInterrupt):
        read_into(bundle, [folder], out, told=stopped_after(6))
    assert changed in decoded and len(decoded) <= 3, "its shard alone"
    decoded.clear()
    alone = Bundle(next(members.glob("*/run.json")).parent)
    read_into(alone, [folder], out)
    assert len(decoded) == len(list(folder.rglob("*.png")))
    read_into(alone, [folder], tmp_path / "undisturbed")
    assert_same(out, tmp_path / "undisturbed")


def test_a_zip_is_unpacked_once_and_leaves_nothing(bundle, lesions, tmp_path, small, decoded):
    path = tmp_path / "hand/visits.zip"  # no study type: what the folder above a zip is called
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((lesions / "valid/XR_WRIST").rglob("*.png")):
            archive.write(file, file.relative_to(lesions / "valid"))
    out = tmp_path / "XR_ELBOW"  # nor this one, in which it is unpacked
    with pytest.raises(KeyboardInterrupt):
        read_into(bundle, [path], out, told=stopped_after(4))
    read_into(bundle, [path], out)
    assert len(decoded) == len(list((lesions / "valid/XR_WRIST").rglob("*.png")))
    table = pd.read_csv(out / "findings.csv")
    assert set(table.study_type) == {"wrist"} and not (out / SHARDS).exists()


def test_a_zip_whose_removal_was_begun_is_read_whole(bundle, lesions, tmp_path, small, monkeypatch):
    path, out = tmp_path / "visits.zip", tmp_path / "out"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((lesions / "valid/XR_WRIST").rglob("*.png")):
            archive.write(file, file.relative_to(lesions / "valid"))
    read_into(bundle, [path], tmp_path / "undisturbed")
    removed = shutil.rmtree

    def stopped(folder, *rest, **settings):
        if unpacked := sorted(Path(folder).rglob("unpacked/*/*/*/*/*.png")):
            unpacked[0].unlink()
            raise KeyboardInterrupt
        return removed(folder, *rest, **settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", stopped)
        read_into(bundle, [path], out)
    read_into(bundle, [path], out)
    assert_same(out, tmp_path / "undisturbed")
    assert not list(out.glob(".part-*"))


def test_studies_of_one_name_keep_their_pictures(bundle, lesions, tmp_path, small):
    study = min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))
    for patient in "abc":
        shutil.copytree(study, tmp_path / patient / "wrist")
    read_into(bundle, [tmp_path / patient / "wrist" for patient in "abc"], tmp_path / "out")
    views = pd.read_csv(tmp_path / "out/views.csv")
    assert views.heatmap.nunique() == 3
    assert files_below(tmp_path / "out/studies") == {
        name.removeprefix("studies/") for name in views.heatmap
    }


def test_pictures_of_an_earlier_call_go_with_its_tables(bundle, lesions, tmp_path, small):
    study = min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))
    for name in "ab":
        shutil.copytree(study, tmp_path / name)
    out = tmp_path / "out"
    for folder in ("studies", "dicom"):
        (out / folder).mkdir(parents=True)
    mine = ["dicom/mine-report.dcm", "dicom/b-1-report.dcm", "studies/mine.png"]
    for name in mine:
        (out / name).write_bytes(b"")
    read_into(bundle, [tmp_path / "a", tmp_path / "b"], out)
    for name in ("b-report.dcm", "b-heatmap0.dcm"):
        (out / "dicom" / name).write_bytes(b"")
    assert (out / "studies/b.png").is_file()
    read_into(bundle, [tmp_path / "a"], out)
    left = {name for name in files_below(out) if "/" in name}
    assert left == {*mine, "studies/a.png"}


def test_a_killed_command_goes_on(bundle, many, tmp_path, decoded):
    """The process is killed as soon as a shard is there."""
    out = tmp_path / "out"
    arguments = ("predict", bundle.path, many, "--each-file", "--type", "wrist", "--out", out)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL)
    while not list(out.glob(f"{SHARDS}/*/records.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [path.read_text() for path in out.glob(f"{SHARDS}/*/records.jsonl")]
    done = sum(len(text.splitlines()) for text in before)
    assert 0 < done < 130 and not (out / "findings.csv").exists()
    read_into(bundle, [many], tmp_path / "undisturbed", study_type="wrist", each_file=True)
    decoded.clear()
    read_into(bundle, [many], out, study_type="wrist", each_file=True)
    assert len(decoded) == 130 - done
    assert_same(out, tmp_path / "undisturbed")
    assert len(pd.read_csv(out / "findings.csv")) == 130


def test_ray_reads_what_this_process_reads(bundle, lesions, tmp_path, small, monkeypatch):
    """All paths are relative, and seen from where this process is."""
    pytest.importorskip("ray")
    monkeypatch.chdir(lesions)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    sources = ["valid", bad]
    read_into(bundle, sources, tmp_path / "here")
    read_into(bundle, sources, tmp_path / "ray", engine=ray_engine())
    assert_same(tmp_path / "ray", tmp_path / "here")


def test_what_a_task_refuses_is_the_sentence(bundle, lesions, tmp_path, monkeypatch):
    """A model that is no longer what it was when reading began."""
    pytest.importorskip("ray")
    path = tmp_path / "changing.mura"
    shutil.copy(bundle.path, path)
    opened = Bundle(path)
    assert len(opened.hash) == 12
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", "bytes")
    with pytest.raises(ValueError, match=r"must stay what it was when reading began.*Repeat"):
        read_into(opened, [lesions / "valid"], tmp_path / "out", engine=ray_engine())


@pytest.mark.slow
def test_two_nodes_one_of_which_is_killed_while_it_reads(bundle, many, tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    read_into(bundle, [many], tmp_path / "here", study_type="wrist", each_file=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        killer = threading.Thread(target=kill_while_it_reads, args=(cluster, node), daemon=True)
        killer.start()
        engine = ray_engine(cluster.address)
        read_into(
            bundle, [many], tmp_path / "ray", study_type="wrist", each_file=True, engine=engine
        )
        killer.join(30)
        assert not killer.is_alive(), "the node was killed while there was something to read"
    finally:
        cluster.shutdown()
    assert_same(tmp_path / "ray", tmp_path / "here")


def kill_while_it_reads(cluster, node):
    """Kills a node as soon as one of its processes has a shard to read."""
    raylet = str(node.all_processes["raylet"][0].process.pid)
    while True:
        told = subprocess.check_output(["ps", "-eo", "ppid=,args="], text=True)
        rows = [line.split(maxsplit=1) for line in told.splitlines()]
        if any(row[0] == raylet and "read_shard" in row[-1] for row in rows):
            cluster.remove_node(node, allow_graceful=False)
            return
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["NA", "None", "nan"])
def test_a_study_may_be_called_as_pandas_calls_nothing(bundle, lesions, tmp_path, small, name):
    study = min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))
    shutil.copytree(study, tmp_path / name)
    for _ in range(2):
        read_into(bundle, [tmp_path / name], tmp_path / "out")
    assert files_below(tmp_path / "out/studies") == {f"{name}.png"}


def test_what_an_earlier_call_says_of_a_study_does_not_stay(bundle, lesions, tmp_path, small):
    study = min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))
    shutil.copytree(study, tmp_path / "a")
    out = tmp_path / "out"
    read_into(bundle, [tmp_path / "a"], out)
    (out / "dicom").mkdir()
    for name in ("a-report.dcm", "a-heatmap1.dcm", "mine.dcm"):
        (out / "dicom" / name).write_bytes(b"")
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"damaged")
    read_into(bundle, [tmp_path / "a"], out)
    assert {name for name in files_below(out) if "/" in name} == {"dicom/mine.dcm"}


def test_pictures_go_where_a_call_was_killed_behind_its_tables(
    bundle, lesions, tmp_path, small, monkeypatch
):
    study = min((lesions / "valid/XR_WRIST").glob("*/study1_positive"))
    for name in "ab":
        shutil.copytree(study, tmp_path / name)
    out = tmp_path / "out"
    read_into(bundle, [tmp_path / "a"], out)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shards, "_move_files", killed)
        read_into(bundle, [tmp_path / "b"], out)
    read_into(bundle, [tmp_path / "b"], out)
    assert files_below(out / "studies") == {"b.png"}
