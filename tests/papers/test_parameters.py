import pandas as pd
import pytest
from pages import Page

from mura_tf.papers.parameters import ParameterTable, report_parameters
from mura_tf.papers.reproduce import find_experiment
from mura_tf.published import published_table
from mura_tf.reports.markdown import markdown_table

TABLE = find_experiment("table_iii")


def test_table_iii_is_about_the_published_backbones():
    assert isinstance(TABLE, ParameterTable)
    assert list(TABLE.backbones) == published_table("table_iii").backbone.tolist()


def test_parameters_are_counted_and_written(tmp_path):
    """MobileNetV2 is in the document, small_cnn is not."""
    counted = report_parameters(TABLE, tmp_path, ["mobilenet_v2", "small_cnn"])
    one, other = counted.itertuples()
    assert (one.backbone, one.image_size, one.top1) == ("mobilenet_v2", 300, 0.747)
    assert one.parameters == one.published_parameters == 2_264_385
    assert bool(one.equal)
    assert (other.backbone, other.parameters) == ("small_cnn", 62_129)
    assert pd.isna(other.published_parameters) and pd.isna(other.equal) and pd.isna(other.top1)

    folder = tmp_path / "table_iii"
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.csv", "report.html"}
    again = pd.read_csv(folder / "table.csv")
    assert again.parameters.tolist() == counted.parameters.tolist()
    assert list(again) == list(counted)
    rows = [
        ["mobilenet_v2", "300 x 300", "74.7%", "2,264,385", "2,264,385", "yes"],
        ["small_cnn", "96 x 96", "n/a", "62,129", "n/a", "n/a"],
    ]
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {TABLE.title}\n")
    for row in rows:
        assert f"| {' | '.join(row)} |\n" in text
    assert Page(folder / "report.html").tables[0][1:] == rows


def test_an_unknown_backbone_is_named_before_anything_is_built(tmp_path):
    with pytest.raises(ValueError, match=r"backbone must be one of .* Received: 'vgg'"):
        report_parameters(TABLE, tmp_path, ["mobilenet_v2", "vgg"])
    assert list(tmp_path.iterdir()) == []


def test_a_markdown_table():
    assert markdown_table(["a", "b|c"], [["1", "2|3"]]) == [
        "| a | b\\|c |",
        "| --- | ---: |",
        "| 1 | 2\\|3 |",
    ]
