"""What is printed reaches a terminal that has no letters for it."""

import os
import shutil
import subprocess

import pytest
from command_line import command


@pytest.mark.parametrize(
    "settings",
    [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}],
    ids=lambda one: "=".join(*one.items()),
)
def test_names_that_the_output_cannot_hold(mura, settings):
    folder = mura.rename(mura.parent / "Röntgen 骨")
    image = "train/XR_ELBOW/patient00001/study1_positive/image1.png"
    shutil.copy(folder / image, (folder / image).with_name("image3.png"))
    done = subprocess.run(
        command("check", folder), capture_output=True, env=os.environ | settings, check=False
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1].startswith(b"1 problem in ")
    if settings.get("PYTHONIOENCODING") == "ascii":
        assert b"R\\xf6ntgen \\u9aa8" in done.stdout
