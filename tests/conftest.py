import io
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from eager import run_eagerly
from mura_folders import study_folders

for _name in (
    *("GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "COLUMNS", "TERMINAL_WIDTH"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE"),
):
    os.environ.pop(_name, None)  # by which rich and typer print otherwise
os.environ["TERM"] = "xterm"


def pytest_terminal_summary(terminalreporter, config):
    """Names the order of tests that failed, which `-q` keeps to itself."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None and terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"The same order again: --randomly-seed={seed}")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and weights, which is no part of the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MURA_TF_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"needs real data: no folder {folder}; set MURA_TF_SHARED to it")
    return folder


@pytest.fixture(scope="session")
def fracatlas(shared):
    folder = shared / "data" / "FracAtlas"
    if not folder.is_dir():
        pytest.skip(f"needs FracAtlas in {folder}")
    return folder


@pytest.fixture
def bars(monkeypatch):
    """What a terminal would be sent of progress bars: `bars.getvalue()`."""
    from mura_tf import terminal

    sent = io.StringIO()
    sent.isatty = lambda: True
    console = terminal.Output(file=sent, force_terminal=True, force_interactive=True, width=100)
    monkeypatch.setattr(terminal, "_ERRORS", console)
    return sent


@pytest.fixture
def eagerly():
    with run_eagerly():
        yield


MURA_IMAGES = [
    "train/XR_ELBOW/patient00001/study1_positive/image1.png",
    "train/XR_ELBOW/patient00001/study1_positive/image2.png",
    "train/XR_ELBOW/patient00001/study1_positive/image10.png",
    "train/XR_ELBOW/patient00002/study1_negative/image1.png",
    "train/XR_ELBOW/patient00002/study2_positive/image1.png",
    "train/XR_WRIST/patient00001/study1_negative/image1.png",
    "train/XR_WRIST/patient00003/study1_positive/image1.png",
    "valid/XR_ELBOW/patient00004/study1_positive/image1.png",
    "valid/XR_ELBOW/patient00005/study1_negative/image1.png",
    "valid/XR_WRIST/patient00005/study1_negative/image1.png",
    "valid/XR_WRIST/patient00006/study1_positive/image1.png",
]


@pytest.fixture
def mura(tmp_path):
    """A folder as MURA-v1.1 is shipped, with nothing wrong: 11 images, 9 studies, 6 patients."""
    folder = tmp_path / "data" / "MURA-v1.1"
    rng = np.random.default_rng(0)
    for image in MURA_IMAGES:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / image), rng.integers(0, 256, (12, 10), np.uint8))
    for split in ("train", "valid"):
        images = [image for image in MURA_IMAGES if image.startswith(split)]
        studies = dict.fromkeys(os.path.dirname(image) for image in images)
        (folder / f"{split}_image_paths.csv").write_text(
            "".join(f"MURA-v1.1/{image}\n" for image in images)
        )
        (folder / f"{split}_labeled_studies.csv").write_text(
            "".join(f"MURA-v1.1/{study}/,{int('positive' in study)}\n" for study in studies)
        )
    return folder


@pytest.fixture(scope="session")
def lesions(tmp_path_factory):
    """A MURA-shaped folder whose lesions are bright squares, each in its lesions.csv."""
    folder = tmp_path_factory.mktemp("lesions") / "MURA-v1.1"
    rng = np.random.default_rng(0)
    rows = ["split,study_type,patient,study,view,kind,x,y,width,height"]
    for split, study_type, patient, study in study_folders(folder, {"train": 8, "valid": 6}):
        for view in range(1 + (patient < 2)):
            image = rng.integers(5, 90, (48, 40), np.uint8)
            if patient % 2:
                x, y = rng.integers(4, 24, 2)
                image[y : y + 10, x : x + 8] = rng.integers(230, 256, (10, 8))
                key = f"{split},{study_type},{split}{patient:05d},study1"
                rows.append(f"{key},image{view + 1}.png,fracture,{x},{y},8,10")
            cv2.imwrite(str(study / f"image{view + 1}.png"), image)
    (folder / "lesions.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def fracatlas_tree(tmp_path):
    """40 readable images of FracAtlas' layout, half of them with boxes; returns its folder."""
    folder = tmp_path / "FracAtlas"
    rows = ["image_id,hand,leg,hip,shoulder,mixed,fractured"]
    images, annotations = [], []
    for number in range(40):
        name, label = f"IMG{number:07d}.jpg", number % 2
        parent = folder / "images" / ("Non_fractured", "Fractured")[label]
        parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (60, 40), np.uint8)
        cv2.imwrite(str(parent / name), image)
        rows.append(f"{name},1,0,0,0,0,{label}")
        if label:  # drawn on the image before it was shrunk by two
            images.append({"id": number, "width": 80, "height": 120, "file_name": name})
            annotations.append({"image_id": number, "bbox": [8.0, 12.0, 20.0, 30.0]})
    annotations.append({"image_id": 1, "bbox": [60.0, 100.0, 10.0, 10.0]})
    (folder / "dataset.csv").write_text("\n".join(rows))
    (folder / "Annotations" / "COCO JSON").mkdir(parents=True)
    content = {"images": images, "annotations": annotations}
    (folder / "Annotations/COCO JSON/COCO_fracture_masks.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def members(lesions, tmp_path_factory):
    """The folders of two finished runs on `lesions`, and what is above them."""
    from mura_tf import Recipe, load_mura, train

    out = tmp_path_factory.mktemp("members")
    with run_eagerly():
        for member in range(2):
            recipe = Recipe(
                backbone="small_cnn",
                weights=None,
                image_size=32,
                preprocessing="native",
                max_epochs=1,
                learning_rate=0.01,
                stage="mura",
                member=member,
            )
            train(recipe, load_mura(lesions), out / f"member{member}", verbose=0)
    return out


@pytest.fixture(scope="module")
def ensemble(members, lesions):
    from mura_tf import Ensemble

    return Ensemble(sorted(members.iterdir()), lesions)


@pytest.fixture
def begun(tmp_path):
    """The folder of a finished Table V with one small backbone."""
    from run_folders import FEW_STUDIES, finished, views_of

    from mura_tf.papers.reproduce import find_experiment

    out, views = tmp_path / "runs", views_of(FEW_STUDIES)
    experiment = find_experiment("table_v")
    finished(experiment, out, views, backbones=["small_cnn"], members=2, repeats=1)
    views.to_csv(out / "views.csv", index=False)
    return out


@pytest.fixture
def steps(monkeypatch):
    """Makes a step of each backbone 10 images/s, and keeps the recipes that were measured."""
    from mura_tf.models.backbones import BACKBONES

    measured = []

    def measure_step(recipe):
        measured.append(recipe)
        return 10.0, BACKBONES[recipe.backbone].parameters

    training = SimpleNamespace(measure_step=measure_step)  # the real one imports TensorFlow
    monkeypatch.setitem(sys.modules, "mura_tf.training.train", training)
    return measured


@pytest.fixture(scope="session")
def bundle(members, tmp_path_factory):
    """The two of `members`, packed: for all study types, elbow and wrist."""
    from mura_tf import pack

    return pack([members], tmp_path_factory.mktemp("bundles") / "lesions.mura", licence="CC0.")


class EndlessRun:
    """A run whose worker reads its views until it is stopped; that is before it needs TensorFlow.

    Attributes:
        order: for `train_in_process`.
    """

    def __init__(self, folder):
        os.mkfifo(folder / "endless.csv")
        self.order = {
            "plan": "a plan",
            "recipe": {},
            "folder": "endless",
            "views": "endless.csv",
            "settings": {},
            "directory": str(folder),
        }
        self._path, self._pipe = folder / "endless.csv", None

    def wait_until_begun(self):
        for _ in _seconds(60):
            try:
                self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
                return
            except OSError:  # nobody reads
                pass

    def wait_until_stopped(self):
        for _ in _seconds(20):
            try:
                os.write(self._pipe, b"x")
            except BrokenPipeError:
                return

    def close(self):
        """Ends what a failed test has left."""
        if self._pipe is not None:
            os.close(self._pipe)


def _seconds(number):
    deadline = time.monotonic() + number
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)
    raise TimeoutError


@pytest.fixture
def endless(tmp_path):
    run = EndlessRun(tmp_path)
    yield run
    run.close()
