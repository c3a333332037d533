"""Findings as files: tables, pictures and a page."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from pages import Page

from mura_tf.data.radiograph import fitted
from mura_tf.inference import write
from mura_tf.inference.findings import FINDING_COLUMNS, VIEW_COLUMNS
from mura_tf.inference.write import study_picture, write_findings
from mura_tf.reports.picture_names import PictureNames


@pytest.fixture
def found(bundle, lesions, tmp_path):
    bad = tmp_path / "in/bad.png"
    bad.parent.mkdir()
    bad.write_bytes(b"<b>no image</b>")
    out = tmp_path / "found"
    findings = bundle.findings([bad, lesions / "valid/XR_WRIST"])
    return write_findings(findings, out, bundle.facts), out


def test_the_tables_are_those_of_read(found, bundle, lesions):
    counts, out = found
    expected = bundle.read(lesions / "valid/XR_WRIST")
    table = pd.read_csv(out / "findings.csv", keep_default_na=False)
    assert list(table) == FINDING_COLUMNS and len(table) == len(expected) + 1
    bad, *rest = table.itertuples()
    assert bad.decision == "not read" and bad.probability == "" and "no image" not in bad.warnings
    assert [row.study for row in rest] == expected.study.tolist()
    values = [float(row.probability) for row in rest]
    assert values == pytest.approx(expected.probability.tolist(), abs=1e-6)
    views = pd.read_csv(out / "views.csv", keep_default_na=False)
    assert list(views) == VIEW_COLUMNS and len(views) == table.views.sum()
    assert counts["unreadable files"] == counts["not read"] == 1
    assert sum(counts[name] for name in write.RANK) == len(table)


def test_every_study_that_was_read_has_a_picture(found):
    _, out = found
    views = pd.read_csv(out / "views.csv")
    pictures = set(views.heatmap.dropna())
    assert pictures == {f"studies/{path.name}" for path in (out / "studies").iterdir()}
    for name in pictures:
        assert cv2.imread(str(out / name)).shape[0] > write.SIDE


def test_the_page_needs_no_other_file_and_shows_the_abnormal_first(found):
    _, out = found
    page = Page(out / "index.html")
    assert "Not a medical device" in page.text
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources and all(source.startswith("data:image/jpeg") for source in sources)
    assert "http" not in page.source.replace("http://www.w3.org", "")
    table = pd.read_csv(out / "findings.csv")
    order = table.assign(rank=table.decision.map(write.RANK)).sort_values(
        ["rank", "probability"], ascending=[True, False], kind="stable"
    )
    places = [page.text.index(name) for name in order.study]
    assert places == sorted(places)


def test_nothing_is_written_beside_the_originals(bundle, lesions, tmp_path):
    copy = tmp_path / "wrist"
    shutil.copytree(lesions / "valid/XR_WRIST", copy)
    before = sorted(copy.rglob("*"))
    write_findings(bundle.findings([copy]), tmp_path / "out", bundle.facts)
    assert sorted(copy.rglob("*")) == before


def test_no_two_studies_have_one_picture():
    names = PictureNames()
    given = [names(one) for one in ("wrist", "Wrist", "wrist-2", "wrist", "wrist-2", "wrist-3")]
    assert given[:3] == ["wrist", "Wrist-2", "wrist-2-2"]
    assert len({name.casefold() for name in given}) == 6


def test_a_name_is_no_path_and_no_html(bundle, lesions, tmp_path):
    findings = list(bundle.findings([lesions / "valid/XR_WRIST"]))[:2]
    for finding in findings:
        finding.study = "../../<script>alert(1)</script>"
    write_findings(findings, tmp_path / "out", bundle.facts)
    assert "<script>" not in (tmp_path / "out/index.html").read_text()
    assert len(list((tmp_path / "out/studies").iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_only_the_first_studies_are_on_the_page(bundle, lesions, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_SHOWN", 3)
    write_findings(bundle.findings([lesions / "valid"]), tmp_path, bundle.facts)
    text = (tmp_path / "index.html").read_text()
    assert text.count('<section class="study') == 3
    assert "12 studies" in text and "The first 3 are shown" in text


def test_the_heat_is_drawn_on_the_radiograph(bundle):
    image = np.zeros((64, 64), np.uint8)
    (finding,) = bundle.findings([image], study_type="wrist")
    finding.views[0].heat = np.zeros((32, 32), np.float32)
    finding.views[0].heat[8:16, 16:24] = 1
    sheet = np.asarray(study_picture(finding, bundle.facts)).astype(int)
    warm = (sheet[..., 0] > 120) & (sheet[..., 2] < 80)
    rows, columns = np.nonzero(warm[560:])
    scale = write.SIDE / 32
    assert rows.mean() + 560 - 80 - write.SIDE - write.GAP == pytest.approx(12 * scale, abs=scale)
    assert columns.mean() - write.GAP == pytest.approx(20 * scale, abs=scale)


def test_names_of_any_script_are_told_apart(bundle):
    image = np.zeros((64, 64), np.uint8)
    (finding,) = bundle.findings([image], study_type="wrist")
    seen = set()
    for name in ("Müller", "Moller", "Щит", "Юла", "山田", "山本", "\u2013"):
        finding.study = finding.views[0].file = name
        seen.add(study_picture(finding, bundle.facts).crop((0, 0, 300, 28)).tobytes())
    assert len(seen) == 7


def test_what_is_said_of_a_view_stays_above_it_and_tells_it_apart(bundle, lesions):
    findings = bundle.findings([lesions / "valid/XR_WRIST"])
    finding = next(one for one in findings if len(one.views) > 1)
    finding.study = "of a study/" * 30 + "1"
    for number, view in enumerate(finding.views):
        view.file = "as PACS name them/" * 20 + f"IM{number}"
    sheet = study_picture(finding, bundle.facts)
    edge = np.asarray(sheet.convert("L"))[:78]
    paper = edge[0, 0]
    assert (edge[:30, -write.GAP :] == paper).all()
    left, captions = write.GAP, []
    for view in finding.views:
        right = left + fitted(view.radiograph, write.SIDE).shape[1]
        assert (edge[56:, right : right + write.GAP] == paper).all()
        captions.append((edge[56:, left:right] != paper).tobytes())
        left = right + write.GAP
    assert any(captions[0]) and captions[0] != captions[1]
