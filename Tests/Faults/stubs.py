"""Python classes and stubs made from the project's own .proto files, once per process."""

import functools
import importlib
import shutil
import subprocess
import sys
import tempfile
from types import SimpleNamespace

from harness import ROOT


@functools.cache
def load():
    folder = tempfile.mkdtemp(prefix="apus-proto-")
    protos = sorted((ROOT / "protos").glob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
                    f"--python_out={folder}", f"--grpc_python_out={folder}",
                    *map(str, protos)], check=True)
    sys.path.insert(0, folder)
    try:
        return SimpleNamespace(rpc=importlib.import_module("rpc_pb2"), kv=importlib.import_module("kv_pb2"),
                               grpc=importlib.import_module("rpc_pb2_grpc"),
                               internal=importlib.import_module("raft_internal_pb2"))
    finally:
        sys.path.remove(folder)
        shutil.rmtree(folder)
