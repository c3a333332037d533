"""The data study's page, Markdown and CSV, read back."""

import base64

import cv2
import numpy as np
import pandas as pd
import pytest
from mixtures import SIDE, rows_of, written_views
from pages import Page

from mura_tf.data import study as data_study
from mura_tf.data.study import IPCA_NAME, PCA_NAME, study_data
from mura_tf.reports.data_page import write_data_study


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return written_views(tmp_path_factory.mktemp("radiographs") / "images")


@pytest.fixture(scope="module")
def study(views):
    return study_data(views, image_size=SIDE, per_class=(6, 20))


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "study"
    assert write_data_study(study, out) == out / "report.html"
    return out


def test_the_files_of_a_study(folder):
    plots = {"classes.svg", "grey-levels.svg", "elbows.svg", "samples.png"}
    assert {path.name for path in folder.iterdir()} == {
        *plots,
        "report.html",
        "study.md",
        "study.csv",
    }
    text = (folder / "study.md").read_text(encoding="utf-8")
    for plot in plots:
        assert text.count(f"]({plot})") == 1
    page = Page(folder / "report.html")
    assert [name for name, _ in page.tags].count("svg") == 3
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in page.tags}
    (image,) = (attributes for name, attributes in page.tags if name == "img")
    png = (folder / "samples.png").read_bytes()
    assert image["src"] == f"data:image/png;base64,{base64.b64encode(png).decode()}"
    assert cv2.imdecode(np.frombuffer(png, np.uint8), 0) is not None
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_and_the_markdown_say_the_same(folder, study):
    page, text = Page(folder / "report.html"), (folder / "study.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert cells == [row for table in page.tables for row in table]
    classes, levels, reductions = page.tables
    assert classes[1] == ["normal elbow", "40", "40.0%", "10", "40.0%"]
    assert classes[-1] == ["all", "100", "100.0%", "25", "100.0%"]
    assert levels[1][:3] == ["normal elbow", "40", f"{study.pixels['mean'].iloc[0]:.1f}"]
    assert [row[:3] for row in reductions[1:]] == [
        [PCA_NAME, "6", "24"], [IPCA_NAME, "6", "24"],
        [PCA_NAME, "20", "68"], [IPCA_NAME, "20", "68"],
    ]  # fmt: skip
    for sentence in (
        "these data have elbow, wrist.",
        "of fourteen classes they are 140.",
        "80% train, 20% valid.",
        *study.remarks,
    ):
        assert sentence in page.text and sentence in text


def test_the_csv_is_in_the_published_form(folder, study):
    table = pd.read_csv(folder / "study.csv")
    assert list(table) == ["system", "study_type", "label", "split", "metric", "value"]
    images = table[table.metric == "images"]
    assert images.value.sum() == study.counts.to_numpy().sum()
    row = table.query("study_type == 'wrist' and label == 1 and metric == 'pixel_mean'")
    assert row.value.item() == pytest.approx(study.pixels["mean"]["abnormal wrist"], rel=1e-5)
    pca = table[table.system == "pca_20"].set_index("metric").value
    ours = rows_of(study, 20).loc[PCA_NAME]
    assert pca.components_for_95_percent_variance == ours.components
    assert (pca.images_per_class, pca.total_images) == (20, 68)
    assert set(table.system) == {"data", "pca_6", "ipca_6", "pca_20", "ipca_20"}


def test_a_class_without_training_images_is_told(views, tmp_path):
    gone = (views.split == "train") & (views.study_type == "wrist") & (views.label == 1)
    write_data_study(study_data(views[~gone], image_size=SIDE, per_class=[6]), tmp_path)
    rows = {row[0]: row for row in Page(tmp_path / "report.html").tables[1]}
    assert rows["abnormal wrist"][1:] == ["0", *["\N{EN DASH}"] * 3]


def test_too_few_components_are_told(views, monkeypatch, tmp_path):
    monkeypatch.setattr(data_study, "KEPT", 2)
    write_data_study(study_data(views, image_size=SIDE, per_class=[20]), tmp_path)
    assert Page(tmp_path / "report.html").tables[2][2][4] == "more than 2"
    table = pd.read_csv(tmp_path / "study.csv").query("system == 'ipca_20'").set_index("metric")
    assert np.isnan(table.value.components_for_95_percent_variance)
    assert table.value.components_kept == 2
