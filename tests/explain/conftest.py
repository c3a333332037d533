import pytest
from eager import run_eagerly
from explained import HEAD_003, built


@pytest.fixture(scope="module")
def small():
    with run_eagerly():
        return built()


@pytest.fixture(scope="module")
def classifier():
    with run_eagerly():
        return built(head=("pool", "dense:16", "batch_norm", "dropout:0.5"), classes=4)


@pytest.fixture(scope="module")
def attentive():
    with run_eagerly():
        return built(head=HEAD_003)


@pytest.fixture(scope="module")
def mapped():
    with run_eagerly():
        return built(head=("map:4:1", "pool", "batch_norm"))
