"""What operators do, as docs/operations.md says it, and what they read when it cannot be done."""

import gzip
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from harness import PROGRAMS, Cluster, free_ports

APUS = str(PROGRAMS["apus"])
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def run(*arguments, environment=ENVIRONMENT, timeout=20, **more):
    """A member that is expected to end by itself."""
    return subprocess.run([APUS, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env=environment, **more)


def flags(folder, name="n1"):
    """Flags of a member alone, on ports of its own."""
    client, peer = free_ports(2)
    return ["--name", name, "--data-dir", f"{folder}/{name}",
            "--listen-client-urls", f"http://127.0.0.1:{client}",
            "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"{name}=http://127.0.0.1:{peer}"]


def reason(done):
    """The level and the error of the last line with one."""
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    last = [line for line in lines if "error" in line or line["level"] == "fatal"][-1]
    return last["level"], last.get("error", last["msg"])


# MARK: Members

def test_one_survivor_makes_a_cluster_of_its_own():
    """--force-new-cluster: quorum is lost for good, the data is not."""
    with Cluster() as cluster:
        for index in range(20):
            cluster.ctl("put", f"k{index}", f"v{index}", check=True)
        before = cluster.ctl("get", "--prefix", "k", "-w", "json", check=True).stdout
        survivor, *others = cluster.followers() + [cluster.leader()]
        identity = survivor.status()["header"]
        for member in others:
            member.kill()
        assert cluster.ctl("put", "x", "y", "--command-timeout=1s", endpoints=[survivor.endpoint]).returncode
        survivor.kill()
        cluster.flags += ["--force-new-cluster"]
        survivor.start().wait_ready()
        assert "forcing restart member" in survivor.log_since_start()
        alone = [survivor.endpoint]
        assert list(cluster.listed(alone)) == [survivor.name]
        now = survivor.status()["header"]
        assert (now["cluster_id"], now["member_id"]) == (identity["cluster_id"], identity["member_id"])
        after = cluster.ctl("get", "--prefix", "k", "-w", "json", endpoints=alone, check=True).stdout
        assert json.loads(after)["kvs"] == json.loads(before)["kvs"]
        cluster.ctl("put", "k20", "v20", endpoints=alone, check=True)
        # The next start is an ordinary one, and others may join.
        survivor.stop()
        cluster.flags.remove("--force-new-cluster")
        survivor.start().wait_ready()
        assert "forcing" not in survivor.log_since_start()
        cluster.former += others
        cluster.members = [survivor]
        cluster.add("apus", "n4", endpoints=alone).wait_ready()
        assert cluster.ctl("get", "k20", endpoints=[cluster.members[1].endpoint], check=True).stdout == "k20\nv20\n"
        # A former member is told that it is none any more.
        others[0].start()
        assert others[0].process.wait(15) == 0
        assert "permanently removed" in others[0].log_since_start()


def test_rolling_restart_under_load():
    with Cluster() as cluster:
        leader = cluster.leader()
        for member in [m for m in cluster.members if m is not leader] + [leader]:
            cluster.ctl("put", "before", member.name, check=True)
            assert member.stop() == -signal.SIGTERM
            rest = [m.endpoint for m in cluster.members if m is not member]
            cluster.ctl("put", "while", member.name, endpoints=rest, check=True)
            member.start().wait_ready()
            assert cluster.ctl("get", "while", endpoints=[member.endpoint], check=True).stdout == f"while\n{member.name}\n"


def test_a_downgrade_is_answered():
    with Cluster(["apus"]) as cluster:
        def asked(action, version=""):
            body = json.dumps({"action": action, "version": version}).encode()
            request = urllib.request.Request(
                f"http://{cluster.endpoints[0]}/v3/maintenance/downgrade", body, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                return json.load(error)["message"]
        assert asked("VALIDATE", "three") == "etcdserver: wrong downgrade target version format"
        for action in ("VALIDATE", "ENABLE"):
            for version in ("3.6", "3.6.0", "3.5", "3.7"):
                assert asked(action, version) == "etcdserver: invalid downgrade target version"
        assert asked("CANCEL")["version"] == "3.7"
        assert asked(7) == "etcdserver: unknown method"
        status = cluster.members[0].status()
        assert status["version"] == "3.7.1"


# MARK: Logs

def test_log_file_is_rotated(tmp_path):
    log = tmp_path / "member.log"
    limits = '{"maxsize": 1, "maxbackups": 2, "compress": true}'
    arguments = [*flags(tmp_path), "--log-outputs", log, "--enable-log-rotation", "--log-level=debug",
                 "--log-rotation-config-json", limits]
    # Lines of a former run, so that the first of this one finds the file full.
    log.write_text("x" * 79 + "\n")
    log.write_text(("x" * 79 + "\n") * ((1 << 20) // 80))
    member = subprocess.Popen([APUS, *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 15
        while not (packed := sorted(tmp_path.glob("member-*.log.gz"))):
            assert time.monotonic() < deadline, list(tmp_path.iterdir())
            assert member.poll() is None, member.stderr.read()
            time.sleep(0.05)
        assert gzip.decompress(packed[0].read_bytes()).startswith(b"x" * 79)
        assert log.stat().st_size < 1 << 20 and '"msg"' in log.read_text()
    finally:
        member.terminate()
        assert member.wait(10) == -signal.SIGTERM
    assert member.stderr.read() == ""


def test_console_format_levels_and_outputs(tmp_path):
    log = tmp_path / "second.log"
    done = subprocess.Popen(
        [APUS, *flags(tmp_path), "--log-format=console", "--log-outputs", f"stdout,{log}", "--log-level=warn"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    done.terminate()
    out, err = done.communicate(timeout=10)
    assert err == "" and out == log.read_text()
    for line in out.splitlines():
        assert line.split("\t")[1] in ("warn", "error", "fatal"), line


def test_slow_requests_are_told_without_their_values():
    with Cluster(["apus"], flags=["--warning-apply-duration=1ns", "--warning-unary-request-duration=1ns"]) as cluster:
        cluster.ctl("put", "visible-key", "secret-value", check=True)
        cluster.ctl("get", "visible-key", check=True)
        text = cluster.members[0].log_text()
        lines = [json.loads(line) for line in text.splitlines()]
        slow = [line for line in lines if line["msg"] == "apply request took too long"]
        assert any("put:<key:\"visible-key\" value_size:12" in line["request"] for line in slow), slow
        assert any(line["prefix"] == "read-only range " and "visible-key" in line["request"] for line in slow)
        stats = [line for line in lines if line["msg"] == "request stats"]
        assert any(line["response type"] == "/etcdserverpb.KV/Put" and line["request content"]
                   == 'key:"visible-key" value_size:12' and line["request size"] == 27 for line in stats), stats
        assert {"level", "ts", "caller", "msg", "took", "expected-duration", "prefix", "request", "response"} == set(slow[0])
        assert "secret-value" not in text


# MARK: What keeps a member from starting

def test_version_and_help():
    done = run("--version")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "etcd Version: 3.7.1"
    done = run("--help")
    assert done.returncode == 0 and "--force-new-cluster" in done.stdout and done.stderr.startswith("Usage:")


@pytest.mark.parametrize("arguments, code, text", [
    (["--nosuch"], 2, "flag provided but not defined: -nosuch"),
    (["--snapshot-count=many"], 2, 'invalid value "many" for flag -snapshot-count: parse error'),
    (["--log-level=loud"], 2, 'unrecognized level: "loud"'),
    (["word"], 1, '"word" is not a valid flag'),
    (["--log-format=xml"], 1, "unknown log format: xml, supported values json, console"),
    (["--log-outputs=systemd/journal,stderr"], 1, "running with systemd/journal but other"),
    (["--log-outputs=default,stderr"], 1, 'multi logoutput for "default" is not supported yet'),
    (["--log-outputs=/nonexistent/x.log"], 1, "open /nonexistent/x.log: no such file or directory"),
    (["--enable-log-rotation"], 1, "--log-outputs requires a single file path"),
    (["--enable-log-rotation", "--log-outputs=/tmp/x.log", "--log-rotation-config-json={"], 1,
     "improperly formatted log rotation config:"),
    (["--heartbeat-interval=0"], 1, "--heartbeat-interval must be >0 (set to 0ms)"),
    (["--config-file=/nonexistent"], 1, "open /nonexistent: no such file or directory"),
    (["--discovery-endpoints=http://a:1", "--discovery-token=t", "--initial-cluster="], 1,
     "--discovery-endpoints is not part of this program"),
    (["--enable-distributed-tracing"], 1, "--enable-distributed-tracing is not part of this program"),
    (["--name=x", "--initial-cluster=y=http://127.0.0.1:2380"], 1,
     'couldn\'t find local name "x" in the initial cluster configuration'),
    (["--data-dir=/proc/x"], 1, "cannot access data directory: mkdir /proc/x:"),
])
def test_wrong_settings(tmp_path, arguments, code, text):
    if not any(word.startswith("--data-dir") for word in arguments):
        arguments = [*arguments[:-1], f"--data-dir={tmp_path}/d", arguments[-1]]
    done = run(*arguments)
    assert done.returncode == code, done
    assert text in done.stderr.replace('\\"', '"'), done.stderr


def test_flag_and_variable_together(tmp_path):
    done = run("--name=n1", environment={**ENVIRONMENT, "ETCD_NAME": "n2"})
    assert done.returncode == 1 and "is shadowed by corresponding command-line flag" in done.stderr


def test_port_and_address_and_descriptors(tmp_path):
    arguments = flags(tmp_path)
    peer = int(arguments[9].rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", peer))
        taken.listen()
        done = run(*arguments)
        assert done.returncode == 1 and f"127.0.0.1:{peer}" in done.stderr and "address already in use" in done.stderr
    foreign = [word.replace("127.0.0.1", "203.0.113.9") for word in flags(tmp_path, "n2")]
    done = run(*foreign)
    assert done.returncode == 1 and "203.0.113.9" in done.stderr and "assign requested address" in done.stderr
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    done = run(*flags(tmp_path, "n3"), preexec_fn=few)
    assert done.returncode == 1
    assert reason(done)[1].startswith("file descriptor limit of etcd process is too low; please set higher")


def test_data_of_another_process_or_none(tmp_path):
    arguments = flags(tmp_path)
    first = subprocess.Popen([APUS, *arguments], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        for line in first.stderr:
            if "ready to serve" in line:
                break
        other = flags(tmp_path)
        done = run(*other)
        level, text = reason(done)
        assert done.returncode == 1 and level == "fatal" and f"process {first.pid}" in text, text
    finally:
        first.terminate()
        first.wait(10)
    # Half of the data is worse than none.
    os.rename(tmp_path / "n1" / "member" / "store", tmp_path / "elsewhere")
    done = run(*arguments)
    assert done.returncode == 1 and "store is missing while the rest" in reason(done)[1]


def test_a_full_disk_is_called_one(tmp_path):
    """The line about it speaks of the disk, not of the quota."""
    image, mount = tmp_path / "disk", tmp_path / "mount"
    mount.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", mount],
                                           capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        with Cluster(["apus"]) as cluster:
            member = cluster.members[0]
            member.stop()
            member.data = pathlib.Path(mount) / "data"
            member.start().wait_ready()
            cluster.ctl("put", "a", "b", check=True)
            (mount / "ballast").touch()
            with open(mount / "ballast", "ab") as ballast:
                try:
                    while True:
                        ballast.write(b"x" * (1 << 20))
                        ballast.flush()
                except OSError:
                    pass
            deadline = time.monotonic() + 20
            while "the store has no room on its disk; raising alarm NOSPACE" not in member.log_text():
                assert time.monotonic() < deadline and member.process.poll() is None, member.log_text()[-1500:]
                cluster.ctl("put", "k", "v" * 100_000, "--command-timeout=2s")
            assert "no space left on the file system of" in member.log_text()
            assert "message exceeded backend quota" not in member.log_text()
            assert cluster.ctl("get", "a", check=True).stdout == "a\nb\n"
    finally:
        subprocess.run(["umount", "-l", mount], capture_output=True)
