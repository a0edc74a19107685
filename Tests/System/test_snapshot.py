"""Backups: stock etcdctl saves them, stock etcdutl reads and restores them, a real etcd serves them."""

import json
import subprocess

import pytest
from harness import ETCDUTL, PROGRAMS, Cluster, free_ports


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_backup_of_each_member_restores_into_etcd(apus, version, tmp_path):
    apus.ctl("put", "kept", "yes", check=True)
    lease = json.loads(apus.ctl("lease", "grant", "600", "-w", "json", check=True).stdout)["ID"]
    apus.ctl("put", "leased", "too", "--lease", "%x" % lease, check=True)
    for number in range(300):
        if number % 50 == 0:
            lines = "".join(f"put many/{n} {n}\n" for n in range(number, number + 50))
            apus.ctl("txn", stdin=f"\n{lines}\n\n", check=True)
    apus.ctl("del", "many/7", check=True)
    revision = None
    for member in apus.members:
        apus.ctl("get", "kept", endpoints=[member.endpoint], check=True)  # this member has it all
        file = tmp_path / f"{member.name}.db"
        saved = apus.ctl("snapshot", "save", str(file), endpoints=[member.endpoint], version=version, check=True)
        assert f"Snapshot saved at {file}" in saved.stdout
        status = json.loads(subprocess.run([ETCDUTL, "snapshot", "status", file, "-w", "json"],
                                           capture_output=True, text=True, check=True).stdout)
        revision = revision or status["revision"]
        assert status["revision"] == revision and status["totalKey"] > 300
    port, peer = free_ports(2)
    data = tmp_path / "restored"
    url = f"http://127.0.0.1:{peer}"
    subprocess.run([ETCDUTL, "snapshot", "restore", file, "--data-dir", data, "--name", "r",
                    "--initial-cluster", f"r={url}", "--initial-advertise-peer-urls", url],
                   capture_output=True, check=True)
    server = subprocess.Popen(
        [PROGRAMS["etcd35"], "--name", "r", "--data-dir", data, "--listen-client-urls", f"http://127.0.0.1:{port}",
         "--advertise-client-urls", f"http://127.0.0.1:{port}", "--listen-peer-urls", url],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = [f"127.0.0.1:{port}"]
        assert apus.ctl("get", "kept", endpoints=endpoint, check=True).stdout == "kept\nyes\n"
        assert apus.ctl("get", "many/7", endpoints=endpoint, check=True).stdout == ""
        assert "%x" % lease in apus.ctl("lease", "list", endpoints=endpoint, check=True).stdout
        ours = apus.ctl("get", "--prefix", "many/", check=True).stdout
        assert apus.ctl("get", "--prefix", "many/", endpoints=endpoint, check=True).stdout == ours
    finally:
        server.kill()
        server.wait()


def test_backup_while_writing(api, tmp_path):
    """Writes go on while the backup is taken, and it holds one revision, whole."""
    import grpc

    with Cluster(("apus",)) as cluster:
        endpoint = cluster.endpoints[0]
        kv = api.grpc.KVStub(grpc.insecure_channel(endpoint))
        for number in range(200):
            kv.Put(api.rpc.PutRequest(key=b"big/%d" % number, value=b"x" * 100_000))
        saving = subprocess.Popen([PROGRAMS["etcd35"].parent / "etcdctl", "--endpoints", endpoint, "snapshot", "save",
                                   tmp_path / "s.db"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        written = 0
        while saving.poll() is None:
            kv.Put(api.rpc.PutRequest(key=b"meanwhile", value=b"%d" % written), timeout=5)
            written += 1
        assert saving.returncode == 0 and written > 0
        status = json.loads(subprocess.run([ETCDUTL, "snapshot", "status", tmp_path / "s.db", "-w", "json"],
                                           capture_output=True, text=True, check=True).stdout)
        assert 201 <= status["revision"] <= 201 + written
