import pytest
from command_line import assert_sentence, call


def test_a_data_set_is_written_and_told(tmp_path, bars):
    result = call("synthesize", tmp_path, "--studies-per-type", 8)
    assert result.exit_code == 0
    assert f"Written to {tmp_path / 'MURA-v1.1'}." in result.stdout
    assert "All types" in result.stdout
    assert result.stderr == ""
    assert "Drawing" in bars.getvalue()


def test_nothing_is_overwritten(mura):
    assert_sentence(call("synthesize", mura.parent, "--studies-per-type", 8), "nothing is")


@pytest.mark.parametrize("option", [["--studies-per-type", "7"], ["--seed", "-1"]])
def test_wrong_usage(tmp_path, option):
    assert call("synthesize", tmp_path, *option).exit_code == 2
    assert not list(tmp_path.iterdir())
