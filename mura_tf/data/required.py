"""What scoring requires of a views table, looked at before hours of training and not after."""

import os
from collections.abc import Iterable

import pandas as pd

from mura_tf.data.findings import Finding, few, studies_in_two_labels
from mura_tf.data.table import SPLITS, STUDY_KEY, VIEW_KEY
from mura_tf.published import OVERALL


def scoring_findings(views: pd.DataFrame) -> list[Finding]:
    """Why a views table could be trained on and not be scored.

    One row per view, one label per study, one spelling per study type, and none that is named as
    the row of all types, or as no folder can be.
    """
    return [
        *_listed_twice(views),
        *studies_in_two_labels(views),
        *spelled_twice(views["study_type"], common_folder(views["path"])),
        *_spaced_names(views, "patient"),
        *_spaced_names(views, "study"),
        *_reserved_name(views),
    ]


def patients_in_two_splits(views: pd.DataFrame) -> list[Finding]:
    """Patients that are trained on and selected on or reported, which flatters what is said."""
    n_splits = views.groupby("patient")["split"].transform("nunique")
    findings = []
    for patient, group in views[n_splits > 1].groupby("patient"):
        counts = group["split"].value_counts(sort=False)
        found = " and ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
        reason = f"{patient} has views in several splits, {found}; expected one split per patient"
        last = group["path"].iloc[-1]
        mend = "Move all of a patient to one side"
        findings.append(Finding(last, "patient in two splits", f"{reason}. {mend}"))
    return findings


def types_in_one_split(views: pd.DataFrame) -> list[Finding]:
    """Study types that cannot be trained on, or cannot be scored."""
    trained = set(views.loc[views["split"] == "train", "study_type"])
    scored = set(views.loc[views["split"] != "train", "study_type"])
    if not trained or not scored:
        return []
    findings = []
    for study_type in sorted(trained ^ scored):
        group = views[views["study_type"] == study_type]
        splits = [split for split in SPLITS if split in set(group["split"])]
        lacking = "train" if study_type in scored else "valid or test"
        reason = (
            f"{study_type} has views in {' and '.join(splits)} alone; expected some in {lacking}"
        )
        mend = "Add some, or leave the type out"
        where = common_folder(group["path"])
        findings.append(Finding(where, "type in one split", f"{reason}. {mend}"))
    return findings


def spelled_twice(study_types: Iterable[str], where: str) -> list[Finding]:
    """Study types whose names differ in case alone, or in spaces around them."""
    spellings: dict[str, list[str]] = {}
    for name in dict.fromkeys(study_types):
        spellings.setdefault(name.strip().casefold(), []).append(name)
    return [
        Finding(
            where,
            "two spellings",
            f"a study type is spelled {' and '.join(map(repr, names))}; expected one spelling. "
            "Rename one",
        )
        for names in spellings.values()
        if len(names) > 1
    ]


def common_folder(paths: Iterable[str]) -> str:
    """The folder that all files share; "" where there is none."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    try:
        return os.path.commonpath(folders)
    except ValueError:  # no file, or on two drives
        return ""


def _listed_twice(views: pd.DataFrame) -> list[Finding]:
    findings = []
    if len(again := views[views.duplicated(VIEW_KEY)]):
        names = ["/".join(map(str, key)) for key in again[VIEW_KEY].itertuples(index=False)]
        reason = f"{few(names)}: these views are on more than one row; expected one row per view"
        mend = "Delete the repetition, or give the views names of their own"
        findings.append(Finding(again["path"].iloc[0], "listed twice", f"{reason}. {mend}"))
    if len(again := views[views.duplicated("path") & ~views.duplicated(VIEW_KEY)]):
        names = list(dict.fromkeys(again["path"]))
        reason = f"{few(names)}: these files are on more than one row; expected one view per file"
        mend = "Delete the rows that are wrong"
        findings.append(Finding(names[0], "listed twice", f"{reason}. {mend}"))
    return findings


def _spaced_names(views: pd.DataFrame, column: str) -> list[Finding]:
    """Patients, or studies of one, that a space before or behind their name would part in two."""
    key = STUDY_KEY if column == "study" else [column]
    named = views[key].drop_duplicates()
    same = named.assign(**{column: named[column].str.strip()}).duplicated(keep=False)
    return [
        Finding(
            common_folder(views["path"]),
            "two spellings",
            f"a {column} is spelled {name.strip()!r} and {name!r}; expected one spelling. Take the "
            "spaces out",
        )
        for name in sorted(set(named[column][same]))
        if name != name.strip()
    ]


def _reserved_name(views: pd.DataFrame) -> list[Finding]:
    """Study types that are called as the row of all is, or as no folder of a run can be."""
    findings = []
    for name, paths in views.groupby("study_type")["path"]:
        what = "as the row of all types" if name.strip().casefold() == OVERALL else ""
        if "/" in name or name in (".", ".."):
            what = "as no folder of runs can be"
        if what:
            reason = f"a study type is named {name!r}, {what}; expected another name"
            findings.append(Finding(common_folder(paths), "reserved name", f"{reason}. Rename it"))
    return findings
