"""Stock etcdctl prints on Apus what it prints on etcd: same words, same exit codes.

Each scenario runs on a fresh three-member cluster of either kind. What differs by nature (ids,
sizes, times, Raft positions) is replaced by a name before the comparison.
"""

import json
import os
import re
import subprocess

import pytest
from harness import ETCDCTL, Cluster


def run(cluster, version, *arguments, stdin=None, endpoint=None):
    done = cluster.ctl(*arguments, stdin=stdin, version=version,
                       endpoints=[cluster.members[endpoint].endpoint] if endpoint is not None else None)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    return normalise(cluster, done.stdout), errors, done.returncode


def normalise(cluster, text):
    """Replaces what differs between any two clusters."""
    text = re.sub(r'"(cluster_id|member_id|raft_term|raftTerm|raftIndex|raftAppliedIndex|leader|dbSize|dbSizeInUse|hash|ID)":\d+',
                  r'"\1":N', text)
    text = re.sub(r'"(ClusterID|MemberID|RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|Leader|Hash|ID)" : \d+', r'"\1" : N', text)
    text = re.sub(r'"(version|Version)"( ?: ?)"[\d.]+"', r'"\1"\2"V"', text)
    # An id is printed without its leading zeros: one of 256 has 14 digits or fewer. Before the
    # ports, whose digits it may contain.
    text = re.sub(r"\b[0-9a-f]{12,16}\b", "<id>", text)
    for member in cluster.members:
        text = text.replace(str(member.client_port), f"<{member.name} client>")
        text = text.replace(str(member.peer_port), f"<{member.name} peer>")
    text = re.sub(r"took = [\d.]+m?µ?s", "took = T", text)
    return re.sub(r'"took":"[^"]+"', '"took":"T"', text)


KEY_VALUE = [
    ("put", "foo", "bar"),
    ("put", "foo", "bar2", "--prev-kv"),
    ("get", "foo"),
    ("get", "foo", "-w", "json"),
    ("get", "foo", "-w", "fields"),
    ("get", "foo", "--hex"),
    ("get", "nokey", "-w", "json"),
    ("get", ""),
    ("put", "foo", "bar3", "-w", "json", "--prev-kv"),
    ("put", "a", "1"), ("put", "b", "2"), ("put", "c", "3"), ("put", "d", ""),
    ("get", "a", "d"),
    ("get", "--prefix", ""),
    ("get", "--prefix", "", "--limit", "2", "-w", "json"),
    ("get", "--prefix", "", "--keys-only"),
    ("get", "--from-key", "b", "-w", "json"),
    ("get", "--prefix", "", "--order", "DESCEND", "--sort-by", "MODIFY", "-w", "json"),
    ("get", "--prefix", "", "--order", "ASCEND", "--sort-by", "VALUE"),
    ("get", "--prefix", "", "--sort-by", "VERSION", "--order", "DESCEND", "--limit", "2"),
    ("get", "foo", "--rev", "2"),
    ("get", "foo", "--rev", "3", "-w", "json"),
    ("get", "foo", "--rev", "99"),
    ("get", "foo", "--consistency", "s"),
    ("put", "foo", "--ignore-value"),
    ("put", "nope", "--ignore-value"),
    ("put", "foo", "x", "--lease", "123"),
    ("put", "foo", "x", "--ignore-lease"),
    ("del", "a", "--prev-kv"),
    ("del", "nokey"),
    ("del", "b", "-w", "json", "--prev-kv"),
    ("del", "c", "e"),
    ("put", "p/1", "1"), ("put", "p/2", "2"), ("put", "p/3", "3"),
    ("del", "--prefix", "p/", "-w", "json"),
    ("compaction", "3"),
    ("compaction", "3"),
    ("compaction", "999"),
    ("compaction", "4", "--physical"),
    ("get", "foo", "--rev", "2"),
    ("get", "foo", "--rev", "4", "-w", "json"),
]

TRANSACTIONS = [
    'mod("key1") > "0"\n\nput key1 "overwrote-key1"\n\nput key1 "created-key1"\nput key2 "some extra key"\n\n',
    'mod("key1") > "0"\n\nput key1 "overwrote-key1"\n\nput key1 "created-key1"\n\n',
    'value("key1") = "overwrote-key1"\nversion("key2") = "1"\n\nget key1\ndel key2\nget key2\n\nget nope\n\n',
    'create("nokey") = "0"\n\nput nokey v\nget nokey\nget --prefix key\n\n\n',
    'value("absent") != "x"\n\nput absent 1\n\nget absent\n\n',
    '\n\n\n',
    '\nput k 1\nput k 2\n\n\n',
    '\nput k 1\ndel --prefix k\n\n\n',
    'version("key1") < "100"\ncreate("key1") != "0"\n\nget --prefix key --limit 1\n\n\n',
]

LEASES = [
    ("lease", "grant", "100"),
    ("lease", "grant", "1"),
    ("lease", "grant", "9000000001"),
    ("lease", "grant", "abc"),
    ("lease", "revoke", "123456"),
    ("lease", "timetolive", "123456"),
    ("lease", "keep-alive", "--once", "123456"),
]


@pytest.fixture(scope="module", params=["3.4", "3.5"])
def pair(request):
    """The same version of etcdctl on a cluster of Apus and on one of etcd."""
    reference = {"3.4": "etcd34", "3.5": "etcd35"}[request.param]
    with Cluster((os.environ.get("OURS", "apus"),) * 3) as ours, Cluster((reference,) * 3) as theirs:
        yield request.param, ours, theirs


def compare(pair, arguments, stdin=None, endpoint=None):
    version, ours, theirs = pair
    expected = run(theirs, version, *arguments, stdin=stdin, endpoint=endpoint)
    actual = run(ours, version, *arguments, stdin=stdin, endpoint=endpoint)
    assert actual == expected, f"{arguments} {stdin or ''}"


def test_key_value_commands(pair):
    for number, arguments in enumerate(KEY_VALUE):
        compare(pair, arguments, endpoint=number % 3)


@pytest.mark.parametrize("output", ["simple", "json", "fields"])
def test_transactions(pair, output):
    for number, text in enumerate(TRANSACTIONS):
        compare(pair, ("txn", "-w", output), stdin=text, endpoint=number % 3)


def test_leases(pair):
    for number, arguments in enumerate(LEASES):
        compare(pair, arguments, endpoint=number % 3)


def test_lease_life(pair):
    """Grant, attach, list, keep alive and revoke, each through another member."""
    version, *clusters = pair
    for cluster in clusters:
        granted = json.loads(cluster.ctl("lease", "grant", "60", "-w", "json", version=version, check=True).stdout)
        lease = "%x" % granted["ID"]
        assert cluster.ctl("put", "lk", "v", "--lease", lease, version=version).stdout == "OK\n"
        for member in cluster.members:
            shown = cluster.ctl("lease", "timetolive", lease, "--keys", version=version,
                                endpoints=[member.endpoint], check=True).stdout
            assert re.fullmatch(rf"lease 0*{lease} granted with TTL\(60s\), remaining\((59|60)s\), "
                                r"attached keys\(\[lk\]\)\n", shown)
            kept = cluster.ctl("lease", "keep-alive", "--once", lease, version=version,
                               endpoints=[member.endpoint], check=True).stdout
            assert re.fullmatch(rf"lease 0*{lease} keepalived with TTL\(60\)\n", kept)
            assert lease in cluster.ctl("lease", "list", version=version,
                                        endpoints=[member.endpoint], check=True).stdout
        assert cluster.ctl("lease", "revoke", lease, version=version).stdout.endswith("revoked\n")
        assert cluster.ctl("get", "lk", version=version).stdout == ""


def test_lease_expires(pair):
    version, *clusters = pair
    for cluster in clusters:
        granted = json.loads(cluster.ctl("lease", "grant", "2", "-w", "json", version=version, check=True).stdout)
        cluster.ctl("put", "gone", "v", "--lease", "%x" % granted["ID"], version=version, check=True)
        watch = subprocess.run(
            ["timeout", "8", str(ETCDCTL[version]), "--endpoints", cluster.endpoints[1], "watch", "gone",
             "--rev", str(granted.get("revision", 1)), "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE"],
            capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
        assert "DELETE" in watch.stdout


def test_watch_output(pair):
    version, *clusters = pair
    shown = []
    for cluster in clusters:
        first = json.loads(cluster.ctl("put", "wk", "1", "-w", "json", version=version, check=True).stdout)
        revision = first["header"]["revision"]
        for arguments in [("put", "wk", "2"), ("del", "wk"), ("put", "wk/sub", "3"), ("put", "wk", "4")]:
            cluster.ctl(*arguments, version=version, check=True)
        outputs = []
        for endpoint in cluster.endpoints:
            done = subprocess.run(
                ["timeout", "-s", "INT", "2", str(ETCDCTL[version]), "--endpoints", endpoint, "watch", "--prefix",
                 "wk", "--prev-kv", "--rev", str(revision)],
                capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
            outputs.append(done.stdout)
        assert len(set(outputs)) == 1
        shown.append(outputs[0])
    assert shown[0] == shown[1]


def test_watch_of_compacted_revision(pair):
    version, *clusters = pair
    shown = []
    for cluster in clusters:
        for value in "123":
            put = json.loads(cluster.ctl("put", "wc", value, "-w", "json", version=version, check=True).stdout)
        cluster.ctl("compaction", str(put["header"]["revision"]), version=version, check=True)
        done = cluster.ctl("watch", "wc", "--rev", "1", version=version)
        shown.append((done.returncode, done.stderr.splitlines()[-2:]))
    assert shown[0] == shown[1]


def test_member_list(pair):
    for output in ("simple", "json", "fields", "table"):
        version, ours, theirs = pair
        lines = []
        for cluster in (ours, theirs):
            text, errors, code = run(cluster, version, "member", "list", "-w", output)
            assert code == 0 and not errors
            # Order follows ids, which follow ports: compare as a set of members.
            text = re.sub(r"<m\d (client|peer)>|\bm\d\b", "<m>", text)
            # Columns are as wide as the longest id.
            lines.append(sorted(re.sub(r" +", " ", re.sub(r"-+", "-", text)).splitlines()))
        if output == "json":
            continue
        assert lines[0] == lines[1]


def test_endpoint_status_and_health(pair):
    version, ours, theirs = pair
    for cluster in (ours, theirs):
        rows = json.loads(cluster.ctl("endpoint", "status", "-w", "json", version=version, check=True).stdout)
        assert len(rows) == 3
        assert len({row["Status"]["leader"] for row in rows}) == 1
        assert all(row["Status"]["dbSize"] > 0 and row["Status"]["dbSizeInUse"] > 0 for row in rows)
        health = cluster.ctl("endpoint", "health", version=version)
        assert health.returncode == 0
        assert (health.stdout + health.stderr).count("is healthy: successfully committed proposal") == 3
    ours_keys, theirs_keys = (
        sorted(json.loads(cluster.ctl("endpoint", "status", "-w", "json", version=version).stdout)[0]["Status"])
        for cluster in (ours, theirs))
    # Apus answers as 3.7 does: fields that 3.6 added are there, none is missing.
    assert set(theirs_keys) <= set(ours_keys)


def test_move_leader(pair):
    version, ours, theirs = pair
    for cluster in (ours, theirs):
        target = "%x" % cluster.followers()[0].status()["header"]["member_id"]
        done = cluster.ctl("move-leader", target, version=version)
        assert re.fullmatch(rf"Leadership transferred from [0-9a-f]+ to {target}\n", done.stdout), done.stderr
        wrong = cluster.ctl("move-leader", "abcdef", version=version)
        assert wrong.returncode == 1 and "etcdserver: bad leader transferee" in wrong.stderr


def test_hash_kv_agrees(pair):
    version, ours, theirs = pair
    for cluster in (ours, theirs):
        put = json.loads(cluster.ctl("put", "x", "1", "-w", "json", version=version, check=True).stdout)
        revision = put["header"]["revision"]
        for member in cluster.members:  # a linearizable read: every member has applied the put
            cluster.ctl("get", "x", version=version, endpoints=[member.endpoint], check=True)
        rows = json.loads(cluster.ctl("endpoint", "hashkv", "--rev", str(revision), "-w", "json",
                                      version=version, check=True).stdout)
        assert len({row["HashKV"]["hash"] for row in rows}) == 1


def test_defrag_and_alarms(pair):
    version, ours, theirs = pair
    for cluster in (ours, theirs):
        assert cluster.ctl("alarm", "list", version=version, check=True).stdout == ""
        done = cluster.ctl("defrag", version=version)
        assert done.stdout.count("Finished defragmenting etcd member") == 3, done.stderr
        assert cluster.ctl("alarm", "disarm", version=version, check=True).stdout == ""
