import pandas as pd
import pytest
from command_line import assert_wrong_usage, call


def test_its_page_is_written(mura, tmp_path, bars):
    result = call(
        "study", mura, "--out", tmp_path / "out", "--image-size", 16, "--per-class", "2,1"
    )
    assert result.exit_code == 0
    assert result.stdout == f"Page: {tmp_path / 'out/report.html'}\n"
    table = pd.read_csv(tmp_path / "out/study.csv")
    assert table.query("system == 'ipca_2' and metric == 'total_images'").value.item() == 5
    images = table.query("split == 'train' and metric == 'images'")
    assert images.value.sum() == 7
    for doing in ("Preparing", "Grey levels", "incremental PCA of 5 images", "Writing the page"):
        assert doing in bars.getvalue()


@pytest.mark.parametrize("numbers", ["ten", "1,,2", "2.5", "0"])
def test_wrong_usage(mura, tmp_path, numbers):
    result = call("study", mura, "--out", tmp_path / "out", "--per-class", numbers)
    assert_wrong_usage(result, "--per-class must be whole numbers from 1 up, such as 10,1000.")
