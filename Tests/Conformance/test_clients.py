"""Stock Python clients from PyPI, unmodified: what their own documentation shows, against Apus.

They ask for versions of protobuf and grpc of their time, so each has a venv of its own beside the
build (kept between runs). Without a way to install one, its test is skipped."""

import hashlib
import pathlib
import subprocess
import sys

import pytest
from harness import ROOT, Cluster

HERE = pathlib.Path(__file__).parent
CLIENTS = {
    "etcd3": ["etcd3==0.12.0", "protobuf<3.21", "tenacity<7", "grpcio", "setuptools<81"],
    "aetcd": ["aetcd==1.0.0"],
    "etcd_client": ["etcd-client-py==0.5.1"],
    "etcd3gw": ["etcd3gw==2.7.0"],
}


def python_with(name):
    """The interpreter of a venv that has the client; skips the test if it cannot be made."""
    wanted = CLIENTS[name]
    stamp = hashlib.sha256(" ".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    venv = ROOT / ".build-venv" / "clients" / f"{name}-{stamp}"
    python = venv / "bin" / "python"
    if (venv / "ready").exists():
        return python
    for command in ([sys.executable, "-m", "venv", str(venv)],
                    [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                     "--timeout", "20", *wanted]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{wanted[0]} cannot be installed: {done.stderr.strip()[-300:]}")
    (venv / "ready").touch()
    return python


@pytest.fixture(scope="module")
def cluster():
    with Cluster(("apus",)) as running:
        yield running


@pytest.mark.parametrize("name", CLIENTS)
def test_documented_examples(cluster, name):
    python = python_with(name)
    done = subprocess.run(
        [str(python), str(HERE / "clients" / f"use_{name}.py"), str(cluster.members[0].client_port)],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == "all done"
