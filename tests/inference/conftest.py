import pytest

from mura_tf.inference.pack import pack


@pytest.fixture(scope="session")
def bundle(members, tmp_path_factory):
    """Two members for all study types, elbow and wrist."""
    return pack([members], tmp_path_factory.mktemp("bundles") / "lesions.mura", licence="CC0.")
