"""How runs differ from the document they reproduce, told from their recipes and their data."""

import re
from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from mura_tf.models.backbones import find_backbone
from mura_tf.training.facts import counted_once
from mura_tf.training.recipe import Recipe
from mura_tf.training.run import Run

LABELS = {  # how a sentence about a setting begins, where its name does not do
    "weights": "Initial weights",
    "image_size": "Side of the images in pixels",
    "augment": "Augmentation",
    "trainable": "Trainable backbone layers",
    "batch_size": "Views per step",
    "learning_rate": "Learning rate at the start",
    "max_epochs": "Largest number of epochs",
    "patience": "Epochs tolerated without a better monitor",
    "balance": "Loss balanced by label within",
    "select_on": "Epochs selected on",
}
CHOICES = {  # what the document leaves open
    "schedule": 'The paper reduces the learning rate "each time the training loss has stopped '
    'improving" and does not say after how many epochs without a lower one; here after {value}, '
    "and lower is by more than 0.0001.",
    "max_epochs": "The paper names no largest number of epochs; here it is {value}.",
    "balance": "The paper does not say how the loss is weighted while one model trains on all "
    "study types; here each view has the weight of its label in its own study type.",
}
INPUTS = {  # the same for what a backbone is given, where the images are zero-centred
    "rescales": "Keras' EfficientNets scale their input themselves, and expect grey levels from 0 "
    "to 255; here they are given the zero-centred images that the paper describes.",
    "divides": "Keras 3's EfficientNets divide their input by 255 and by the root of ImageNet's "
    "deviation, as TensorFlow 2.3's did, and then by that root once more, which the network was "
    "pretrained with and 2.3 lacked: inputs are about 2.1 times the paper's.",
    "bgr": "Zero-centring is Keras' caffe mode, which also puts channels in the order BGR. A "
    "backbone that was pretrained on RGB is given blue's mean in red's place and red's in blue's; "
    '"preprocessing": "caffe_rgb" in a recipe is the other order.',
}
GREY = (
    "Images become grey before they are kept, and a network's three channels are that one; MURA's "
    "images are grey, whatever their number of channels."
)
"""Of every document."""
OPEN_IN_PAPER = ("max_epochs", "plateau_epochs")
"""Settings that 000 does not name; "plateau_epochs" are those of its schedule."""
_PER_RUN = ("backbone", "initial", "study_types", "seed", "stage", "repeat", "member")
_WITH_SELECT_ON = ("holdout", "holdout_by")
_PLATEAU = re.compile(r"(plateau:[a-z_]+:[^:]+):(\d+)")
"""The document fixes the first part, and leaves the second one, epochs, open."""
_WORDS: dict[object, str] = {
    None: "random",
    "imagenet": "ImageNet",
    "caffe": "zero-centred with the ImageNet mean, not scaled",
    "caffe_rgb": "zero-centred with the ImageNet mean, not scaled, in the order RGB",
    "native": "what each backbone was pretrained with",
    "type": "each study type",
    "own": "Keras'",
    "torch": "PyTorch's",
}


def deviations(recipes: Iterable[Recipe], document: Recipe) -> list[str]:
    """Sentences: what differs from the document, then what was chosen where it says nothing.

    Args:
        recipes: of the runs.
        document: the document's settings.
    """
    recipes = list(recipes)
    pairs = [(recipe, document) for recipe in recipes]
    return differences(pairs, but=OPEN_IN_PAPER) + paper_choices(recipes)


def paper_choices(recipes: Iterable[Recipe]) -> list[str]:
    """What was chosen where document 000 says nothing: sentences."""
    recipes, sentences = list(recipes), []
    for name, sentence in CHOICES.items():
        values = [_chosen(recipe, name) for recipe in recipes]
        if values := [value for value in values if value is not None]:
            sentences.append(sentence.format(value=listed(values)))
    found = {name for recipe in recipes for name in _inputs(recipe)}
    return sentences + [sentence for name, sentence in INPUTS.items() if name in found]


def differences(pairs: Iterable[tuple[Recipe, Recipe]], but: tuple[str, ...] = ()) -> list[str]:
    """A sentence per setting, on the recipes that differ from the documents' in it.

    Args:
        pairs: a run's recipe, and the document's for it.
        but: settings that the document leaves open; "plateau_epochs" are those of the schedule.
    """
    pairs = list(pairs)
    sentences = []
    for name in (field.name for field in fields(Recipe)):
        if name in (*_PER_RUN, *_WITH_SELECT_ON, *but):
            continue
        ours, theirs = [], []
        for recipe, document in pairs:
            one, other = _fixed(recipe, name, but), _expected(recipe, document, name, but)
            if one != other:
                ours.append(one)
                own = name == "image_size" and document.image_size is None
                theirs.append("each backbone's own" if own else other)
        if ours:
            label = LABELS.get(name, name.replace("_", " ").capitalize())
            sentences.append(f"{label}: {listed(ours)}; the document has {listed(theirs)}.")
    return sentences


def data_deviations(studies: pd.Series, same_data: bool) -> list[str]:
    """What is to be said of the data, if anything.

    Args:
        studies: study type or "overall" -> studies that are reported.
        same_data: whether they are those that the document reports.
    """
    if same_data:
        return []
    counts = ", ".join(f"{study_type} {n}" for study_type, n in studies.items())
    return [
        f"The studies are not those of the document, but others ({counts}): the published values "
        "are there for orientation, and no difference is taken."
    ]


def type_deviation(ours: Iterable[str], theirs: Iterable[str], of: str = "") -> list[str]:
    """Where the study types are not the document's, `of` some systems or of all."""
    ours, theirs = sorted(set(ours)), sorted(set(theirs))
    if ours == theirs:
        return []
    whose = f" of {of}" if of else ""
    return [f"Study types{whose}: {', '.join(ours)}; the document has {', '.join(theirs)}."]


def skipped_deviation(runs: Iterable[Run]) -> list[str]:
    """What --skip-bad left out, if anything; whole-data runs see what all types see."""
    count = counted_once({run.recipe.study_types: run.info.get("skipped", 0) for run in runs})
    return [f"Left out because their files are unreadable: {count} views."] if count else []


def _fixed(recipe: Recipe, name: str, but: tuple[str, ...]) -> object:
    """The part of a setting that the document fixes, too."""
    value = getattr(recipe, name)
    if name == "image_size":
        return recipe.side
    if name == "weights" and value not in (None, "imagenet"):
        return f"the file {recipe.weights_name}"
    if name == "select_on" and value == "holdout":
        part = f"{recipe.holdout:.0%} of train"
        return part if "holdout_by" in but else f"{part}, split off by {recipe.holdout_by}"
    if name == "schedule" and "plateau_epochs" in but:
        return _PLATEAU.sub(r"\1", value)
    return value


def _expected(recipe: Recipe, document: Recipe, name: str, but: tuple[str, ...]) -> object:
    if name == "image_size" and document.image_size is None:
        return find_backbone(recipe.backbone).image_size
    return _fixed(document, name, but)


def _chosen(recipe: Recipe, name: str) -> object:
    """What the recipe does where the document leaves something open; None where it does not."""
    value = getattr(recipe, name)
    if name == "schedule":
        plateau = _PLATEAU.fullmatch(value)
        return plateau and plateau[2]
    if name == "balance":
        return value if value == "type" and recipe.study_types is None else None
    return value


def _inputs(recipe: Recipe) -> list[str]:
    """Which of `INPUTS` concern a recipe."""
    facts = find_backbone(recipe.backbone)
    if recipe.preprocessing not in ("caffe", "caffe_rgb"):
        return []
    named = ["rescales"] if facts.preprocessing == "raw" else []
    if facts.constructor.startswith("keras:EfficientNetB"):
        named.append("divides")
    if recipe.preprocessing == "caffe" and facts.preprocessing != "caffe":
        named.append("bgr")
    return named


def listed(values: Iterable[object]) -> str:
    """Each value of a setting once, in words.

    >>> listed([("flip", "zoom:0.1"), ()]), listed([False, None, 1, 1])
    ('flip zoom:0.1 or none', 'no or random or 1')
    """
    return " or ".join(dict.fromkeys(map(_in_words, values)))


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _WORDS.get(value, str(value))
