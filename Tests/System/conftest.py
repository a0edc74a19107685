import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import protos  # noqa: E402
from harness import Cluster  # noqa: E402


def pytest_collection_modifyitems(items):
    """What runs on etcd alone shows that a test asks for the right thing. etcd's own races may repeat it;
    a test of Apus gets one try."""
    for item in items:
        parameters = str(getattr(getattr(item, "callspec", None), "params", ""))
        if "etcd" in parameters and "apus" not in parameters:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def api():
    return protos.load()


@pytest.fixture(scope="module")
def apus():
    """A running cluster of three Apus members, shared by the tests of a module."""
    with Cluster(("apus", "apus", "apus")) as cluster:
        yield cluster
