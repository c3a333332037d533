"""Where lesions are: the boxes of a data set, and the pixels that they cover in a view's square."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from mura_tf.data.grazpedwri import annotations_of, is_grazpedwri
from mura_tf.data.layouts import find_dataset
from mura_tf.data.radiograph import read_size
from mura_tf.data.table import VIEW_KEY, unsplit_key
from mura_tf.data.text import is_csv, read_cells, read_text
from mura_tf.files import whole_path

BOX = ["x", "y", "width", "height"]
"""From the top left corner."""
BoxPixels: TypeAlias = list[tuple[slice, slice]]
"""The rows and columns of each box of one view."""
_COCO = Path("Annotations", "COCO JSON", "COCO_fracture_masks.json")
_YOLO_FRACTURE = 3
"""The class of a fracture in GRAZPEDWRI-DX' YOLO files, by the data set's own meta.yaml."""


def load_boxes(
    data: str | os.PathLike[str], views: pd.DataFrame, among: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The boxes of lesions on some views.

    Args:
        data: FracAtlas, whose boxes are in `Annotations/COCO JSON/COCO_fracture_masks.json`;
            GRAZPEDWRI-DX, whose fractures are in `pascalvoc` or `yolov5/labels`; a synthetic data
            set, whose boxes are in `lesions.csv`; or the folder above it; or a views table's CSV,
            beside a `lesions.csv` or of radiographs in or below one of these.
        views: views table; boxes of other views are left out.
        among: all views that are known, where patients may recur over splits; by default `views`.

    Returns:
        One row per box: the view's key (`split, study_type, patient, study, view`) and `x, y,
        width, height` as fractions of its width and height, from the top left.

    Raises:
        FileNotFoundError: the data set has no boxes.
        ValueError: a box lies outside its view, or is of an image of another shape.

    Examples:
        >>> boxes = mt.load_boxes("demo/MURA-v1.1", mt.load_mura("demo/MURA-v1.1"))
        >>> list(boxes)[-5:]
        ['view', 'x', 'y', 'width', 'height']
    """
    boxes = known_boxes(data, views, among)
    if boxes is None:
        raise FileNotFoundError(
            f"maps are scored against boxes, and there are none in {data}. Use a synthetic "
            "data set (mura-tf synthesize), which has a lesions.csv, FracAtlas with its "
            "Annotations, or GRAZPEDWRI-DX with its pascalvoc or yolov5."
        )
    return boxes


def known_boxes(
    data: str | os.PathLike[str], views: pd.DataFrame, among: pd.DataFrame | None = None
) -> pd.DataFrame | None:
    """`load_boxes`, or None where the data set has no boxes."""
    folder = Path(data).parent if is_csv(data) else find_dataset(data)
    if path := _boxes_in(folder):
        return _read(path, views, among)
    if not is_csv(data) or (files := _box_files_above(views)).isna().all():
        return None
    return pd.concat(_read_each(files, views, among), ignore_index=True)


def boxes_above(
    views: pd.DataFrame,
    among: pd.DataFrame | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """The boxes of some views, as `load_boxes` has them, of the data sets their files lie in.

    Args:
        views: whose boxes are asked for.
        among: see `load_boxes`.
        sizes: path -> (height, width), pixels, of the views that need not be looked at for it.

    Raises:
        FileNotFoundError: no folder above any of the files is a data set with boxes.
        ValueError: see `load_boxes`; boxes of other views alone, where some are abnormal.
    """
    files = _box_files_above(views)
    if files.isna().all():
        raise FileNotFoundError(
            "a map that is trained on boxes needs a data set that has them: a synthetic one with "
            "lesions.csv, FracAtlas with its Annotations, or GRAZPEDWRI-DX with its pascalvoc or "
            f"yolov5, in a folder above its radiographs. Received: {_folder_of(views.path.iloc[0])}"
            ", with none of them there or in any folder above it. Put the boxes there, or give the "
            "map the weight 0, as in 'map:16:0'."
        )
    tables = _read_each(files, views, among, sizes)
    for path, table in zip(files.dropna().unique(), tables, strict=True):
        below = views[(files == path) & (views.label == 1)]
        if table.empty and len(below):
            raise ValueError(
                f"{path} must name views below it, as the views table does. Received: none of "
                f"{len(below)} that are abnormal, the first: "
                f"{', '.join(f'{name}={below[name].iloc[0]}' for name in VIEW_KEY)}. Name them as "
                "it does, or give the map the weight 0, as in 'map:16:0'."
            )
    return pd.concat(tables, ignore_index=True)


def _boxes_in(folder: Path) -> Path | None:
    """What of a folder holds boxes: a file, or GRAZPEDWRI-DX' folder of a file per view."""
    for path in (folder / "lesions.csv", folder / _COCO):
        if path.is_file():
            return path
    return annotations_of(folder) if is_grazpedwri(folder) else None


def _box_files_above(views: pd.DataFrame) -> pd.Series:
    """Where the boxes of each view are, by the folders above its file; None if there are none."""
    folders = views.path.map(_folder_of)
    return folders.map({folder: _box_file_above(Path(folder)) for folder in folders.unique()})


def _folder_of(path: str) -> str:
    return os.path.dirname(whole_path(path))


def _box_file_above(folder: Path) -> Path | None:
    return next(filter(None, map(_boxes_in, (folder, *folder.parents))), None)


def _read_each(
    files: pd.Series,
    views: pd.DataFrame,
    among: pd.DataFrame | None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> list[pd.DataFrame]:
    """The boxes of each of the files, of the views that it is of."""
    return [_read(path, views[files == path], among, sizes) for path in files.dropna().unique()]


def _read(
    path: Path,
    views: pd.DataFrame,
    among: pd.DataFrame | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> pd.DataFrame:
    if path.is_dir():
        boxes = _grazpedwri_boxes(path, views)
    else:
        boxes = _fracatlas_boxes(path) if path.name == _COCO.name else _synthetic_boxes(path)
    key = max(unsplit_key(boxes), unsplit_key(views if among is None else among), key=len)
    key = [column for column in key if column in boxes]
    others = [name for name in VIEW_KEY if name in boxes and name not in key]
    boxes = views[[*VIEW_KEY, "path"]].merge(boxes.drop(columns=others), on=key)
    return _as_fractions(boxes, path, sizes or {})


def box_masks(
    views: pd.DataFrame, boxes: pd.DataFrame, frames: np.ndarray, side: int
) -> np.ndarray:
    """Where the boxes of each view lie in its padded square.

    Args:
        views: the n views.
        boxes: of `load_boxes`; one view may have several.
        frames: int (n, 4), see `padded_box`.
        side: S of the square, pixels.

    Returns:
        bool (n, S, S), True on the pixels of the frame whose centre lies in a box, and on the one
        pixel that is nearest to the centre of a box without any.
    """
    return covered(box_pixels(views, boxes, frames), side)


def covered(pixels: Sequence[BoxPixels], side: int) -> np.ndarray:
    """bool (n, S, S), True on the pixels of each view's boxes."""
    masks = np.zeros((len(pixels), side, side), bool)
    for mask, parts in zip(masks, pixels, strict=True):
        for part in parts:
            mask[part] = True
    return masks


def box_pixels(views: pd.DataFrame, boxes: pd.DataFrame, frames: np.ndarray) -> list[BoxPixels]:
    """The rows and columns of each box of each view, see `box_masks`."""
    pixels: list[BoxPixels] = [[] for _ in range(len(views))]
    for index, x, y, width, height in squares_of(views, boxes, frames).itertuples(index=False):
        top, left, high, wide = frames[index]
        pixels[index].append((_inside(y, height, top, high), _inside(x, width, left, wide)))
    return pixels


def squares_of(views: pd.DataFrame, boxes: pd.DataFrame, frames: np.ndarray) -> pd.DataFrame:
    """Each box in its view's padded square.

    Args:
        views, boxes, frames: see `box_masks`.

    Returns:
        `view`, the number of its row in `views`, and `x, y, width, height`, pixels.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for index, key in enumerate(_keys(views)):  # a view may be given twice, to be seen more often
        places.setdefault(key, []).append(index)
    rows = []
    for key, (x, y, width, height) in zip(_keys(boxes), boxes[BOX].to_numpy(float), strict=True):
        for index in places.get(key, []):
            top, left, high, wide = frames[index]
            rows.append((index, left + x * wide, top + y * high, width * wide, height * high))
    return pd.DataFrame(rows, columns=["view", *BOX])


def _inside(start: float, length: float, low: int, size: int) -> slice:
    """The pixels of [low, low + size) whose centre lies in [start, start + length), at least one.

    A box may begin or end a little outside of its view.
    """
    ends = np.ceil([start - 0.5, start + length - 0.5])
    first, stop = np.clip(ends, low, low + size).astype(int)
    if first >= stop:
        first = int(np.clip(start + length / 2, low, low + size - 1))
        stop = first + 1
    return slice(first, stop)


def _keys(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(table[VIEW_KEY].itertuples(index=False, name=None))


def _fracatlas_boxes(path: Path) -> pd.DataFrame:
    """`view`, the box, and the size of the image it was drawn on."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = pd.DataFrame(content["images"]).set_index("id")
        drawn = images.loc[[one["image_id"] for one in content["annotations"]]]
        boxes = pd.DataFrame([one["bbox"] for one in content["annotations"]], columns=BOX)
        sizes = drawn[["file_name", "width", "height"]].to_numpy()
        return boxes.astype(float).assign(
            view=sizes[:, 0],
            of_width=sizes[:, 1].astype(float),
            of_height=sizes[:, 2].astype(float),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be FracAtlas' COCO JSON, with images (id, file_name, width, height) and "
            f"annotations (image_id, bbox), and is not: {error!r}. Restore it."
        ) from None


def _grazpedwri_boxes(folder: Path, views: pd.DataFrame) -> pd.DataFrame:
    """As `_fracatlas_boxes`; a view without a file has no boxes."""
    suffix, parsed = (".xml", _voc_boxes) if folder.name == "pascalvoc" else (".txt", _yolo_boxes)
    rows = []
    for view in views["view"].unique():
        path = (folder / view).with_suffix(suffix)
        try:
            rows += [(view, *box) for box in parsed(path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, ElementTree.ParseError) as error:
            raise ValueError(
                f"{path} must be one of GRAZPEDWRI-DX' annotations and is damaged: {error}. "
                "Restore it."
            ) from None
    columns = ["view", *BOX, "of_width", "of_height"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], float))


def _voc_boxes(text: str) -> Iterator[tuple[float, ...]]:
    """The fractures of a Pascal VOC file: box, width and height of the image, pixels."""
    tree = ElementTree.fromstring(text)
    size = [float(tree.findtext(f"size/{name}", "")) for name in ("width", "height")]
    for one in tree.iter("object"):
        if one.findtext("name") == "fracture":
            corners = ("xmin", "ymin", "xmax", "ymax")
            left, top, right, bottom = (
                float(one.findtext(f"bndbox/{name}", "")) for name in corners
            )
            if not (left < right and top < bottom):
                raise ValueError(f"a box from ({left:g}, {top:g}) to ({right:g}, {bottom:g})")
            yield left, top, right - left, bottom - top, *size


def _yolo_boxes(text: str) -> Iterator[tuple[float, ...]]:
    """The fractures of a YOLO file: box as fractions, of an image of unknown size."""
    for line in filter(str.strip, text.splitlines()):
        kind, x, y, width, height = map(float, line.split())
        if kind == _YOLO_FRACTURE:
            yield x - width / 2, y - height / 2, width, height, np.nan, np.nan


def _synthetic_boxes(path: Path) -> pd.DataFrame:
    try:
        boxes = read_cells(read_text(path))
        if lacking := [name for name in (*VIEW_KEY, *BOX) if name not in boxes]:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        return boxes[[*VIEW_KEY, *BOX]].astype(dict.fromkeys(BOX, float))
    except ValueError as error:
        raise ValueError(
            f"{path} must be a CSV with the columns {', '.join([*VIEW_KEY, *BOX])}, and "
            f"is not: {error}. Correct it; a synthetic one's is written anew by `mura-tf "
            "synthesize`."
        ) from None


def _as_fractions(
    boxes: pd.DataFrame, path: Path, known: Mapping[str, tuple[int, int]]
) -> pd.DataFrame:
    """Pixels -> fractions of the view; COCO's of the image it names, which may be larger.

    Those of an image of unknown size are fractions already.
    """
    sizes = {view: known.get(view) or read_size(view) for view in boxes.path.unique()}
    heights = boxes.path.map({view: size[0] for view, size in sizes.items()}).astype(float)
    widths = boxes.path.map({view: size[1] for view, size in sizes.items()}).astype(float)
    of_height = boxes.get("of_height", heights)
    of_width = boxes.get("of_width", widths)
    wide, high = of_width.fillna(1), of_height.fillna(1)
    fractions = boxes.assign(
        x=boxes.x / wide, y=boxes.y / high, width=boxes.width / wide, height=boxes.height / high
    )
    other_shape = (of_width / of_height / (widths / heights) - 1).abs() > 0.02
    ends = fractions.x + fractions.width, fractions.y + fractions.height
    inside = (fractions[BOX] >= -0.01).all(axis=1) & (fractions.x < 1) & (fractions.y < 1)
    for end in ends:
        inside &= (end > 0) & (end <= 1.01)
    for wrong, what in (
        (other_shape, "is of an image of another shape"),
        (~inside, "lies outside"),  # and so does NaN
    ):
        if wrong.any():
            one = boxes[wrong].iloc[0]
            size = "x".join(str(length) for length in reversed(sizes[one.path]))
            raise ValueError(
                f"{path}: {wrong.sum()} boxes do not fit their views, the first: "
                f"{', '.join(f'{name}={one[name]:g}' for name in BOX)} {what}. Received: "
                f"{one.path} with {size} pixels. Restore the images the boxes were drawn on."
            )
    return fractions[[*VIEW_KEY, *BOX]]
