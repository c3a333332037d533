import pandas as pd
import pytest
from table_i import table_i_views

from mura_tf.data.splits import deal_patients, deal_views, patient_split, split_anew
from mura_tf.data.views import load_mura


def small_views(counts):
    """A views table with a patient per view; study type -> (normal, abnormal)."""
    rows = [
        (name, f"{name}{label}{number}", label, f"{name}{label}{number}.png")
        for name, numbers in counts.items()
        for label, many in enumerate(numbers)
        for number in range(many)
    ]
    return pd.DataFrame(rows, columns=["study_type", "patient", "label", "path"])


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


def test_views_without_a_label_are_dealt_like_a_label(mura):
    views = load_mura(mura).assign(label=lambda rows: rows.label.astype("Int64"))
    views.loc[views.split == "valid", "label"] = None
    rest, held_out = patient_split(views, 0.3)
    assert len(rest) + len(held_out) == len(views) and len(held_out)
    named = views.assign(study_type=views.study_type.astype("category"))
    assert patient_split(named, 0.3)[1].equals(held_out.astype(named.dtypes))
