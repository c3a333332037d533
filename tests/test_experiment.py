import pytest

from mura_tf.experiment import run_experiment
from mura_tf.training.recipe import Recipe


def test_study_types_may_be_given_once(mura, tmp_path):
    """What is checked before the data are read is what is trained after."""
    recipe = Recipe(backbone="small_cnn", weights=None)
    with pytest.raises(ValueError, match=r"study_types must be among .* Received: knee\."):
        run_experiment(
            recipe,
            mura,
            tmp_path / "runs",
            scheme="direct",
            study_types=iter(["knee"]),
            verbose=False,
        )
