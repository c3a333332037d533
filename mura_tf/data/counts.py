"""What a views table counts: the weights of the loss, and the paper's Table I."""

import pandas as pd

from mura_tf.data.table import SPLITS, STUDY_KEY
from mura_tf.published import published_table


def class_weights(views: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """The weights of the MURA loss, per study type.

    With A abnormal and N normal views of a type, w1 = N / (A + N) weighs the abnormal ones and
    w0 = A / (A + N) the normal ones (Rajpurkar et al., 2018), so that both classes weigh the same
    in total. The only class of a one-class type weighs 0; `check_views` reports such a type.

    Args:
        views: views table of what is trained on; an unknown label does not count.

    Returns:
        study type -> (w0, w1), each in [0, 1], with sum 1; without types of unknown labels alone.

    Examples:
        >>> views = pd.DataFrame({"study_type": ["elbow"] * 4, "label": [0, 0, 0, 1]})
        >>> mt.class_weights(views)
        {'elbow': (0.25, 0.75)}
    """
    abnormal = views.dropna(subset="label").groupby("study_type")["label"].mean()
    return {study_type: (float(share), float(1 - share)) for study_type, share in abnormal.items()}


def summarize(views: pd.DataFrame) -> pd.DataFrame:
    """Counts studies and images in the layout of the paper's Table I.

    Args:
        views: views table.

    Returns:
        int; rows (study type, "Normal" or "Abnormal"), ("All types", ...) and ("Total", ""),
        columns (split, "Studies" or "Images"). `attrs["published"]` says whether the counts of
        train and valid are those of Table I; it is None where the study types are not MURA's
        seven or one of these splits is lacking. `attrs["differences"]` has a sentence per cell
        that deviates.

    Examples:
        >>> table = mt.summarize(mt.load_mura("demo/MURA-v1.1"))
        >>> list(table)
        [('train', 'Studies'), ('train', 'Images'), ('valid', 'Studies'), ('valid', 'Images')]
        >>> table.attrs["published"]
        False
    """
    studies = views.drop_duplicates([*STUDY_KEY, "label"])
    rows = pd.concat([studies.assign(count="Studies"), views.assign(count="Images")])
    rows["label"] = rows["label"].map({0: "Normal", 1: "Abnormal"})
    totals = rows.assign(study_type="Total", label="")
    rows = pd.concat([rows, rows.assign(study_type="All types"), totals])

    study_types = sorted(set(views["study_type"]))
    index = pd.MultiIndex.from_tuples(
        [
            *((name, label) for name in [*study_types, "All types"] for label in _LABELS),
            ("Total", ""),
        ],
        names=["study_type", "label"],
    )
    splits = [split for split in SPLITS if split in set(views["split"])]
    columns = pd.MultiIndex.from_product([splits, _COUNTS], names=["split", "count"])
    table = pd.crosstab([rows["study_type"], rows["label"]], [rows["split"], rows["count"]])
    table = table.reindex(index=index, columns=columns, fill_value=0)

    published = published_table("table_i")
    published_types = set(published["study_type"]) - {"all"}
    comparable = set(study_types) == published_types and {"train", "valid"} <= set(splits)
    differences = _differences(table, published) if comparable else []
    table.attrs["published"] = not differences if comparable else None
    table.attrs["differences"] = differences
    return table


_LABELS = ["Normal", "Abnormal"]
_COUNTS = ["Studies", "Images"]


def _differences(table: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    sentences = []
    for cell in published.itertuples():
        row = ("Total", "")
        if not pd.isna(cell.label):
            name = "All types" if cell.study_type == "all" else cell.study_type
            row = (name, _LABELS[int(cell.label)])
        for count, expected in (("Studies", cell.studies), ("Images", cell.images)):
            found = table.loc[row, (cell.split, count)]
            if found != expected:
                sentences.append(
                    f"{cell.split}, {' '.join(row).strip()}: {found} {count.lower()}, "
                    f"Table I has {expected}."
                )
    return sentences
