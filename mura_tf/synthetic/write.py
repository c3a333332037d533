"""Writes a data set shaped like MURA v1.1: procedural radiographs whose lesions are known."""

import csv
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mura_tf.cores import usable_cores
from mura_tf.files import folder_aside
from mura_tf.synthetic.anatomy import ANATOMIES
from mura_tf.synthetic.film import draw_view
from mura_tf.synthetic.lesions import draw_lesions
from mura_tf.terminal import track

FOLDER = "MURA-v1.1"
LESION_COLUMNS = (
    *("split", "study_type", "patient", "study", "view"),
    *("kind", "x", "y", "width", "height"),
)


def write_synthetic_mura(
    root: str | os.PathLike[str],
    studies_per_type: int = 60,
    seed: int = 0,
    *,
    progress: bool = False,
) -> Path:
    """Writes procedural radiographs in the layout of MURA v1.1, with a box for each lesion.

    Beside MURA's own four CSV files stands `lesions.csv`, one row per lesion and view that shows
    it: `split, study_type, patient, study, view` spelled as in the views table, `kind` (fracture,
    hardware or lytic), and the box `x, y, width, height` in pixels of that view, from its top left.
    About 20 % of the views of an abnormal study hide its lesions and are drawn as a normal study's
    are. The same arguments write the same bytes, however many cores draw.

    The default is about 1,100 images, at some 30 ms each on two cores.

    Args:
        root: the directory to hold the `MURA-v1.1` folder; made if there is none.
        studies_per_type: train and valid studies of each of the seven study types, at least 8;
            30 % of them are valid, 45 % abnormal.
        seed: at least 0.
        progress: whether to show a progress bar.

    Returns:
        The path of the written `MURA-v1.1` folder, which appears whole or not at all.

    Raises:
        ValueError: `studies_per_type` or `seed` is too small.
        FileExistsError: something is at that path already that is not an empty folder.

    Examples:
        >>> folder = mt.write_synthetic_mura("demo/other", studies_per_type=8, seed=1)
        >>> sorted(path.name for path in folder.glob("train*"))
        ['train', 'train_image_paths.csv', 'train_labeled_studies.csv']
    """
    if studies_per_type < 8:
        raise ValueError(
            "studies_per_type must be at least 8, so that both splits of a study type have both "
            f"labels. Received: {studies_per_type}"
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0. Received: {seed}")
    target = Path(root) / FOLDER
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"'{target}' must be missing or an empty folder, because nothing is overwritten. "
            f"Received: a {'folder with content' if target.is_dir() else 'file'}. "
            "Remove it or choose another root."
        )
    place = target.resolve()  # of a link to an empty folder, where that leads
    studies = _plan(studies_per_type, seed)
    with folder_aside(place.parent) as aside:
        part = aside / FOLDER
        part.mkdir()
        with ThreadPoolExecutor(usable_cores()) as pool:
            written = pool.map(partial(_write_study, aside, seed), studies)
            drawn = list(track(written, "Drawing", len(studies), shown=progress))
        for split in ("train", "valid"):
            members = [i for i, study in enumerate(studies) if study.split == split]
            labels = [(f"{studies[i].path}/", studies[i].label) for i in members]
            _write_csv(part / f"{split}_labeled_studies.csv", labels)
            paths = [(path,) for i in members for path in drawn[i][0]]
            _write_csv(part / f"{split}_image_paths.csv", paths)
        lesions = [row for _, rows in drawn for row in rows]
        _write_csv(part / "lesions.csv", [LESION_COLUMNS, *lesions])
        if place.exists():
            place.rmdir()
        part.rename(place)
    return target


def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@dataclass(frozen=True)
class _Study:
    split: str
    study_type: str
    patient: str
    number: int  # 1 or 2: the patient's first or second study of this type
    label: int
    index: int  # among the studies of its type, both splits

    @property
    def path(self) -> str:
        folder = f"{FOLDER}/{self.split}/XR_{self.study_type.upper()}/{self.patient}"
        return f"{folder}/study{self.number}_{'positive' if self.label else 'negative'}"


def _plan(studies_per_type: int, seed: int) -> list[_Study]:
    """Who is in the data set. A patient belongs to one split and may have several study types."""
    rng = np.random.default_rng([seed, len(ANATOMIES)])  # studies use smaller numbers: no clash
    n_valid = round(0.3 * studies_per_type)
    n_train = studies_per_type - n_valid
    studies = []
    for study_type in ANATOMIES:
        index = 0
        for split, count, first in (("train", n_train, 1), ("valid", n_valid, 1 + 2 * n_train)):
            again = count // 6  # patients with two studies
            patients = first + rng.choice(2 * count, count - again, replace=False)
            visits = sorted([(p, 1) for p in patients] + [(p, 2) for p in patients[:again]])
            labels = rng.permutation(np.arange(count) < max(1, round(0.45 * count)))
            for (patient, number), label in zip(visits, labels, strict=True):
                name = f"patient{patient:05d}"
                studies.append(_Study(split, study_type, name, number, int(label), index))
                index += 1
    return studies


def _write_study(
    above: Path, seed: int, study: _Study
) -> tuple[list[str], list[tuple[str | int, ...]]]:
    """Draws one study's views under `above`. Returns their paths and their rows of lesions.csv."""
    entropy = [seed, list(ANATOMIES).index(study.study_type), study.index]
    plan, body, *views = np.random.SeedSequence(entropy).spawn(6)
    rng = np.random.default_rng(plan)
    views = views[: rng.choice([1, 2, 3, 4], p=[0.12, 0.28, 0.42, 0.18])]
    lesions = draw_lesions(rng, study.study_type) if study.label else []
    shown = rng.random(len(views)) < 0.78  # with the next line 80 % of all views
    if not shown.any():
        shown[rng.integers(len(views))] = rng.random() < 0.9
    (above / study.path).mkdir(parents=True)
    paths = []
    rows: list[tuple[str | int, ...]] = []
    for number, (view, show) in enumerate(zip(views, shown, strict=True), start=1):
        image, boxes = draw_view(study.study_type, body, view, lesions if show else [])
        name = f"image{number}.png"
        png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (above / study.path / name).write_bytes(png.tobytes())
        paths.append(f"{study.path}/{name}")
        key = (study.split, study.study_type, study.patient, f"study{study.number}", name)
        rows += [(*key, kind, *box) for kind, box in boxes]
    return paths, rows
