"""Recipe files as people's programs write them."""

import pytest

from mura_tf.training.recipe import Recipe, read_settings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_recipe_with_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "recipe.json"
    path.write_text('{"batch_size": 4}', encoding=encoding)
    assert read_settings(path) == {"batch_size": 4}
    assert Recipe.load(path).batch_size == 4


def test_a_setting_given_twice(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"seed": 1, "batch_size": 4, "seed": 2, "batch_size": 4}')
    with pytest.raises(ValueError, match=r"JSON: 'seed', 'batch_size' is given more than once\.$"):
        read_settings(path)
