"""How runs differ from the document they reproduce, told from their recipes."""

from collections.abc import Iterable

from mura_tf.backbones import BACKBONES
from mura_tf.recipe import Recipe

CHOICES = {  # where the paper leaves a choice, what was chosen; field: sentence
    "plateau_patience": "The paper reduces the learning rate 'each time the training loss has "
    "stopped improving' without a number of epochs; here after {value}.",
    "preprocessing": "EfficientNet rescales its input inside the network. The paper's zero-centred "
    "images are given to it all the same, as the paper's sentence says.",
    "max_epochs": "The paper names no limit of epochs; here {value}.",
}


def deviations(recipes: Iterable[Recipe], document: Recipe) -> list[str]:
    """Sentences, one per difference between recipes and what the document fixes.

    Args:
        recipes: of the runs.
        document: the document's settings.
    """
    recipes = list(recipes)
    sentences = []
    for name in document.to_dict():
        if name in _PER_RUN:
            continue
        values = list(dict.fromkeys(_value(recipe, name) for recipe in recipes))
        expected = list(dict.fromkeys(_expected(recipe, document, name) for recipe in recipes))
        if set(values) != set(expected):
            sentences.append(
                f"`{name}` is {_listed(values)}; the document has {_listed(expected)}."
            )
    efficient = any(recipe.backbone.startswith("efficientnet_b") for recipe in recipes)
    for name, sentence in CHOICES.items():
        values = list(dict.fromkeys(_value(recipe, name) for recipe in recipes))
        if name == "preprocessing" and (values != ["caffe"] or not efficient):
            continue
        if values == [_expected(recipes[0], document, name)]:
            sentences.append(sentence.format(value=_listed(values)))
    return sentences


_PER_RUN = ("backbone", "initial", "study_types", "stage", "repeat", "member", "seed")


def _value(recipe: Recipe, name: str):
    if name == "image_size":
        return recipe.side
    if name == "weights" and recipe.weights not in (None, "imagenet"):
        return "a file"
    return getattr(recipe, name)


def _expected(recipe: Recipe, document: Recipe, name: str):
    if name == "image_size" and document.image_size is None:
        return BACKBONES[recipe.backbone].image_size
    return getattr(document, name)


def _listed(values: list) -> str:
    return ", ".join(
        " ".join(value) or "none" if isinstance(value, tuple) else str(value) for value in values
    )
