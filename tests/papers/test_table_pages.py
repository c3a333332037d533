"""What a table's files say, read back."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Page, lines_of, markdown
from run_folders import SMALL, TYPES, finish, finished, views_of

from mura_tf.papers.reproduce import find_experiment
from mura_tf.papers.tables import report_table
from mura_tf.published import OVERALL, published_table

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
FILES = {"table.md", "table.csv", "report.html", "experiment.json"}
PLOTS = {"kappa.svg", "reliability.svg", "curves.svg"}


# ------------------------------------------------------------------------------------------------
# Numbers


@pytest.mark.parametrize("name", ["table_iv", "table_v"])
def test_markdown_and_html_show_the_csvs_numbers(name, request):
    _, report, folder = request.getfixturevalue(name)
    digits = {"table_iv": 4, "table_v": 3}[name]
    csv_table = pd.read_csv(folder / "table.csv", index_col="study_type")
    systems = list(dict.fromkeys(column.split()[0] for column in csv_table))
    shown = lines_of(markdown(folder)[1:])
    kinds = ["here", "95 %", "published", *(["difference"] if report.same_data else [])]
    assert list(shown) == [(row.capitalize(), kind) for row in csv_table.index for kind in kinds]

    def text(value, deviation=np.nan, sign=""):
        if np.isnan(value):
            return DASH
        return f"{value:{sign}.{digits}f}" + (
            "" if np.isnan(deviation) else f" ({deviation:.{digits}f})"
        )

    for study_type, values in csv_table.iterrows():
        for index, system in enumerate(systems):
            cell = {key.split()[1]: values[key] for key in csv_table if key.startswith(system)}
            mine = slice(2 * index, 2 * index + 2)
            expected = {
                "here": [
                    text(cell["accuracy"], cell["accuracy_std"]),
                    text(cell["kappa"], cell["kappa_std"]),
                ],
                "95 %": ["", f"{text(cell['kappa_low'])} to {text(cell['kappa_high'])}"],
                "published": [
                    text(cell["published_accuracy"], cell["published_accuracy_std"]),
                    text(cell["published_kappa"], cell["published_kappa_std"]),
                ],
                "difference": [
                    text(cell["accuracy_difference"], sign="+"),
                    text(cell["kappa_difference"], sign="+"),
                ],
            }
            for kind in kinds:
                cells = [entry.strip("*") for entry in shown[study_type.capitalize(), kind][mine]]
                assert cells == expected[kind]

    page = Page(folder / "report.html").tables[0]
    assert page[1] == ["Accuracy", "Kappa"] * len(systems)
    rows = [row if len(row) > len(page[2]) - 1 else ["", *row] for row in page[2:]]
    html = lines_of([[cell.replace(MINUS, "-") for cell in row] for row in rows])
    plain = {key: [cell.strip("*") for cell in cells] for key, cells in shown.items()}
    assert html == plain


@pytest.mark.parametrize("name", ["table_iv", "table_v", "table_vi"])
def test_published_values_are_the_csvs_to_the_last_digit(name, tmp_path, table_iv, table_v):
    if name == "table_vi":
        experiment = find_experiment(name)
        plan = finished(experiment, tmp_path, views_of(dict.fromkeys(TYPES, (6, 6))), members=1)
        report_table(experiment, plan, tmp_path)
        folder = tmp_path / name
    else:
        folder = {"table_iv": table_iv, "table_v": table_v}[name][2]
    path = Path(__file__).resolve().parents[2] / "experiments" / "published" / f"{name}.csv"
    printed = pd.read_csv(path, dtype=str).fillna("")
    headers, *rows = markdown(folder)
    shown = lines_of(rows)
    experiment = find_experiment(name)
    checked = 0
    whole = {name.capitalize() for name in TYPES} <= {name for name, _ in shown}
    for cell in printed.itertuples():
        key = (cell.study_type.capitalize(), "published")
        if key not in shown:
            continue
        if name == "table_iv":
            system = ["imagenet", "type"].index(cell.stage)
            expected = [DASH, cell.kappa]
        else:
            system = experiment.backbones.index(cell.backbone)
            expected = [
                f"{cell.accuracy} ({cell.accuracy_std})",
                f"{cell.kappa} ({cell.kappa_std})",
            ]
        if cell.study_type == OVERALL and not whole:  # of all types, and not beside one of fewer
            expected = [DASH, DASH]
        assert shown[key][2 * system : 2 * system + 2] == expected
        checked += 1
    assert checked == {"table_iv": 16, "table_v": 9, "table_vi": 32}[name]
    assert headers[:2] == ["Study type", ""]


def test_counts_are_whole_numbers(table_iv):
    with open(table_iv[2] / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = (
        published_table("table_i").query("split == 'valid'").groupby("study_type").studies.max()
    )
    assert rows[-1]["efficientnet_b3/type n"] == "1199" == str(counts["all"])
    assert {row["efficientnet_b3/imagenet members"] for row in rows} == {"5"}
    assert {row["efficientnet_b3/imagenet repeats"] for row in rows} == {"1"}


# ------------------------------------------------------------------------------------------------
# The best of a row


def test_the_best_kappa_of_each_row_is_bold(table_v):
    _, report, folder = table_v
    shown = lines_of(markdown(folder)[1:])
    page = (folder / "report.html").read_text(encoding="utf-8")
    cells = report.cells
    for study_type in ("elbow", "wrist", OVERALL):
        rows = cells[cells.study_type == study_type].reset_index(drop=True)
        bold = [cell.startswith("**") for cell in shown[study_type.capitalize(), "here"]]
        best = np.isclose(rows.kappa, rows.kappa.max()).tolist()
        assert bold == [flag for one in best for flag in (False, one)]
        text = shown[study_type.capitalize(), "here"][2 * best.index(True) + 1].strip("*")
        assert f"<b>{text}</b>" in page
    assert not any(
        "*" in cell for (_, kind), row in shown.items() if kind != "here" for cell in row
    )


def test_equal_bests_are_all_bold(tmp_path):
    experiment = find_experiment("table_iv")
    plan = experiment.plan(tmp_path, ["elbow"], members=1)
    for run in plan:
        finish(run, views_of({"elbow": (10, 10)}), skill=50)
    report = report_table(experiment, plan, tmp_path)
    assert report.cells.best.all()
    np.testing.assert_allclose(report.cells.kappa, 1)


def test_nothing_is_bold_beside_nothing(tmp_path):
    experiment = find_experiment("table_v")
    plan = experiment.plan(tmp_path, ["elbow"], members=1, repeats=1, backbones=["small_cnn"])
    for run in plan:
        finish(run, views_of({"elbow": (10, 10)}))
    report_table(experiment, plan, tmp_path)
    assert not any("*" in cell for row in markdown(tmp_path / "table_v") for cell in row)
    assert '<td class="n"><b>' not in (tmp_path / "table_v/report.html").read_text("utf-8")


def test_equal_repeats_in_another_order_are_both_bold(tmp_path):
    """The means of three kappas differ by an ulp when they are added in another order."""
    experiment = find_experiment("table_iv")
    orders = {"imagenet": (0, 1, 2), "type": (0, 2, 1)}
    views = views_of({"elbow": (23, 19)})
    plan = experiment.plan(tmp_path, ["elbow"], members=1, repeats=3)
    wrong = [4, 1, 2]  # views decided wrongly, of each of three ensembles
    for run in plan:
        finish(run, views)
        if run.recipe.study_types:
            path = run.folder / "predictions.csv"
            table = pd.read_csv(path)
            turned = table.index < wrong[orders[run.recipe.stage][run.recipe.repeat]]
            table.assign(probability=abs(table.label - turned)).to_csv(path, index=False)
    report = report_table(experiment, plan, tmp_path)
    assert report.cells.kappa.nunique() == 2 and report.cells.best.all()
    shown = lines_of(markdown(tmp_path / "table_iv")[1:])
    for cells in (shown["Elbow", "here"], shown["Overall", "here"]):
        assert cells[1] == cells[3] and cells[1].startswith("**")


# ------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize(
    ("name", "plots"), [("table_iv", PLOTS), ("table_v", PLOTS | {"parameters.svg"})]
)
def test_the_files_of_a_table(name, plots, request):
    _, _, folder = request.getfixturevalue(name)
    assert {path.name for path in folder.iterdir()} == FILES | plots
    text = (folder / "table.md").read_text(encoding="utf-8")
    for plot in plots:
        assert text.count(f"]({plot})") == 1
        assert (folder / plot).read_text(encoding="utf-8").startswith("<?xml")
    page = Page(folder / "report.html")
    assert [name for name, _ in page.tags].count("svg") == len(plots)
    assert not {"script", "link", "iframe", "object", "img"} & {name for name, _ in page.tags}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Not a medical device." in text and "Not a medical device." in page.text
    assert find_experiment(name).title in page.text


def test_the_page_says_what_the_markdown_says(table_v):
    _, report, folder = table_v
    page = Page(folder / "report.html")
    for sentence in report.deviations:
        assert sentence in page.text
    for heading in ("The document's claims", "Systems in pairs"):
        rows = markdown(folder, heading)
        (table,) = [table for table in page.tables if table[0] == rows[0]]
        assert [[cell.replace(MINUS, "-") for cell in row] for row in table] == rows
    assert "Xception is ahead of DenseNet-169" in page.text  # a hyphen is no minus
    assert page.tables[0][0] == ["Study type", "", *find_experiment("table_v").backbones]


def test_the_same_runs_give_the_same_bytes_wherever_they_are(table_v, tmp_path):
    _, _, folder = table_v
    moved = tmp_path / "moved"
    shutil.copytree(folder.parent, moved)
    experiment = find_experiment("table_v")
    plan = experiment.plan(moved, list(SMALL), members=2, repeats=2)
    report_table(experiment, plan, moved)
    for path in sorted(folder.iterdir()):
        assert (moved / "table_v" / path.name).read_bytes() == path.read_bytes(), path.name


def test_more_systems_than_colours(tmp_path):
    experiment = find_experiment("table_iv")
    names = ["small_cnn", "mobilenet_v2_035", "mobilenet_v2", "xception"]
    views = views_of({"elbow": (12, 12)})
    plan = finished(experiment, tmp_path, views, backbones=names, members=1)
    report = report_table(experiment, plan, tmp_path)
    assert len(report.cells) == 8 * 2 and len(report.pairs) == 8 * 7 / 2
    headers = markdown(tmp_path / "table_iv")[0]
    assert headers[2] == "small_cnn, trained directly: accuracy"
    drawn = (tmp_path / "table_iv/kappa.svg").read_text(encoding="utf-8")
    assert "mobilenet_v2, fine-tuned per study type" in drawn
    assert drawn.count("xception, trained directly") == 1  # seven colours


def test_text_from_outside_is_text(tmp_path):
    nasty = '<b>|"elbow"|</b> $x$_-'
    views = views_of({nasty.replace("/", "."): (9, 9), "XR_hand": (9, 9)})
    experiment = find_experiment("table_iv")
    report_table(experiment, finished(experiment, tmp_path, views, members=1), tmp_path)
    name = nasty.replace("/", ".")
    shown = [row[0] for row in markdown(tmp_path / "table_iv")[1:] if row[0]]
    assert shown == [name, "XR_hand", "Overall"]
    page = Page(tmp_path / "table_iv/report.html")
    assert [row[0] for row in page.tables[0][2::3]] == shown
    assert set(pd.read_csv(tmp_path / "table_iv/table.csv").study_type) == {
        name, "XR_hand", OVERALL
    }  # fmt: skip
