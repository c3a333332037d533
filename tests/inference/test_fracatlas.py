"""Real radiographs: a bundle reads plain files as its runs predicted them."""

import pandas as pd
import pytest

from mura_tf import Bundle, Recipe, load_fracatlas, load_predictions, pack, train

WEIGHTS = "mobilenet_v2_0.35_224_no_top.weights.h5"


@pytest.fixture(scope="module")
def run(fracatlas, shared, tmp_path_factory):
    """An epoch of the smallest pretrained backbone on a sixth of FracAtlas, and all of its test."""
    weights = shared / "weights" / WEIGHTS
    if not weights.is_file():
        pytest.skip(f"needs {weights}")
    views = load_fracatlas(fracatlas, seed=0)
    views = pd.concat([views[views.split != "test"][::6], views[views.split == "test"]])
    recipe = Recipe(
        backbone="mobilenet_v2_035",
        weights=str(weights),
        image_size=96,
        preprocessing="native",
        learning_rate=0.001,
        batch_size=32,
        max_epochs=1,
        stage="mura",
    )
    folder = tmp_path_factory.mktemp("fracatlas")
    train(recipe, views, folder / "run", skip_bad=True, verbose=0)
    return folder / "run"


@pytest.mark.slow
def test_plain_files_get_the_probabilities_of_the_predictions_table(run, tmp_path):
    """Within 1e-5: the table's batches are of another size, so that sums are in another order."""
    expected = load_predictions([run])
    expected = expected[expected.split == "test"]
    assert len(expected) > 500 and expected.probability.std() > 0.01
    bundle = pack(run, tmp_path / "fracatlas.mura")
    found = bundle.read(expected.path)
    assert found.probability.tolist() == pytest.approx(expected.probability.tolist(), abs=1e-5)
    assert not found.warnings.str.contains("colour|inverted").any()


@pytest.mark.slow
def test_the_exported_bundle_says_the_same(run, tmp_path):
    """Within 1e-4, which every exported graph is held to."""
    pytest.importorskip("tf2onnx")
    from mura_tf.inference.export import export_bundle

    expected = load_predictions([run]).query("split == 'test'")[:60]
    path = tmp_path / "fracatlas.mura"
    pack(run, path)
    export_bundle(path, "onnx")
    found = Bundle(path).read(expected.path)
    assert found.probability.tolist() == pytest.approx(expected.probability.tolist(), abs=1e-4)
