"""What setup.cfg puts into a wheel."""

from configparser import ConfigParser
from pathlib import Path

import pytest

import mura_tf

ROOT = Path(__file__).parents[1]
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PACKAGES = SETUP["options"]["packages"].split()
FOLDERS = {"mura_tf.experiments": ROOT / "experiments"}
"""Of the packages that lie elsewhere."""


def _folder(package):
    return FOLDERS.get(package, ROOT / package.replace(".", "/"))


def test_every_package_is_listed():
    inits = [*ROOT.glob("mura_tf/**/__init__.py"), ROOT / "experiments/__init__.py"]
    assert sorted(map(_folder, PACKAGES)) == sorted(path.parent for path in inits)
    elsewhere = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].split("\n")[1:])
    assert {name: ROOT / path for name, path in elsewhere.items()} == FOLDERS


def test_every_data_file_is_listed():
    """Beside the code of a package; in `experiments`, what the code reads."""
    listed = {
        path
        for package, patterns in SETUP["options.package_data"].items()
        for pattern in patterns.split()
        for path in _folder(package).glob(pattern)
    }
    beside = {
        path
        for path in ROOT.glob("mura_tf/**/*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert beside  # the page's frame
    read = {*ROOT.glob("experiments/published/*.csv"), *ROOT.glob("experiments/recipes/*")}
    assert len(read) > 10
    assert listed == beside | read


def test_every_public_name_is_there_and_typed():
    assert len(mura_tf.__all__) > 30
    assert all(getattr(mura_tf, name) is not None for name in mura_tf.__all__)
    assert (ROOT / "mura_tf/py.typed").is_file()
    with pytest.raises(AttributeError, match="module 'mura_tf' has no attribute 'load_mira'"):
        _ = mura_tf.load_mira


def test_code_reads_no_other_folder_of_experiments():
    folders = {path.name for path in (ROOT / "experiments").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"published", "recipes", "results"}
