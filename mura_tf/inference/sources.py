"""Files, folders, zips, tables and arrays -> studies to be read, each with what is known of it."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mura_tf.data.findings import printable
from mura_tf.data.radiograph import BadRadiographError
from mura_tf.data.text import beside, is_csv, read_cells, read_text
from mura_tf.files import whole_path
from mura_tf.inference.walk import holds_dicom, is_passed_over, radiographs, starts_with
from mura_tf.inference.zips import SIGNATURE, unpack, unpacked_once

if TYPE_CHECKING:
    from mura_tf.data.dicom import Header

MOST_VIEWS = 100
"""Of a study. A folder of more images is no visit of a patient, and would be held as one."""


@dataclass(slots=True)
class Study:
    """The views of one visit, before anything is read of them.

    Attributes:
        name: of its folder or file, or its StudyInstanceUID; another one than any other study's.
        views: paths, or uint8 (height, width) arrays.
        files: what each view is called.
        study_type: where a folder, a table or a DICOM header gives it, else "".
        type_from: "given" or "dicom", with a study type.
        warnings: of its headers.
    """

    name: str
    views: list[Path | np.ndarray] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    study_type: str = ""
    type_from: str = ""
    warnings: list[str] = field(default_factory=list)

    def take(self, other: "Study") -> None:
        """Adds another's views."""
        self.views += other.views
        self.files += other.files
        self.warnings += [one for one in other.warnings if one not in self.warnings]


Source = str | os.PathLike[str] | np.ndarray


def find_studies(
    sources: Iterable[Source],
    study_types: Iterable[str],
    *,
    unpacked: Path,
    each_file: bool = False,
    out: Path | None = None,
) -> list[Study]:
    """The studies of what a person gives, in its order; no pixels are read.

    A file is a study of its own, a folder's images are one study, and so are DICOM files of one
    StudyInstanceUID, body part and side wherever they lie. A zip is the folder that it holds. A CSV
    is written as for `read_views`, but of its columns `path` alone is needed; without a column
    `study`, or with nothing in it, each row is a study. A file that is given twice, as itself or in
    its folder, is read once, and so is DICOM that lies in several; no two studies have one name.

    Args:
        sources: paths, or uint8 (height, width) arrays, each a study.
        study_types: those that a folder may be named after, such as XR_WRIST or wrist.
        unpacked: a folder where zips are unpacked, and found again by the next call; their views
            are read from there.
        each_file: whether each file is a study of its own, whatever its folder, table or header.
        out: a folder that is passed over, because results lie there.

    Raises:
        FileNotFoundError: a path where nothing is.
        OSError: a folder that cannot be listed.
        ValueError: a folder, zip or CSV without a radiograph, a CSV without paths, a
            zip that is damaged or too large, or a study of more than `MOST_VIEWS` views.
    """
    found = _Found(study_types, each_file)
    sources = list(sources)
    names = _told_apart(Path(one) for one in sources if not isinstance(one, np.ndarray))
    for number, source in enumerate(sources):
        if isinstance(source, np.ndarray):
            found.add_array(number, source)
            continue
        path = Path(source)
        whole = whole_path(path)
        here, name = Path(whole), names[whole]
        if not path.exists():
            raise FileNotFoundError(
                f"there is no file or folder '{path}'. Expected PNG, JPEG or DICOM files, "
                "folders or zips of them, or a views CSV."
            )
        if path.is_dir():
            _require_any(found.add_folder(path, name, here.parts, but=out), path)
        elif is_csv(path):
            _require_any(found.add_table(path), path)
        elif starts_with(path, SIGNATURE):
            folder, stem = unpacked_once(path, unpacked), name.removesuffix(path.suffix)
            above = (*here.parent.parts, path.stem)
            _require_any(found.add_folder(folder, stem, above, zipped=True), path)
        else:
            found.add_file(path, name, None, here.parent.parts, (path.name, str(path)))
    return found.visits()


def require_apart(sources: Iterable[Source], out: Path) -> None:
    """ValueError where what is found would be written into a folder of what is read."""
    out = out.resolve()
    for source in sources:
        if isinstance(source, np.ndarray):
            continue
        is_folder = os.path.isdir(source)
        folder = (Path(source) if is_folder else Path(source).parent).resolve()
        inside = is_folder and folder in out.parents and out.is_dir()
        if folder == out or (inside and any(files for _, files in radiographs(out))):
            raise ValueError(
                f"what is found must lie beside no originals. Received: {out} for the results, and "
                f"{source} to be read. Give another folder for the results (--out)."
            )


def studies_of_uploads(
    uploads: Iterable[tuple[str, Path]], study_types: Iterable[str], *, each_file: bool = False
) -> list[Study]:
    """The studies among uploaded files, whose names are told and never opened.

    Args:
        uploads: (name, path): what the file was called, with its folders if it had any, and where
            its bytes are now; a zip is unpacked beside it. Of a folder's files, what is no
            radiograph is passed over, as in `find_studies`.
        study_types, each_file: see `find_studies`.

    Raises:
        ValueError: no radiograph, or see `find_studies`.
    """
    found = _Found(study_types, each_file)
    named = [(_parts(name), path) for name, path in uploads]
    names = {tuple(parts) for parts, _ in named}
    held = 0, 0
    for (*folders, file), path in named:
        if not folders and starts_with(path, SIGNATURE):
            folder = path.with_name(f"{path.name}-unpacked")
            folder.mkdir()
            held = unpack(path, folder, file, held)
            stem = Path(file).stem
            _require_any(found.add_folder(folder, stem, (stem,), zipped=True), Path(file))
            continue
        if folders and is_passed_over([*folders, file], path, names):
            continue
        alone = each_file or not folders
        key = None if alone else ("/".join(folders), "")
        shown = "/".join([*folders, file]) if alone else "/".join(folders)
        found.add_file(path, shown, key, folders, (file, file))
    studies = found.visits()
    _require_any(len(studies), Path("the upload"))
    return studies


class _Key(NamedTuple):
    """What the views of one study have in common.

    Attributes:
        visit: what tells visits apart, such as a folder or a StudyInstanceUID.
        study_type, side: "" where nothing says it.
    """

    visit: tuple[object, ...]
    study_type: str
    side: str


class _Found:
    """Studies as their views are found."""

    def __init__(self, study_types: Iterable[str], each_file: bool):
        self._known = {name.lower() for name in study_types}
        self._each_file = each_file
        self._studies: dict[_Key, Study] = {}
        self._taken: set[object] = set()
        self._instances: dict[tuple[str, str], list[Path]] = {}

    def add_array(self, number: int, pixels: np.ndarray) -> None:
        """Adds a study of one view, uint8 (height, width)."""
        name = f"array {number}"
        self._studies[_Key((number,), "", "")] = Study(name, [pixels], [name])

    def add_folder(
        self,
        folder: Path,
        name: str,
        above: Sequence[str],
        *,
        zipped: bool = False,
        but: Path | None = None,
    ) -> int:
        """Adds a folder's images, and returns how many there are.

        Args:
            name: what it is called.
            above: folders that may name the study type.
            but: a folder that is passed over.
        """
        count = 0
        for parent, files in radiographs(folder, but):
            inside = parent.relative_to(folder).parts
            shown = "/".join([name, *inside])
            key = None if self._each_file else (whole_path(parent),)
            for file in files:
                path = parent / file
                whole = f"{shown}/{file}"
                called = whole if self._each_file else shown
                told = file, whole if zipped else str(path)
                self.add_file(path, called, key, [*above, *inside], told)
                count += 1
        return count

    def add_file(
        self,
        path: Path,
        name: str,
        key: tuple[object, ...] | None,
        folders: Sequence[str],
        told: tuple[str, str],
    ) -> None:
        """Adds a view to the study of that key, or of the one that its DICOM header says, unless it
        is there.

        Args:
            name: of the study.
            key: see `_Key.visit`; None where the file is a study of its own.
            folders: that may name the study type.
            told: what the file is called among those of its folder, and among those of a header's
                study, wherever they lie.
        """
        whole = whole_path(path)
        if self._is_new(whole):
            study_type = _named_type(folders, self._known)
            self._add(path, name, key or (whole,), study_type, told, as_keyed=self._each_file)

    def add_table(self, path: Path) -> int:
        """Adds the rows of a views CSV, and returns how many; what it says goes before headers."""
        try:
            table = read_cells(read_text(path))
        except ValueError as error:
            raise ValueError(f"{path} must be a views CSV. Received: {error}.") from None
        if "path" not in table:
            raise ValueError(
                f"{path} must be a views CSV with a column path. Received: {', '.join(table)}."
            )
        keys = [name for name in ("split", "study_type", "patient", "study") if name in table]
        alone = self._each_file or "study" not in table
        for row in table.to_dict("records"):
            view = Path(beside(path.parent, row["path"]))
            named = not alone and row["study"].strip()
            key = tuple(row[name] for name in keys) if named else (str(view),)
            study_type, told = row.get("study_type", "").lower(), (row["path"], row["path"])
            name, key = "/".join(key), (whole_path(path), *key)
            if self._is_new((key, whole_path(view))):
                self._add(view, name, key, study_type, told, as_keyed=True, as_typed=True)
        return len(table)

    def _is_new(self, what: object) -> bool:
        """Whether a file, or a row of a table, is met for the first time."""
        before = len(self._taken)
        self._taken.add(what)
        return len(self._taken) > before

    def _add(
        self,
        path: Path,
        name: str,
        key: tuple[object, ...],
        study_type: str,
        told: tuple[str, str],
        *,
        as_keyed: bool,
        as_typed: bool = False,
    ) -> None:
        """`add_file` where the folder has said its study type.

        Args:
            as_keyed: whether `key` holds whatever the header says.
            as_typed: whether `study_type`, if there is one, does, and the side says nothing.
        """
        type_from, side, warnings = "given" if study_type else "", "", []
        called, anywhere = told
        is_dicom = holds_dicom(path)
        header = _header(path) if is_dicom else None
        if is_dicom and header is None and key != (whole_path(path),) and not as_keyed:
            key, name = (whole_path(path),), f"{name}/{called}"  # a slice of a CT, say
        if header is not None:
            if header.study and not as_keyed:
                copies = self._instances.setdefault((header.study, header.instance), [])
                if header.instance and any(cmp(one, path, shallow=False) for one in copies):
                    return  # the same file again, in another folder
                copies.append(path)
                key, name, called = ("", header.study), header.study, anywhere
            part = header.part.lower()
            said = part if part in self._known else header.study_type
            if said and not (as_typed and study_type):
                study_type, type_from = said, "dicom"
            if header.burned_in:
                warnings.append("the header says that text is burned into the pixels")
            side = "" if as_typed else header.laterality
        study_type = printable(study_type)
        study = Study(printable(name), [path], [printable(called)], study_type, type_from, warnings)
        self._put(_Key(key, study_type, side), study)

    def visits(self) -> list[Study]:
        """The studies once all views are known, none of them larger than a visit of a patient."""
        self._join("study_type")
        self._join("side")
        types = Counter(key for key, _ in {one[:2] for one in self._studies})
        sides = Counter(one[:2] for one in self._studies)
        times: Counter[str] = Counter()
        given: set[str] = set()
        for (key, study_type, side), study in self._studies.items():
            if study_type and types[key] > 1:
                study.name += f" {study_type}"
            if side and sides[key, study_type] > 1:
                study.name += f" {side}"
            name = study.name
            while study.name in given:
                times[name] += 1
                study.name = f"{name} ({times[name] + 1})"
            given.add(study.name)
            _require_visit(study)
        return list(self._studies.values())

    def _join(self, field: str) -> None:
        """Gives studies that do not say their study type, or side, the only one that others of
        their visit say."""
        place = _Key._fields.index(field)
        said: dict[object, dict[str, str]] = {}
        for key, study in self._studies.items():
            if value := getattr(key, field):
                said.setdefault(key[:place], {})[value] = study.type_from
        found, self._studies = self._studies, {}
        for key, study in found.items():
            others = said.get(key[:place], {})
            if not getattr(key, field) and len(others) == 1:
                ((other, type_from),) = others.items()
                if field == "side":
                    key = key._replace(side=other)
                else:
                    key = key._replace(study_type=other)
                    study.study_type, study.type_from = other, type_from
            self._put(key, study)

    def _put(self, key: _Key, study: Study) -> None:
        """Adds a study, or its views to the one of that key."""
        if before := self._studies.get(key):
            before.take(study)
        else:
            self._studies[key] = study


def _told_apart(paths: Iterable[Path]) -> dict[str, str]:
    """Absolute path -> its last name, below as many folders as tell it from the others'."""
    left = {whole_path(path) for path in paths}
    names: dict[str, str] = {}
    depth = 1
    while left:
        tails = {path: Path(*Path(path).parts[-depth:]).as_posix() for path in left}
        times = Counter(tails.values())
        names |= {path: tail for path, tail in tails.items() if times[tail] == 1}
        left -= names.keys()
        depth += 1
    return names


def _parts(name: str) -> list[str]:
    """The folders of an uploaded file, and its own name."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return parts or ["file"]


def _require_visit(study: Study) -> None:
    if len(study.views) > MOST_VIEWS:
        raise ValueError(
            f"a study has {MOST_VIEWS} views at most. Received: {study.name} with "
            f"{len(study.views):,}. Read each as a study of its own (--each-file), or give a "
            "folder per study."
        )


def _require_any(views: int, path: Path) -> None:
    if not views:
        raise ValueError(
            f"there must be a radiograph in what is to be read: PNG, JPEG or DICOM. Received: "
            f"{printable(str(path))}, which holds none."
        )


def _named_type(parts: Iterable[str], known: set[str]) -> str:
    """The study type that the innermost folder of such a name gives."""
    for part in reversed(list(parts)):
        name = part.lower().removeprefix("xr_")
        if name in known or part.upper().startswith("XR_"):
            return name
    return ""


def _header(path: Path) -> "Header | None":
    from mura_tf.data.dicom import dicom_header

    try:
        with open(path, "rb") as file:
            return dicom_header(file, path)
    except (BadRadiographError, OSError):  # which reading it says again
        return None
