"""Folders of MURA's layout, and a data set's CSV files, changed."""


def study_folders(root, patients):
    """Makes the folder of one study per patient and yields `split, study_type, patient, folder`.

    Args:
        root: of the data set.
        patients: split -> how many of each study type; every other one is abnormal.
    """
    for split, count in patients.items():
        for study_type in ("elbow", "wrist"):
            for patient in range(count):
                folder = root / f"{split}/XR_{study_type.upper()}/{split}{patient:05d}"
                folder /= f"study1_{('negative', 'positive')[patient % 2]}"
                folder.mkdir(parents=True)
                yield split, study_type, patient, folder


def edit(csv, old, new):
    text = csv.read_text()
    assert old in text
    csv.write_text(text.replace(old, new, 1))


def prepend(csv, line):
    csv.write_text(f"{line}\n{csv.read_text()}")


def remove_csvs(folder):
    for csv in folder.glob("*.csv"):
        csv.unlink()
