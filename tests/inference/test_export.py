"""Members as graphs of other runtimes, run beside Keras."""

import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from mura_tf.explain.heatmaps import heatmaps
from mura_tf.explain.maps import enlarged
from mura_tf.inference import export
from mura_tf.inference.archive import RUNTIMES, installed_runtimes
from mura_tf.inference.bundle import Bundle
from mura_tf.inference.export import FORMATS, SUFFIXES, Exported, export_bundle, export_member
from mura_tf.inference.members import KerasMember, OnnxMember, read_all
from mura_tf.models.build import build_model
from mura_tf.models.graph import in_float32

NEEDS = {"onnx": "tf2onnx", "openvino": "openvino", "litert": "ai_edge_litert"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random one whose probabilities of noise lie apart, as those of "caffe" images do not."""
    path = tmp_path_factory.mktemp("model") / "best.keras"
    keras.utils.set_random_seed(0)
    build_model("small_cnn", None, image_size=32).save(path)
    return path


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_says_what_keras_says(model, tmp_path, to):
    pytest.importorskip(NEEDS.get(to, "tensorflow"))
    exported = export_member(model, "torch", to, tmp_path, "member0")
    assert exported.path.name == f"member0{SUFFIXES[to]}" and exported.path.exists()
    assert exported.difference < 1e-4
    squares = np.random.default_rng(1).integers(0, 256, (3, 32, 32), np.uint8)
    ours = KerasMember(model, "torch").read(squares)
    readings = FORMATS[to][1](exported.path, squares)
    assert len(readings) == (len(installed_runtimes()) if to == "onnx" else 1)
    for theirs in readings:
        assert theirs.outputs == pytest.approx(ours.outputs, abs=1e-4)
        assert theirs.maps == pytest.approx(ours.maps, abs=1e-3)


def test_an_export_takes_the_place_of_an_earlier_one_alone(model, tmp_path):
    for _ in range(2):
        export_member(model, "torch", "saved_model", tmp_path, "member0")
    run = tmp_path / "member1"
    run.mkdir()
    shutil.copy(model, run)
    with pytest.raises(ValueError, match=r"Received: .*member1, a folder of something else"):
        export_member(model, "torch", "saved_model", tmp_path, "member1")
    assert (run / "best.keras").is_file()


@pytest.mark.parametrize(
    "backbone",
    ["efficientnet_b0", *(pytest.param(name, marks=pytest.mark.slow) for name in (
        "mobilenet_v2", "densenet169", "xception", "efficientnet_b1", "efficientnet_b2",
        "efficientnet_b3", "efficientnet_v2_b0", "densenet121", "resnet50", "cnn_4_bn",
        "mobilenet_v2_035"))],
)  # fmt: skip
def test_every_backbone_becomes_onnx(tmp_path, backbone):
    """EfficientNet's Normalization is the one whose constants the converter forgets."""
    pytest.importorskip("tf2onnx")
    build_model(backbone, None, image_size=96).save(tmp_path / "best.keras")
    exported = export_member(tmp_path / "best.keras", "torch", "onnx", tmp_path, "member0")
    assert exported.difference < 1e-4


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_says_what_keras_says(model, tmp_path, runtime):
    pytest.importorskip("tf2onnx")
    pytest.importorskip(runtime)
    graph = export_member(model, "torch", "onnx", tmp_path, "member0").path.read_bytes()
    ours, theirs = KerasMember(model, "torch"), RUNTIMES[runtime](graph)
    assert (theirs.side, theirs.outputs) == (32, 1)
    for count in (3, 1, 8):
        squares = np.random.default_rng(count).integers(0, 256, (count, 32, 32), np.uint8)
        expected, found = ours.read(squares), theirs.read(squares)
        assert found.outputs == pytest.approx(expected.outputs, abs=1e-4)
        assert found.maps == pytest.approx(expected.maps, abs=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_member_may_be_asked_from_several_threads(model, tmp_path, runtime):
    pytest.importorskip("tf2onnx")
    pytest.importorskip(runtime)
    graph = export_member(model, "torch", "onnx", tmp_path, "member0").path.read_bytes()
    member = RUNTIMES[runtime](graph)
    squares = np.random.default_rng(0).integers(0, 256, (40, 2, 32, 32), np.uint8)
    alone = [member.read(pair).outputs for pair in squares]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: member.read(pair).outputs, squares))
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_damaged_graph_is_a_sentence(bundle, tmp_path, monkeypatch, runtime):
    pytest.importorskip(runtime)
    monkeypatch.setattr("mura_tf.inference.archive.RUNTIMES", {runtime: RUNTIMES[runtime]})
    path = tmp_path / "damaged.mura"
    shutil.copy(bundle.path, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("members/member0.onnx", b"no graph")
    with pytest.raises(ValueError, match=r"damaged or something else: (?!Exception from).{10,}\. "):
        Bundle(path).open()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_head_without_maps_and_classes_are_exported(tmp_path, runtime):
    pytest.importorskip("tf2onnx")
    pytest.importorskip(runtime)
    head = ("flatten", "dense:8:relu")
    build_model("small_cnn", None, image_size=32, head=head, classes=4).save(tmp_path / "m.keras")
    exported = export_member(tmp_path / "m.keras", "unit", "onnx", tmp_path, "m")
    squares = np.random.default_rng(0).integers(0, 256, (11, 32, 32), np.uint8)
    reading = read_all(RUNTIMES[runtime](exported.path.read_bytes()), squares)
    assert reading.maps is None and reading.outputs.shape == (11, 4)
    assert reading.outputs.sum(axis=1) == pytest.approx(np.ones(11), abs=1e-5)


def test_a_map_that_learned_where_lesions_are_is_exported(tmp_path):
    pytest.importorskip("tf2onnx")
    head = ("map:8:0.2", "pool")
    build_model("small_cnn", None, image_size=64, head=head).save(tmp_path / "m.keras")
    exported = export_member(tmp_path / "m.keras", "unit", "onnx", tmp_path, "m")
    squares = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    reading = OnnxMember(exported.path.read_bytes()).read(squares)
    assert reading.maps.shape == (3, 8, 8, 1)
    model = keras.models.load_model(tmp_path / "m.keras")
    images = np.repeat(squares[..., None] / np.float32(255), 3, axis=3)
    expected = heatmaps(model, images, "learned")
    frames = np.array([(0, 0, 64, 64)] * 3)
    assert enlarged(reading.maps[..., 0], frames, 64) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "by"),
    [
        (lambda said: said._replace(outputs=said.outputs + 0.01), r"0\.01"),
        (lambda said: said._replace(maps=np.full_like(said.maps, np.nan)), "nan"),
        (lambda said: said._replace(maps=None), "nan"),
    ],
)
def test_a_graph_that_says_something_else_is_not_kept(model, tmp_path, monkeypatch, changed, by):
    def read(path, squares):
        said = KerasMember(model, "torch").read(squares)
        return [said, changed(said)]

    monkeypatch.setitem(FORMATS, "saved_model", (export._write_saved_model, read))
    with pytest.raises(ValueError, match=f"was not kept: run beside Keras .* differs by {by}"):
        export_member(model, "torch", "saved_model", tmp_path / "out", "m")
    assert not list((tmp_path / "out").iterdir())


def test_graphs_go_into_the_bundle_and_are_used(bundle, lesions, tmp_path):
    pytest.importorskip("tf2onnx")
    path = tmp_path / "copy.mura"
    path.write_bytes(bundle.path.read_bytes())
    export_bundle(path, "onnx")
    export_bundle(path, "onnx")  # again replaces them
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert sorted(name for name in names if name.endswith(".onnx")) == [
        "members/member0.onnx", "members/member1.onnx"
    ]  # fmt: skip
    exported = Bundle(path)
    ours, theirs = (one.read(lesions / "valid") for one in (bundle, exported))
    assert isinstance(exported._members[0], tuple(RUNTIMES.values()))
    assert theirs.probability.tolist() == pytest.approx(ours.probability.tolist(), abs=1e-4)


def test_graphs_go_into_no_bundle_that_was_packed_meanwhile(bundle, tmp_path, monkeypatch):
    path = tmp_path / "copy.mura"
    path.write_bytes(bundle.path.read_bytes())

    def replaced(model, preprocessing, to, out, name):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"of {name}", "another one")
        return Exported(tmp_path / f"{name}.onnx", 0.0)

    monkeypatch.setattr("mura_tf.inference.export.export_member", replaced)
    with pytest.raises(ValueError, match="another one, packed meanwhile"):
        export_bundle(path, "onnx")


def test_other_formats_need_a_folder(bundle, members, tmp_path):
    with pytest.raises(ValueError, match="only ONNX graphs go into a bundle"):
        export_bundle(bundle.path, "saved_model")
    with pytest.raises(ValueError, match="only ONNX graphs go into a bundle"):
        export_bundle(members, "onnx")
    exported = export_bundle(bundle.path, "saved_model", tmp_path)
    assert sorted(one.path.name for one in exported) == ["member0", "member1"]
    with pytest.raises(ValueError, match=r"one of onnx, .* Received: 'coreml'"):
        export_bundle(bundle.path, "coreml", tmp_path)


def test_a_model_of_mixed_precision_is_read_and_exported_in_float32(tmp_path):
    pytest.importorskip("tf2onnx")
    keras.utils.set_random_seed(0)
    path = tmp_path / "best.keras"
    keras.config.set_dtype_policy("mixed_float16")
    try:
        build_model("small_cnn", None, image_size=32).save(path)
    finally:
        keras.config.set_dtype_policy("float32")
    assert export_member(path, "torch", "onnx", tmp_path, "member0").difference < 1e-4
    half = keras.models.load_model(path, compile=False)
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    said = in_float32(half)(images, training=False)
    assert np.asarray(said) == pytest.approx(np.asarray(half(images, training=False)), abs=0.01)
    assert {layer.compute_dtype for layer in in_float32(half).layers} == {"float32"}
