"""The launcher with real processes. LAUNCHER_APUS names another member program, etcd for example."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from harness import BUILD, free_ports

LAUNCHER = BUILD / "launcher"
MEMBER = os.environ.get("LAUNCHER_APUS")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "TERM": "xterm"}


class Local:
    """A folder with a cluster.conf, and the launchers started in it."""

    def __init__(self, members=3, extra=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="apus-launcher-"))
        self.ports = free_ports(2 * members)
        self.process = None
        self.output = b""
        self.write(extra)

    def write(self, extra="", data_dir="data"):
        lines = [f"data-dir: {data_dir}", extra, "members:"]
        for index in range(len(self.ports) // 2):
            lines += [f"  - name: m{index + 1}",
                      f"    client-url: http://127.0.0.1:{self.ports[2 * index]}",
                      f"    peer-url: http://127.0.0.1:{self.ports[2 * index + 1]}"]
        (self.folder / "cluster.conf").write_text("\n".join(lines) + "\n")

    def arguments(self, *options):
        member = ["--apus", MEMBER] if MEMBER else []
        return [str(LAUNCHER), "start", *member, *options]

    def start(self, *options):
        """Starts a launcher on a terminal of its own and waits for its table."""
        leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            self.arguments(*options), cwd=self.folder, stdin=follower, stdout=follower,
            stderr=follower, env=ENVIRONMENT, start_new_session=True,
            preexec_fn=_take_terminal)
        os.close(follower)
        self.terminal = leader
        self.output = b""
        threading.Thread(target=self._read, args=(leader,), daemon=True).start()
        self.wait_for("Up after")
        return self

    def _read(self, descriptor):
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                return
            if not data:
                return
            self.output += data

    def text(self):
        return re.sub(r"\x1b\[[0-9;]*[mK]", "", self.output.decode(errors="replace"))

    def wait_for(self, text, timeout=30):
        deadline = time.monotonic() + timeout
        while text not in self.text():
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text()[-4000:]}"
            if self.process.poll() is not None:
                time.sleep(0.2)
                assert text in self.text(), f"launcher ended before {text!r}:\n{self.text()}"
            time.sleep(0.02)

    def run(self, *arguments, timeout=60, environment=None):
        return subprocess.run([str(LAUNCHER), *arguments], cwd=self.folder, env=ENVIRONMENT | (environment or {}),
                              capture_output=True, text=True, timeout=timeout)

    def refused(self, *options):
        """Standard error of a start that must not succeed."""
        done = subprocess.run(self.arguments(*options), cwd=self.folder, env=ENVIRONMENT,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def status(self):
        done = self.run("status", "-o", "json")
        assert done.returncode == 0, done.stderr
        return {row["name"]: row for row in json.loads(done.stdout)["members"]}

    def wait_status(self, condition, timeout=15):
        deadline = time.monotonic() + timeout
        while True:
            rows = self.status()
            if condition(rows):
                return rows
            assert time.monotonic() < deadline, rows
            time.sleep(0.1)

    def pids(self):
        return [row["pid"] for row in self.status().values() if row["pid"]]

    def close(self):
        try:
            record = json.loads((self.folder / "data" / "launcher.json").read_text())
            left = [row["pid"] for row in record["members"]]
        except (OSError, ValueError):
            left = []
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        if self.process:
            os.close(self.terminal)
        shutil.rmtree(self.folder, ignore_errors=True)


def _take_terminal():
    import fcntl
    import termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_gone(pids, timeout=10):
    deadline = time.monotonic() + timeout
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, [pid for pid in pids if alive(pid)]
        time.sleep(0.02)


@pytest.fixture
def local():
    cluster = Local()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def running():
    cluster = Local().start()
    yield cluster
    cluster.close()


def test_table_names_a_leader(running):
    table = running.text()
    assert re.search(r"^NAME +PID +CLIENT URL +PEER URL +ROLE +DATA\r?$", table, re.M)
    assert len(re.findall(r"^m\d +\d+ +http://\S+ +http://\S+ +(?:leader|follower) +data/m\d\r?$",
                          table, re.M)) == 3
    assert len(re.findall(r" leader ", table)) == 1


def test_status(running):
    rows = running.wait_status(lambda rows: all(r["state"] == "running" for r in rows.values()))
    assert sorted(row["role"] for row in rows.values()) == ["follower", "follower", "leader"]
    assert all(alive(row["pid"]) for row in rows.values())
    text = running.run("status").stdout.splitlines()
    assert text[0].split()[:4] == ["NAME", "STATE", "ROLE", "PID"]
    assert len(text) == 4


def test_control_socket_is_private(running):
    assert (running.folder / "data" / "launcher.sock").stat().st_mode & 0o777 == 0o600


def test_kill_and_restart_elect_a_leader(running):
    rows = running.wait_status(lambda rows: any(r["role"] == "leader" for r in rows.values()))
    leader = next(name for name, row in rows.items() if row["role"] == "leader")
    done = running.run("kill", leader)
    assert done.returncode == 0 and "killed" in done.stdout
    wait_gone([rows[leader]["pid"]])
    rows = running.wait_status(lambda rows: any(r["role"] == "leader" for r in rows.values()))
    assert rows[leader]["state"] == "killed" and rows[leader]["pid"] is None
    running.wait_for("is the leader now")
    done = running.run("restart", leader)
    assert done.returncode == 0 and "serves clients" in done.stdout
    rows = running.wait_status(lambda rows: rows[leader]["role"] == "follower")
    assert rows[leader]["state"] == "running" and rows[leader]["restarts"] == 1


def test_pause_and_resume(running):
    pid = running.status()["m2"]["pid"]
    assert running.run("pause", "m2").returncode == 0
    assert running.status()["m2"]["state"] == "paused"
    assert pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert running.run("resume", "m2").returncode == 0
    rows = running.wait_status(lambda rows: rows["m2"]["role"] in ("leader", "follower"))
    assert rows["m2"]["pid"] == pid


def test_stop_one_member(running):
    pid = running.status()["m3"]["pid"]
    done = running.run("stop", "m3")
    assert done.returncode == 0 and not alive(pid)
    assert running.status()["m3"]["state"] == "stopped"
    assert "not running" in running.run("stop", "m3").stdout
    assert running.run("restart", "m3").returncode == 0
    assert running.status()["m3"]["state"] == "running"


def test_logs(running):
    done = running.run("logs", "-n", "5", "m1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert 0 < len(lines) <= 5 and all(" m1 | " in line for line in lines)
    assert "\x1b" not in done.stdout
    follower = subprocess.Popen([str(LAUNCHER), "logs", "-f", "-n", "0", "--log", "raw", "m1"],
                                cwd=running.folder, stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        time.sleep(0.5)
        with open(running.folder / "data" / "m1.log", "a") as log:
            log.write("a line of its own\n")
        seen = ""
        # The member may have something to say at the same time.
        while "a line of its own" not in seen:
            assert select.select([follower.stdout], [], [], 5)[0], seen
            seen += os.read(follower.stdout.fileno(), 65536).decode()
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


def test_a_second_launcher_is_refused(running):
    error = running.refused()
    assert f"(pid {running.process.pid})" in error and "launcher status" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("arguments, expected", [
    (["kill", "m9"], 'no member is named "m9", did you mean m1?'),
    (["pause"], "name a member, or all of them with --all"),
    (["status", "--config", "none.conf"], "none.conf"),
    (["logs", "m9"], 'no member is named "m9"'),
])
def test_errors_have_one_line(running, arguments, expected):
    done = running.run(*arguments)
    assert done.returncode == 1
    assert expected in done.stderr and len(done.stderr.splitlines()) == 1


def test_no_launcher(local):
    for command in (["status"], ["stop"], ["kill", "m1"]):
        done = local.run(*command)
        assert done.returncode == 1
        assert "no launcher runs the cluster" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_leaves_nothing_behind(local):
    local.start()
    pids = local.pids()
    assert len(pids) == 3
    os.write(local.terminal, b"\x03")
    assert local.process.wait(40) == 0
    assert not any(alive(pid) for pid in pids)
    local.wait_for("All members have ended.")
    assert not (local.folder / "data" / "launcher.sock").exists()
    # The same data serves again.
    local.start()
    local.process.terminate()
    assert local.process.wait(40) == 0


def test_second_ctrl_c_kills(local):
    stubborn = local.folder / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\necho ready to serve client requests\n"
                        "while :; do sleep 1; done\n")
    stubborn.chmod(0o755)
    local.start("--apus", str(stubborn))
    pids = local.pids()
    began = time.monotonic()
    os.write(local.terminal, b"\x03")
    local.wait_for("stopping the members in order")
    time.sleep(0.5)
    assert all(alive(pid) for pid in pids)
    os.write(local.terminal, b"\x03")
    assert local.process.wait(20) == 0
    assert time.monotonic() - began < 8
    assert not any(alive(pid) for pid in pids)


def test_stop_ends_the_launcher(local):
    local.start("--log", "quiet")
    pids = local.pids()
    done = local.run("stop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stopped after") == 3
    assert local.process.wait(10) == 0
    assert not any(alive(pid) for pid in pids)


def test_survivors_of_a_killed_launcher_are_named(local):
    local.start()
    pids = local.pids()
    local.process.kill()
    local.process.wait()
    survivors = [pid for pid in pids if alive(pid)]
    assert survivors, "members live in sessions of their own"
    error = local.refused()
    assert "members of an earlier launcher are still running" in error
    assert len(error.splitlines()) == 1
    assert all(str(pid) in error for pid in survivors)
    assert "still running" in local.run("status").stderr
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)
    wait_gone(pids)
    local.start()


def test_a_member_that_dies_is_reported(local):
    local.start()
    os.kill(local.status()["m1"]["pid"], signal.SIGKILL)
    local.wait_for("SIGKILL; its last lines:")
    assert local.status()["m1"]["state"] == "exited (SIGKILL)"


def test_restart_always(local):
    local.write("restart: always")
    local.start()
    before = local.status()["m1"]["pid"]
    os.kill(before, signal.SIGKILL)
    local.wait_for("is started again in 1 s")
    rows = local.wait_status(lambda rows: rows["m1"]["state"] == "running"
                             and rows["m1"]["pid"] != before)
    assert rows["m1"]["restarts"] == 1


def test_port_in_use(local):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", local.ports[0]))
        taken.listen()
        error = local.refused()
    assert (f"member m1: 127.0.0.1:{local.ports[0]} is already in use by another process "
            f"(pid {os.getpid()}, ") in error
    assert "change client-url at cluster.conf:5" in error


def test_foreign_data(local):
    local.start()
    local.run("stop")
    local.process.wait(10)
    local.ports[1] = free_ports(1)[0]
    local.write("defaults: {initial-cluster-token: other}")
    error = local.refused()
    assert 'initial-cluster-token was "etcd-cluster", now it is "other"' in error
    assert "peer-url of m1 was" in error and "cluster.conf:6" in error
    assert "choose another data-dir" in error


def test_unusable_data_folder(local):
    (local.folder / "data").write_text("a file")
    assert "cluster.conf:1: the data-dir cannot be made" in local.refused()


def test_missing_member_program(local):
    done = local.run("start", "--apus", "/nowhere/apus")
    assert done.returncode == 1 and "/nowhere/apus" in done.stderr


def test_members_that_cannot_start(local):
    local.write("defaults: {log-level: nonsense}")
    done = subprocess.run(local.arguments(), cwd=local.folder, env=ENVIRONMENT,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.count("ended before it served") == 3
    assert "the cluster could not be started" in done.stdout


def test_mistakes_are_listed_together(local):
    (local.folder / "cluster.conf").write_text(
        "datadir: d\nrestart: maybe\n")
    for command in ("check", "start"):
        done = local.run(command)
        assert done.returncode == 1 and done.stdout == ""
        lines = done.stderr.splitlines()
        assert lines[0].startswith("cluster.conf: `members` is missing; write instead: ")
        assert lines[1].startswith("cluster.conf:1: unknown key `datadir`, did you mean `data-dir`")
        assert lines[2].startswith("cluster.conf:2: `restart` cannot be")


def test_check_and_help(local):
    done = local.run("check")
    assert done.returncode == 0 and "cluster.conf is right: 3 members" in done.stdout
    assert local.run("--version").stdout.startswith("launcher ")
    for command in ("start", "check", "status", "stop", "kill", "restart", "pause", "resume",
                    "logs"):
        assert "Examples:" in local.run(command, "--help").stdout


def test_add_and_remove(local):
    local.start()
    endpoints = [f"127.0.0.1:{port}" for port in local.ports[0::2]]
    put = lambda key: subprocess.run(
        ["etcdctl", "--endpoints", ",".join(endpoints), "put", key, "v"], capture_output=True, text=True,
        env={**ENVIRONMENT, "ETCDCTL_API": "3"}, timeout=20)
    assert put("a").returncode == 0
    client, peer = free_ports(2)
    done = local.run("add", "m4", "--client-url", f"http://127.0.0.1:{client}",
                     "--peer-url", f"http://127.0.0.1:{peer}", timeout=90)
    assert done.returncode == 0 and "has caught up, and votes" in done.stdout, done.stdout + done.stderr
    rows = local.wait_status(lambda rows: rows.get("m4", {}).get("role") == "follower")
    assert list(rows) == ["m1", "m2", "m3", "m4"]
    assert f"client-url: http://127.0.0.1:{client}" in (local.folder / "cluster.conf").read_text()
    again = local.run("add", "m4")
    assert again.returncode == 1 and "m4 is a member already" in again.stderr
    # The leader goes, whoever it is: the others stay a cluster.
    leader = next(name for name, row in rows.items() if row["role"] == "leader")
    done = local.run("remove", leader, timeout=60)
    assert done.returncode == 0 and "is removed, also from cluster.conf" in done.stdout, done.stdout + done.stderr
    assert sorted(local.status()) == sorted({"m1", "m2", "m3", "m4"} - {leader})
    assert f"name: {leader}" not in (local.folder / "cluster.conf").read_text()
    assert not (local.folder / "data" / leader).exists()
    assert (local.folder / "data" / f"{leader}.removed" / "member").is_dir()
    endpoints.append(f"127.0.0.1:{client}")
    assert put("b").returncode == 0
    # Without the launcher in between: the file and the data fit each other.
    assert local.run("stop").returncode == 0
    local.process.wait(20)
    local.start()
    assert sorted(local.status()) == sorted({"m1", "m2", "m3", "m4"} - {leader})


def test_replace_a_dead_member(local):
    local.start()
    assert local.run("kill", "m2").returncode == 0
    for file in (local.folder / "data" / "m2" / "member").rglob("*.wal"):
        file.unlink()
    # Connections count as healthy once they have been there for five seconds.
    done = local.run("replace", "m2", timeout=90)
    assert done.returncode == 0 and "has caught up, and votes" in done.stdout, done.stdout + done.stderr
    local.wait_status(lambda rows: rows["m2"]["role"] == "follower")
    refused = local.run("add", "m2")
    assert refused.returncode == 1 and "launcher replace m2" in refused.stderr


def test_members_change_with_authentication(local):
    local.write("defaults:\n  bcrypt-cost: 4")
    local.start()
    ctl = lambda *words: subprocess.run(
        ["etcdctl", "--endpoints", f"127.0.0.1:{local.ports[0]}", *words], capture_output=True, text=True,
        check=True, env={**ENVIRONMENT, "ETCDCTL_API": "3"}, timeout=20)
    for words in (["user", "add", "root:a:b"], ["user", "grant-role", "root", "root"], ["user", "add", "other:pw"],
                  ["auth", "enable"]):
        ctl(*words)
    nobody = local.run("remove", "m3", timeout=60)
    assert nobody.returncode == 1
    assert "user name is empty; the cluster asks who you are" in nobody.stderr and "--user" in nobody.stderr
    wrong = local.run("remove", "m3", "--user", "root:b", timeout=60)
    assert wrong.returncode == 1 and "authentication failed, invalid user ID or password" in wrong.stderr
    small = local.run("remove", "m3", "--user", "other:pw", timeout=60)
    assert small.returncode == 1 and "permission denied; this takes a user with the role root" in small.stderr
    # Nothing has happened to it meanwhile.
    assert local.status()["m3"]["state"] == "running"
    done = local.run("replace", "m3", "--user", "root:a:b", timeout=90)
    assert done.returncode == 0 and "has caught up, and votes" in done.stdout, done.stdout + done.stderr
    done = local.run("remove", "m3", timeout=60, environment={"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "a:b"})
    assert done.returncode == 0 and sorted(local.status()) == ["m1", "m2"], done.stdout + done.stderr
    assert "a:b" not in local.output.decode() + "".join(
        path.read_text() for path in local.folder.rglob("*.log"))
