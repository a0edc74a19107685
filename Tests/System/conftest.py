import importlib
import pathlib
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import ROOT, Cluster  # noqa: E402


def pytest_collection_modifyitems(items):
    """What runs on etcd alone shows that a test asks for the right thing. etcd's own races may repeat it;
    a test of Apus gets one try."""
    for item in items:
        parameters = str(getattr(getattr(item, "callspec", None), "params", ""))
        if "etcd" in parameters and "apus" not in parameters:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def api():
    """Python classes and stubs made from the project's own .proto files."""
    folder = tempfile.mkdtemp(prefix="apus-proto-")
    protos = sorted((ROOT / "protos").glob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
                    f"--python_out={folder}", f"--grpc_python_out={folder}",
                    *map(str, protos)], check=True)
    sys.path.insert(0, folder)

    class Modules:
        rpc = importlib.import_module("rpc_pb2")
        grpc = importlib.import_module("rpc_pb2_grpc")
        kv = importlib.import_module("kv_pb2")
        health = importlib.import_module("health_pb2")
        health_grpc = importlib.import_module("health_pb2_grpc")

    return Modules


@pytest.fixture(scope="module")
def apus():
    """A running cluster of three Apus members, shared by the tests of a module."""
    with Cluster(("apus", "apus", "apus")) as cluster:
        yield cluster
