"""Finished runs -> scores of each system -> one HTML page."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from mura_tf.data.cache import picture_marks
from mura_tf.data.radiograph import (
    BadRadiographError,
    decode_radiograph,
    digest_of,
    fitted,
    read_content,
)
from mura_tf.data.table import STUDY_KEY
from mura_tf.evaluation.metrics import THRESHOLD
from mura_tf.evaluation.operating_points import Decisions
from mura_tf.evaluation.scores import SYSTEM_KEY, score_systems, system_name, view_probabilities
from mura_tf.grid.progress import duration
from mura_tf.published import is_mura, mura_kappas
from mura_tf.reports.constant import (
    CONSTANT,
    MARK,
    NOTE,
    called,
    constant_systems,
)
from mura_tf.reports.curve_plots import plot_learning_curves
from mura_tf.reports.decision_section import decision_section, decisions_of
from mura_tf.reports.kappas import kappa_section
from mura_tf.reports.numbers import with_interval
from mura_tf.reports.page import (
    WARNING,
    distinct,
    escaped,
    inline_jpeg,
    inline_svg,
    list_section,
    minus,
    number,
    score_cell,
    svg,
    table,
    write_page,
)
from mura_tf.reports.score_plots import plot_kappa
from mura_tf.reports.section import Section
from mura_tf.reports.style import SYSTEM_COLOURS
from mura_tf.training.facts import views_of_trained_patients
from mura_tf.training.recipe import Recipe, setting_text
from mura_tf.training.run import Run, RunFolders
from mura_tf.training.systems import (
    System,
    on_several_data_sets,
    predictions_of,
    scored_systems,
)

VIEW_SIDE = 220
VIEWS_PER_OUTCOME = 3
OPEN_RUNS = 30


def write_report(run_dirs: RunFolders, path: str | os.PathLike[str]) -> Path:
    """Writes one HTML page about finished runs: scores, learning curves, a few views, what was run.

    The page needs no other file and no network; the same runs give the same bytes.

    Args:
        run_dirs: folders of finished runs, of one system (backbone, stage, repeat) or several. The
            page opens with the first of `score_systems`.
        path: the `.html` file.

    Returns:
        `path`.

    Raises:
        ValueError: no run folder, or one whose run is not finished; all such folders are named.
            None but runs of the task study_type, which are left out.

    Examples:
        >>> mt.write_report(Path("demo/small_cnn/type/wrist").iterdir(), "demo/wrist.html").name
        'wrist.html'
    """
    systems = scored_systems(run_dirs)
    scores = score_systems(predictions_of(systems))
    return write_scored(systems, scores, decisions_of(systems), path)


def write_scored(
    systems: list[System],
    scores: pd.DataFrame,
    decisions: dict[str, Decisions],
    path: str | os.PathLike[str],
) -> Path:
    """`write_report` of systems that are scored and decided by."""
    by_name = dict(list(scores.groupby("system")))
    rows = [by_name[system.name] for system in systems]
    runs = [run for system in systems for run in system.runs]
    constant = constant_systems(scores) + [run.warning for run in runs if run.warning]
    alike: dict[str, list[pd.DataFrame]] = {}
    for system, scored in zip(systems, rows, strict=True):
        alike.setdefault(system.data, []).append(scored)
    sections = [
        _result_section(systems, rows),
        list_section(CONSTANT, constant),
        *(
            _system_section(tables, index, f"kappa{number or ''}")
            for number, tables in enumerate(alike.values())
            for index in range(len(tables))
        ),
        *map(_reference_section, alike.values()),
        decision_section(rows[0].iloc[0], decisions[systems[0].name]),
        _curves_section(systems),
        _views_section(systems[0]),
        _runs_section(systems, runs),
    ]
    return write_page(path, "mura_tf report", sections)


def _result_section(systems: list[System], scores: list[pd.DataFrame]) -> str:
    first = scores[0].iloc[-1]
    overall = pd.DataFrame([rows.iloc[-1] for rows in scores])
    overview = table(
        ["System", "Kappa", "AUROC", "Accuracy", "Studies", "Members", "Split"],
        [
            [
                escaped(system_name(row)),
                score_cell(row, "kappa"),
                score_cell(row, "auroc"),
                number(row.accuracy),
                row.n,
                row.members,
                escaped(row.split),
            ]
            for _, row in overall.iterrows()
        ],
        text_columns=(0, 6),
    )
    models = f"ensemble of {first.members} {first.backbone}"
    models = models if first.members > 1 else f"one {first.backbone}"
    several = len({run.recipe.study_types for run in systems[0].runs}) > 1
    models += " per study type" if several else ""
    kappa = with_interval(first.kappa, first.kappa_low, first.kappa_high, ".2f")
    return f"""<header>
<p class="kind">mura_tf report</p>
<h1>Abnormality detection in bone radiographs</h1>
<p class="lead">Overall study-level kappa <b>{minus(kappa)}</b> on {first.n} studies of the
{escaped(first.split)} split, {escaped(models)}.</p>
{_protocols(systems)}
{WARNING}
</header>
<section>
<h2>Overview</h2>
{overview}
<p class="note">A study is abnormal when the mean probability of its views and of the ensemble's
members is above {THRESHOLD}.
{escaped(on_several_data_sets(systems))} Kappa (Cohen's) is the agreement with the labels beyond
chance: 0 is chance, 1 is complete agreement. Brackets are 95&nbsp;% bootstrap intervals that
resample patients.</p>
</section>"""


def _protocols(systems: list[System]) -> str:
    """`protocol` of all, where it is the same; otherwise each with the systems it is of."""
    told: dict[str, list[str]] = {}
    for system in systems:
        told.setdefault(protocol(system.split, system.runs), []).append(system.name)
    whose = {text: f"{'; '.join(names)}: " if len(told) > 1 else "" for text, names in told.items()}
    return "".join(f"<p>{escaped(names + text)}</p>" for text, names in whose.items())


def protocol(split: str, runs: list[Run]) -> str:
    """What was selected on and what is reported, in two sentences."""
    recipes = [run.recipe for run in runs]
    sentence = f"Epochs were selected on {' or '.join(dict.fromkeys(map(_selection, recipes)))}. "
    if split in {recipe.select_on for recipe in recipes}:
        return sentence + (
            f"The {split} split is also the one reported, as in the paper, so the scores are "
            "optimistic; --select-on holdout is the honest protocol."
        )
    sentence += f"The {split} split is reported: no run trained or selected on it"
    if shared := views_of_trained_patients(runs, split):
        return sentence + (
            f", but {shared:,} of its views are of patients that were trained on: the scores are "
            "optimistic."
        )
    return sentence + "."


def _selection(recipe: Recipe) -> str:
    if recipe.select_on == "valid":
        return "the valid split"
    held = f"a holdout, {recipe.holdout:.0%} of the training split by {recipe.holdout_by}"
    leaks = recipe.holdout_by == "image"
    return held + (" (so views of one patient lie on both sides)" if leaks else "")


def _system_section(systems: list[pd.DataFrame], index: int, key: str) -> str:
    """The per-type table; the first system's has the plot that compares all beside it.

    Args:
        systems: scores of the systems of one data set.
        index: of them.
        key: of the plot.
    """
    rows = systems[index]
    scores = table(
        ["Study type", "Kappa", "AUROC", "Accuracy", "Sensitivity", "Specificity", "Studies"],
        [
            [
                _marked(row),
                score_cell(row, "kappa"),
                score_cell(row, "auroc"),
                number(row.accuracy),
                number(row.sensitivity),
                number(row.specificity),
                row.n,
            ]
            for _, row in rows.iterrows()
        ],
        css="scores",
    )
    notes = []
    if rows.one_class.any():
        notes.append(
            "† All studies of this type have one label: its kappa is 0 by definition, and what "
            "cannot be computed has a dash."
        )
    if any(called(row.n, row.called_abnormal) for row in rows.itertuples()):
        notes.append(NOTE)
    if (rows.members != rows.members.iloc[0]).any():
        counts = rows.iloc[:-1].groupby("members").study_type.agg(", ".join)
        members = "; ".join(f"{count}: {types}" for count, types in counts.items())
        notes.append(f"The ensembles differ in members ({escaped(members)}).")
    scores += "".join(f'<p class="note">{note}</p>' for note in notes)
    title = f"<h2>{escaped(system_name(rows.iloc[0]))}</h2>"
    if index:
        return f"<section>{title}{scores}</section>"
    compared = systems[: len(SYSTEM_COLOURS)]
    if left := len(systems) - len(compared):
        scores += (
            f'<p class="note">The plot leaves out the last {left} of {len(systems)} systems.</p>'
        )
    drawing = svg(plot_kappa(pd.concat(compared)), key)
    plot = inline_svg(drawing, key, "Kappa per study type with intervals")
    return f"""<section>{title}
<div class="beside"><div>{scores}</div><figure>{plot}</figure></div></section>"""


def _reference_section(systems: list[pd.DataFrame]) -> str:
    """The kappas beside those of who has read MURA's test set, where the studies are MURA's."""
    if not is_mura(systems[0].set_index("study_type").n, "valid"):
        return ""
    scores = pd.concat(systems)
    titled = scores.assign(title=scores.apply(system_name, axis=1), studies=scores.n)
    heading, note, headers, rows = kappa_section(titled, mura_kappas())
    return Section(heading, "", headers, rows, below=[note]).html


def _marked(row: pd.Series) -> str:
    """The study type of a row of `score`, with its footnotes' marks."""
    marks = ["†"] if row.one_class else []
    marks += [MARK.strip()] if called(row.n, row.called_abnormal) else []
    return escaped(row.study_type) + "".join(f'<sup class="mark">{mark}</sup>' for mark in marks)


def _curves_section(systems: list[System]) -> str:
    panels = []
    for system in systems:
        groups: dict[str, list[Run]] = {}
        for run in system.runs:
            groups.setdefault(run.trained_on, []).append(run)
        panels.append(f"<h3>{escaped(system.name)}</h3><div class='curves'>")
        for name, group in sorted(groups.items()):
            figure = plot_learning_curves(
                [run.history for run in group], [run.info["best_epoch"] for run in group]
            )
            key = f"curves{len(panels)}"
            drawing = inline_svg(svg(figure, key), key, f"Learning curves, {name}")
            panels.append(f"<figure><figcaption>{escaped(name)}</figcaption>{drawing}</figure>")
        panels.append("</div>")
    return f"""<section><h2>Learning curves</h2>
<p class="note">One line per member; a dot marks the epoch that was chosen. Validation kappa is at
image level, so it differs from the study-level one above.</p>
{"".join(panels)}</section>"""


def _views_section(system: System) -> str:
    predictions = system.predictions
    views = view_probabilities(predictions[predictions.split == system.split])
    predicted = {mark for run in system.runs for mark in run.pictures}
    outcomes = (  # label, decision
        ("Found: abnormal and said so", 1, 1),
        ("Cleared: normal and said so", 0, 0),
        ("Missed: abnormal, taken for normal", 1, 0),
        ("False alarm: normal, taken for abnormal", 0, 1),
    )
    groups = []
    for title, label, decision in outcomes:
        group = views[(views.label == label) & ((views.probability_study > THRESHOLD) == decision)]
        surest = _surest_views(group, decision)
        figures = "".join(
            _view_figure(view, label == decision, predicted) for _, view in surest.iterrows()
        )
        figures = figures or '<p class="note">None in this split.</p>'
        groups.append(f"<div><h3>{title}</h3><div class='views'>{figures}</div></div>")
    return f"""<section><h2>A few views</h2>
<p class="note">From the {escaped(system.split)} split, by {escaped(system.name)}: the
surest decisions of each kind, one view per study, from different study types where there are. The
numbers are probabilities of abnormality. Label and decision are the study's: one view of an
abnormal study may well show nothing.</p>
<div class="outcomes">{"".join(groups)}</div></section>"""


def _surest_views(views: pd.DataFrame, decision: int) -> pd.DataFrame:
    """One view of each of the surest studies, another study type each time while there are."""
    views = views.sort_values(["probability_study", "probability"], ascending=decision == 0)
    views = views.drop_duplicates(STUDY_KEY)
    turn = views.groupby("study_type").cumcount().sort_values(kind="stable")
    return views.loc[turn.index].head(VIEWS_PER_OUTCOME)


def _view_figure(view: pd.Series, right: bool, predicted: set[str]) -> str:
    """A view with its radiograph, if its mark is among those of the `predicted` pictures."""
    label = "abnormal" if view.label else "normal"
    try:
        content = read_content(view.path)
        if predicted and not predicted.issuperset(
            picture_marks(view.to_frame().T, [digest_of(content)])
        ):
            raise BadRadiographError(view.path, "another picture than the one that was predicted")
        image = decode_radiograph(content, view.path)
    except BadRadiographError as error:
        picture = f'<p class="missing">{escaped(error)}</p>'
    else:
        source = inline_jpeg(fitted(image, VIEW_SIDE))
        picture = f'<img alt="{escaped(view.study_type)}, {label}" src="{source}">'
    return f"""<figure class="{"right" if right else "wrong"}">{picture}<figcaption>
<b>{escaped(view.study_type)}</b> <span class="verdict">{"✓ right" if right else "✗ wrong"}</span>
<span class="key">{escaped(view.patient)}/<wbr>{escaped(view.study)}</span>
<span>labelled {label}</span>
<span>view&nbsp;{view.probability:.2f}, study&nbsp;{view.probability_study:.2f}</span>
</figcaption></figure>"""


def _runs_section(systems: list[System], runs: list[Run]) -> str:
    seconds = sum(run.info["seconds"] for run in runs)
    epochs = sum(len(run.history) for run in runs)
    places = [place for run in runs for place in run.places]
    versions = [" ".join(item) for place in places for item in place["versions"].items()]
    facts = {
        "Runs": f"{len(runs)}, {epochs} epochs in all",
        "Wall time": f"{duration(seconds)}, the sum over the runs",
        "Versions": distinct(versions),
        "Backend": distinct(run.info["backend"] for run in runs),
        "Device": distinct(place["device"] for place in places),
        "Seed": distinct(run.info["seed"] for run in runs),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    headers = ["Run folder", "Trained on", "Member", "Views", "Skipped", "Epochs", "Chosen"]
    headers += ["Image-level kappa", "s/epoch", "Time", "Data fingerprint"]
    rows = [
        [
            f"<code>{escaped(run.path)}</code>",
            escaped(run.trained_on),
            run.recipe.member,
            run.info["views"]["train"],
            run.info["skipped"],
            len(run.history),
            run.info["best_epoch"],
            number(run.history.set_index("epoch").val_kappa[run.info["best_epoch"]]),
            f"{np.median(run.info['seconds_per_epoch']):.1f}",
            duration(run.info["seconds"]),
            f"<code>{escaped(run.info['data_fingerprint'][:12])}</code>",
        ]
        for run in runs
    ]
    folders = table(headers, rows, text_columns=(0, 1, 10))
    return f"""<section><h2>What was run</h2><dl>{listed}</dl>
<h3>Settings that differ from the paper's defaults</h3>
{_settings_table(systems)}
<details{" open" if len(runs) <= OPEN_RUNS else ""}>
<summary><h3>Run folders</h3></summary>{folders}</details></section>"""


def _settings_table(systems: list[System]) -> str:
    """One column per system, one row per setting that is not the default somewhere."""
    defaults = Recipe().to_dict()
    body = []
    for name, default in defaults.items():
        values = [[run.recipe.to_dict()[name] for run in system.runs] for system in systems]
        differs = any(value != default for system in values for value in system)
        if differs and name not in SYSTEM_KEY:
            cells = [escaped(distinct(map(setting_text, system))) for system in values]
            body.append([f"<code>{name}</code>", escaped(setting_text(default)), *cells])
    names = [escaped(system.name) for system in systems]
    columns = range(len(names) + 2)
    return table(["Setting", "Default", *names], body, text_columns=columns, css="settings")
