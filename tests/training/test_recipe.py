import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import pytest

from mura_tf.models.backbones import BACKBONES
from mura_tf.training.recipe import Recipe, find_settings, read_settings

RECIPES = Path(__file__).parents[2] / "experiments/recipes"

OTHER = {
    "backbone": "mobilenet_v2_035",
    "weights": None,
    "initial": "../mura/best.keras",
    "initial_part": "backbone",
    "study_types": ("elbow", "wrist"),
    "image_size": 96,
    "first_sizes": ("64:2",),
    "resize": "area",
    "preprocessing": "native",
    "augment": ("flip", "rotation:30", "autocontrast:0.5"),
    "task": "study_type",
    "head": ("pool", "dense:512:relu"),
    "trainable": "last:5",
    "batch_norm": "torch",
    "l1": 1e-5,
    "l2": 1e-4,
    "label_smoothing": 0.1,
    "batch_size": 16,
    "optimizer": "sgd:0.9",
    "learning_rate": 3e-4,
    "weight_decay": 1e-3,
    "first_rate": 0.1,
    "averaging": 0.99,
    "schedule": "step:0.3:3",
    "monitor": "val_f1",
    "patience": 3,
    "max_epochs": 7,
    "mirrored": True,
    "balance": "none",
    "select_on": "holdout",
    "holdout": 0.2,
    "holdout_by": "image",
    "mixed_precision": True,
    "seed": 5,
    "stage": "type",
    "repeat": 2,
    "member": 4,
}
"""For every setting a value that is not its default."""
LATER = (
    "first_sizes",
    "resize",
    "batch_norm",
    "label_smoothing",
    "first_rate",
    "averaging",
    "mirrored",
)
"""Settings that recipes had not when some were written and hashed."""


def test_the_defaults_are_the_papers():
    recipe = Recipe()
    assert (recipe.batch_size, recipe.learning_rate, recipe.optimizer) == (8, 1e-4, "adam")
    assert recipe.head == ("pool", "batch_norm", "dropout:0.5")
    assert (recipe.augment, recipe.patience, recipe.select_on) == (("flip",), 5, "valid")
    assert (recipe.preprocessing_mode, recipe.weights, recipe.balance) == (
        "caffe",
        "imagenet",
        "type",
    )


def test_other_differs_from_the_defaults_in_every_setting():
    defaults = dataclasses.asdict(Recipe())
    assert list(OTHER) == list(defaults)
    assert all(OTHER[name] != value for name, value in defaults.items())


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1


@pytest.mark.parametrize("settings", [{}, OTHER])
def test_json_round_trip(tmp_path, settings):
    recipe = Recipe(**settings)
    recipe.save(tmp_path / "recipe.json")
    loaded = Recipe.load(tmp_path / "recipe.json")
    assert loaded == recipe
    assert loaded.hash == recipe.hash
    written = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe.to_dict() == Recipe().to_dict() | written
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_settings_left_out_keep_their_defaults(tmp_path):
    (tmp_path / "recipe.json").write_text('{"seed": 3, "augment": []}')
    assert Recipe.load(str(tmp_path / "recipe.json")) == Recipe(seed=3, augment=())


def test_the_hash_is_stable():
    """It names result rows, so it must not change from one day to the next."""
    assert Recipe().hash == Recipe().hash == "cd19efe21bcc"
    defaults = dataclasses.asdict(Recipe())
    assert Recipe(**OTHER | {name: defaults[name] for name in LATER}).hash == "9f5a6041660c"
    assert Recipe(batch_norm="torch").hash == "6f1ab8455478"


@pytest.mark.parametrize("name", LATER)
def test_a_later_setting_is_written_only_where_it_is_set(tmp_path, name):
    """Recipes that were written before it stay the same, byte for byte."""
    for settings in ({}, {name: OTHER[name]}):
        recipe = Recipe(**settings)
        recipe.save(tmp_path / "recipe.json")
        assert (name in json.loads((tmp_path / "recipe.json").read_text())) == bool(settings)
        assert Recipe.load(tmp_path / "recipe.json") == recipe
    old = {name: value for name, value in Recipe().to_dict().items() if name not in LATER}
    text = json.dumps(old, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == Recipe().hash


@pytest.mark.parametrize("name", OTHER)
def test_the_hash_tells_every_setting(name):
    # every other value goes with a task with classes, which goes with balance="none" only
    base = Recipe()
    if name != "balance":
        base = Recipe(balance="none", task="type_and_abnormality")
    changed = dataclasses.replace(base, **{name: OTHER[name]})
    assert changed.hash != base.hash
    assert len(changed.hash) == 12 and int(changed.hash, 16) >= 0


def test_equal_recipes_have_equal_hashes():
    lists = Recipe(study_types=["elbow"], augment=["flip"])
    tuples = Recipe(study_types=("elbow",), augment=("flip",))
    assert lists == tuples and lists.hash == tuples.hash
    whole, fraction = Recipe(l2=0, learning_rate=1), Recipe(l2=0.0, learning_rate=1.0)
    assert whole == fraction and whole.hash == fraction.hash
    near, far = Recipe(weights="net.weights.h5"), Recipe(weights="/mnt/nets/net.weights.h5")
    assert near.hash == far.hash != Recipe(weights="other.weights.h5").hash


def test_paths_are_kept_as_text(tmp_path):
    recipe = Recipe(weights=Path("b0.h5"), initial=Path("mura/best.keras"))
    assert recipe == Recipe(weights="b0.h5", initial="mura/best.keras")
    recipe.save(tmp_path / "recipe.json")
    assert Recipe.load(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize("name", BACKBONES)
def test_side_and_native_preprocessing_are_the_backbones(name):
    recipe = Recipe(backbone=name, preprocessing="native")
    assert recipe.side == BACKBONES[name].image_size
    assert recipe.preprocessing_mode == BACKBONES[name].preprocessing
    assert dataclasses.replace(recipe, image_size=64).side == 64
    assert Recipe(backbone=name).preprocessing_mode == "caffe"


def test_run_seeds_differ_by_seed_repeat_and_member():
    runs = list(itertools.product(range(4), range(3), range(5)))
    seeds = {
        Recipe(seed=seed, repeat=repeat, member=member).run_seed for seed, repeat, member in runs
    }
    assert len(seeds) == len(runs)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_run_seed_depends_on_nothing_else():
    same = {name: OTHER[name] for name in ("seed", "repeat", "member")}
    assert Recipe(**OTHER).run_seed == Recipe(**same).run_seed
    assert isinstance(Recipe().run_seed, int)


# Bad input


@pytest.mark.parametrize(
    ("name", "near"),
    [("learning_rat", "learning_rate"), ("batchsize", "batch_size"), ("augmentation", "augment")],
)
def test_an_unknown_setting_is_answered_with_the_nearest(name, near):
    with pytest.raises(ValueError) as caught:
        Recipe.from_dict({name: 1})
    assert str(caught.value).startswith("a recipe has the settings backbone, weights, initial, ")
    assert str(caught.value).endswith(f". Received: {name!r}. Did you mean {near!r}?")


def test_an_unknown_setting_near_to_nothing():
    with pytest.raises(ValueError, match=r"Received: 'xyz'\.$"):
        Recipe.from_dict({"xyz": 1})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{'seed': 1}", r"recipe.json must be JSON: Expecting property name"),
        ('{"seed": 1', r"recipe.json must be JSON: Expecting"),
        ("[1]", r"recipe.json must hold one JSON object. Received: \[1\]\."),
        ('{"sede": 1}', r"Did you mean 'seed'\?"),
        ('{"l1": 1%s}' % ("0" * 400), r"l1 must be a number from 0 up. Received: 10{400}\."),
        (
            '{"head": %s}' % ("[" * 500 + "]" * 500),
            "Received: 'head', whose value is nested deeper",
        ),
        ("[" * 10**5, r"recipe.json must be JSON: maximum recursion"),
        ("[" * 500 + "]" * 500, r"must hold one JSON object. Received: \[\["),
    ],
)
def test_a_bad_recipe_file(tmp_path, text, sentence):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        Recipe.load(tmp_path / "recipe.json")


def test_a_recipe_file_that_is_no_text(tmp_path):
    (tmp_path / "recipe.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"recipe.json must be JSON: line 1 is not UTF-16"):
        Recipe.load(tmp_path / "recipe.json")


WHOLE = ["batch_size", "patience", "max_epochs"]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "backbone",
            "vgg16",
            r"backbone must be one of mobilenet_v2, .*cnn_13_bn\. Received: 'vgg16'",
        ),
        ("backbone", None, r"backbone must be text\. Received: None"),
        ("backbone", ["small_cnn"], r"backbone must be text\. Received: \['small_cnn'\]"),
        (
            "preprocessing",
            "tf",
            r"must be one of caffe, caffe_rgb, native, unit\. Received: 'tf'",
        ),
        ("select_on", "train", r"select_on must be one of valid, holdout\. Received: 'train'"),
        ("stage", "both", r"stage must be one of imagenet, mura, type\. Received: 'both'"),
        *[(name, 0, rf"{name} must be a whole number from 1 up\. Received: 0") for name in WHOLE],
        ("batch_size", 8.0, r"batch_size must be a whole number from 1 up\. Received: 8\.0"),
        ("batch_size", True, r"batch_size must be a whole number from 1 up\. Received: True"),
        ("max_epochs", None, r"max_epochs must be a whole number from 1 up\. Received: None"),
        *[
            (name, -1, rf"{name} must be a whole number from 0 up\. Received: -1")
            for name in ("seed", "repeat", "member")
        ],
        ("image_size", 31, r"image_size must be a whole number from 32 up\. Received: 31"),
        ("image_size", "96", r"image_size must be a whole number from 32 up\. Received: '96'"),
        ("learning_rate", 0, r"learning_rate must be a number above 0\. Received: 0"),
        ("learning_rate", "1e-4", r"learning_rate must be a number above 0\. Received: '1e-4'"),
        ("learning_rate", float("nan"), r"learning_rate must be a number above 0\. Received: nan"),
        ("learning_rate", float("inf"), r"learning_rate must be a number above 0\. Received: inf"),
        ("l2", -0.1, r"l2 must be a number from 0 up\. Received: -0\.1"),
        ("weight_decay", None, r"weight_decay must be a number from 0 up\. Received: None"),
        ("holdout", 1, r"holdout must be a number above 0 and below 1\. Received: 1"),
        ("holdout_by", "study", r"holdout_by must be one of patient, image\. Received: 'study'"),
        ("task", "fracture", r"task must be one of abnormality, study_type, .*: 'fracture'"),
        ("monitor", "kappa", r"monitor must be one of val_kappa, val_loss, .*: 'kappa'"),
        ("monitor", "val_f1", r"the monitor 'val_f1' needs a task with classes\."),
        (
            "initial_part",
            "head",
            r"initial_part must be one of model, backbone, without_output\. .*'head'",
        ),
        ("head", "pool", r"head must be a tuple of specs\. Received: 'pool'"),
        ("head", ("dropout:0.5",), r"from feature maps to vectors once, by 'pool' or by"),
        ("trainable", "last:0", "trainable must be one of all, none, last:N, .*: 'last:0'"),
        ("optimizer", "sgd", "optimizer must be one of adam, adamw, sgd:MOM.*: 'sgd'"),
        ("schedule", "cosine", r"schedule must be one of constant, plateau:.*: 'cosine'"),
        ("schedule", "cosine:100", r"must leave epochs .*'cosine:100' with 100 epochs"),
        ("study_types", "elbow", r"study_types must be a tuple of names such as .*: 'elbow'"),
        (
            "study_types",
            (),
            r"study_types must be a tuple of names .*None for all\. Received: \(\)",
        ),
        *[
            ("study_types", value, r"study_types must be a tuple of names such as ")
            for value in (5, {"elbow": 1}, ("elbow", 1), ("..",), ("a/b",), ("",))
        ],
        *[("augment", value, r"augment must be a tuple such as") for value in (None, 5)],
        ("augment", "flip", r"augment must be a tuple such as \('flip',\)\. Received: 'flip'"),
        ("augment", ("spin",), r"an augmentation must be one of flip, .*Received: 'spin'"),
        ("augment", ("zoom:0.1", "zoom:0.2"), r"can be named once\. Received: zoom:0.1, zoom:0.2"),
        ("batch_norm", "keras", r"batch_norm must be one of own, torch\. Received: 'keras'"),
        ("batch_norm", ["own"], r"batch_norm must be one of own, torch\. Received: \['own'\]"),
        ("balance", True, r"balance must be one of type, all, none\. Received: True"),
        ("mixed_precision", 1, r"mixed_precision must be one of True, False\. Received: 1"),
        ("weights", 5, r"weights must be text or None\. Received: 5"),
        ("initial", 5, r"initial must be text or None\. Received: 5"),
    ],
)
def test_a_value_that_cannot_be(name, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recipe(**{name: value})


def test_auroc_needs_a_task_that_tells_abnormal_from_normal():
    for task in ("abnormality", "type_and_abnormality"):
        assert Recipe(task=task, balance="none", monitor="val_auroc").monitor == "val_auroc"
    with pytest.raises(ValueError, match=r"'val_auroc' needs a task .*Received: task 'study_type'"):
        Recipe(task="study_type", balance="none", monitor="val_auroc")


def test_balance_needs_two_labels():
    with pytest.raises(ValueError, match=r"two labels to balance.*'study_type'.*balance='none'"):
        Recipe(task="study_type")


# ------------------------------------------------------------------------------------------------
# Recipes by name


def test_a_recipe_that_ships_with_the_package_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no file of that name is here
    settings = find_settings("fracatlas_efficientnet")
    assert settings["backbone"] == "efficientnet_v2_b0"
    file = RECIPES / "fracatlas_efficientnet.json"
    assert settings == find_settings(file) == find_settings(str(file)) == read_settings(file)


@pytest.mark.parametrize("path", sorted(RECIPES.iterdir()), ids=lambda path: path.stem)
def test_every_recipe_of_the_package_can_be(path):
    assert Recipe().changed(find_settings(path.stem)) != Recipe()


@pytest.mark.parametrize("name", ["fracatlas", "nowhere/fracatlas_scratch.json"])
def test_an_unknown_recipe_lists_the_known_ones(name):
    with pytest.raises(FileNotFoundError, match=r"one of fracatlas_efficientnet, .*path of a JSON"):
        find_settings(name)
