"""The `.mura` file, a zip: its facts, its members, and what tells it from another."""

import hashlib
import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mura_tf.inference.members import KerasMember, Member, OnnxMember

FORMAT = 1
"""Of `bundle.json`; a bundle of a later one is refused."""


def facts_in(path: Path) -> dict[str, Any]:
    """Of `bundle.json`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no bundle, a damaged one, one of a later format or without all its members.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no bundle {path}. `mura-tf pack` makes one.")
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read("bundle.json"))
            lacking = {member["file"] for member in facts["members"]} - set(archive.namelist())
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be a bundle, a zip with bundle.json, made by `mura-tf pack`. Received: "
            f"one that is damaged or something else ({error})."
        ) from None
    if facts.get("format") != FORMAT or lacking:
        what = f"lacks {', '.join(sorted(lacking))}" if lacking else f"has {facts.get('format')!r}"
        raise ValueError(
            f"{path} must be a bundle of format {FORMAT} with all its members. Received: one that "
            f"{what}. Pack it again, or install a later mura_tf."
        )
    return facts


def keras_file(bundle: Path | None, member: Mapping[str, Any], aside: Path) -> Path:
    """The `.keras` file of a member, of `bundle.json`.

    Args:
        bundle: that it lies in; None for a run folder's, which is where the facts say.
        member: of the facts.
        aside: a folder, for what lies in a bundle.
    """
    if bundle is None:
        return Path(member["file"])
    with zipfile.ZipFile(bundle) as archive:
        return Path(archive.extract(member["file"], aside))


def open_member(bundle: Path | None, member: Mapping[str, Any], preprocessing: str) -> Member:
    """A member, ready to read: as ONNX where the bundle has its graph and the extra is there."""
    if bundle is not None and importlib.util.find_spec("onnxruntime") is not None:
        exported = str(Path(member["file"]).with_suffix(".onnx"))
        with zipfile.ZipFile(bundle) as archive:
            if exported in archive.namelist():
                return OnnxMember(archive.read(exported))
    with tempfile.TemporaryDirectory() as folder:
        return KerasMember(keras_file(bundle, member, Path(folder)), preprocessing)


def hash_of(files: Iterable[Path]) -> str:
    """Twelve hexadecimal digits of the files' bytes."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return digest.hexdigest()[:12]
