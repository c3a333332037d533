"""GRAZPEDWRI-DX, on a tree made after its public description."""

import shutil

import numpy as np
import pytest
from grazpedwri_tree import PATIENTS, VOC, write_grazpedwri
from mura_folders import edit

from mura_tf.data.boxes import boxes_above, known_boxes, load_boxes
from mura_tf.data.check import check_dataset
from mura_tf.data.radiograph import read_radiograph
from mura_tf.data.table import SPLITS
from mura_tf.data.views import load_grazpedwri, load_views
from mura_tf.terminal import Notice


@pytest.fixture
def graz(tmp_path):
    return write_grazpedwri(tmp_path / "GRAZPEDWRI-DX")


def test_the_views_of_a_wrist_are_a_study_and_share_its_label(graz):
    views = load_grazpedwri(graz.parent)
    assert len(views) == 2 * PATIENTS and set(views.study_type) == {"wrist"}
    assert set(views.study) == {"study1L"} and set(views.split) == set(SPLITS)
    odd = views.patient.astype(int) % 2
    assert views.label.tolist() == odd.tolist()
    assert (views.groupby("patient").split.nunique() == 1).all()
    of_split = views.groupby("split").label.mean()
    assert of_split.between(0.3, 0.7).all()
    assert read_radiograph(views.path[0]).dtype == np.uint8


def test_the_seed_and_the_fractions_are_of_the_split(graz):
    views = load_grazpedwri(graz)
    assert views.equals(load_views(graz))
    assert load_grazpedwri(graz, seed=5).equals(load_views(graz, seed=5))
    assert not load_views(graz, seed=5).equals(views)
    shares = load_grazpedwri(graz, fractions=(0.5, 0.25, 0.25)).split.value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match=r"three positive numbers with sum 1"):
        load_grazpedwri(graz, fractions=(0.5, 0.5))


def test_a_good_tree_has_nothing_wrong(graz):
    assert check_dataset(graz).empty


def test_a_folder_of_other_pictures_is_left_alone(graz):
    (graz / "annotated_images").mkdir()
    first = next(graz.glob("images_part1/*"))
    shutil.copy(first, graz / "annotated_images" / first.name)
    views = load_grazpedwri(graz)
    assert not views.path.str.contains("annotated").any()


def test_the_csv_may_be_utf_16(graz):
    views = load_grazpedwri(graz)
    text = (graz / "dataset.csv").read_text()
    (graz / "dataset.csv").write_text(text, encoding="utf-16")
    assert load_grazpedwri(graz).equals(views)


def test_images_in_one_folder_or_yolos(graz):
    views = load_grazpedwri(graz)
    for target in ("images", "yolov5/images"):
        for source in sorted(graz.glob("*images*/*.png")) + sorted(graz.glob("yolov5/images/*")):
            (graz / target).mkdir(parents=True, exist_ok=True)
            shutil.move(source, graz / target / source.name)
        moved = load_grazpedwri(graz)
        assert moved.drop(columns="path").equals(views.drop(columns="path"))
        assert moved.path.str.contains(target).all()


@pytest.mark.parametrize("layout", ["voc", "yolo", "beside"])
def test_boxes_are_the_fractures_of_either_file(graz, layout):
    if layout == "yolo":
        shutil.rmtree(graz / "folder_structure/pascalvoc")
    if layout == "beside":
        shutil.move(graz / "folder_structure/pascalvoc", graz / "pascalvoc")
    views = load_grazpedwri(graz)
    boxes = load_boxes(graz, views)
    assert len(boxes) == PATIENTS / 2 and boxes["view"].str.contains("WRI-L2").all()
    np.testing.assert_allclose(boxes[["x", "y", "width", "height"]], 0.25)
    assert boxes_above(views).equals(boxes) and known_boxes(graz, views).equals(boxes)


def test_an_empty_folder_of_boxes_is_none(graz):
    shutil.rmtree(graz / "folder_structure/pascalvoc")
    (graz / "folder_structure/pascalvoc").mkdir()
    assert len(load_boxes(graz, load_grazpedwri(graz))) == PATIENTS / 2  # YOLO's


def test_boxes_of_another_picture_are_refused(graz):
    path = next((graz / "folder_structure/pascalvoc").iterdir())
    path.write_text(VOC.replace("<width>40</width>", "<width>400</width>"))
    with pytest.raises(ValueError, match=r"is of an image of another shape"):
        load_boxes(graz, load_grazpedwri(graz))
    for damage in (
        VOC.replace("<xmax>20", "<xmax>5"),
        VOC.replace("<width>40</width>", ""),
        VOC[:200],
    ):
        path.write_text(damage)
        with pytest.raises(ValueError, match=rf"{path.name} must be one of .* and is damaged"):
            load_boxes(graz, load_grazpedwri(graz))
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=rf"{path.name} must be one of .* and is damaged"):
        load_boxes(graz, load_grazpedwri(graz))


def test_no_boxes(graz):
    shutil.rmtree(graz / "folder_structure")
    assert known_boxes(graz, load_grazpedwri(graz)) is None
    with pytest.raises(FileNotFoundError, match=r"there are none in .* GRAZPEDWRI-DX with"):
        load_boxes(graz, load_grazpedwri(graz))


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("filestem,patient_id,", "filestem,patient,", r"header .*: no column patient_id; expected"),
        (",23r-M/2.1,,,,1,", ",23r-M/2.1,,,,maybe,", r"malformed line .*fracture_visible=maybe"),
        ("WRI-L1_M014,7,1,", "WRI-L1_M014,,1,", r"malformed line .*patient_id=,"),
        ("0002_1297860395_01_WRI-L1", "0001_1297860395_01_WRI-L1", r"listed twice \(1\)"),
    ],
)
def test_a_bad_csv_names_the_line(graz, before, after, sentence):
    edit(graz / "dataset.csv", before, after)
    with pytest.raises(ValueError, match=sentence):
        load_grazpedwri(graz)


def test_missing_and_unlisted_images_are_named(graz):
    first = next(graz.glob("images_part1/*"))
    shutil.copy(first, first.with_name("9999_new.png"))
    with pytest.warns(Notice, match=r"unlisted \(1\): .*9999_new\.png: not listed"):
        load_grazpedwri(graz)
    first.with_name("9999_new.png").unlink()
    shutil.copy(first, graz / first.with_suffix(".JPG").name)  # two of one radiograph
    with pytest.warns(Notice, match=r"unlisted \(1\): .*\.JPG: also lies there as .*part1"):
        load_grazpedwri(graz)
    (graz / first.with_suffix(".JPG").name).unlink()
    first.unlink()
    with pytest.raises(FileNotFoundError, match=r"missing \(1\): .*Unpack all four parts"):
        load_grazpedwri(graz)
