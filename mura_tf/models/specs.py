"""The small languages that a recipe's heads, augmentations and schedules are written in.

A spec is text, "name" or "name:value:value", so that a recipe is plain JSON. No TensorFlow.

The layers of a head before "pool" or "flatten" work on feature maps, those after it on vectors; the
output layer itself is `build_model`'s.
"""

from contextlib import suppress
from typing import NamedTuple

PAPER_HEAD = ("pool", "batch_norm", "dropout:0.5")
"""Table II of the paper."""

HEAD_LAYERS = {
    "pool": "global average pooling",
    "flatten": "every position of the feature maps, one after the other",
    "batch_norm": "batch normalization",
    "dropout:RATE": "dropout",
    "dense:UNITS": "a dense layer without activation",
    "dense:UNITS:relu": "a dense layer with ReLU",
    "residual:UNITS:RATE": "two dense layers with batch normalization, dropout between them, and "
    "a dense layer without bias around them (003, Fig. 16)",
    "squeeze_excite:REDUCTION": "weighs channels by what they are on average (003, Fig. 16)",
    "attention:HEADS": "maps in [0, 1], one 1 x 1 convolution each; the feature maps weighed by "
    "each of them, side by side (003, Fig. 16)",
    "map:STRIDE:WEIGHT": "where lesions are, a cell for every STRIDE pixels, from the backbone's "
    "last maps and its finer ones; the cells' log-sum-exp goes to the output layer beside what is "
    "pooled. WEIGHT is that of the data set's boxes in the loss; with 0 the label alone trains it",
    "views:UNITS": "how much each view counts in its study's probability: gated attention of so "
    "many units over the vector that stands there (Ilse et al., 2018). The label's loss is then "
    "that of the study, in place of its views'",
}
_SPATIAL = ("squeeze_excite", "attention", "map", "dropout", "batch_norm")
"""What may stand before "pool" or "flatten"."""
SCHEDULES = {
    "constant": "as it begins",
    "plateau:loss:FACTOR:EPOCHS": "times the factor after so many epochs without a training loss "
    "lower by 0.0001; val_loss for the validation loss; a fourth value is the least rate",
    "step:FACTOR:EPOCHS": "times the factor after every so many epochs",
    "cosine:WARMUP": "rises in a line from 0 for so many epochs, or parts of one, then falls along "
    "half a cosine to 0 at max_epochs; step by step",
}
# in the order in which they are applied, whatever the order they are named in; rotation to zoom are
# one warp; what each draws hangs on its place, so a new one goes to the end
AUGMENTATIONS = {
    "flip": "a horizontal flip of every second view; no value",
    "rotation": "degrees to either side",
    "shift": "fraction of the side, in both directions",
    "shear": "degrees to either side",
    "zoom": "fraction, in or out, height and width each on its own",
    "autocontrast": "probability of stretching the square's grey values to [0, 255]",
    "contrast": "fraction by which grey values are spread or drawn together about their mean",
    "brightness": "fraction of 255 that is added or taken away",
    "gamma": "fraction: the exponent lies between 1 / (1 + fraction) and 1 + fraction",
    "erase": "probability of a rectangle of one grey value, over 2 to 20 % of the square "
    "(Zhong et al., 2020)",
    "mixup": "parameter of the Beta distribution by which each view and its label are mixed with "
    "another's of the batch (Zhang et al., 2018)",
}
TRAINABLE = {
    "all": "every layer",
    "none": "the head alone",
    "last:N": "from the N-th last convolution of the backbone on",
    "blocks:N": "from the N-th last block on of an EfficientNet or MobileNet",
    "from:LAYER": "from the backbone's layer of that name on",
}
OPTIMIZERS = {
    "adam": "Keras' Adam (0.9, 0.999); weight decay is taken off the weights, not the gradient",
    "adamw": "Keras' AdamW (0.9, 0.999); weight decay likewise, of the kernels alone: biases and "
    "batch normalization keep theirs",
    "sgd:MOMENTUM": "Keras' SGD; weight decay likewise",
    "torch_adam": "PyTorch's Adam (0.9, 0.999)",
    "torch_sgd:MOMENTUM": "PyTorch's SGD; in both, weight decay is added to the gradient of every "
    "weight, so that it goes through the momentum",
}
BATCH_NORMS = {
    "own": "as Keras has each backbone, and Keras' defaults in the head: momentum 0.99, epsilon "
    "0.001",
    "torch": "PyTorch's momentum everywhere (0.1 there, 0.9 in Keras' words), and its epsilon of "
    "1e-5 in the head and in the networks that have no pretrained weights; the others keep the "
    "epsilon that theirs belong to, whatever they start from. Moving variances stay Keras', which "
    "are not made unbiased",
}


HeadLayer = tuple[str, tuple[float | str, ...]]
"""A layer's name and its values."""


class Plateau(NamedTuple):
    """A learning rate that falls where a loss does not, see `SCHEDULES`."""

    monitor: str
    factor: float
    epochs: int
    least: float


class Step(NamedTuple):
    """A learning rate that falls after every so many epochs."""

    factor: float
    epochs: int


class Cosine(NamedTuple):
    """A learning rate that rises for some epochs, then falls to 0 along a cosine."""

    warmup: float


def parse_head(specs: tuple[str, ...]) -> list[HeadLayer]:
    """Splits each spec into its name and values, and checks all.

    Raises:
        ValueError: an unknown spec or value, or not exactly one "pool" or "flatten".

    >>> parse_head(("pool", "dense:512:relu", "dropout:0.5"))
    [('pool', ()), ('dense', (512, 'relu')), ('dropout', (0.5,))]
    """
    parsed = [_parse_layer(spec) for spec in specs]
    names = [name for name, _ in parsed]
    turns = [index for index, name in enumerate(names) if name in ("pool", "flatten")]
    for one in ("map", "views"):
        if names.count(one) > 1:
            raise ValueError(f"a head can have one {one!r}. Received: {specs!r}.")
    if len(turns) != 1:
        raise ValueError(
            "a head goes from feature maps to vectors once, by 'pool' or by 'flatten'. Received: "
            f"{specs!r}."
        )
    for index, name in enumerate(names):
        before = index < turns[0]
        if (before and name not in _SPATIAL) or (not before and name in _SPATIAL[:3]):
            where = "after" if before else "before"
            raise ValueError(
                f"{specs[index]!r} must stand {where} {names[turns[0]]!r}. Received: {specs!r}."
            )
    return parsed


def _parse_layer(spec: str) -> HeadLayer:
    name, *values = str(spec).split(":")
    with suppress(ValueError, IndexError):
        if name in ("pool", "flatten", "batch_norm") and not values:
            return name, ()
        if name == "dropout" and len(values) == 1:
            return name, (_number(values[0], below=1),)
        if name in ("squeeze_excite", "attention", "views") and len(values) == 1:
            return name, (_count(values[0]),)
        if name == "dense" and values[1:] in ([], ["relu"]):
            return name, (_count(values[0]), *values[1:])
        if name == "residual" and len(values) == 2:
            return name, (_count(values[0]), _number(values[1], below=1))
        if name == "map" and len(values) == 2:
            return name, (_count(values[0]), _number(values[1], below=float("inf")))
    raise ValueError(
        f"a layer of a head must be one of {', '.join(HEAD_LAYERS)}, with whole numbers from 1 up, "
        f"rates from 0 to below 1 and weights from 0 up. Received: {spec!r}."
    )


def _number(text: str, below: float) -> float:
    number = float(text)
    if not 0 <= number < below:
        raise ValueError
    return number


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def parse_augmentations(specs: tuple[str, ...]) -> dict[str, float | None]:
    """Splits each spec into its name and value, and checks all.

    Raises:
        ValueError: an unknown spec or value, or an augmentation named twice.

    >>> parse_augmentations(("flip", "rotation:30"))
    {'flip': None, 'rotation': 30.0}
    """
    parsed = dict(map(parse_augmentation, specs))
    if len(parsed) < len(specs):
        raise ValueError(f"an augmentation can be named once. Received: {', '.join(specs)}.")
    return parsed


def parse_augmentation(spec: str) -> tuple[str, float | None]:
    """Splits "name:value" and checks both.

    >>> parse_augmentation("rotation:30")
    ('rotation', 30.0)
    """
    name, _, text = str(spec).partition(":")
    if name not in AUGMENTATIONS:
        raise ValueError(
            f"an augmentation must be one of {', '.join(AUGMENTATIONS)}. Received: {spec!r}."
        )
    if name == "flip":
        if text:
            raise ValueError(f"the augmentation 'flip' takes no value. Received: {spec!r}.")
        return name, None
    limit = {"rotation": 180.0, "shear": 45.0}.get(name, 1.0)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= limit:
        raise ValueError(
            f"the augmentation {name!r} needs a value above 0 and up to {limit:g} "
            f"({AUGMENTATIONS[name]}), written as '{name}:{limit / 10:g}'. Received: {spec!r}."
        )
    return name, value


def parse_trainable(spec: str) -> tuple[str, str | int | None]:
    """Splits one of `TRAINABLE`.

    >>> parse_trainable("last:5")
    ('last', 5)
    """
    kind, _, value = str(spec).partition(":")
    if kind in ("all", "none") and not value:
        return kind, None
    if kind in ("last", "blocks") and value.isdecimal() and int(value) >= 1:
        return kind, int(value)
    if kind == "from" and value:
        return kind, value
    raise ValueError(
        f"trainable must be one of {', '.join(TRAINABLE)}, with N from 1 up. Received: {spec!r}."
    )


def parse_optimizer(spec: str) -> tuple[str, float | None]:
    """Splits one of `OPTIMIZERS`.

    >>> parse_optimizer("sgd:0.9")
    ('sgd', 0.9)
    """
    kind, _, value = str(spec).partition(":")
    if spec in ("adam", "adamw", "torch_adam"):
        return spec, None
    with suppress(ValueError):
        if kind in ("sgd", "torch_sgd") and 0 <= float(value) < 1:
            return kind, float(value)
    raise ValueError(
        f"optimizer must be one of {', '.join(OPTIMIZERS)}, with a momentum from 0 to below 1. "
        f"Received: {spec!r}."
    )


def require_batch_norm(name: object) -> None:
    """ValueError unless it is one of `BATCH_NORMS`."""
    if name not in tuple(BATCH_NORMS):  # an unhashable value, too, gets the sentence
        raise ValueError(f"batch_norm must be one of {', '.join(BATCH_NORMS)}. Received: {name!r}.")


def boxes_weight(specs: tuple[str, ...]) -> float:
    """How much the boxes of lesions count in the loss of a head: 0 without a map."""
    return next((float(values[1]) for name, values in parse_head(specs) if name == "map"), 0.0)


def weighs_views(specs: tuple[str, ...]) -> bool:
    """Whether a head says how much each view counts in its study's probability."""
    return any(name == "views" for name, _ in parse_head(specs))


def parse_sizes(specs: tuple[str, ...]) -> list[tuple[int, int]]:
    """Splits "PIXELS:EPOCHS" each.

    Raises:
        ValueError: a spec that is not of that form, fewer than 32 pixels or no epoch.

    >>> parse_sizes(("192:2", "256:3"))
    [(192, 2), (256, 3)]
    """
    parsed = []
    for spec in specs:
        side, _, epochs = str(spec).partition(":")
        if not (side.isdecimal() and epochs.isdecimal() and int(side) >= 32 and int(epochs) >= 1):
            raise ValueError(
                "a size of the first epochs must be PIXELS:EPOCHS, from 32 pixels and 1 epoch up, "
                f"such as '256:3'. Received: {spec!r}."
            )
        parsed.append((int(side), int(epochs)))
    return parsed


def parse_schedule(spec: str) -> Plateau | Step | Cosine | None:
    """Splits a schedule of `SCHEDULES`; "constant" is None.

    >>> parse_schedule("plateau:val_loss:0.2:5:1e-7")
    Plateau(monitor='val_loss', factor=0.2, epochs=5, least=1e-07)
    >>> parse_schedule("step:0.3:3")
    Step(factor=0.3, epochs=3)
    """
    kind, *values = str(spec).split(":")
    with suppress(ValueError):
        if kind == "constant" and not values:
            return None
        if kind == "cosine" and len(values) == 1 and 0 <= float(values[0]) < float("inf"):
            return Cosine(float(values[0]))
        if kind == "step" and len(values) == 2:
            factor, epochs = float(values[0]), int(values[1])
            if 0 < factor < 1 and epochs >= 1:
                return Step(factor, epochs)
        if kind == "plateau" and len(values) in (3, 4) and values[0] in ("loss", "val_loss"):
            factor, epochs = float(values[1]), int(values[2])
            least = float(values[3]) if len(values) == 4 else 0.0
            if 0 < factor < 1 and epochs >= 1 and least >= 0:
                return Plateau(values[0], factor, epochs, least)
    raise ValueError(
        f"schedule must be one of {', '.join(SCHEDULES)}, with factors between 0 and 1, epochs "
        f"from 1 up and a warm-up from 0 up. Received: {spec!r}."
    )
