"""The CSV files of a data set, changed."""


def edit(csv, old, new):
    text = csv.read_text()
    assert old in text
    csv.write_text(text.replace(old, new, 1))


def prepend(csv, line):
    csv.write_text(f"{line}\n{csv.read_text()}")


def remove_csvs(folder):
    for csv in folder.glob("*.csv"):
        csv.unlink()
