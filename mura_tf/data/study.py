"""The data study of document 003: classes, grey levels, PCA against incremental PCA."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

from mura_tf.data.cache import PreparedViews, prepare_readable
from mura_tf.data.radiograph import unpadded
from mura_tf.data.table import SPLITS
from mura_tf.data.tasks import class_names, class_of
from mura_tf.published import published_table
from mura_tf.terminal import track, waiting

TASK = "type_and_abnormality"
SHARE = 0.95
"""Of the variance, which the components counted explain."""
LEAST_IMAGES = 4
"""Two batches of two, or incremental PCA has nothing to go on."""
BATCH, KEPT = 400, 200
"""Images per batch and components of incremental PCA, at the most."""
PCA_BYTES = 2**30
"""Above so many bytes of pixels PCA, which holds them several times over, is left out."""
PCA_NAME, IPCA_NAME = "PCA", "incremental PCA"
SYSTEMS = {"pca": PCA_NAME, "ipca": IPCA_NAME}
"""By what the document's CSV calls them."""
_Method = Callable[[PreparedViews, np.ndarray], np.ndarray]
"""The squares and which of them -> the share of the variance that each component explains."""


@dataclass(frozen=True)
class DataStudy:
    """What `study_data` found; classes are pairs of a study type and a label, by name.

    Attributes:
        image_size: side of the squares, pixels.
        counts: int, views; a row per class, a column per split.
        pixels: a row per class: `images` in the training split; `mean, std` of their grey levels,
            all pixels together, and `std_of_means`, the deviation of the images' own means.
            NaN where there is no image.
        histograms: float, a row per class and a column per grey level (0 to 255): its share.
        reductions: a row per images per class and method: `per_class, method, images, kept` (most
            components it could find), `components` (those that explain `SHARE` of the variance;
            NaN where `kept` do not), `seconds`, and the document's `published_images`,
            `published_components`, `published_seconds`, NaN where it has none.
        curves: (method, per_class) -> float (kept,), the share of the variance that the first 1, 2,
            ... components explain.
        samples: class -> the path of one of its training images, drawn at random.
        remarks: sentences about what was left out.
    """

    image_size: int
    counts: pd.DataFrame
    pixels: pd.DataFrame
    histograms: pd.DataFrame
    reductions: pd.DataFrame
    curves: dict[tuple[str, int], np.ndarray]
    samples: dict[str, str]
    remarks: list[str]


def study_data(
    views: pd.DataFrame,
    *,
    image_size: int = 64,
    per_class: Iterable[int] = (10, 1000),
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    skip_bad: bool | float = False,
    progress: bool = False,
) -> DataStudy:
    """Studies a data set as document 003 does (sections III-B, III-D and III-E).

    Grey levels and components are those of the training split. An image's padding is no part of
    its grey levels. For both kinds of PCA each pixel is standardised over the images at hand; the
    time is one thread's processor time of reading the prepared images, standardising and fitting.

    Memory: PCA holds its pixels, 8 bytes each, several times; it is left out, with a remark, where
    they take more than `PCA_BYTES`. Everything else goes image by image or batch by batch.

    Args:
        views: views table.
        image_size: side S of the squares, pixels; at least 8.
        per_class: how many images of each class the two kinds of PCA get, one pair of them for each
            number; a class with fewer images brings those it has.
        seed: of the choice of images. The images of a smaller number are among those of a larger.
        cache_dir: see `prepare`.
        skip_bad: whether to go on without unreadable files.
        progress: whether to show progress bars.

    Raises:
        BadViewsError: some training images are unreadable.
        ValueError: a number that cannot be, no training split, too few training images for a PCA,
            or images without any variance.

    Examples:
        >>> found = mt.study_data(mt.load_mura("demo/MURA-v1.1"), image_size=16, per_class=[2])
        >>> found.reductions[["method", "images"]].values.tolist()
        [['PCA', 28], ['incremental PCA', 28]]
    """
    sizes = list(dict.fromkeys(per_class))
    if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ValueError(f"per_class must hold whole numbers from 1 up. Received: {sizes}.")
    if image_size < 8:
        raise ValueError(f"image_size must be a whole number from 8 up. Received: {image_size}.")
    labelled = views.label.notna()
    views, unlabelled = views[labelled], int((~labelled).sum())
    classes = class_names(views, TASK)
    splits = [split for split in SPLITS if split in set(views.split)]
    counts = pd.crosstab(class_of(views, TASK), views.split)
    counts = counts.reindex(index=classes, columns=splits, fill_value=0)
    training = views[views.split == "train"].reset_index(drop=True)
    if training.empty:
        raise ValueError(
            "the data study needs a train split: it looks at nothing else but the counts. "
            f"Received: {', '.join(splits) or 'no view'}."
        )
    training, problems, prepared = prepare_readable(
        training, image_size, cache_dir, skip_bad=skip_bad, progress=progress
    )
    remarks = []
    if unlabelled:
        remarks.append(f"{unlabelled} views without a label are left out.")
    if len(problems):
        remarks.append(
            f"{len(problems)} unreadable files of the training split are counted and otherwise "
            "left out; `mura-tf check` lists them."
        )
    codes = pd.Index(classes).get_indexer(class_of(training, TASK))
    pixels, histograms = _grey_levels(training, prepared, codes, classes, progress)
    rows, curves = [], {}
    for size in sizes:
        chosen = _balanced_sample(codes, size, seed)
        remarks += _few_images(size, pixels.images.to_dict())
        for name, method in _methods(len(chosen), image_size, remarks).items():
            with waiting(f"{name} of {len(chosen):,} images", shown=progress):
                curve, seconds = _timed(method, prepared, chosen)
            curves[name, size] = curve
            reached = np.flatnonzero(curve >= SHARE)
            components = reached[0] + 1 if len(reached) else np.nan
            rows.append((size, name, len(chosen), len(curve), components, seconds))
    columns = ["per_class", "method", "images", "kept", "components", "seconds"]
    reductions = pd.DataFrame(rows, columns=columns)
    return DataStudy(
        image_size=image_size,
        counts=counts,
        pixels=pixels,
        histograms=histograms,
        reductions=reductions.merge(_published(), "left", ["per_class", "method"]),
        curves=curves,
        samples={
            classes[codes[row]]: training.path[row]
            for row in sorted(_balanced_sample(codes, 1, seed), key=lambda row: codes[row])
        },
        remarks=remarks,
    )


def _grey_levels(
    training: pd.DataFrame,
    prepared: PreparedViews,
    codes: np.ndarray,
    classes: tuple[str, ...],
    progress: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`DataStudy`'s `pixels` and `histograms`."""
    levels = np.arange(256)
    histograms = np.zeros((len(classes), 256), np.int64)
    means = np.empty(len(codes))
    places = zip(prepared.sizes.tolist(), prepared.rows, codes, strict=True)
    bar = track(places, "Grey levels", len(codes), shown=progress)
    for number, ((high, wide), row, code) in enumerate(bar):
        inside = unpadded(prepared.images[row], high, wide)
        histogram = np.bincount(inside.ravel(), minlength=256)
        histograms[code] += histogram
        means[number] = inside.mean()
    total = pd.Series(histograms.sum(axis=1), classes)
    shares = pd.DataFrame(histograms, classes, levels).div(total, axis=0)  # 0 / 0 is NaN
    mean = shares @ levels
    by_class = pd.Series(means).groupby(codes)
    pixels = pd.DataFrame(
        {
            "images": np.bincount(codes, minlength=len(classes)),
            "mean": mean,
            "std": np.sqrt((shares @ levels**2 - mean**2).clip(lower=0)),
            "std_of_means": by_class.std(ddof=0).reindex(range(len(classes))).to_numpy(),
        }
    )
    return pixels, shares


def _balanced_sample(codes: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Numbers of up to `size` images of each class, shuffled."""
    order = np.random.default_rng(seed).permutation(len(codes))
    turn = pd.Series(codes[order]).groupby(codes[order]).cumcount()
    return order[turn < size]


def _few_images(size: int, found: dict[str, int]) -> list[str]:
    lacking = [f"{name} {count:,}" for name, count in found.items() if count < size]
    if not lacking:
        return []
    return [
        f"Classes with fewer than {size:,} training images, {len(lacking)} of {len(found)}, bring "
        f"all that they have: {', '.join(lacking)}."
    ]


def _methods(count: int, image_size: int, remarks: list[str]) -> dict[str, _Method]:
    """What `count` images are given to, by name."""
    if count < LEAST_IMAGES:
        raise ValueError(
            f"both kinds of PCA need {LEAST_IMAGES} training images or more. Received: {count}. "
            "Ask for more images per class."
        )
    size = 8 * count * image_size**2
    if size <= PCA_BYTES:
        return {PCA_NAME: _at_once, IPCA_NAME: _in_batches}
    remarks.append(
        f"PCA of {count:,} images is left out: their pixels would take {size / 2**30:.1f} GiB, "
        "several times over."
    )
    return {IPCA_NAME: _in_batches}


def _timed(
    method: _Method, prepared: PreparedViews, chosen: np.ndarray
) -> tuple[np.ndarray, float]:
    """A curve of `DataStudy`, and the processor seconds that it took on one thread.

    So they are the same beside other work, where several threads would wait for each other, busily.
    """
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        began = time.process_time()
        shares = method(prepared, chosen)
        seconds = time.process_time() - began
    if np.isnan(shares).any():
        raise ValueError(
            f"the {len(chosen):,} training images chosen are all the same, expected some variance. "
            "`mura-tf check` lists duplicates."
        )
    return np.cumsum(shares), seconds


def _at_once(prepared: PreparedViews, chosen: np.ndarray) -> np.ndarray:
    """The share of the variance that each component of PCA explains."""
    scaled = StandardScaler(copy=False).fit_transform(_pixels(prepared, chosen))
    return PCA(svd_solver="full", copy=False).fit(scaled).explained_variance_ratio_


def _in_batches(prepared: PreparedViews, chosen: np.ndarray) -> np.ndarray:
    """The same of incremental PCA, whose first batch needs as many images as components."""
    batch = min(BATCH, len(chosen) // 2)
    kept = min(KEPT, batch, prepared.images[0].size)
    parts = [chosen[part] for part in gen_batches(len(chosen), batch, min_batch_size=kept)]
    scaler = StandardScaler(copy=False)
    for part in parts:
        scaler.partial_fit(_pixels(prepared, part))
    pca = IncrementalPCA(n_components=kept, copy=False)
    for part in parts:
        pca.partial_fit(scaler.transform(_pixels(prepared, part)))
    return pca.explained_variance_ratio_


def _pixels(prepared: PreparedViews, chosen: np.ndarray) -> np.ndarray:
    """float64 (n, S * S)."""
    squares = prepared.images[prepared.rows[chosen]]
    return squares.reshape(len(chosen), -1).astype(float)


def _published() -> pd.DataFrame:
    """Fig. 10: the columns of `DataStudy.reductions` that it has."""
    rows = published_table("fourteen_classes")
    rows = rows[rows.source == "003, Fig. 10"]
    table = rows.pivot(index="system", columns="metric", values="value")  # noqa: PD010
    return pd.DataFrame(
        {
            "per_class": table.images_per_class.astype(int),
            "method": table.index.str.split("_").str[0].map(SYSTEMS),
            "published_images": table.total_images,
            "published_components": table.components_for_95_percent_variance,
            "published_seconds": table.runtime_seconds,
        }
    )
