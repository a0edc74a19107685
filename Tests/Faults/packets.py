"""Packets between members lost or sent twice below TCP, by rules of the kernel's own filter (nftables, as root)."""

import os
import re
import shutil
import subprocess

PREFIX = "apus_faults_"


def nft(*arguments, rules=None):
    return subprocess.run(["nft", *arguments], input=rules, capture_output=True, text=True)


class PacketFilter:
    """A table of rules for some ports of the loopback interface; nobody else's packets are touched."""

    def __init__(self, ports):
        self.ports = ",".join(map(str, ports))
        self.table = f"{PREFIX}{os.getpid()}"
        self.works = shutil.which("nft") is not None and os.geteuid() == 0
        if self.works:
            self._clear_leftovers()

    def set(self, loss, twice):
        """Of 1,000 packets so many are lost, and so many sent twice. Returns whether the kernel can do it."""
        self.clear()
        if not self.works:
            return False
        lines = []
        for end in ("dport", "sport"):
            match = f"tcp {end} {{ {self.ports} }} numgen random mod 1000 <"
            lines.append((f'oifname "lo" {match} {twice} counter dup to 127.0.0.1 device "lo"',
                          f'iifname "lo" {match} {loss} counter drop'))
        out, into = ("\n".join(each) for each in zip(*lines))
        done = nft("-f", "-", rules=f"""table ip {self.table} {{
            chain out {{ type filter hook output priority 0; {out}
            }}
            chain into {{ type filter hook input priority 0; {into}
            }}
        }}""")
        self.works = done.returncode == 0
        return self.works

    def hits(self):
        """(lost, sent twice) since the rules were set."""
        listed = nft("list", "table", "ip", self.table).stdout.splitlines()
        counts = {"drop": 0, "dup": 0}
        for line in listed:
            if found := re.search(r"counter packets (\d+) bytes \d+ (drop|dup)", line):
                counts[found[2]] += int(found[1])
        return counts["drop"], counts["dup"]

    def clear(self):
        if self.works:
            nft("delete", "table", "ip", self.table)

    @staticmethod
    def _clear_leftovers():
        """Tables of runs that were killed."""
        for line in nft("list", "tables").stdout.splitlines():
            name = line.split()[-1]
            owner = name.removeprefix(PREFIX)
            if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
                nft("delete", "table", "ip", name)
