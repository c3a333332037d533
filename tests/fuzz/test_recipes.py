"""Recipes: the settings that the JSON names, or refused."""

import json

from fuzzing import changed, damaged, fuzzed, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from mura_tf.training.recipe import PREPROCESSINGS, Recipe

SPECS = [
    "pool", "flatten", "batch_norm", "dropout:0.5", "dropout:2", "dense:8:relu", "dense:-1",
    "residual:8:0.1", "squeeze_excite:4", "attention:2", "flip", "rotation:20", "zoom:0.1:2", "",
    "constant", "plateau:loss:0.1:1", "plateau:loss:0.1:1:0:0", "step:0.1:0", "last:3", "blocks:x",
    "from:", "sgd:0.9", "torch_sgd:1e999", "adam", "dense:" + "9" * 5000, "step:0.1:" + "9" * 5000,
    "rotation:nan", "dropout:\u00b2", ":", "zoom:1_0",
]  # fmt: skip
SETTINGS = {
    "backbone": st.sampled_from(["small_cnn", "efficientnet_b0", "densenet", "x" * 10_000]),
    "preprocessing": st.sampled_from(PREPROCESSINGS),
    "head": st.lists(st.sampled_from(SPECS), max_size=4),
    "augment": st.lists(st.sampled_from(SPECS), max_size=4),
    "first_sizes": st.lists(st.sampled_from([*SPECS, "256:3", "64:0", "0:1"]), max_size=2),
    "averaging": st.floats(),
    "first_rate": st.floats(),
    "label_smoothing": st.floats(),
    "trainable": st.sampled_from(SPECS),
    "optimizer": st.sampled_from(SPECS),
    "schedule": st.sampled_from(SPECS),
    "study_types": st.none() | st.lists(st.text(max_size=5), max_size=3),
    "learning_rate": st.floats() | st.just(10**400),
    "image_size": st.none() | st.integers(),
}
WHOLE = Recipe().to_dict()


@fuzzed(6)
@given(data=st.data())
def test_recipe(data, tmp_path_factory):
    names = data.draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=2, unique=True))
    settings = WHOLE | {name: data.draw(SETTINGS[name]) for name in names}
    how = data.draw(st.sampled_from(["specs", "values", "bytes", "nested"]))
    if how == "values":
        settings = data.draw(changed(settings))
    content = json.dumps(settings).encode()
    if how == "bytes":
        content = data.draw(damaged(content))
    elif how == "nested":
        depth = data.draw(st.sampled_from([2, 500, 5000, 10**5]))
        content = b'{"head": ' + b"[" * depth + b"]" * depth + b"}"
    path = tmp_path_factory.getbasetemp() / "recipe.json"
    path.write_bytes(content)
    recipe = read_or_refused("recipe", lambda: Recipe.load(path))
    if recipe is None:
        return
    assert Recipe.from_dict(recipe.to_dict()).hash == recipe.hash
    if how in ("specs", "values"):
        told = recipe.to_dict()
        assert {name: told[name] for name in settings} == settings
    recipe.save(path)
    assert Recipe.load(path) == recipe
