"""What mkdocstrings is given of a docstring: public names as links, and lists of names whole."""

import re

import griffe

import mura_tf

_NAME = re.compile(r"(?<!`)`(?:mt\.|mura_tf\.)?(\w+)`(?!`)")
_NAMES = re.compile(r"^    \w+(?:, \w+)+(?=: )", re.MULTILINE)
"""Such as "    l1, l2: regularization", which griffe takes for a name and its type."""


class LinkedNames(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring and obj.path.startswith("mura_tf."):
            text = _NAMES.sub(
                lambda names: names[0].replace(", ", ",\N{NO-BREAK SPACE}"), obj.docstring.value
            )
            obj.docstring.value = _NAME.sub(lambda name: self._linked(name, but=obj.name), text)

    def _linked(self, name: re.Match, but: str) -> str:
        home = mura_tf._HOME.get(name[1])
        if home is None or name[1] == but:
            return name[0]
        return f"[{name[0]}][mura_tf.{home}.{name[1]}]"
