"""Python classes and stubs made from the project's own .proto files."""

import importlib
import subprocess
import sys
import tempfile
from types import SimpleNamespace

from harness import ROOT


def load():
    folder = tempfile.mkdtemp(prefix="apus-proto-")
    protos = sorted((ROOT / "protos").glob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
                    f"--python_out={folder}", f"--grpc_python_out={folder}",
                    *map(str, protos)], check=True)
    sys.path.insert(0, folder)
    return SimpleNamespace(
        folder=folder, rpc=importlib.import_module("rpc_pb2"), kv=importlib.import_module("kv_pb2"),
        auth=importlib.import_module("auth_pb2"), grpc=importlib.import_module("rpc_pb2_grpc"),
        health=importlib.import_module("health_pb2"),
        health_grpc=importlib.import_module("health_pb2_grpc"))
