"""Table III: how many parameters each backbone has with the paper's head, counted."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from mura_tf.files import written_whole
from mura_tf.models.backbones import find_backbone
from mura_tf.models.backend import require_backend
from mura_tf.published import published_table
from mura_tf.reports.markdown import markdown_table
from mura_tf.reports.page import table, write_page
from mura_tf.terminal import track


@dataclass(frozen=True)
class ParameterTable:
    """A table of parameter counts: nothing is trained for it.

    Attributes:
        name: of its file in `experiments` and of its CSV in `experiments/published`.
        title: what the report is called.
        backbones: keys of `BACKBONES`.
    """

    name: str
    title: str
    backbones: tuple[str, ...]
    document: ClassVar = "000"


def report_parameters(
    parameter_table: ParameterTable,
    out: str | os.PathLike[str],
    backbones: Iterable[str] | None = None,
    *,
    progress: bool = False,
) -> pd.DataFrame:
    """Builds every backbone, and writes `table.md`, `table.csv` and `report.html` to `out/NAME/`.

    Args:
        parameter_table: of `find_experiment`.
        out: the folder above.
        backbones: instead of the document's.
        progress: whether to show a progress bar.

    Returns:
        `backbone, image_size, top1 (published, fraction), parameters, published_parameters,
        equal`, a row per backbone; NA where the document has no such backbone.

    Raises:
        ValueError: an unknown backbone, or what `require_backend` refuses.
    """
    known = {name: find_backbone(name) for name in backbones or parameter_table.backbones}
    require_backend()

    import keras

    from mura_tf.models.build import build_model

    published = published_table(parameter_table.name).set_index("backbone")
    rows = []
    for name, facts in track(known.items(), "Building", shown=progress):
        parameters = build_model(name, weights=None).count_params()
        keras.backend.clear_session()
        expected = published.parameters.get(name)
        rows.append((name, facts.image_size, facts.top1, parameters, expected))
    columns = ["backbone", "image_size", "top1", "parameters", "published_parameters"]
    counted = pd.DataFrame(rows, columns=columns).astype({"published_parameters": "Int64"})
    counted["equal"] = counted.parameters == counted.published_parameters
    _write(counted, parameter_table.title, Path(out) / parameter_table.name)
    return counted


def _write(counted: pd.DataFrame, title: str, folder: Path) -> None:
    headers = [
        "Backbone",
        "Input",
        "ImageNet top-1 (published)",
        "Parameters",
        "Published",
        "Equal",
    ]
    rows = [
        [
            row.backbone,
            f"{row.image_size} x {row.image_size}",
            "n/a" if pd.isna(row.top1) else f"{row.top1:.1%}",
            f"{row.parameters:,}",
            "n/a" if pd.isna(row.published_parameters) else f"{row.published_parameters:,}",
            "n/a" if pd.isna(row.equal) else "yes" if row.equal else "no",
        ]
        for row in counted.itertuples()
    ]
    with written_whole(folder / "table.csv") as part:
        counted.to_csv(part, index=False)
    with written_whole(folder / "table.md") as part:
        lines = [f"# {title}", "", *markdown_table(headers, rows), ""]
        part.write_text("\n".join(lines), encoding="utf-8")
    header = f"<header><p class='kind'>mura_tf table</p><h1>{title}</h1></header>"
    write_page(folder / "report.html", title, [header, table(headers, rows)])
