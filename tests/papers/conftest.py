import pytest
from run_folders import SMALL, finished, views_of
from table_i import mura_views

from mura_tf.papers.reproduce import find_experiment
from mura_tf.papers.tables import report_table


@pytest.fixture(scope="session")
def table_iv(tmp_path_factory):
    """Table IV with the paper's own settings on as many studies as MURA has."""
    experiment, out = find_experiment("table_iv"), tmp_path_factory.mktemp("paper")
    plan = finished(experiment, out, mura_views())
    return plan, report_table(experiment, plan, out), out / "table_iv"


@pytest.fixture(scope="session")
def table_v(tmp_path_factory):
    """Table V on other data: two study types, two members, two repeats."""
    experiment, out = find_experiment("table_v"), tmp_path_factory.mktemp("other")
    plan = finished(experiment, out, views_of(SMALL), members=2, repeats=2)
    return plan, report_table(experiment, plan, out), out / "table_v"
