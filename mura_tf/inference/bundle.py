"""A trained ensemble that reads new radiographs: from a `.mura` file, or from its run folders."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mura_tf.cores import threads
from mura_tf.data.class_folders import ANY_BONE
from mura_tf.data.colour import coloured_share
from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_noted,
    padded_box,
    read_content,
    resize_with_pad,
)
from mura_tf.data.tasks import ABNORMAL, abnormality_of
from mura_tf.evaluation.operating_points import Calibration, OperatingPoint
from mura_tf.explain.maps import enlarged
from mura_tf.inference.archive import hash_of, keras_file, open_member
from mura_tf.inference.bundle_facts import read_facts
from mura_tf.inference.findings import (
    COLOURED,
    DISAGREEMENT,
    FINDING_COLUMNS,
    VIEW_COLUMNS,
    Finding,
    FindingsTable,
    View,
    as_table,
    picture_warnings,
)
from mura_tf.inference.members import Member, read_all
from mura_tf.inference.sources import Source, Study, find_studies

BATCH = 32
"""Views that are decoded and held at a time."""


class Bundle:
    """A trained ensemble with all that reading a file needs.

    Args:
        source: a `.mura` file of `pack`, or the run folders of finished runs.

    Attributes:
        facts: of `bundle.json`.
        study_types: those that it reads.
        points: name -> `OperatingPoint`.
        path: of the `.mura` file; None where run folders were given.
        source: what was given, as absolute paths, from which it is opened again.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no bundle, a damaged one or one of a later format.

    Examples:
        >>> bundle = mt.Bundle("demo/small_cnn/type/wrist")
        >>> study = mt.load_mura("demo/MURA-v1.1").query("study_type == 'wrist'").path[-1:]
        >>> found = bundle.read(study)
        >>> len(found), len(found.attrs["views"]), found.study_type[0]
        (1, 1, 'wrist')
    """

    def __init__(self, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]):
        sources = [source] if isinstance(source, str | os.PathLike) else source
        self.source = tuple(os.path.abspath(one) for one in sources)
        self.path: Path | None = None
        if len(sources) == 1 and not Path(sources[0]).is_dir():
            self.path = Path(sources[0])
            self.facts = read_facts(self.path)
        else:
            from mura_tf.inference.pack import facts_of_runs

            self.facts = facts_of_runs(sources)
        self.study_types: tuple[str, ...] = tuple(self.facts["study_types"])
        self.points = {
            row["point"]: OperatingPoint(row["point"], row["low"], row["high"])
            for row in self.facts["operating_points"]
        }

    def __repr__(self) -> str:
        facts = self.facts
        return (
            f"<Bundle {facts['name']} {facts['version']}: {len(facts['members'])} "
            f"{facts['backbone']}, {', '.join(self.study_types)}>"
        )

    def read(
        self,
        sources: Source | Iterable[Source],
        *,
        study_type: str | None = None,
        each_file: bool = False,
        point: str | None = None,
    ) -> pd.DataFrame:
        """Reads files, folders, zips, a views CSV or arrays.

        Args:
            sources: paths, or uint8 (height, width) arrays, each a study; see `find_studies`.
            study_type: of all of them, whatever folders and headers say.
            each_file: whether each image of a folder is a study of its own.
            point: the operating point that decides, of `points`; by default "doubt" where the
                bundle has one, else "paper".

        Returns:
            Findings table, a row per study: `study, study_type, type_from` (given, dicom,
            recognised or empty), `views, probability` (float in [0, 1], NaN where it was not
            read), `calibrated, decision` (normal, doubtful, abnormal, not read), `disagreement`
            (standard deviation over the members), `warnings, files`. `attrs["views"]` is the
            table of the views: `study, file, view, probability, warnings, heatmap`.

        Raises:
            FileNotFoundError, ValueError: see `find_studies`; an unknown study type or point.
        """
        if isinstance(sources, str | os.PathLike | np.ndarray):
            sources = [sources]
        rows, views = [], []
        for finding in self.findings(
            sources, study_type=study_type, each_file=each_file, point=point
        ):
            rows.append(finding.row)
            views += finding.view_rows
        table = FindingsTable(as_table(rows, FINDING_COLUMNS))
        table.attrs["views"] = as_table(views, VIEW_COLUMNS)
        return table

    def findings(
        self,
        sources: Iterable[Source],
        *,
        study_type: str | None = None,
        each_file: bool = False,
        point: str | None = None,
    ) -> Iterator[Finding]:
        """The findings of `read` one by one, with radiographs and heatmaps.

        However many there are, no more than a few batches of views are held.
        """
        with tempfile.TemporaryDirectory() as unpacked:
            studies = find_studies(
                sources, self.study_types, unpacked=Path(unpacked), each_file=each_file
            )
            yield from self.findings_of(studies, study_type=study_type, point=point)

    def findings_of(
        self, studies: Iterable[Study], *, study_type: str | None = None, point: str | None = None
    ) -> Iterator[Finding]:
        """The findings of studies that are found already; see `findings`."""
        if study_type is not None:
            self.require_type(study_type)
        decide = self.point(point).decide
        for group in groups(studies):
            yield from self._read_group(group, study_type, decide)

    def open(self) -> None:
        """Loads the members, which the first reading would do otherwise."""
        _ = self._members, self.facts.get("recogniser") and self._recogniser

    def models(self, aside: Path) -> Iterator[tuple[str, Path, str]]:
        """Name, `.keras` file and preprocessing of each member, and of the recogniser.

        Args:
            aside: a folder, for files that lie in the bundle.
        """
        recogniser = self.facts.get("recogniser")
        entries = [(member, self.facts) for member in self.facts["members"]]
        entries += [(recogniser, recogniser)] if recogniser else []
        for number, (entry, inputs) in enumerate(entries):
            name = "recogniser" if entry is recogniser else f"member{number}"
            yield name, keras_file(self.path, entry, aside), inputs["preprocessing"]

    def _read_group(
        self, studies: list[Study], study_type: str | None, decide: Callable[[float], str]
    ) -> list[Finding]:
        findings = [self._begun(study, study_type) for study in studies]
        views = [view for finding in findings for view in finding.views]
        with ThreadPoolExecutor(threads()) as pool:
            list(pool.map(partial(_decode, inputs=self.facts["inputs"]), views))
        for finding in findings:
            if any(view.radiograph is not None for view in finding.views):
                self._recognise(finding)
        by_type: dict[str, list[View]] = {}
        for finding in findings:
            if reason := self._refusal(finding):
                finding.warnings.append(reason)
                continue
            views = [view for view in finding.views if view.radiograph is not None]
            by_type.setdefault(finding.study_type, []).extend(views)
        said: dict[int, np.ndarray] = {}
        for name, views in by_type.items():
            for view, one in zip(views, self._read_views(name, views), strict=True):
                if np.isfinite(one).all() and (one[1] > 0).all():  # its weights, too
                    said[id(view)] = one
                else:
                    view.heat = None
                    view.warnings.append("the model says nothing of it: its output is no number")
        for finding in findings:
            self._conclude(finding, said, decide)
            finding.warnings += [
                f"{one.file}: {text}" for one in finding.views for text in one.warnings
            ]
        return findings

    def _begun(self, study: Study, study_type: str | None) -> Finding:
        said, said_by = study.study_type, study.type_from  # in small letters
        if self.study_types == (ANY_BONE,):  # whichever it is said to be
            said, said_by = ANY_BONE, ""
        as_packed = {name.lower(): name for name in self.study_types}.get(said, said)
        return Finding(
            study=study.name,
            study_type=as_packed if study_type is None else study_type,
            type_from=said_by if study_type is None else "given",
            warnings=list(study.warnings),
            views=[View(*pair) for pair in zip(study.files, study.views, strict=True)],
        )

    def _recognise(self, finding: Finding) -> None:
        """Says the study type where nobody did, as far as the bundle can."""
        if finding.study_type:
            return
        recogniser = self.facts.get("recogniser")
        if recogniser is None:
            if len(self.study_types) == 1 and not self._one_for_all:
                finding.study_type = self.study_types[0]
                finding.warnings.append(
                    f"unknown study type: read as {finding.study_type}, the only one of the bundle"
                )
            return
        squares = [
            resize_with_pad(
                view.radiograph, recogniser["image_size"], recogniser.get("resize", "bilinear")
            )
            for view in finding.views
            if view.radiograph is not None
        ]
        mirrored = recogniser.get("mirrored", False)
        outputs = read_all(self._recogniser, np.stack(squares), mirrored=mirrored).outputs
        said = outputs[np.isfinite(outputs).all(axis=1)]
        if len(said):
            finding.study_type = recogniser["classes"][int(said.mean(axis=0).argmax())]
            finding.type_from = "recognised"

    def _refusal(self, finding: Finding) -> str:
        """Why a study is not read; "" where it is."""
        if all(view.radiograph is None for view in finding.views):
            return "none of its files can be read"
        known = ", ".join(self.study_types)
        if not finding.study_type:
            if self._one_for_all:
                finding.warnings.append("unknown study type: read by the model of all types")
                return ""
            mend = "" if self.facts.get("recogniser") else ", or pack the bundle with a recogniser"
            return f"its study type is unknown; expected one of {known}. Give it (--type){mend}"
        if finding.study_type not in self.study_types:
            said = {"dicom": "its DICOM header says", "recognised": "it is recognised as"}.get(
                finding.type_from, "it is said to be"
            )
            return (
                f"{said} {finding.study_type}; the bundle reads {known}. If that is wrong, give "
                "the study type (--type)"
            )
        return ""

    def _read_views(self, study_type: str, views: list[View]) -> np.ndarray:
        """Sets each view's heatmap.

        Returns:
            float (n_views, 2, members): the probability of abnormality, and how much the view
            counts in its study.
        """
        side, recipe = self.facts["image_size"], self.facts["recipe"]
        resize, mirrored = recipe.get("resize", "bilinear"), recipe.get("mirrored", False)
        radiographs = [view.radiograph for view in views if view.radiograph is not None]
        squares = np.stack([resize_with_pad(one, side, resize) for one in radiographs])
        frames = np.array([padded_box(one.shape[0], one.shape[1], side) for one in radiographs])
        classes = self.facts["classes"]
        said, heat, mapped = [], np.zeros(squares.shape, np.float32), 0
        for member in self.members_for(study_type):
            reading = read_all(member, squares, mirrored=mirrored)
            probabilities = abnormality_of(reading.outputs, classes)
            weights = np.ones_like(probabilities) if reading.weights is None else reading.weights
            said.append(np.stack([probabilities, weights], axis=1))
            if reading.maps is not None:
                shown = [True]
                if classes and reading.maps.shape[-1] == len(classes):
                    named = [name == ABNORMAL + study_type for name in classes]
                    abnormal = [name.startswith(ABNORMAL) for name in classes]
                    shown = named if any(named) else abnormal  # of an unknown study type
                heat += enlarged(reading.maps[..., shown].sum(axis=-1), frames, side)
                mapped += 1
        for view, one in zip(views, heat, strict=True):
            view.heat = one / mapped if mapped else None
        return np.stack(said, axis=-1).astype(float)

    def _conclude(
        self, finding: Finding, said: Mapping[int, np.ndarray], decide: Callable[[float], str]
    ) -> None:
        """The study's probability, calibration, decision and the warnings that need them."""
        read = [view for view in finding.views if id(view) in said]
        if not read:
            return
        of_views, weights = np.stack([said[id(view)] for view in read], axis=1)
        for view, probabilities in zip(read, of_views, strict=True):
            view.probability = float(probabilities.mean())
        of_members = np.average(of_views, axis=0, weights=weights)
        finding.probability = float(of_members.mean())
        finding.calibrated = self._calibrated(finding.probability)
        finding.disagreement = float(of_members.std())
        finding.decision = decide(finding.probability)
        if count := finding.unreadable:
            finding.warnings.append(f"{count} of its {len(finding.views)} files cannot be read")
        if finding.disagreement > DISAGREEMENT:
            finding.warnings.append(f"the members disagree (deviation {finding.disagreement:.2f})")
        usual = self.facts["views_per_study"].get(finding.study_type, 1)
        if len(read) == 1 and usual >= 2:
            finding.warnings.append(
                f"a single view; the studies of {finding.study_type} it was tried on had {usual:g}"
            )

    def _calibrated(self, probability: float) -> float:
        calibration = self.facts.get("calibration")
        if not calibration:
            return np.nan
        return Calibration(calibration["slope"], calibration["intercept"])(probability)

    def point(self, point: str | None = None) -> OperatingPoint:
        """The operating point of that name; without one, the bundle's own choice, see `read`."""
        point = point or ("doubt" if "doubt" in self.points else "paper")
        if point not in self.points:
            raise ValueError(
                f"an operating point must be one of {', '.join(self.points)}. Received: {point!r}."
            )
        return self.points[point]

    def require_type(self, study_type: str) -> None:
        """ValueError where the bundle does not read it."""
        if study_type not in self.study_types:
            raise ValueError(
                f"the study type must be one that the bundle reads, {', '.join(self.study_types)}. "
                f"Received: {study_type!r}."
            )

    def members_for(self, study_type: str) -> list[Member]:
        """What reads studies of that type."""
        return [
            member
            for facts, member in zip(self.facts["members"], self._members, strict=True)
            if facts["study_types"] is None or study_type in facts["study_types"]
        ]

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the bytes of the file, or of the runs' models."""
        if self.path is None:
            return hash_of(Path(member["file"]) for member in self.facts["members"])
        return hash_of([self.path])

    @property
    def _one_for_all(self) -> bool:
        """Whether a model of all study types reads."""
        return any(member["study_types"] is None for member in self.facts["members"])

    @cached_property
    def _members(self) -> list[Member]:
        return [open_member(self.path, one, self.facts) for one in self.facts["members"]]

    @cached_property
    def _recogniser(self) -> Member:
        recogniser = self.facts["recogniser"]
        return open_member(self.path, recogniser, recogniser)


def groups(studies: Iterable[Study], views: int = BATCH) -> Iterator[list[Study]]:
    """Whole studies, about so many views at a time."""
    group: list[Study] = []
    for study in studies:
        group.append(study)
        if sum(len(one.views) for one in group) >= views:
            yield group
            group = []
    if group:
        yield group


def _decode(view: View, inputs: Mapping[str, Any] | None) -> None:
    """Sets a view's radiograph and warnings."""
    source = view.source
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype != np.uint8 or not source.size:
            raise ValueError(
                "an array must be a grey image, uint8 (height, width). Received: "
                f"{source.dtype} {source.shape}."
            )
        view.radiograph = source
    else:
        try:
            content = read_content(source)
            view.radiograph, note = decode_noted(content, source)
        except BadRadiographError as error:
            view.warnings.append(error.reason)
            return
        view.warnings += [note] if note else []
        if (share := coloured_share(content)) > COLOURED:
            view.warnings.append(f"coloured marks are burnt into the picture, {share:.2%} of it")
    view.warnings += picture_warnings(view.radiograph, inputs)
