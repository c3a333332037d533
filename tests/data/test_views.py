import shutil

import numpy as np
import pandas as pd
import pytest

from mura_tf.data.counts import class_weights, summarize
from mura_tf.data.splits import deal_patients, deal_views, patient_split, split_anew
from mura_tf.data.table import SPLITS, VIEW_COLUMNS
from mura_tf.data.views import load_fracatlas, load_mura, load_views
from mura_tf.published import published_table
from mura_tf.terminal import Notice

LABELS = ["Normal", "Abnormal"]
MURA_TYPES = ["elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist"]


def table_i_views():
    """Views with the counts of Table I, the images dealt evenly to the studies."""
    tables = []
    for cell in published_table("table_i").query("study_type != 'all'").itertuples():
        study = np.arange(cell.images) % cell.studies
        patient = [f"{cell.split}-{cell.study_type}-{cell.label:.0f}-{number}" for number in study]
        tables.append(
            pd.DataFrame(
                {
                    "split": cell.split,
                    "study_type": cell.study_type,
                    "patient": patient,
                    "study": "study1",
                    "view": [f"image{number}.png" for number in range(cell.images)],
                    "label": int(cell.label),
                    "path": "",
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def remove_csvs(folder):
    for csv in folder.glob("*.csv"):
        csv.unlink()


def test_mura_as_shipped(mura):
    views = load_mura(mura)
    assert list(views) == ["split", "study_type", "patient", "study", "view", "label", "path"]
    assert views.index.equals(pd.RangeIndex(11))
    assert views.drop(columns="path").to_numpy().tolist() == [
        ["train", "elbow", "patient00001", "study1", "image1.png", 1],
        ["train", "elbow", "patient00001", "study1", "image2.png", 1],
        ["train", "elbow", "patient00001", "study1", "image10.png", 1],
        ["train", "elbow", "patient00002", "study1", "image1.png", 0],
        ["train", "elbow", "patient00002", "study2", "image1.png", 1],
        ["train", "wrist", "patient00001", "study1", "image1.png", 0],
        ["train", "wrist", "patient00003", "study1", "image1.png", 1],
        ["valid", "elbow", "patient00004", "study1", "image1.png", 1],
        ["valid", "elbow", "patient00005", "study1", "image1.png", 0],
        ["valid", "wrist", "patient00005", "study1", "image1.png", 0],
        ["valid", "wrist", "patient00006", "study1", "image1.png", 1],
    ]
    expected = mura / "train/XR_ELBOW/patient00001/study1_positive/image10.png"
    assert views["path"][2] == str(expected)
    assert views["label"].dtype == np.int64


def test_mura_from_the_folder_above(mura):
    pd.testing.assert_frame_equal(load_mura(mura.parent), load_mura(str(mura)))


def test_mura_in_a_renamed_folder(mura):
    renamed = mura.rename(mura.parent / "bones")
    views = load_mura(renamed)
    assert len(views) == 11
    assert views["path"].str.startswith(str(renamed)).all()


def test_bare_tree_equals_csvs(mura):
    from_csvs = load_mura(mura)
    remove_csvs(mura)
    pd.testing.assert_frame_equal(load_mura(mura), from_csvs)


def test_csvs_of_one_split_only(mura):
    views = load_mura(mura)
    for csv in mura.glob("train_*.csv"):
        csv.unlink()
    pd.testing.assert_frame_equal(load_mura(mura), views)


@pytest.mark.parametrize("bare", [False, True])
def test_hidden_files_are_no_radiographs(mura, bare):
    hidden = "train/XR_ELBOW/patient00001/study1_positive/._image1.png"
    (mura / hidden).write_bytes(b"Mac OS X")
    with open(mura / "train_image_paths.csv", "a") as csv:
        csv.write(f"MURA-v1.1/{hidden}\n")
    if bare:
        remove_csvs(mura)
    assert len(load_mura(mura)) == 11


def test_own_study_type_and_test_split(mura):
    study = mura / "test/XR_KNEE/patient00007/study1_positive"
    study.mkdir(parents=True)
    shutil.copy(mura / "train/XR_ELBOW/patient00001/study1_positive/image1.png", study)
    last = load_mura(mura).iloc[-1]
    assert (last["split"], last["study_type"], last["label"]) == ("test", "knee", 1)


def test_load_views_recognises_mura(mura):
    pd.testing.assert_frame_equal(load_views(mura.parent), load_mura(mura))


def test_real_fracatlas(fracatlas):
    with pytest.warns(Notice, match=r"contradicting folder \(1\): .*IMG0003298.jpg: label 0"):
        views = load_fracatlas(fracatlas)
    assert len(views) == 3432
    assert views["label"].sum() == 609  # IMG0003298 lies in Fractured/ as the 610th
    counts = views.groupby(["study_type", "label"]).size()
    assert counts.to_dict() == {
        ("hand", 0): 748,
        ("hand", 1): 323,
        ("hip", 0): 144,
        ("hip", 1): 8,
        ("leg", 0): 1611,
        ("leg", 1): 180,
        ("mixed", 0): 245,
        ("mixed", 1): 90,
        ("shoulder", 0): 75,
        ("shoulder", 1): 8,
    }
    assert views["study"].is_unique
    assert views["patient"].nunique() == 3432 - 14  # byte-identical files
    assert not views[["patient", "split"]].drop_duplicates()["patient"].duplicated().any()
    dealt = views.groupby(["study_type", "label"])["split"].value_counts()
    for (study_type, label), n in counts.items():
        for split, fraction in (("train", 0.70), ("valid", 0.15), ("test", 0.15)):
            assert abs(dealt[study_type, label, split] - fraction * n) <= 2


@pytest.mark.filterwarnings("ignore:contradicting folder")
def test_real_fracatlas_split_depends_on_the_seed_only(fracatlas):
    views = load_fracatlas(fracatlas)
    pd.testing.assert_frame_equal(load_views(fracatlas.parent, seed=0), views)
    other = load_fracatlas(fracatlas, seed=1, fractions=(0.5, 0.25, 0.25))
    assert other["split"].value_counts().to_dict() == {"train": 1716, "valid": 858, "test": 858}


@pytest.mark.filterwarnings("ignore:contradicting folder")
def test_real_fracatlas_split_anew_moves_two_images_alone(fracatlas):
    """Its eight fractured hips and eight shoulders are dealt 7, 0, 1."""
    views = load_fracatlas(fracatlas)
    dealt = views.patient.map(deal_patients(views, (0.8, 0.1, 0.1), 0)).map(dict(enumerate(SPLITS)))
    moved = views[split_anew(views, (0.8, 0.1, 0.1)).split != dealt]
    assert sorted(moved.study_type) == ["hip", "shoulder"] and moved.label.all()


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.3, 0.0), (0.7, 0.2, 0.2)])
def test_fracatlas_fractions(tmp_path, fractions):
    with pytest.raises(ValueError, match=r"three positive numbers with sum 1.*Received: \(0.7"):
        load_fracatlas(tmp_path, fractions=fractions)


def test_patient_split():
    views = table_i_views().query("split == 'train'").reset_index(drop=True)
    # Patients of two study types, as in MURA: wrist patient k is hand patient k.
    views["patient"] = views["patient"].str.replace("wrist", "hand")
    rest, held_out = patient_split(views, fraction=0.1, seed=3)
    assert not set(rest["patient"]) & set(held_out["patient"])
    assert rest.index.equals(pd.RangeIndex(len(rest)))
    assert len(rest) + len(held_out) == len(views)
    assert abs(len(held_out) / len(views) - 0.1) < 0.001
    share = held_out.groupby(["study_type", "label"])["patient"].nunique()
    share /= views.groupby(["study_type", "label"])["patient"].nunique()
    assert share.between(0.08, 0.12).all()


def test_patient_split_depends_on_the_seed_not_on_the_order_of_rows():
    views = table_i_views().query("split == 'valid'").reset_index(drop=True)
    held = set(patient_split(views, seed=0)[1]["patient"])
    shuffled = views.sample(frac=1, random_state=0)
    assert set(patient_split(shuffled, seed=0)[1]["patient"]) == held
    assert set(patient_split(views, seed=1)[1]["patient"]) != held


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 10])
def test_patient_split_fraction(mura, fraction):
    with pytest.raises(ValueError, match=f"between 0 and 1, exclusive. Received: {fraction}"):
        patient_split(load_mura(mura), fraction)


def test_patient_split_of_one_patient(mura):
    views = load_mura(mura).query("patient == 'patient00001'")
    with pytest.raises(ValueError, match=r"0.1 of 1 patients leaves one side empty"):
        patient_split(views)


@pytest.mark.parametrize("by", ["patient", "image"])
def test_every_class_is_in_every_part_of_a_split(by):
    """Also one of three patients, and one patient's two classes do not hide each other."""
    views = small_views({"elbow": (30, 3), "hand": (5, 4), "wrist": (3, 3)})
    for seed in range(20):
        split = split_anew(views, (0.8, 0.1, 0.1), by, seed)
        assert len(split[["study_type", "label", "split"]].drop_duplicates()) == 6 * 3
        if by == "patient":
            assert split.groupby("patient").split.nunique().max() == 1
        shuffled = split_anew(views.sample(frac=1, random_state=1), (0.8, 0.1, 0.1), by, seed)
        assert shuffled.sort_index().equals(split)


def test_a_small_holdout_has_every_class():
    views = small_views({"elbow": (60, 40), "wrist": (3, 2)})
    for seed in range(20):
        rest, held = patient_split(views, 0.1, seed)
        for side in (rest, held):
            assert len(side[["study_type", "label"]].drop_duplicates()) == 4


def test_only_the_smallest_patient_that_can_be_spared_moves():
    """The smallest hip patient, b, is the only one with an arm."""
    sizes = {"a": 4, "b": 1, "c": 3, "d": 100, "e": 20}
    types = dict.fromkeys("abc", "hip") | dict.fromkeys("de", "leg")
    rows = [(types[name], name) for name, size in sizes.items() for _ in range(size)]
    rows.append(("arm", "b"))
    views = pd.DataFrame(rows, columns=["study_type", "patient"]).assign(label=0)
    before = deal_patients(views, (0.9, 0.1), 0)
    after = deal_views(views, (0.9, 0.1), "patient", 0).groupby(views.patient).first()
    assert before.to_dict() == {"a": 0, "b": 0, "c": 0, "d": 0, "e": 1}
    assert after.to_dict() == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 1}


def test_a_split_that_cannot_have_every_class_is_refused():
    """Three patients have hip, but each is needed where it is for leg."""
    patients = small_views({"hip": (3, 0)})
    views = pd.concat([patients, patients.assign(study_type="leg"), small_views({"leg": (0, 3)})])
    split = split_anew(views, (0.8, 0.1, 0.1))
    assert len(split[["study_type", "label", "split"]].drop_duplicates()) == 3 * 3
    pairs = [("p", "hip"), ("p", "leg"), ("q", "hip"), ("q", "arm"), ("r", "leg"), ("r", "arm")]
    pairs += [("s", "hip"), ("s", "leg"), ("s", "arm")]
    views = pd.DataFrame(pairs, columns=["patient", "study_type"]).assign(label=0, path="x")
    with pytest.raises(ValueError, match=r"a split needs patients of each class in train, valid"):
        split_anew(views, (0.8, 0.1, 0.1))


def test_a_class_with_too_few_patients_to_split_is_named():
    views = small_views({"wrist": (30, 2)})
    with pytest.raises(ValueError, match=r"needs 3 patients .* abnormal wrist with 2\."):
        split_anew(views, (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"split_by must be one of patient, image\. Rec.*'study'"):
        split_anew(views, (0.8, 0.1, 0.1), by="study")


def small_views(counts):
    """A views table with a patient per view; study type -> (normal, abnormal)."""
    rows = [
        (name, f"{name}{label}{number}", label, f"{name}{label}{number}.png")
        for name, numbers in counts.items()
        for label, many in enumerate(numbers)
        for number in range(many)
    ]
    return pd.DataFrame(rows, columns=["study_type", "patient", "label", "path"])


def test_class_weights():
    weights = class_weights(table_i_views().query("split == 'train'"))
    assert list(weights) == MURA_TYPES
    assert weights["elbow"] == pytest.approx((2006 / 4931, 2925 / 4931))
    assert weights["shoulder"] == pytest.approx((4168 / 8379, 4211 / 8379))


def test_class_weights_of_one_class():
    views = pd.DataFrame({"study_type": ["knee", "knee"], "label": [1, 1]})
    assert class_weights(views) == {"knee": (1.0, 0.0)}


def test_summarize_published():
    table = summarize(table_i_views())
    assert table.attrs == {"published": True, "differences": []}
    rows = [(name, label) for name in [*MURA_TYPES, "All types"] for label in LABELS]
    assert table.index.to_list() == [*rows, ("Total", "")]
    assert table.columns.to_list() == [
        ("train", "Studies"),
        ("train", "Images"),
        ("valid", "Studies"),
        ("valid", "Images"),
    ]
    assert table.loc[("elbow", "Abnormal")].tolist() == [660, 2006, 66, 230]
    assert table.loc[("Total", "")].tolist() == [13457, 36808, 1199, 3197]


def test_summarize_with_a_study_less():
    views = table_i_views()
    table = summarize(views[views["patient"] != "train-hand-0-0"])
    assert table.attrs["published"] is False
    assert table.attrs["differences"] == [
        "train, hand Normal: 1496 studies, Table I has 1497.",
        "train, hand Normal: 4056 images, Table I has 4059.",
        "train, All types Normal: 8279 studies, Table I has 8280.",
        "train, All types Normal: 21932 images, Table I has 21935.",
        "train, Total: 13456 studies, Table I has 13457.",
        "train, Total: 36805 images, Table I has 36808.",
    ]


def test_summarize_other_data(mura):
    table = summarize(load_mura(mura))
    assert table.attrs == {"published": None, "differences": []}
    assert table.loc[("elbow", "Abnormal")].tolist() == [2, 4, 1, 1]
    assert table.loc[("Total", "")].tolist() == [5, 7, 4, 4]
    train_only = table_i_views().query("split == 'train'")
    assert summarize(train_only).attrs["published"] is None


def test_a_views_table_comes_back_from_its_csv(mura, tmp_path):
    views = load_mura(mura)
    views.loc[0, "patient"] = "007"
    views.to_csv(tmp_path / "views.csv", index=False)
    pd.testing.assert_frame_equal(load_views(tmp_path / "views.csv"), views)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("split,study_type\ntrain,elbow\n", "must be a views table, a CSV with the columns split,"),
        ("", "must be a views table"),
        (f"{','.join(VIEW_COLUMNS)}\ntrain,elbow,p,s,v,2,v.png\n", "Received: label '2'"),
        (f"{','.join(VIEW_COLUMNS)}\nval,elbow,p,s,v,1,v.png\n", "Received: split 'val'"),
    ],
    ids=["a column missing", "empty", "another label", "another split"],
)
def test_a_csv_that_is_no_views_table(tmp_path, text, sentence):
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_views(tmp_path / "views.csv")
