"""What is said of a study: the finding, its views and their warnings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mura_tf.data.looks import TINY_RANGE, look_at

NOT_READ = "not read"
DISAGREEMENT = 0.2
"""Deviation of the members' study probabilities from which they are said to disagree."""

COLOURED = 5e-5
"""Share of a picture from which its colour is told: a letter of 30 x 40 pixels on a large film."""


@dataclass
class View:
    """One view that was to be read.

    Attributes:
        file: what it is called.
        source: its path, or uint8 (height, width).
        probability: of abnormality, the mean over the members; NaN if it was not read.
        warnings: sentences.
        heatmap: the name of its picture, where one was written.
        radiograph: uint8 (height, width); None if it could not be read.
        heat: float32 (S, S), in [0, 1], of its padded square; None without.
    """

    file: str
    source: Path | np.ndarray = field(repr=False)
    probability: float = np.nan
    warnings: list[str] = field(default_factory=list)
    heatmap: str = ""
    radiograph: np.ndarray | None = field(default=None, repr=False)
    heat: np.ndarray | None = field(default=None, repr=False)


@dataclass
class Finding:
    """What a bundle says of one study; see `Bundle.read`."""

    study: str
    study_type: str = ""
    type_from: str = ""
    probability: float = np.nan
    calibrated: float = np.nan
    decision: str = NOT_READ
    disagreement: float = np.nan
    warnings: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)

    @property
    def unreadable(self) -> int:
        """How many of its files could not be read."""
        return sum(view.radiograph is None for view in self.views)

    @property
    def headline(self) -> str:
        """What is said of it, in a line."""
        study_type = self.study_type or "unknown study type"
        if self.decision == NOT_READ:
            return f"{study_type}: {NOT_READ}"
        text = f"{study_type}: {self.decision}, probability {self.probability:.2f}"
        if not np.isnan(self.calibrated):
            text += f" (calibrated {self.calibrated:.2f})"
        return text

    @property
    def row(self) -> dict[str, Any]:
        """Of the findings table, with lists where the CSV has text."""
        return {
            "study": self.study,
            "study_type": self.study_type,
            "type_from": self.type_from,
            "views": len(self.views),
            "probability": self.probability,
            "calibrated": self.calibrated,
            "decision": self.decision,
            "disagreement": self.disagreement,
            "warnings": self.warnings,
            "files": [view.file for view in self.views],
        }

    @property
    def view_rows(self) -> list[dict[str, Any]]:
        """Of the views table, with lists where the CSV has text."""
        return [
            {
                "study": self.study,
                "file": view.file,
                "view": number,
                "probability": view.probability,
                "warnings": view.warnings,
                "heatmap": view.heatmap,
            }
            for number, view in enumerate(self.views, start=1)
        ]


FINDING_COLUMNS = list(Finding("").row)
VIEW_COLUMNS = ["study", "file", "view", "probability", "warnings", "heatmap"]


class _Column(pd.Series):
    """Of `FindingsTable`, without its `attrs`."""

    def __finalize__(
        self, other: object, method: str | None = None, **settings: object
    ) -> "_Column":
        return self


class FindingsTable(pd.DataFrame):
    """Findings, whose `attrs["views"]` is the table of their views; several tables or columns that
    are put together have none, where pandas would compare these and raise."""

    @property
    def _constructor_sliced(self) -> type[_Column]:
        return _Column

    @property
    def _constructor(self) -> type["FindingsTable"]:
        return FindingsTable

    def __finalize__(
        self, other: object, method: str | None = None, **settings: object
    ) -> "FindingsTable":
        if not isinstance(other, pd.DataFrame):  # but several
            return self
        return super().__finalize__(other, method, **settings)


def as_table(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Rows as a table for CSV: lists become text, their entries parted by "; "."""
    table = pd.DataFrame(rows, columns=columns)
    for name in ("warnings", "files"):
        if name in table:
            table[name] = table[name].map("; ".join)
    return table


def picture_warnings(radiograph: np.ndarray, inputs: Mapping[str, Any] | None) -> list[str]:
    """What makes a picture unlike a radiograph that the members were trained on.

    Args:
        radiograph: uint8 (height, width).
        inputs: of `input_statistics`, of the training images; None where no run tells.
    """
    look = look_at(radiograph)
    if look.high - look.low < TINY_RANGE:
        return [f"blank: its grey levels lie between {look.low} and {look.high}"]
    warnings = []
    if look.bright:
        warnings.append("inverted? it and its border are bright, as in a negative")
    if inputs:
        scale = (inputs["high"] - inputs["low"]) / 255
        mean, deviation = (inputs["mean"] - inputs["low"]) / scale, inputs["deviation"] / scale
        share = min(radiograph.shape) / max(radiograph.shape)  # of its padded square, as theirs
        own_mean = share * radiograph.mean()
        square = share * (radiograph.std() ** 2 + radiograph.mean() ** 2)
        own_deviation = np.sqrt(max(0.0, square - own_mean**2))
        if not abs(own_mean - mean) <= 2 * deviation:
            warnings.append(
                f"unlike the training images: its mean grey level, padded, is {own_mean:.0f}, "
                f"theirs {mean:.0f}"
            )
        if own_deviation < deviation / 4:
            warnings.append(
                f"unlike the training images: its grey levels deviate by {own_deviation:.0f}, "
                f"theirs by {deviation:.0f}"
            )
    return warnings
