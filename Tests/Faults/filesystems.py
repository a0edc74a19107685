"""File systems of their own for the data of members: small ones that fill up, and ones whose power can be cut."""

import contextlib
import fcntl
import os
import struct
import subprocess

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN: every later write and sync fails with EIO
NO_FLUSH = 2  # not even the journal is written out


@contextlib.contextmanager
def file_systems(cluster, scenario):
    """A memory file system or an ext4 image for the data of each member, if the scenario asks for one."""
    if not scenario.tmpfs and not scenario.image:
        yield
        return
    mounted = []
    try:
        for member in cluster.members:
            folder = member.data
            folder.mkdir()
            if scenario.tmpfs:
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={scenario.tmpfs}", "apus-test", folder],
                               check=True)
            else:
                make_image(image_of(member), scenario.image)
                mount_image(member)
            mounted.append(folder)
            member.data = folder / "data"
        yield
    finally:
        for member in cluster.members:
            member.resume()
            member.kill()
        for folder in mounted:
            subprocess.run(["umount", folder], check=False)


def image_of(member):
    return member.cluster.folder / f"{member.name}.image"


def make_image(path, size):
    subprocess.run(["truncate", "-s", size, path], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)


def mount_image(member):
    folder = member.cluster.folder / member.name
    subprocess.run(["mount", "-o", "loop", image_of(member), folder], check=True)


def shut_down(member):
    """Nothing that the member writes or syncs from here on reaches its disk."""
    folder = os.open(member.cluster.folder / member.name, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_FLUSH))
    finally:
        os.close(folder)


def power_up(member):
    """Mounts the file system of a member that has been shut down and killed: its journal is replayed."""
    subprocess.run(["umount", member.cluster.folder / member.name], check=True)
    mount_image(member)
