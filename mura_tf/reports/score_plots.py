"""Figures of scores: kappa by study type, against parameters, and how far probabilities hold."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from sklearn.calibration import calibration_curve

from mura_tf.evaluation.scores import require_labels, system_key, system_name
from mura_tf.models.backbones import BACKBONES
from mura_tf.published import OVERALL
from mura_tf.reports.style import SYSTEM_COLOURS, calm_axes, colour_of, draw_legend


def plot_kappa(scores: pd.DataFrame) -> Figure:
    """Kappa per study type as dots, with 95 % intervals as whiskers where `scores` has them.

    Args:
        scores: table of `score_systems`; up to seven systems, told apart by colour.

    Returns:
        A figure to save.

    Raises:
        ValueError: more than seven systems.

    Examples:
        >>> predictions = mt.load_predictions(Path("demo/small_cnn/type/wrist").iterdir())
        >>> scores = mt.score_systems(predictions)
        >>> mt.plot_kappa(scores).savefig("demo/kappa.png", dpi=200)
    """
    systems = [rows for _, rows in scores.groupby(system_key(scores), sort=False)]
    _require_colours(len(systems))
    types = [name for name in sorted(scores.study_type.unique()) if name != OVERALL]
    place = {name: row for row, name in enumerate([*types, OVERALL])}
    row_height = max(0.47, 0.1 * len(systems))
    figure = Figure(
        figsize=(4.4, 0.55 + 0.2 * len(systems) + row_height * len(place)), layout="constrained"
    )
    axes = calm_axes(figure.add_subplot(), grid="x")
    gap = 0.7 / len(systems)
    for index, rows in enumerate(systems):
        y = rows.study_type.map(place) + (index - (len(systems) - 1) / 2) * gap
        colour = colour_of(SYSTEM_COLOURS[index])
        low, high = rows.get("kappa_low", rows.kappa), rows.get("kappa_high", rows.kappa)
        axes.hlines(y, low, high, color=colour, linewidth=1.8, alpha=0.55)
        axes.plot(rows.kappa, y, "o", color=colour, markersize=5, label=system_name(rows.iloc[0]))
    least = np.nanmin([scores.get("kappa_low", scores.kappa).min(), 0])
    axes.set_xlim(max(-1, np.floor(least * 10 - 0.5) / 10), 1.02)
    axes.set_ylim(len(place) - 0.5, -0.5)
    axes.axhline(len(types) - 0.5, color=colour_of("muted"), linewidth=0.8)
    axes.axvline(0, color=colour_of("muted"), linewidth=0.8)
    axes.set_yticks(range(len(place)), list(place), parse_math=False)
    axes.tick_params(axis="y", labelsize=12, labelcolor=colour_of("ink"))
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xlabel("study-level kappa (0 is chance)", fontsize=11)
    if len(systems) > 1:
        draw_legend(figure, columns=1, fontsize=11)
    return figure


def _require_colours(systems: int) -> None:
    if systems > len(SYSTEM_COLOURS):
        raise ValueError(
            f"a plot tells {len(SYSTEM_COLOURS)} systems apart. Received: {systems}. Select some "
            "of them."
        )


def plot_parameters(overall: pd.DataFrame) -> Figure:
    """Overall kappa with its interval against the number of parameters.

    Args:
        overall: a row per system: `backbone, stage, repeat, kappa, kappa_low, kappa_high,
            published_kappa`; a published value is a hollow dot.

    Returns:
        A figure to save.

    Raises:
        ValueError: more than seven systems.
    """
    _require_colours(len(overall))
    figure = Figure(figsize=(5.2, 3.2 + 0.2 * len(overall)), layout="constrained")
    axes = calm_axes(figure.add_subplot(), grid="both")
    before: Counter[str] = Counter()
    for colour, (_, row) in zip(SYSTEM_COLOURS, overall.iterrows(), strict=False):
        colour = colour_of(colour)
        # systems of one backbone stand side by side
        millions = BACKBONES[row.backbone].parameters / 1e6 * 1.04 ** before[row.backbone]
        before[row.backbone] += 1
        axes.vlines(millions, row.kappa_low, row.kappa_high, color=colour, alpha=0.55)
        axes.plot(millions, row.kappa, "o", color=colour, label=system_name(row))
        axes.plot(millions, row.published_kappa, "o", color=colour, markerfacecolor="none")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.1)
    axes.set_xlabel("parameters, millions")
    axes.set_ylabel("overall kappa")
    draw_legend(figure)
    return figure


def plot_reliability(studies: pd.DataFrame) -> Figure:
    """The share of abnormal studies against their mean probability, in ten bins of equal count.

    Args:
        studies: table of `study_probabilities`; repeats of a system are pooled. One with fewer
            distinct probabilities has fewer bins.

    Returns:
        A figure to save; on the diagonal a probability means what it says.

    Raises:
        ValueError: a study without a label, or more than seven systems.
    """
    require_labels(studies)
    systems = studies.assign(repeat=0).groupby(system_key(studies), sort=False)
    _require_colours(systems.ngroups)
    figure = Figure(figsize=(5.2, 5.0 + 0.2 * systems.ngroups), layout="constrained")
    axes = calm_axes(figure.add_subplot(), grid="both")
    axes.plot([0, 1], [0, 1], color=colour_of("muted"), linewidth=0.8)
    for colour, (_, rows) in zip(SYSTEM_COLOURS, systems, strict=False):
        share, mean = calibration_curve(
            rows.label, rows.probability, n_bins=10, strategy="quantile"
        )
        axes.plot(
            mean,
            share,
            "o-",
            label=system_name(rows.iloc[0]),
            color=colour_of(colour),
            linewidth=1.2,
            markersize=4,
        )
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("mean probability")
    axes.set_ylabel("share abnormal")
    draw_legend(figure)
    return figure
