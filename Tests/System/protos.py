"""Python classes and stubs made from the project's own .proto files, once per process."""

import functools
import importlib
import shutil
import subprocess
import sys
import tempfile
from types import SimpleNamespace

from harness import ROOT

MODULES = {"rpc": "rpc_pb2", "grpc": "rpc_pb2_grpc", "kv": "kv_pb2", "auth": "auth_pb2", "health": "health_pb2",
           "health_grpc": "health_pb2_grpc", "internal": "raft_internal_pb2",
           "election": "v3election_pb2", "election_grpc": "v3election_pb2_grpc", "lock": "v3lock_pb2",
           "lock_grpc": "v3lock_pb2_grpc"}


@functools.cache
def load():
    folder = tempfile.mkdtemp(prefix="apus-proto-")
    protos = sorted((ROOT / "protos").glob("*.proto"))
    sys.path.insert(0, folder)
    try:
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}",
                        f"--python_out={folder}", f"--grpc_python_out={folder}",
                        *map(str, protos)], check=True)
        return SimpleNamespace(**{name: importlib.import_module(module) for name, module in MODULES.items()})
    finally:
        sys.path.remove(folder)
        shutil.rmtree(folder)
