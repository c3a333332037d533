"""What `bundle.json` says, looked at as a whole before anything is read by it."""

import json
import os
import reprlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mura_tf.data.tasks import ABNORMAL
from mura_tf.evaluation.operating_points import PAPER

FORMAT = 1
"""Of `bundle.json`; a bundle of a later one is refused."""
_Shape: TypeAlias = "type | list[_Shape] | tuple[None, _Shape] | dict[Any, _Shape]"
_MODEL: dict[Any, _Shape] = {"file": str, "preprocessing": str, "image_size": int}
_SHAPE: dict[Any, _Shape] = {
    **dict.fromkeys(("name", "version", "made_by", "notice", "licence", "backbone"), str),
    "preprocessing": str,
    "image_size": int,
    "classes": [str],
    "study_types": [str],
    "members": [{"file": str, "study_types": (None, [str])}],
    "recogniser": (None, _MODEL | {"classes": [str]}),
    "inputs": (None, dict.fromkeys(("low", "high", "mean", "deviation"), float)),
    "views_per_study": {str: float},
    "operating_points": [{"point": str, "low": float, "high": float}],
    "calibration": (None, {"slope": float, "intercept": float}),
    "recipe": {},
}
"""What is read of it; what is only shown in the model card may be anything.

A type is a value of it, a list any number of its entry, a dict has these names among others or any
number of names, and a tuple is one of these.
"""


_MOST = 1e300
"""Numbers are below; NaN is not."""
_NAMES = {str: "text", int: "whole number", float: "number"}


def read_facts(path: Path) -> dict[str, Any]:
    """`bundle.json` of a `.mura` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no bundle, a damaged one or one of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no bundle {path}. `mura-tf pack` makes one.")
    try:
        with zipfile.ZipFile(path) as archive:
            facts, names = json.loads(archive.read("bundle.json")), archive.namelist()
    except Exception as error:  # zipfile and zlib raise whatever they meet
        raise _no_bundle(path, f"one that is damaged or something else ({error})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = reprlib.repr(facts.get("format") if isinstance(facts, dict) else facts)
        raise ValueError(
            f"{path} must be a bundle of format {FORMAT}. Received: one that has {found}. Pack it "
            "again, or install a later mura_tf."
        )
    if reason := _misfit(facts, _SHAPE, "") or _contradiction(facts):
        raise _no_bundle(path, f"one whose bundle.json {reason}")
    models = [*facts["members"], *filter(None, [facts["recogniser"]])]
    if lacking := sorted({model["file"] for model in models} - set(names)):
        raise _no_bundle(path, f"one that lacks {', '.join(lacking)}")
    return facts


def _no_bundle(path: str | os.PathLike[str], received: str) -> ValueError:
    return ValueError(
        f"{path} must be a bundle, a zip with bundle.json and all its members, made by `mura-tf "
        f"pack`. Received: {received}. Pack it again."
    )


def _misfit(value: Any, shape: _Shape, where: str) -> str:  # noqa: ANN401  # of JSON
    """Where a value is not of the shape, as the end of a sentence; "" where it is."""
    if isinstance(shape, tuple):
        nothing, something = shape
        return "" if value is nothing else _misfit(value, something, where)
    if isinstance(shape, type):
        kinds = int | float if shape is float else shape
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if fits and (isinstance(value, str) or abs(value) < _MOST):
            return ""
        return f"has no {_NAMES[shape]} as {where}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"has no list as {where}"
        entries = [(entry, shape[0], f"{where}[{place}]") for place, entry in enumerate(value)]
    else:
        if not isinstance(value, dict):
            return f"has no object as {where}"
        named = dict.fromkeys(value, shape[str]) if str in shape else shape
        if lacking := [name for name in named if name not in value]:
            return f"lacks {', '.join(lacking)} {where and f'in {where}'}".rstrip()
        entries = [(value[name], one, f"{where}.{name}".strip(".")) for name, one in named.items()]
    return next(filter(None, (_misfit(*entry) for entry in entries)), "")


def _contradiction(facts: Mapping[str, Any]) -> str:
    """What cannot be of what is of the right shape; "" if nothing."""
    types, classes = facts["study_types"], facts["classes"]
    read = [member["study_types"] for member in facts["members"]]
    for study_type in types:
        if not any(known is None or study_type in known for known in read):
            return f"has no member that reads {study_type}"
        if classes and ABNORMAL + study_type not in classes:
            return f"has no class {ABNORMAL + study_type}"
    if not types:
        return "has no study type"
    points = facts["operating_points"]
    if [row["point"] for row in points].count(PAPER.name) != 1:
        return f"has no operating point {PAPER.name}, or two"
    for row in points:
        if not 0 <= row["low"] <= row["high"] <= 1:
            return f"has an operating point {row['point']} from {row['low']} to {row['high']}"
    if facts["inputs"] and not facts["inputs"]["low"] < facts["inputs"]["high"]:
        return "has inputs whose low is not below their high"
    if facts["recogniser"] and not facts["recogniser"]["classes"]:
        return "has a recogniser without classes"
    return ""
