"""Boxes of lesions, and the pixels of a view's square that they cover."""

import json

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.boxes import box_masks, boxes_above, known_boxes, load_boxes
from mura_tf.data.radiograph import padded_box, read_radiograph, resize_with_pad
from mura_tf.data.table import VIEW_KEY
from mura_tf.data.views import load_fracatlas, load_mura

SIDE = 20


def test_synthetic_boxes_are_the_bright_squares(lesions):
    views = load_mura(lesions)
    boxes = load_boxes(lesions.parent, views)
    assert len(boxes) == (views.label == 1).sum()
    frames = np.array([padded_box(*read_radiograph(path).shape, 64) for path in views.path])
    masks = box_masks(views, boxes, frames, 64)
    for view, mask in zip(views.itertuples(), masks, strict=True):
        square = resize_with_pad(read_radiograph(view.path), 64)
        assert mask.any() == view.label
        assert np.mean((square > 150) == mask) > 0.99  # the edge is interpolated


def test_boxes_of_other_views_are_left_out(lesions):
    views = load_mura(lesions)
    chosen = views[(views.split == "valid") & (views.study_type == "wrist")]
    boxes = load_boxes(lesions, chosen)
    assert 0 < len(boxes) == (chosen.label == 1).sum()
    assert set(boxes.split + boxes.study_type) == {"validwrist"}


def coco_of(folder):
    return folder / "Annotations/COCO JSON/COCO_fracture_masks.json"


def test_fracatlas_boxes_are_fractions_of_the_image_they_were_drawn_on(fracatlas_tree):
    views = load_fracatlas(fracatlas_tree)
    boxes = load_boxes(fracatlas_tree, views)
    assert len(boxes) == 21
    assert boxes.groupby("view").size().loc["IMG0000001.jpg"] == 2
    first = boxes[["x", "y", "width", "height"]].drop_duplicates().to_numpy()
    np.testing.assert_allclose(
        sorted(first.tolist()), [[0.1, 0.1, 0.25, 0.25], [0.75, 100 / 120, 0.125, 10 / 120]]
    )
    test = views[views.split == "test"]
    assert set(load_boxes(fracatlas_tree, test)["view"]) == set(test[test.label == 1]["view"])


def change_coco(folder, change):
    content = json.loads(coco_of(folder).read_text())
    change(content)
    coco_of(folder).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda coco: coco["annotations"][0].update(bbox=[70, 0, 20, 5]), "lies outside"),
        (lambda coco: coco["annotations"][0].update(bbox=[-0.3, 0, 0.2, 5]), "lies outside"),
        (lambda coco: coco["annotations"][0].update(bbox=[0, 300, 9, 0.5]), "lies outside"),
        (
            lambda coco: coco["images"][0].update(width=120, height=80),
            "is of an image of another shape. Received: .*IMG0000001.jpg with 40x60 pixels",
        ),
        (lambda coco: coco.pop("images"), "must be FracAtlas' COCO JSON"),
        (lambda coco: coco["annotations"][0].update(image_id=7777), "must be FracAtlas' COCO"),
        (lambda coco: coco["images"].append(coco["images"][0]), "must be FracAtlas' COCO"),
        (lambda coco: coco["annotations"][0].update(bbox=["8px", 0, 2, 3]), "must be FracAtlas'"),
    ],
)
def test_boxes_that_do_not_fit(fracatlas_tree, change, sentence):
    change_coco(fracatlas_tree, change)
    with pytest.raises(ValueError, match=sentence):
        load_boxes(fracatlas_tree, load_fracatlas(fracatlas_tree))


def test_no_boxes(mura):
    with pytest.raises(FileNotFoundError, match=r"there are none in .*\. Use a synthetic"):
        load_boxes(mura, load_mura(mura))


def test_training_and_scoring_take_the_same_boxes(fracatlas_tree):
    """A lesions.csv of the user's own goes before FracAtlas' file in both."""
    views = load_fracatlas(fracatlas_tree)
    first = views[views.label == 1].iloc[[0]]
    box = first[VIEW_KEY].assign(kind="fracture", x=1, y=1, width=2, height=3)
    box.to_csv(fracatlas_tree / "lesions.csv", index=False)
    scored, trained = load_boxes(fracatlas_tree, first, views), boxes_above(first, views)
    assert len(scored) == 1
    pd.testing.assert_frame_equal(scored, trained)


def test_a_damaged_lesions_csv(mura):
    (mura / "lesions.csv").write_text("split,study_type\ntrain,elbow\n")
    with pytest.raises(ValueError, match="must be a CSV with the columns split, study_type, pati"):
        load_boxes(mura, load_mura(mura))


def views_of(*names):
    table = pd.DataFrame({"view": names, "split": "valid", "study_type": "elbow", "study": "s1"})
    return table.assign(patient=[f"p{index}" for index in range(len(names))])


def boxes_of(views, *boxes):
    columns = ["x", "y", "width", "height"]
    return pd.concat([views[VIEW_KEY], pd.DataFrame(boxes, columns=columns)], axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_box_masks_hold_the_pixels_whose_centre_is_inside(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 0.6, 2)
    width, height = rng.uniform(0.1, 0.4, 2)
    views, frame = views_of("a.png"), (3, 0, 14, 20)
    (mask,) = box_masks(views, boxes_of(views, (x, y, width, height)), np.array([frame]), SIDE)
    for row in range(SIDE):
        for column in range(SIDE):
            across, down = (column + 0.5 - 0) / 20, (row + 0.5 - 3) / 14
            inside = x <= across < x + width and y <= down < y + height
            assert mask[row, column] == inside


def test_a_tiny_box_keeps_one_pixel():
    views = views_of("a.png", "b.png")
    boxes = boxes_of(views, (0.51, 0.51, 0.001, 0.001), (0.9999, 0.0, 0.0001, 0.001))
    masks = box_masks(views, boxes, np.array([(0, 0, 20, 20)] * 2), SIDE)
    assert [np.argwhere(mask).tolist() for mask in masks] == [[[10, 10]], [[0, 19]]]


@pytest.mark.parametrize("start", [(1 - 1e-17, 0.5), (-0.009, 0.5), (0.999, -0.009), (0.5, 1.0)])
@pytest.mark.parametrize("frame", [(0, 0, 64, 64), (10, 0, 44, 64), (0, 7, 64, 50)])
def test_a_box_at_the_edge_keeps_a_pixel_of_its_view(start, frame):
    views = views_of("a.png")
    (mask,) = box_masks(views, boxes_of(views, (*start, 0.0095, 0.005)), np.array([frame]), 64)
    (place,) = np.argwhere(mask)
    top, left, height, width = frame
    x, y = np.clip(start, 0, 1)
    assert top <= place[0] < top + height and left <= place[1] < left + width
    assert abs(place[0] + 0.5 - (top + y * height)) <= 1
    assert abs(place[1] + 0.5 - (left + x * width)) <= 1


@pytest.mark.parametrize("data", ["lesions", "fracatlas_tree"])
def test_boxes_are_found_above_the_files(request, data):
    folder = request.getfixturevalue(data)
    views = (load_mura if data == "lesions" else load_fracatlas)(folder)
    assert boxes_above(views).equals(load_boxes(folder, views))


def test_boxes_above_files_of_two_data_sets(lesions, fracatlas_tree):
    views = pd.concat([load_mura(lesions), load_fracatlas(fracatlas_tree)], ignore_index=True)
    parts = [load_boxes(lesions, views), load_boxes(fracatlas_tree, views)]
    assert boxes_above(views).equals(pd.concat(parts, ignore_index=True))


def test_no_boxes_above(mura):
    sentence = r"needs a data set that has them.* in any folder above it.* 'map:16:0'"
    with pytest.raises(FileNotFoundError, match=sentence):
        boxes_above(load_mura(mura))


def with_lesions(mura, patient="patient00001", x="2"):
    header = "split,study_type,patient,study,view,x,y,width,height"
    row = f"train,elbow,{patient},study1,image1.png,{x},2,3,3"
    (mura / "lesions.csv").write_text(f"{header}\n{row}\n")
    return load_mura(mura)


def test_boxes_of_other_views_alone(mura):
    assert len(boxes_above(with_lesions(mura))) == 1
    views = with_lesions(mura, "train00001")
    sentence = (
        r"lesions.csv must name views below it.* Received: none of 7 that are abnormal, the first: "
        r"split=train, study_type=elbow, .* Name them as it does, or give the map the weight 0"
    )
    with pytest.raises(ValueError, match=sentence):
        boxes_above(views)
    assert boxes_above(views[views.label == 0]).empty


def test_a_box_is_of_its_own_split_where_patients_recur(mura):
    views = with_lesions(mura)
    key = ("elbow", "patient00001", "study1", "image1.png")
    here = (views[VIEW_KEY[1:]] == key).all(axis=1) & (views.split == "train")
    again = pd.concat([views, views[here].assign(split="valid")], ignore_index=True)
    assert boxes_above(again).split.tolist() == load_boxes(mura, again).split.tolist() == ["train"]
    shown = again[again.split == "valid"]
    assert load_boxes(mura, shown, among=again).empty
    assert known_boxes(mura, shown, among=again).empty


@pytest.mark.parametrize("beside", [False, True])
def test_the_boxes_of_a_views_table_are_beside_it_or_above_its_radiographs(lesions, beside):
    views = load_mura(lesions)
    folder = lesions if beside else lesions.with_name("elsewhere")
    folder.mkdir(exist_ok=True)
    views.to_csv(folder / "mine.csv", index=False)
    assert load_boxes(folder / "mine.csv", views).equals(load_boxes(lesions, views))
    (folder / "mine.csv").unlink()


def test_boxes_that_another_program_has_saved(lesions, tmp_path):
    views = load_mura(lesions)
    text = (lesions / "lesions.csv").read_text().replace(",", ";").replace("patient;", "Patient;")
    (tmp_path / "lesions.csv").write_bytes(text.encode("utf-16"))
    views.to_csv(tmp_path / "mine.csv", index=False)
    assert load_boxes(tmp_path / "mine.csv", views).equals(load_boxes(lesions, views))


def test_a_view_that_is_given_twice_has_its_boxes_twice(lesions):
    views = load_mura(lesions)
    two = views[views.label == 1].head(2)
    again = pd.concat([two, two], ignore_index=True)
    frames = np.array([padded_box(48, 40, SIDE)] * 4)
    masks = box_masks(again, load_boxes(lesions, views), frames, SIDE)
    assert masks.any(axis=(1, 2)).all() and (masks[:2] == masks[2:]).all()


@pytest.mark.parametrize("x", ["nan", "NaN", "inf", "-inf"])
def test_a_box_that_is_nowhere(mura, x):
    with pytest.raises(ValueError, match=f"the first: x={x.lower()}, y=2, .* lies outside"):
        load_boxes(mura, with_lesions(mura, x=x))
