from dataclasses import fields, replace

import keras
import numpy as np
import pytest

from mura_tf.models.backbones import BACKBONES, IMAGENET_STD_RGB
from mura_tf.models.build import build_model
from mura_tf.papers.deviations import CHOICES, INPUTS, LABELS, deviations, differences
from mura_tf.training.recipe import Recipe

PAPER = Recipe()
TYPE = Recipe(stage="type", initial="../best.keras", study_types=("elbow",))
PLATEAU = (
    'The paper reduces the learning rate "each time the training loss has stopped improving" and '
    "does not say after how many epochs without a lower one; here after 1, and "
    "lower is by more than 0.0001."
)
LIMIT = "The paper names no largest number of epochs; here it is 100."
RESCALES = (
    "Keras' EfficientNets scale their input themselves, and expect grey levels from 0 to 255; here "
    "they are given the zero-centred images that the paper describes."
)
DIVIDES, BGR = INPUTS["divides"], INPUTS["bgr"]
WHOLE = (
    "The paper does not say how the loss is weighted while one model trains on all study types; "
    "here each view has the weight of its label in its own study type."
)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("efficientnet_b3", [PLATEAU, LIMIT, WHOLE, RESCALES, DIVIDES, BGR]),
        ("xception", [PLATEAU, LIMIT, WHOLE, BGR]),
    ],
)
def test_the_papers_recipes_leave_only_the_choices(backbone, expected):
    whole = Recipe(backbone=backbone, stage="mura")
    members = [replace(TYPE, backbone=backbone, member=n, repeat=n, seed=n) for n in range(3)]
    assert deviations([whole, *members], PAPER) == expected


def test_without_a_whole_data_run_its_loss_is_no_choice():
    single = Recipe("xception", study_types=("elbow",))
    assert deviations([single], PAPER) == [PLATEAU, LIMIT, BGR]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"weights": "/weights/b3_notop.h5"},
            "Initial weights: the file b3_notop.h5; the document has ImageNet.",
        ),
        ({"weights": None}, "Initial weights: random; the document has ImageNet."),
        (
            {"image_size": 96},
            "Side of the images in pixels: 96; the document has each backbone's own.",
        ),
        (
            {"preprocessing": "native"},
            "Preprocessing: what each backbone was pretrained with; the document has zero-centred "
            "with the ImageNet mean, not scaled.",
        ),
        (
            {"augment": ("flip", "rotation:10")},
            "Augmentation: flip rotation:10; the document has flip.",
        ),
        ({"augment": ()}, "Augmentation: none; the document has flip."),
        (
            {"head": ("pool", "dropout:0.2")},
            "Head: pool dropout:0.2; the document has pool batch_norm dropout:0.5.",
        ),
        ({"trainable": "last:5"}, "Trainable backbone layers: last:5; the document has all."),
        ({"batch_size": 1}, "Views per step: 1; the document has 8."),
        (
            {"batch_norm": "torch"},
            "Batch norm: PyTorch's; the document has Keras'.",
        ),
        ({"optimizer": "sgd:0.9"}, "Optimizer: sgd:0.9; the document has adam."),
        ({"learning_rate": 3e-4}, "Learning rate at the start: 0.0003; the document has 0.0001."),
        ({"schedule": "step:0.3:3"}, "Schedule: step:0.3:3; the document has plateau:loss:0.1."),
        ({"monitor": "val_loss"}, "Monitor: val_loss; the document has val_kappa."),
        ({"patience": 2}, "Epochs tolerated without a better monitor: 2; the document has 5."),
        ({"balance": "none"}, "Loss balanced by label within: none; the document has each study"),
        (
            {"select_on": "holdout"},
            "Epochs selected on: 10% of train, split off by patient; the document has valid.",
        ),
        (
            {"select_on": "holdout", "holdout": 0.2, "holdout_by": "image"},
            "Epochs selected on: 20% of train, split off by image; the document has valid.",
        ),
        ({"mixed_precision": True}, "Mixed precision: yes; the document has no."),
    ],
)
def test_each_changed_setting_has_its_sentence(change, sentence):
    found = deviations([replace(TYPE, **change)], PAPER)
    assert found[0].startswith(sentence)
    others = [text for text in found[1:] if text not in (PLATEAU, LIMIT, *INPUTS.values())]
    assert others == []


def test_every_setting_is_compared():
    """A field that is added to the recipe gets a sentence, or a place among the others."""
    told = {
        "backbone", "initial", "study_types", "seed", "stage", "repeat", "member",  # of each run
        "max_epochs", "holdout", "holdout_by",  # a choice, and with select_on
    }  # fmt: skip
    as_it_is = deviations([TYPE], PAPER)
    for field in fields(Recipe):
        if field.name not in told:
            recipe, value = replace(TYPE), getattr(TYPE, field.name)
            object.__setattr__(recipe, field.name, f"{value}1" if value != "all" else "none")
            if field.name == "image_size":
                object.__setattr__(recipe, field.name, 64)
            assert deviations([recipe], PAPER) != as_it_is, field.name
    assert set(LABELS) | set(CHOICES) <= {field.name for field in fields(Recipe)}


def test_an_image_size_is_each_backbones_own():
    names = [name for name, facts in BACKBONES.items() if facts.preprocessing != "raw"]
    own = [Recipe(name, study_types=("elbow",)) for name in names]
    assert deviations(own, PAPER) == [PLATEAU, LIMIT, BGR]
    asked = [replace(one, image_size=one.side) for one in own]
    assert deviations(asked, PAPER) == [PLATEAU, LIMIT, BGR]
    swapped = [replace(TYPE, backbone=name) for name in ("efficientnet_b0", "efficientnet_b3")]
    swapped = [replace(one, image_size=size) for one, size in zip(swapped, (300, 224), strict=True)]
    assert deviations(swapped, PAPER)[0].startswith("Side of the images in pixels: 300 or 224;")


def test_each_run_is_compared_with_what_the_document_has_for_it():
    documents = [replace(TYPE, batch_size=8), replace(TYPE, batch_size=32)]
    runs = [replace(TYPE, batch_size=8), replace(TYPE, batch_size=4)]
    pairs = zip(runs, documents, strict=True)
    assert differences(pairs) == ["Views per step: 4; the document has 32."]


def test_a_documents_own_size_is_expected():
    document = replace(PAPER, image_size=224)
    assert deviations([replace(TYPE, image_size=224)], document) == [
        *(PLATEAU, LIMIT, RESCALES, DIVIDES, BGR)
    ]
    sentences = deviations([replace(TYPE, image_size=64)], document)
    assert sentences[0] == "Side of the images in pixels: 64; the document has 224."


def test_choices_tell_what_was_chosen():
    recipes = [
        replace(TYPE, schedule=f"plateau:loss:0.1:{epochs}", max_epochs=limit)
        for epochs, limit in ((1, 8), (2, 8), (2, 30))
    ]
    plateau, limit, *_ = deviations(recipes, PAPER)
    assert plateau.endswith("; here after 1 or 2, and lower is by more than 0.0001.")
    assert limit.endswith("; here it is 8 or 30.")
    constant = deviations([replace(TYPE, schedule="constant")], PAPER)
    assert constant[0] == "Schedule: constant; the document has plateau:loss:0.1."
    assert not any("stopped improving" in sentence for sentence in constant)


def test_epochs_of_a_plateau_are_compared_where_the_document_fixes_them():
    document = replace(TYPE, schedule="plateau:val_loss:0.1:1")
    run = replace(document, schedule="plateau:val_loss:0.1:3")
    assert differences([(run, document)]) == [
        "Schedule: plateau:val_loss:0.1:3; the document has plateau:val_loss:0.1:1."
    ]
    assert differences([(document, document)]) == []


def test_a_holdouts_split_may_be_open():
    document = replace(TYPE, select_on="holdout")
    run = replace(document, holdout_by="image")
    assert differences([(run, document)], but=("holdout_by",)) == []
    (sentence,) = differences([(run, replace(TYPE))], but=("holdout_by",))
    assert sentence == "Epochs selected on: 10% of train; the document has valid."


@pytest.mark.parametrize(
    ("backbone", "preprocessing", "told"),
    [
        ("efficientnet_b0", "caffe", ["rescales", "divides", "bgr"]),
        ("efficientnet_b0", "caffe_rgb", ["rescales", "divides"]),
        ("efficientnet_b0", "native", []),
        ("efficientnet_v2_b0", "caffe", ["rescales", "bgr"]),
        ("densenet169", "caffe", ["bgr"]),
        ("densenet169", "caffe_rgb", []),
        ("resnet50", "caffe", []),  # pretrained on it
    ],
)
def test_what_a_backbone_is_given_is_told(backbone, preprocessing, told):
    recipe = Recipe(backbone, preprocessing=preprocessing, study_types=("elbow",))
    found = deviations([recipe], PAPER)
    assert [name for name, sentence in INPUTS.items() if sentence in found] == told


def test_keras_efficientnets_divide_twice():
    """What the sentence says of Keras 3, on a white image; the stored deviation is 1 here."""
    extractor = build_model("efficientnet_b0", None, image_size=32)
    stem = keras.Model(extractor.input, extractor.get_layer("stem_conv_pad").input)
    white = stem.predict_on_batch(np.full((1, 32, 32, 3), 255, np.float32))[0, 0, 0]
    np.testing.assert_allclose(white, 1 / np.sqrt(IMAGENET_STD_RGB), rtol=1e-5)
    assert white.mean() == pytest.approx(2.1, abs=0.01)


def test_only_runs_that_differ_are_told():
    recipes = [TYPE, replace(TYPE, member=1, weights=None), replace(TYPE, weights="a/b.h5")]
    assert deviations(recipes, PAPER)[0] == (
        "Initial weights: random or the file b.h5; the document has ImageNet."
    )
