"""Study figures and pages, read back."""

import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from mura_tf.data.boxes import load_boxes
from mura_tf.data.radiograph import fitted, padded_box, read_radiograph
from mura_tf.data.views import load_mura
from mura_tf.evaluation.predictions import predict_views
from mura_tf.models.build import build_model
from mura_tf.reports.overlay import overlaid
from mura_tf.reports.study_page import BOX_COLOUR, explain_studies, plot_study

pytestmark = pytest.mark.usefixtures("eagerly")


def test_no_heat_shows_the_radiograph():
    radiograph = np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)
    picture = overlaid(radiograph, np.zeros((32, 32)))
    np.testing.assert_array_equal(picture, np.repeat(radiograph[..., None], 3, axis=2))


def test_heat_lies_where_it_is_in_the_square():
    radiograph = np.full((64, 32), 100, np.uint8)
    heat = np.zeros((32, 32))
    heat[:8, 8:16] = 1  # the radiograph fills columns 8 to 24; this is its upper left
    changed = (overlaid(radiograph, heat) != 100).any(axis=-1)
    assert changed[:14, :14].all()
    assert not changed[20:].any()
    assert not changed[:, 20:].any()


def test_a_figure_has_every_view_and_probability(ensemble, lesions):
    views = ensemble.study("valid/elbow/valid00001/study1")
    figure = plot_study(
        views, ensemble.heatmaps(views), load_boxes(lesions, views), title="small_cnn, cam"
    )
    *panels, bar = figure.axes
    titles = [axes.get_title() for axes in panels]
    for view in views.itertuples():
        assert f"{view.view}\nprobability {view.probability:.2f}" in titles
    pictures = [axes.images[0].get_array() for axes in panels if axes.images]
    assert len(pictures) == 4
    for picture in pictures:  # the lesion's frame is on the radiographs and on the heatmaps
        assert (picture == BOX_COLOUR).all(axis=-1).any()
    assert bar.get_ylim() == (0, 1)
    title = " ".join(figure.get_suptitle().split())
    assert "valid/elbow/valid00001/study1" in title
    assert f"study: probability {views.probability_study[0]:.2f}" in title
    assert title.endswith("labelled abnormal")
    assert "Not a medical device" in figure.get_supxlabel()


def test_what_a_view_is_taken_for_is_told_where_classes_are(ensemble):
    views = ensemble.study("valid/elbow/valid00001/study1")
    views = views.assign(true_class="abnormal elbow", share=[0.7, 0.4])
    views["decided"] = ["abnormal elbow", "normal wrist"]
    figure = plot_study(views, ensemble.heatmaps(views))
    one, other = (" ".join(axes.get_title().split()) for axes in figure.axes[:2])
    assert one.endswith("taken for abnormal elbow (0.70), rightly")
    assert other.endswith("taken for normal wrist (0.40), and is abnormal elbow")


def test_nothing_is_said_of_an_unknown_class(ensemble):
    views = ensemble.study("valid/elbow/valid00001/study1")
    views = views.assign(true_class=np.nan, share=0.7, decided="abnormal elbow")
    title = " ".join(plot_study(views, ensemble.heatmaps(views)).axes[0].get_title().split())
    assert title.endswith("taken for abnormal elbow (0.70)")


NAMES = ["1.2.840.113619.2.5.1762583153.215519.978957063.78.png", "IMG" + 60 * "0" + ".PNG"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_word_leaves_a_figure(ensemble, count, name):
    views = ensemble.reported.iloc[:count].assign(
        true_class="abnormal shoulder",
        decided="abnormal shoulder",
        share=0.7,
        disagreement=0.25,
        view=name,
    )
    whose = "efficientnet_v2_b0, fine-tuned per study type, grad_cam of the predicted class"
    figure = plot_study(views, np.zeros((count, 32, 32)), title=whose)
    figure.draw_without_rendering()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    boxes = [text.get_window_extent() for text in [figure._suptitle, *titles]]
    assert len(boxes) == 1 + count
    bar = figure.axes[-1].yaxis.label.get_window_extent()
    assert figure.bbox.y0 <= bar.y0 and bar.y1 <= figure.bbox.y1
    for one, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[one + 1 :])


def test_the_words_at_the_colours_fit_a_flat_picture(tmp_path):
    path = tmp_path / "flat.png"
    cv2.imwrite(str(path), np.full((40, 200), 128, np.uint8))
    view = {"split": "valid", "study_type": "forearm", "patient": "p", "study": "s"}
    view |= {"view": "flat.png", "path": str(path), "label": 1, "probability": 0.5, "member": 0}
    view |= {"backbone": "b", "stage": "mura", "repeat": 0}
    figure = plot_study(pd.DataFrame([view]), np.zeros((1, 32, 32)))
    figure.draw_without_rendering()
    bar = figure.axes[-1].yaxis.label.get_window_extent()
    assert figure.bbox.y0 <= bar.y0 and bar.y1 <= figure.bbox.y1


def test_a_figure_of_ones_own_predictions(lesions):
    views = load_mura(lesions).query("split == 'valid'").iloc[:2]
    with pytest.raises(ValueError, match=r"a table without\. Give rows of mura_tf\.predict"):
        plot_study(views, np.zeros((2, 32, 32)))
    model = build_model("small_cnn", None, image_size=32)
    table = predict_views(model, views)
    title = " ".join(plot_study(table, np.zeros((2, 32, 32))).get_suptitle().split())
    assert f"probability {table.probability.mean():.2f}, so" in title
    assert title.endswith(("labelled abnormal", "labelled normal"))
    unknown = plot_study(table.assign(label=np.nan), np.zeros((2, 32, 32))).get_suptitle()
    assert "labelled" not in unknown


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_study_of_any_number_of_views(ensemble, count):
    views = ensemble.reported.iloc[:count]
    figure = plot_study(views, np.zeros((count, 32, 32)))
    assert sum(bool(axes.images) for axes in figure.axes) == 2 * count


def test_a_page_has_every_study_and_needs_no_file(ensemble, lesions, tmp_path):
    studies = ensemble.top("confident", 3)
    *figures, page = explain_studies(ensemble, studies, lesions, tmp_path, order="confident")
    assert page == tmp_path / "index.html"
    assert len(figures) == 3
    assert all(read_radiograph(path).shape[1] > 500 for path in figures)
    text = page.read_text()
    names = re.findall(r"<h2>(.*?)</h2>", text)
    assert names == [
        "/".join(views.iloc[0][["split", "study_type", "patient", "study"]]) for views in studies
    ]
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 2 * sum(map(len, studies))
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "Not a medical device" in text
    assert "The surest first, right or wrong" in text
    verdicts = re.findall(r'"verdict">(\S+) (\w+)', text)
    for (mark, word), views in zip(verdicts, studies, strict=True):
        right = (views.probability_study[0] > 0.5) == views.label[0]
        assert (mark, word) == (("✓", "right") if right else ("✗", "wrong"))


def test_names_that_no_file_can_have_are_cut_and_told_apart(
    ensemble, lesions, tmp_path, monkeypatch
):
    """A study may be called by 300 letters, and two by the same where their parts end elsewhere."""
    views = ensemble.study("valid/elbow/valid00001/study1")
    keys = [("b-c", "d"), ("b", "c-d"), ("a/b", "s" * 300)]
    studies = [views.assign(patient=patient, study=study) for patient, study in keys]
    monkeypatch.setattr(ensemble, "heatmaps", lambda views, *_, **__: np.zeros((len(views), 8, 8)))
    *pictures, page = explain_studies(ensemble, studies, lesions, tmp_path / "out")
    assert len({*pictures}) == 3 and all(path.is_file() for path in [*pictures, page])
    assert {path.parent for path in pictures} == {tmp_path / "out"}


def test_a_data_set_without_boxes(ensemble, lesions, tmp_path):
    bare = shutil.copytree(lesions, tmp_path / "MURA-v1.1")
    (bare / "lesions.csv").unlink()
    studies = [ensemble.study("valid/elbow/valid00001/study1")]
    *_, page = explain_studies(ensemble, studies, bare, tmp_path / "out")
    assert "Blue frames" not in page.read_text()


def test_nothing_to_show(ensemble, lesions, tmp_path):
    with pytest.raises(ValueError, match="nothing of the valid split is among the wrong decisions"):
        explain_studies(ensemble, [], lesions, tmp_path, order="wrong")


@pytest.mark.parametrize("shape", [(300, 206), (613, 500), (1024, 77)])
def test_heat_lies_as_in_the_square_of_the_whole_radiograph(shape):
    """Whose frame that of the smaller picture may miss by a pixel."""
    side = 64
    whole = np.full(shape, 100, np.uint8)
    top, left, height, width = padded_box(*shape, side)
    heat = np.zeros((side, side))
    heat[top : top + height, left : left + width] = 1
    small = fitted(whole, 128)
    assert (overlaid(small, heat, shape) != 100).all()


def test_heat_of_other_views(ensemble):
    views = ensemble.study("valid/elbow/valid00001/study1")
    for heat in (np.zeros((len(views) + 1, 8, 8)), np.zeros((8, 8))):
        with pytest.raises(ValueError, match="heat must have a map per view"):
            plot_study(views, heat)
