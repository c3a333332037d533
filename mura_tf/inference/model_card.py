"""What a bundle is, on a page: written from its facts alone."""

from typing import Any

import pandas as pd

from mura_tf.models.specs import parse_head
from mura_tf.reports.decision_section import HEADERS, point_rows
from mura_tf.reports.markdown import markdown_table
from mura_tf.reports.numbers import number_text, with_interval

FEW = 100
"""Studies below which a score is marked as unreliable."""


def model_card(facts: dict[str, Any]) -> tuple[str, str]:
    """`MODEL_CARD.md`, and the calibration plot as SVG beside it ("" without calibration).

    Args:
        facts: of `bundle.json`.
    """
    drawing = _drawing(facts) if facts["calibration"] else ""
    sections = [
        _head(facts),
        _use(facts),
        _scores(facts),
        _points(facts),
        _calibration(facts),
        _training(facts),
        _limits(facts),
    ]
    return "\n".join(line for section in sections for line in [*section, ""]), drawing


def _head(facts: dict[str, Any]) -> list[str]:
    members = len(facts["members"])
    return [
        f"# {facts['name']}, version {facts['version']}",
        "",
        f"**{facts['notice']}**",
        "",
        f"{members} model{'s' if members > 1 else ''} ({facts['system']}), {facts['image_size']} x "
        f"{facts['image_size']} pixels, made by {facts['made_by']}. Says how probable an "
        f"abnormality is in a bone radiograph of: {', '.join(facts['study_types'])}.",
    ]


def _use(facts: dict[str, Any]) -> list[str]:
    recogniser = facts["recogniser"]
    told = (
        f"The study type is recognised, among {', '.join(recogniser['classes'])}, where neither a "
        "folder nor a DICOM header gives it."
        if recogniser
        else "The study type comes from the folder's name, the DICOM header or `--type`."
    )
    return [
        "## Use",
        "",
        "```console",
        "$ mura-tf predict BUNDLE.mura STUDY --out found",
        "```",
        "",
        told,
    ]


def _scores(facts: dict[str, Any]) -> list[str]:
    headers = [
        "Study type",
        "Studies",
        "Kappa [95 %]",
        "AUROC [95 %]",
        "Sensitivity",
        "Specificity",
    ]
    rows = []
    for row in facts["scores"]:
        row = {key: float("nan") if value is None else value for key, value in row.items()}
        few = " (few: unreliable)" if row["n"] < FEW else ""
        rows.append(
            [
                row["study_type"] + few,
                f"{row['n']:,}",
                with_interval(row["kappa"], row["kappa_low"], row["kappa_high"]),
                with_interval(row["auroc"], row["auroc_low"], row["auroc_high"]),
                number_text(row["sensitivity"]),
                number_text(row["specificity"]),
            ]
        )
    return [
        "## Scores",
        "",
        f"Studies of the {facts['reported_on']} split, abnormal above 0.5. {_protocol(facts)} "
        "Intervals are of a bootstrap that resamples patients.",
        "",
        *markdown_table(headers, rows),
    ]


def _protocol(facts: dict[str, Any]) -> str:
    if facts["chosen_on"] == facts["reported_on"]:
        return "Epochs were selected on the same split, so the scores are optimistic."
    sentence = f"Epochs were selected on {facts['chosen_on']}."
    if shared := facts["data"].get("of_trained_patients"):
        sentence += f" {shared:,} of the views are of patients that were trained on: optimistic."
    return sentence


def _points(facts: dict[str, Any]) -> list[str]:
    points = pd.DataFrame(facts["operating_points"]).set_index("point")
    table = points.astype(float).reset_index()  # null is NaN
    lines = ["## Operating points", ""]
    if len(table) == 1:
        lines += ["The selection split has too few studies of both labels to choose others.", ""]
    else:
        lines += [f"Chosen on {facts['chosen_on']}, scored on {facts['reported_on']}.", ""]
    return lines + markdown_table(HEADERS, point_rows(table))


def _calibration(facts: dict[str, Any]) -> list[str]:
    calibration = facts["calibration"]
    if not calibration:
        return ["## Calibration", "", "None: the selection split lacks studies of both labels."]
    return [
        "## Calibration",
        "",
        f"Platt's, fitted on {facts['chosen_on']}: slope {calibration['slope']:.3f}, intercept "
        f"{calibration['intercept']:.3f}. Expected calibration error on {facts['reported_on']}: "
        f"{calibration['error_before']:.3f} before, {calibration['error_after']:.3f} after.",
        "",
        "![Share of abnormal studies against their probability](calibration.svg)",
    ]


def _training(facts: dict[str, Any]) -> list[str]:
    recipe = facts["recipe"]
    views = [[name, f"{count:,}"] for name, count in facts["data"]["training_views"].items()]
    settings = [
        [f"`{name}`", str(value)] for name, value in recipe.items() if value not in (None, [])
    ]
    return [
        "## Training",
        "",
        f"Data fingerprint: {', '.join(facts['data']['fingerprints'])}.",
        "",
        *markdown_table(["Trained on", "Views"], views),
        "",
        *markdown_table(["Setting", "Value"], settings, text_columns=(0, 1)),
    ]


def _limits(facts: dict[str, Any]) -> list[str]:
    located = any(name == "map" for name, _ in parse_head(tuple(facts["recipe"]["head"])))
    shown = "where the model takes a lesion to be" if located else "where the probability came from"
    return [
        "## Limits",
        "",
        f"- It knows radiographs like those it was trained on ({', '.join(facts['study_types'])}), "
        "and nothing else: other body parts, ages and machines were not tried.",
        f"- A heatmap shows {shown}, not where a lesion is.",
        "- A normal finding does not exclude an abnormality.",
        f"- {facts['licence'] or 'No licence was stated when it was packed.'}",
        "",
        facts["notice"],
    ]


def _drawing(facts: dict[str, Any]) -> str:
    from mura_tf.evaluation.operating_points import Calibration
    from mura_tf.reports.page import svg
    from mura_tf.reports.score_plots import plot_reliability

    before = pd.DataFrame(facts["reliability"]).assign(backbone="before calibration", stage="")
    calibration = Calibration(facts["calibration"]["slope"], facts["calibration"]["intercept"])
    after = before.assign(backbone="after", probability=calibration(before.probability))
    both = pd.concat([before, after])
    return svg(plot_reliability(both.assign(system=both.backbone)), "calibration")
