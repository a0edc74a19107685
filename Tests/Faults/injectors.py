"""A cluster whose processes, links and disks can be made to fail, and which notices crashes by itself."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time

import grpc
import protos
from harness import PROGRAMS, Cluster, Member

from .packets import PacketFilter
from .powercut import Disk
from .proxy import ProxyProcess

EIO, ENOSPC = 5, 28


def quiet_ports(count):
    """Free ports below the range from which outgoing connections take theirs, so that restarts find them free."""
    found = []
    while len(found) < count:
        port = random.randint(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def build_shim(folder):
    shim = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim,
                    pathlib.Path(__file__).parent / "shim.c", "-ldl"], check=True)
    return shim


class FaultMember(Member):
    """A member that listens behind a proxy, may have a shim preloaded, and counts its lives."""

    incarnation = 0
    stopped_on_purpose = False
    paused = False
    disk_image = None  # what a power cut would leave of its files
    rate = 1  # of its monotonic clock, from its next start on
    flags = ()  # of its own

    @property
    def peer_url(self):
        return f"http://127.0.0.1:{self.cluster.proxy_ports.get(self.name, self.peer_port)}"

    @property
    def rules(self):
        return self.cluster.folder / f"{self.name}.rules"

    @property
    def clock(self):
        return self.cluster.folder / f"{self.name}.clock"

    def process_environment(self):
        environment = {"PATH": "/usr/bin:/bin"}
        if backtrace := os.environ.get("SWIFT_BACKTRACE"):
            environment["SWIFT_BACKTRACE"] = backtrace
        if self.cluster.shim:
            environment |= {"LD_PRELOAD": str(self.cluster.shim), "FAULT_RULES": str(self.rules)}
        if self.disk_image:
            environment |= {"FAULT_JOURNAL": str(self.disk_image.journal), "FAULT_ROOT": str(self.disk_image.root)}
        if self.cluster.clocked:
            if not self.clock.exists():
                self.set_clock(0)
            environment |= {"FAULT_CLOCK": str(self.clock), "FAULT_RATE": str(self.rate)}
        return environment

    def start(self):
        if self.running:
            return self
        self.incarnation += 1
        arguments = [
            str(PROGRAMS[self.kind]), "--name", self.name, "--data-dir", str(self.data),
            "--listen-client-urls", f"http://{self.endpoint}",
            "--advertise-client-urls", f"http://{self.endpoint}",
            "--listen-peer-urls", f"http://127.0.0.1:{self.peer_port}",
            "--initial-advertise-peer-urls", self.peer_url,
            "--initial-cluster", self.initial_cluster or self.cluster.initial_cluster,
            "--initial-cluster-token", self.cluster.token, "--initial-cluster-state", self.state,
            *self.spelt([*self.cluster.flags, *self.flags])]
        self.started_at = len(self.log_text())
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, env=self.process_environment())
        self.stopped_on_purpose = False  # only now, as another thread may look for crashes
        return self

    def spelt(self, flags):
        """Flags as this kind of server knows them."""
        if self.kind == "apus":
            return flags
        flags = list(flags)
        if "--snapshot-catchup-entries" in flags:  # later etcd's
            at = flags.index("--snapshot-catchup-entries")
            del flags[at:at + 2]
        return [*flags, "--logger", "zap"]

    def set_clock(self, seconds):
        """By how much the wall clock is ahead."""
        if not self.clock.exists():
            self.clock.write_bytes(bytes(4096))
        with open(self.clock, "r+b") as file:
            file.write(int(seconds * 1e9).to_bytes(8, "little", signed=True))

    def status(self, timeout=0.5):
        """What the member says of itself, or None."""
        api = protos.load()
        with grpc.insecure_channel(self.endpoint, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            if self.cluster.guard:
                channel = self.cluster.guard.channel(channel, self.endpoint, "root")
            try:
                return api.grpc.MaintenanceStub(channel).Status(api.rpc.StatusRequest(), timeout=timeout)
            except grpc.RpcError:
                return None

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.stopped_on_purpose = True
        self.paused = False
        super().kill()

    def stop(self, timeout=15):
        self.stopped_on_purpose = True
        self.resume()
        return super().stop(timeout)

    def pause(self):
        if self.running:
            self.paused = True
            self.signal(signal.SIGSTOP)

    def resume(self):
        if self.running and self.paused:
            self.signal(signal.SIGCONT)
        self.paused = False

    def disk(self, *rules):
        """Replaces the rules of the shim: (call, path part, action, number, times)."""
        fresh = self.rules.with_suffix(".new")
        fresh.write_text("".join(" ".join(map(str, rule)) + "\n" for rule in rules))
        os.replace(fresh, self.rules)

    def disk_hits(self):
        hits = pathlib.Path(f"{self.rules}.hits")
        return len(hits.read_text().splitlines()) if hits.exists() else 0


class FaultCluster(Cluster):
    """`proxied`, `shimmed`, `clocked` and `powered` say what can be made to fail: links, file calls, clocks, and
    the power of each machine."""

    def __init__(self, size=3, flags=(), proxied=False, shimmed=False, clocked=False, powered=False,
                 kinds=("apus",)):
        self.proxy_ports = {}
        self.guard = None  # of a cluster that asks its clients who they are
        self.clocked, self.powered = clocked, powered
        if powered and os.path.isdir("/dev/shm"):  # what counts as durable is in the journal
            tempfile.tempdir = "/dev/shm"
        try:
            super().__init__((), flags)
        finally:
            tempfile.tempdir = None
        ports = quiet_ports(3 * size)
        self.members = [FaultMember(self, kinds[n % len(kinds)], f"m{n + 1}", ports[3 * n], ports[3 * n + 1])
                        for n in range(size)]
        if proxied:
            self.proxy_ports = {m.name: ports[3 * n + 2] for n, m in enumerate(self.members)}
        self.initial_cluster = ",".join(f"{m.name}={m.peer_url}" for m in self.members)
        self.shim = build_shim(self.folder) if shimmed or clocked or powered else None
        for member in self.members:
            self.give_disk(member)
        self.proxy = None
        # Not of the proxies' ports, but of those behind them: each packet is looked at once.
        self.packets = PacketFilter([m.peer_port for m in self.members])
        self.crashes = []  # (member name, exit code, end of its log)

    def give_disk(self, member):
        if self.powered:
            root = self.folder / f"{member.name}.disk"
            root.mkdir()
            member.data, member.disk_image = root / "data", Disk(root)

    def new_member(self, kind, name):
        member = FaultMember(self, kind, name, *quiet_ports(2))
        self.give_disk(member)
        return member

    def start(self):
        if self.proxy_ports and not self.proxy:
            self.proxy = ProxyProcess({m.name: [self.proxy_ports[m.name], m.peer_port] for m in self.members})
        super().start()
        if self.proxy:
            ids = {str(m.status(5).header.member_id): m.name for m in self.members}
            self.proxy.command(names=ids)
        return self

    def __exit__(self, *details):
        super().__exit__(*details)
        self.packets.clear()
        if self.proxy:
            self.proxy.close()

    def links(self, rules, reset_on_heal=False):
        """Sets the rules of all directed links: {(source name, target name): rule}. None heals."""
        return self.proxy.command(rules=[[*pair, rule] for pair, rule in (rules or {}).items()],
                                  reset_on_heal=reset_on_heal)

    def leader_now(self, within=3):
        """The leader if one is to be found soon, else None. Asks only members that can answer."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            for member in self.members:
                if member.running and not member.paused:
                    status = member.status()
                    if status and status.leader == status.header.member_id:
                        return member
            time.sleep(0.1)
        return None

    def note_crashes(self):
        """Members that ended though nobody ended them. Each end is noted once."""
        for member in list(self.members):
            if not member.running and not member.stopped_on_purpose:
                member.stopped_on_purpose = True
                self.crashes.append((member.name, member.process.returncode, member.log_text()[-2000:]))
