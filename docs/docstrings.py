"""What mkdocstrings is given of a docstring: names as links, and lists of names whole."""

import re

import griffe

import mura_tf

REGISTRIES = {
    "specs.HEAD_LAYERS": "../recipe.md#the-head",
    "specs.AUGMENTATIONS": "../recipe.md#augmentations",
    "specs.SCHEDULES": "../recipe.md#the-schedule",
    "specs.OPTIMIZERS": "../recipe.md#the-optimizer",
    "specs.BATCH_NORMS": "../recipe.md#batch-normalization",
    "specs.TRAINABLE": "../recipe.md#which-layers-are-trained",
    "METHODS": "../heatmaps.md#methods",
    "ORDERS": "../heatmaps.md",
    "SCHEMES": "../own_data.md#train-on-it",
}
"""Where each is told."""
_CODE = re.compile(r"(?<!`)`([\w.]+)`(?!`)")
_NAMES = re.compile(r"^    \w+(?:, \w+)+(?=: )", re.MULTILINE)
"""Such as "    OSError, ValueError: no file", which griffe takes for a name and its type."""


class LinkedNames(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring and obj.path.startswith("mura_tf."):
            text = _NAMES.sub(
                lambda names: names[0].replace(", ", ",\N{NO-BREAK SPACE}"), obj.docstring.value
            )
            obj.docstring.value = _CODE.sub(lambda code: _linked(code, but=obj.name), text)


def _linked(code: re.Match, but: str) -> str:
    """The code, linked if it is a public name or a registry; `but` is what it is said of."""
    if code[1] in REGISTRIES:
        return f"[{code[0]}]({REGISTRIES[code[1]]})"
    name = re.sub(r"^(mt|mura_tf)\.", "", code[1])
    home = mura_tf._HOME.get(name)
    if home is None or name == but:
        return code[0]
    return f"[{code[0]}][mura_tf.{home}.{name}]"
