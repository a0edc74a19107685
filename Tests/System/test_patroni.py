"""Debian's Patroni keeps a pair of PostgreSQL servers on an Apus cluster, over the JSON gateway, and fails over.

Not part of every run: `APUS_PATRONI=1 scripts/test system -k patroni`, with Debian's packages `patroni`,
`postgresql` and `runuser` installed."""

import glob
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
from harness import Cluster, free_ports

TOOLS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
pytestmark = [
    pytest.mark.skipif("APUS_PATRONI" not in os.environ, reason="on demand: APUS_PATRONI=1"),
    pytest.mark.skipif(not shutil.which("patroni") or not TOOLS, reason="needs patroni and postgresql"),
]

CONFIGURATION = """
scope: pair
name: {name}
restapi: {{listen: "127.0.0.1:{rest}", connect_address: "127.0.0.1:{rest}"}}
etcd3: {{hosts: "{hosts}"}}
bootstrap:
  dcs: {{ttl: 20, loop_wait: 2, retry_timeout: 3, maximum_lag_on_failover: 1048576}}
  initdb: [{{encoding: UTF8}}, data-checksums]
  pg_hba: ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust", "local all all trust"]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: "{folder}/{name}"
  bin_dir: "{tools}"
  parameters: {{unix_socket_directories: "{folder}", shared_buffers: 16MB, max_connections: 20}}
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: replicator, password: x}}
    rewind: {{username: rewinder, password: x}}
"""


class Node:
    """One Patroni with its PostgreSQL."""

    def __init__(self, folder, name, hosts):
        self.folder, self.name = folder, name
        self.port, self.rest = free_ports(2)
        self.file = folder / f"{name}.yml"
        self.file.write_text(CONFIGURATION.format(
            name=name, rest=self.rest, port=self.port, hosts=hosts, folder=folder, tools=TOOLS[-1]))
        self.process = None

    def start(self):
        command = [shutil.which("patroni"), str(self.file)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def postmaster(self):
        try:
            return int((self.folder / self.name / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def kill(self, number=signal.SIGKILL):
        """Ends both at once, as when the machine dies."""
        if self.process:
            postmaster = self.postmaster()
            # The session was made for this Patroni alone.
            for end in (lambda: os.killpg(self.process.pid, number), lambda: postmaster and os.kill(postmaster, number)):
                try:
                    end()
                except ProcessLookupError:
                    pass
            self.process.wait(20)
            self.process = None

    def sql(self, text):
        done = subprocess.run(
            [f"{TOOLS[-1]}/psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-At", "-c", text],
            capture_output=True, text=True, timeout=15)
        return done.stdout.strip() if done.returncode == 0 else None


def wait(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {what}")


def test_patroni_fails_over():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="apus-patroni-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, pwd.getpwnam("postgres").pw_uid)
    with Cluster() as cluster:
        hosts = ",".join(cluster.endpoints)
        nodes = [Node(folder, name, hosts) for name in ("one", "two")]
        try:
            primary = lambda: next((node for node in nodes if node.sql("select not pg_is_in_recovery()") == "t"), None)
            nodes[0].start()
            first = wait("a primary", 60, primary)
            nodes[1].start()
            second = nodes[1] if first is nodes[0] else nodes[0]
            wait("a replica", 60, lambda: second.sql("select pg_is_in_recovery()") == "t")
            first.sql("create table kept (n int)")
            assert first.sql("insert into kept values (1)") is not None
            wait("replication", 20, lambda: second.sql("select n from kept") == "1")
            leader = json.loads(cluster.ctl("get", "/service/pair/leader", "-w", "json").stdout)
            assert leader["count"] == 1 and leader["kvs"][0].get("lease")

            # The primary dies, and with it the member of the cluster that leads.
            cluster.leader().kill()
            first.kill()
            killed = time.monotonic()
            wait("the other to be primary", 60, lambda: primary() is second)
            print(f"failover took {time.monotonic() - killed:.1f} s")
            assert second.sql("insert into kept values (2)") is not None

            # What died comes back as a replica of the new primary.
            first.start()
            wait("the old primary to follow", 90, lambda: first.sql("select count(*) from kept") == "2"
                 and first.sql("select pg_is_in_recovery()") == "t")
        except BaseException:
            for node in nodes:
                print((folder / f"{node.name}.log").read_text()[-3000:])
            raise
        finally:
            for node in nodes:
                node.kill()
            shutil.rmtree(folder, ignore_errors=True)
