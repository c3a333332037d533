"""A data set on disk, or a CSV -> the views table."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mura_tf.data.findings import HARMLESS, SPLIT_NAMES, Finding
from mura_tf.data.fracatlas import is_fracatlas, scan_fracatlas
from mura_tf.data.grazpedwri import is_grazpedwri, scan_grazpedwri
from mura_tf.data.layouts import find_dataset, scan
from mura_tf.data.mura import is_mura, scan_mura
from mura_tf.data.required import patients_in_two_splits, scoring_findings
from mura_tf.data.splits import FRACTIONS, with_validation
from mura_tf.data.table import SPLITS, VIEW_COLUMNS, as_labels
from mura_tf.data.text import beside, is_csv, read_cells, read_text
from mura_tf.terminal import Notice


def load_views(
    root: str | os.PathLike[str],
    seed: int = 0,
    split: str | None = None,
    *,
    progress: bool = False,
) -> pd.DataFrame:
    """Loads a data set of any layout, recognised by what the folder holds.

    Besides those of `load_mura`, `load_fracatlas` and `load_grazpedwri` there is a folder per
    class: `train/normal`, `train/fractured` and the same for valid and test, or the two alone. It
    says nothing of study types, studies and patients, so all is of the type "bone", and every image
    is its own study and of its own patient, but that files of equal content are of one patient.

    Args:
        root: a data set's folder, or one up to two folders above it; or a CSV with the columns of a
            views table, one row per radiograph.
        seed: of FracAtlas' and GRAZPEDWRI-DX' split, and of `split`; MURA brings its own.
        split: for a data set of a train split alone, what becomes its validation split, such as
            "patient:0.15", see `with_validation`.
        progress: whether to show a progress bar.

    Returns:
        The views table, see `load_mura`.

    Raises:
        FileNotFoundError: no layout is there; the message describes them.
        ValueError: several data sets are there, or what the loader itself raises.

    Examples:
        >>> mt.load_views("demo").equals(mt.load_mura("demo/MURA-v1.1"))
        True
    """
    if is_csv(root):
        if not Path(root).exists():
            raise FileNotFoundError(
                f"there is no file '{root}'. Expected a views table, a CSV with the columns "
                f"{', '.join(VIEW_COLUMNS)}."
            )
        views = _accept(Path(root), read_views(root), [])
    else:
        folder = find_dataset(root)
        views = _accept(folder, *scan(folder, seed, progress=progress))
    return views if split is None else with_validation(views, split, seed)


def load_mura(root: str | os.PathLike[str], *, progress: bool = False) -> pd.DataFrame:
    """Loads MURA-v1.1, or data laid out like it, as a views table.

    A split whose two CSVs (`train_image_paths.csv`, `train_labeled_studies.csv`) are there is read
    from them, from the split in each path onward, so the folder may have any name. Without them the
    tree `train/XR_ELBOW/patient00005/study1_positive/image1.png` is walked. Any `XR_*` study type
    is accepted, and a test split. Files whose name begins with a dot are no radiographs. Whether
    each listed image exists and can be read is for `check_views` to say.

    Args:
        root: the MURA folder, or one up to two folders above it.
        progress: whether to show a progress bar.

    Returns:
        One row per radiograph: `split` (train, valid or test), `study_type` (elbow), `patient`
        (patient00005), `study` (study1), `view` (image1.png), `label` (int, 1 abnormal, 0 normal)
        and `path`; in the order of these columns, image2 before image10.

    Raises:
        FileNotFoundError: the folder, or one CSV of a pair, is missing.
        ValueError: a CSV has a header or a malformed line; a study is in one CSV of a pair only,
            listed twice, without images or in two labels; or nothing was found.

    Examples:
        >>> views = mt.load_mura("demo/MURA-v1.1")
        >>> views.loc[0, ["split", "study_type", "study", "view"]].tolist()
        ['train', 'elbow', 'study1', 'image1.png']
    """
    folder = find_dataset(root, [is_mura])
    return _accept(folder, *scan_mura(folder, progress))


def load_fracatlas(
    root: str | os.PathLike[str],
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    *,
    progress: bool = False,
) -> pd.DataFrame:
    """Loads FracAtlas (Abedeen et al., Scientific Data 10, 2023) as a views table.

    FracAtlas has no patients, studies or split. Every image is its own study; byte-identical
    images are one patient, named after the first of them; and patients are dealt to train, valid
    and test at random within each study type and label. The label is `fractured` of `dataset.csv`;
    the study type is hand, leg, hip or shoulder, or mixed where several are marked.

    Args:
        root: the FracAtlas folder, or one up to two folders above it; a partial copy will do if its
            `dataset.csv` lists what is there.
        seed: of the split.
        fractions: of the images in train, valid and test; positive, with sum 1; by default 0.70,
            0.15 and 0.15.
        progress: whether to show a progress bar.

    Returns:
        The views table, see `load_mura`.

    Raises:
        FileNotFoundError: the folder, or images that `dataset.csv` lists, are missing.
        ValueError: bad fractions, a bad `dataset.csv`, or an image in both folders.

    Warns:
        Notice: images lie in the folder of the other label, or are not listed.

    Examples:
        >>> views = mt.load_fracatlas("FracAtlas", seed=0)
        >>> sorted(views.split.unique())
        ['test', 'train', 'valid']
    """
    fractions = _three_parts(fractions)
    folder = find_dataset(root, [is_fracatlas])
    return _accept(folder, *scan_fracatlas(folder, seed, fractions, progress))


def load_grazpedwri(
    root: str | os.PathLike[str],
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    *,
    progress: bool = False,
) -> pd.DataFrame:
    """Loads GRAZPEDWRI-DX (Nagy et al., Scientific Data 9, 2022) as a views table.

    20,327 radiographs of children's wrists, 16-bit PNGs in four parts, without a split: patients
    are dealt to train, valid and test at random, those with and without a fracture in proportion.
    A study is one wrist of one examination, `study2L` the left one of a patient's second. Its label
    is 1 where `dataset.csv` has a fracture that is visible on any of its views, and all its views
    have it: the data set tells of each view, and a study of one label has views of one.

    Args:
        root: the folder with `dataset.csv`, or one up to two folders above it; the radiographs lie
            beside it, in `images`, in `images_part1` and so on, or in `yolov5/images`.
        seed: of the split.
        fractions: of the images in train, valid and test; positive, with sum 1; by default 0.70,
            0.15 and 0.15.
        progress: whether to show a progress bar.

    Returns:
        The views table, see `load_mura`.

    Raises:
        FileNotFoundError: the folder, or images that `dataset.csv` lists, are missing.
        ValueError: bad fractions, or a bad `dataset.csv`.

    Warns:
        Notice: images that are not listed, or lie there twice.

    Examples:
        >>> views = mt.load_grazpedwri("GRAZPEDWRI-DX")
        >>> views.study_type.unique().tolist(), views.study[0]
        (['wrist'], 'study1L')
    """
    fractions = _three_parts(fractions)
    folder = find_dataset(root, [is_grazpedwri])
    return _accept(folder, *scan_grazpedwri(folder, seed, fractions, progress))


def _three_parts(fractions: Sequence[float]) -> tuple[float, ...]:
    fractions = tuple(fractions)
    if len(fractions) != 3 or min(fractions) <= 0 or not abs(sum(fractions) - 1) <= 1e-6:
        raise ValueError(
            "fractions must be three positive numbers with sum 1, of train, valid and test. "
            f"Received: {fractions!r}."
        )
    return fractions


def read_views(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a views table from a CSV; keys stay text, a patient "007" is not the number 7.

    Commas, semicolons or tabs part the columns, whose names may be in any case and order, and
    others may lie between them. A path that is not absolute is one of the CSV's folder, or, where
    there is no such file, of the folder one is in.

    A view that nothing is trained on, in valid or test, may have no label: it can be predicted, and
    has <NA> in the table. What selects an epoch on it or scores it asks for a label.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no CSV, has no row, lacks a column of a views table or a value in
            one, has a split or label that is none, or a view in train without a label.
    """
    try:
        views = _table(read_text(path))
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(
            f"{path} must be a views table, a CSV with the columns {', '.join(VIEW_COLUMNS)}, "
            f"splits of {', '.join(SPLITS)} and labels 0 and 1, or none outside train. Received: "
            f"{error}."
        ) from None
    folder = os.path.dirname(path)
    views["path"] = [beside(folder, one) for one in views["path"]]
    return views.assign(label=as_labels(views["label"]))


def _table(text: str) -> pd.DataFrame:
    """The views of a CSV's text, with labels as text; ValueError says what is wrong with it."""
    views = read_cells(text)
    if lacking := [column for column in VIEW_COLUMNS if column not in views]:
        raise ValueError(f"no column {', '.join(lacking)} in {','.join(views.columns)!r}")
    views = views[VIEW_COLUMNS]
    if views.empty:
        raise ValueError("a header and no row")
    for column in sorted(set(VIEW_COLUMNS) - {"label"}):
        if (empty := views[column].str.strip() == "").any():
            raise ValueError(f"no {column} on line {empty.idxmax() + 2}")
        if (broken := views[column].str.contains("\0", regex=False)).any():
            raise ValueError(f"a {column} that is no text on line {broken.idxmax() + 2}")
    known = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    views["split"] = views["split"].str.strip().str.lower().replace(known)
    views["label"] = views["label"].str.strip().replace({"0.0": "0", "1.0": "1"})  # as pandas'
    for column, allowed in (("label", ("0", "1", "")), ("split", SPLITS)):
        if unknown := sorted(set(views[column]) - set(allowed)):
            raise ValueError(f"{column} {unknown[0]!r}")
    if ((views["split"] == "train") & (views["label"] == "")).any():
        raise ValueError("no label in the split train")
    return views.reset_index(drop=True)


def _accept(folder: Path, views: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """Returns `views`; raises on findings, or warns of the harmless ones."""
    findings = [*findings, *scoring_findings(views), *patients_in_two_splits(views)]
    fatal = [one for one in findings if one.problem not in HARMLESS]
    if fatal:
        missing = all(one.problem == "missing" for one in fatal)
        raise (FileNotFoundError if missing else ValueError)(
            "\n".join(
                [
                    f"{len(fatal)} problem{'s' if len(fatal) > 1 else ''} in {folder}:",
                    *_sentences(fatal),
                    f"`mura-tf check {folder}` lists everything that is wrong.",
                ]
            )
        )
    for sentence in _sentences(findings):
        warnings.warn(sentence, Notice, stacklevel=3)
    return views


def _sentences(findings: list[Finding]) -> list[str]:
    """One per kind of problem: how many, and the first three."""
    sentences = []
    for problem in dict.fromkeys(one.problem for one in findings):
        group = [one for one in findings if one.problem == problem]
        shown = "; ".join(f"{one.path}: {one.reason}" for one in group[:3])
        more = f"; and {len(group) - 3} more" if len(group) > 3 else ""
        sentences.append(f"{problem} ({len(group)}): {shown}{more}.")
    return sentences
