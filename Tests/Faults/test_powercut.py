"""A power cut keeps what was synced and loses what was not; and a member survives it from its first moment on."""

import os
import random
import subprocess
import sys

import pytest

from .injectors import FaultCluster, build_shim
from .powercut import Disk

WRITER = """
import os, sys
root = sys.argv[1]
def write(path, data, at=0, flags=0):
    file = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    os.pwrite(file, data, at)
    return file
def sync_folder(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


def run(shim, folder, script, mode, before=lambda root: None, rule=None):
    """Runs a script under the shim, cuts the power, and gives back what is left: {path: content}."""
    root = folder / "disk"
    root.mkdir()
    before(root)
    disk = Disk(root)
    environment = {**os.environ, "LD_PRELOAD": str(shim), "FAULT_JOURNAL": str(disk.journal), "FAULT_ROOT": str(root)}
    if rule:
        (folder / "rules").write_text(f"{rule}\n")
        environment["FAULT_RULES"] = str(folder / "rules")
    ended = subprocess.run([sys.executable, "-c", WRITER + script, str(root)], env=environment).returncode
    assert ended == (-9 if rule and "torn" in rule else 0)
    disk.cut(random.Random(1), mode)
    return {str(each.relative_to(root)): each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file()}


def test_synced_stays_unsynced_goes(shim, tmp_path):
    script = """
file = write(root + "/a", b"one")
sync_folder(root)
os.fsync(file)
os.pwrite(file, b"two", 600)
write(root + "/b", b"never synced")
"""
    assert run(shim, tmp_path, script, "none") == {"a": b"one"}


def test_all_may_stay(shim, tmp_path):
    script = 'write(root + "/a", b"one"); os.rename(root + "/a", root + "/b")'
    assert run(shim, tmp_path, script, "all") == {"b": b"one"}


def test_name_without_sync_of_its_folder_goes(shim, tmp_path):
    script = 'os.fsync(write(root + "/a", b"one")); os.mkdir(root + "/d"); sync_folder(root + "/d")'
    assert run(shim, tmp_path, script, "none") == {}


def test_rename_is_undone_or_whole(shim, tmp_path):
    def before(root):
        (root / "new").write_bytes(b"new")
        (root / "old").write_bytes(b"old")
    script = 'os.rename(root + "/new", root + "/old")'
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert run(shim, tmp_path / "1", script, "none", before) == {"new": b"new", "old": b"old"}
    assert run(shim, tmp_path / "2", script + "; sync_folder(root)", "none", before) == {"old": b"new"}


def test_synchronous_write_stays_alone(shim, tmp_path):
    def before(root):
        (root / "a").write_bytes(bytes(2048))
    script = """
write(root + "/a", b"lazy", 1024)
write(root + "/a", b"now", 0, os.O_DSYNC)
"""
    assert run(shim, tmp_path, script, "none", before)["a"].rstrip(b"\0") == b"now"


@pytest.mark.parametrize("rule, left", [("write a short 0 1", b"whole"), ("write a torn 3 1", b"who")])
def test_faulty_writes_reach_the_disk_as_far_as_they_went(shim, tmp_path, rule, left):
    script = """
file = os.open(root + "/a", os.O_RDWR | os.O_CREAT, 0o600)
done = 0
while done < 5:
    done += os.pwrite(file, b"whole"[done:], done)
"""
    assert run(shim, tmp_path, script, "all", rule=rule) == {"a": left}


def test_sector_holds_all_that_came_before(shim, tmp_path):
    """Two writes to one sector: the second one does not reach the disk without the first."""
    def before(root):
        (root / "a").write_bytes(bytes(512))
    script = 'file = write(root + "/a", b"first"); os.pwrite(file, b"second", 100)'
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        content = run(shim, folder, script, "sectors" if seed % 2 else "prefix", before)["a"]
        assert b"first" in content or b"second" not in content


def test_a_member_survives_from_its_first_moment_on():
    """Neither the end of a first start between log and store, nor the loss of all that was not synced, matters."""
    with_power = FaultCluster(1, powered=True)
    member = with_power.members[0]
    member.disk(("rename", "wal.tmp>", "killed", 0, 1))
    member.start()
    assert member.process.wait(10) == -9
    member.disk()
    with with_power as cluster:
        cluster.ctl("put", "acknowledged", "yes", check=True)
        member.kill()
        member.disk_image.cut(random.Random(1), "none")
        member.start()
        member.wait_ready()
        assert cluster.ctl("get", "acknowledged", check=True).stdout.split() == ["acknowledged", "yes"]
