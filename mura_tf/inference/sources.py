"""Files, folders, zips, tables and arrays -> studies to be read, each with what is known of it."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mura_tf.data.findings import printable
from mura_tf.data.radiograph import (
    DICOM_SUFFIXES,
    PLAIN_SUFFIXES,
    BadRadiographError,
    read_content,
)
from mura_tf.data.store import FileKey
from mura_tf.data.text import beside, is_csv, read_cells, read_text
from mura_tf.files import is_refusal

if TYPE_CHECKING:
    from mura_tf.data.dicom import Header

ZIP_BYTES = 4 * 2**30
"""What a zip may hold, unpacked."""
ZIP_FILES = 100_000
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How an entry may be packed: of others zipfile unpacks whole blocks, whatever size it says."""
MOST_VIEWS = 100
"""Of a study. A folder of more images is no visit of a patient, and would be held as one."""
IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, *DICOM_SUFFIXES)
"""What is taken for a radiograph in a folder, besides images without a suffix and DICOM under any,
such as CR.1.2.840.113704; a file that is named is read whatever its name."""
WRITTEN = ("findings.csv", "views.csv", "index.html")
WRITTEN_FOLDERS = ("studies", "dicom")
"""What `mura-tf predict` leaves in its `--out`: pictures of studies, which are no radiographs."""
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff")


@dataclass(slots=True)
class Study:
    """The views of one visit, before anything is read of them.

    Attributes:
        name: of its folder or file, or its StudyInstanceUID.
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
    `study`, each row is a study.

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
        ValueError: a folder, zip or CSV without a radiograph, a CSV without paths, a zip that is
            damaged or too large, or a study of more than `MOST_VIEWS` views.
    """
    known = {name.lower() for name in study_types}
    studies: dict[object, Study] = {}
    zips: set[Path] = set()
    for number, source in enumerate(sources):
        if isinstance(source, np.ndarray):
            name = f"array {number}"
            studies[number] = Study(name, [source], [name])
            continue
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(
                f"there is no file or folder '{path}'. Expected PNG, JPEG or DICOM files, "
                "folders or zips of them, or a views CSV."
            )
        if path.is_dir():
            here = Path(os.path.abspath(path))
            added = _add_folder(studies, path, here.name, here.parts, known, each_file, but=out)
            _require_any(added, path)
        elif is_csv(path):
            _require_any(_add_table(studies, path, each_file), path)
        elif _starts_with(path, b"PK\x03\x04"):
            folder, stem = _unpacked_once(path, unpacked), path.stem
            if folder in zips:  # this very file, named twice
                continue
            zips.add(folder)
            added = _add_folder(studies, folder, stem, (stem,), known, each_file, zipped=True)
            _require_any(added, path)
        else:
            told = path.name, str(path)
            _add_file(studies, path, path.name, (str(path),), "", told, each_file)
    return _visits(studies)


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
    known = {name.lower() for name in study_types}
    studies: dict[object, Study] = {}
    named = [(_parts(name), name, path) for name, path in uploads]
    names = {tuple(parts) for parts, *_ in named}
    for (*folders, file), name, path in named:
        if _starts_with(path, b"PK\x03\x04"):
            folder = path.with_name(f"{path.name}-unpacked")
            folder.mkdir()
            _unpack(path, folder, told=file)
            stem = file.removesuffix(".zip")
            _add_folder(studies, folder, stem, (stem,), known, each_file, zipped=True)
            continue
        if folders and (
            any(part.startswith(".") for part in [*folders, file])
            or _are_results(folders, names)
            or not _is_radiograph(path, file)
        ):
            continue
        alone = each_file or not folders
        key = (name, str(path)) if alone else ("/".join(folders), "")
        shown = "/".join([*folders, file]) if alone else "/".join(folders)
        study_type = _named_type(folders, known)
        _add_file(studies, path, shown, key, study_type, (file, file), each_file)
    _require_any(len(studies), Path("the upload"))
    return _visits(studies)


def _are_results(folders: Sequence[str], names: set[tuple[str, ...]]) -> bool:
    """Whether an earlier call has written what is in such folders, by the names beside them."""
    return any(
        folder in WRITTEN_FOLDERS and all((*folders[:depth], one) in names for one in WRITTEN)
        for depth, folder in enumerate(folders)
    )


def _parts(name: str) -> list[str]:
    """The folders of an uploaded file, and its own name."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return parts or ["file"]


def _visits(studies: dict[object, Study]) -> list[Study]:
    """The studies once all views are known, none of them larger than a visit of a patient.

    Both sides of a visit have its side in their names; what says none is of the only other.
    """
    sides: dict[object, list[str]] = {}
    keys = [key for key in studies if isinstance(key, tuple)]
    for *visit, side in keys:
        sides.setdefault(tuple(visit), []).append(side)
    for *visit, side in keys:
        others = [one for one in sides[tuple(visit)] if one]
        if not side and len(others) == 1:
            study, other = studies.pop((*visit, "")), studies[(*visit, *others)]
            other.views += study.views
            other.files += study.files
            other.warnings += [one for one in study.warnings if one not in other.warnings]
        elif side and len(others) > 1:
            studies[(*visit, side)].name += f" {side}"
    for study in studies.values():
        _require_visit(study)
    return list(studies.values())


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


def _add_folder(
    studies: dict[object, Study],
    folder: Path,
    name: str,
    above: Sequence[str],
    known: set[str],
    each_file: bool,
    *,
    zipped: bool = False,
    but: Path | None = None,
) -> int:
    """Adds a folder's images, and returns how many.

    Args:
        name: what it is called.
        above: folders that may name the study type.
        but: a folder that is passed over.
    """
    added = 0
    root = folder.resolve()
    over = {folder: {root, but and but.resolve()}}  # what a link may not lead back to
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        above_it, names = over.pop(Path(parent)), sorted(folders)
        folders.clear()
        if set(WRITTEN) <= set(files):  # what an earlier call has found
            names = [one for one in names if one not in WRITTEN_FOLDERS]
        for one in names:
            below = Path(parent, one)
            if one.startswith(".") or (real := below.resolve()) in above_it:
                continue
            if not (below.is_symlink() and root in real.parents):  # which is walked anyway
                folders.append(one)
                over[below] = above_it | {real}
        inside = Path(parent).relative_to(folder)
        shown = "/".join([name, *inside.parts])
        study_type = _named_type([*above, *inside.parts], known)
        for file in sorted(files):
            path = Path(parent, file)
            if file.startswith(".") or not _is_radiograph(path, file):
                continue
            key = (str(path),) if each_file else (parent,)
            called = f"{shown}/{file}" if each_file else shown
            told = file, f"{shown}/{file}" if zipped else str(path)
            _add_file(studies, path, called, key, study_type, told, each_file)
            added += 1
    return added


def _raise(error: OSError) -> None:
    raise error


def _add_file(
    studies: dict[object, Study],
    path: Path,
    name: str,
    key: tuple[str, ...],
    study_type: str,
    told: tuple[str, str],
    as_keyed: bool,
    *,
    as_typed: bool = False,
) -> None:
    """Adds a view to the study of that key, or of what its DICOM header says.

    Views of another body part or side are of another study, however they are called.

    Args:
        told: what the file is called among those of its folder, and among those of a header's
            study, wherever they lie.
        as_keyed: whether `key` holds whatever the header says.
        as_typed: whether `study_type`, if there is one, does, and the side says nothing.
    """
    type_from, side, warnings = "given" if study_type else "", "", []
    called, anywhere = told
    header = _header(path) if _is_dicom(path) else None
    if header is not None:
        if header.study and not as_keyed:
            key, name, called = (header.study,), header.study, anywhere
        if header.study_type and not (as_typed and study_type):
            study_type, type_from = header.study_type, "dicom"
        if header.burned_in:
            warnings.append("the header says that text is burned into the pixels")
        side = "" if as_typed else header.laterality
    study = studies.setdefault(
        (*key, study_type, side), Study(printable(name), study_type=study_type, type_from=type_from)
    )
    study.views.append(path)
    study.files.append(printable(called))
    study.warnings += [one for one in warnings if one not in study.warnings]


def _add_table(studies: dict[object, Study], path: Path, each_file: bool) -> int:
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
    alone = each_file or "study" not in table
    for row in table.to_dict("records"):
        view = Path(beside(path.parent, row["path"]))
        key = (str(view),) if alone else tuple(row[name] for name in keys)
        study_type, told = row.get("study_type", "").lower(), (row["path"], row["path"])
        keyed = (str(path), *key)
        _add_file(studies, view, "/".join(key), keyed, study_type, told, True, as_typed=True)
    return len(table)


def _named_type(parts: Iterable[str], known: set[str]) -> str:
    """The study type that the innermost folder of such a name gives."""
    for part in reversed(list(parts)):
        name = part.lower().removeprefix("xr_")
        if name in known or part.upper().startswith("XR_"):
            return name
    return ""


def _unpacked_once(path: Path, unpacked: Path) -> Path:
    """The folder below `unpacked` that holds this very zip."""
    mark = hashlib.blake2b(repr(FileKey.of(path)).encode(), digest_size=8).hexdigest()
    folder = unpacked / mark
    if not folder.is_dir():
        unpacked.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked) as aside:
            _unpack(path, Path(aside, mark))
            os.replace(Path(aside, mark), folder)
    return folder


def _unpack(path: Path, folder: Path, told: str = "") -> None:
    told = told or str(path)
    with _zip_errors_explained(told), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if any(entry.compress_type not in _BOUNDED for entry in entries):
        raise ValueError(
            f"a zip's files must be stored or deflated: others can grow without bound. Received: "
            f"{told}, packed otherwise. Pack it again, or unpack it and give the folder."
        )
    if len(entries) > ZIP_FILES or size > ZIP_BYTES:
        raise ValueError(
            f"a zip may hold {ZIP_FILES:,} files and {ZIP_BYTES / 2**30:g} GiB. Received: "
            f"{told} with {len(entries):,} files and {size / 2**30:.1f} GiB. Unpack it and "
            "give the folder."
        )
    with _zip_errors_explained(told), zipfile.ZipFile(path) as archive:
        archive.extractall(folder)  # which keeps every entry inside


@contextmanager
def _zip_errors_explained(told: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zipfile and zlib raise whatever they meet
        if is_refusal(error):
            raise
        raise ValueError(f"{told} must be a whole zip without a password: {error}.") from None


def _header(path: Path) -> "Header | None":
    from mura_tf.data.dicom import dicom_header

    try:
        return dicom_header(read_content(path), path)
    except BadRadiographError:  # which reading it says again
        return None


def _is_radiograph(path: Path, name: str) -> bool:
    """Whether a file that is called so in its folder is taken for one; see `IMAGE_SUFFIXES`."""
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES or _is_dicom(path):
        return True
    return not suffix and any(_starts_with(path, one) for one in _SIGNATURES)


def _is_dicom(path: Path) -> bool:
    return _starts_with(path, b"DICM", 128)


def _starts_with(path: Path, signature: bytes, offset: int = 0) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(len(signature)) == signature
    except OSError:
        return False
