"""apusctl prints what the stock etcdctl prints on the same cluster: same words, same exit codes.

The comparison is with etcdctl 3.5. Where apusctl follows 3.7 instead (tables, columns of `endpoint
status`, members that newer versions add), the newer form is checked by itself. OURS chooses the
kind of server (apus, etcd35).
"""

import json
import os
import re
import shlex
import signal
import subprocess
import time

import pytest
from harness import BUILD, ETCDCTL, Cluster

APUSCTL = BUILD / "apusctl"
STOCK = ETCDCTL["3.5"]
KIND = os.environ.get("OURS", "apus")


@pytest.fixture(scope="module")
def cluster():
    with Cluster((KIND,)) as running:
        yield running


def run(program, endpoints, *arguments, stdin=b"", environment=None, timeout=20):
    """Runs a client; standard output, `Error:` and `watch was` lines, and the exit code."""
    command = [str(program), *(["--endpoints", ",".join(endpoints)] if endpoints else []), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout,
                          env={"PATH": "/usr/bin:/bin", **(environment or {})})
    errors = [line for line in done.stderr.decode(errors="replace").splitlines()
              if not line.startswith("{")]
    return done.stdout, errors, done.returncode


def normalise(text):
    """Replaces what differs from one call to the next, and what 3.6 and 3.7 have added."""
    if isinstance(text, list):
        return list(dict.fromkeys(normalise(line) for line in text))
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    text = re.sub(r'"(revision|raft_term|mod_revision|create_revision)":\d+', r'"\1":N', text)
    text = re.sub(r'"(\w*Revision)" : \d+', r'"\1" : N', text)
    text = text.replace(',"CancelReason":""', "").replace('"Events":null', '"Events":[]')
    text = re.sub(r"\b[0-9a-f]{16}\b", "<id>", text)
    text = re.sub(r"took = \S+", "took = T", text)
    text = re.sub(r'"took":"[^"]+"', '"took":"T"', text)
    text = re.sub(r'"Took" : \S+', '"Took" : T', text)
    return re.sub(r"\. took \S+$", "", text, flags=re.M)


def both(cluster, *arguments, reset=(), **options):
    """Runs a command with either client, each time after the `reset` transactions."""
    results = []
    for program in (STOCK, APUSCTL):
        for text in reset:
            assert run(STOCK, cluster.endpoints, "txn", stdin=text)[2] == 0, text
        out, errors, code = run(program, cluster.endpoints, *arguments, **options)
        results.append((normalise(out), normalise(errors), code))
    return results


FORMATS = ["simple", "json", "fields"]
SEED = [b'\ndel "" --prefix\n\n\n', b'\nput a 1\nput b 2\nput c/1 x\nput c/2 ""\n\n\n',
        b"\nput b 3\n\n\n"]

READS = """
get a|get b|get nokey|get a c|get --prefix ""|get --prefix c/ --keys-only
get --prefix "" --limit 2|get --from-key b|get --prefix "" --order DESCEND
get --prefix "" --sort-by MODIFY --order DESCEND|get --prefix "" --sort-by VALUE
get --prefix "" --sort-by key --order ascend --limit 3|get a --consistency s
get a --rev 999999|get ""|get a --hex|get --prefix "" --order descend --sort-by version
get a --count-only|get a --print-value-only|get a -w table|get a b --prefix
get a --prefix --from-key|get|get a --order=x|get a --sort-by=x|get a --consistency=x
get a --keys-only --count-only|get --prefix c --count-only
"""

WRITES = """
put a 2|put a 2 --prev-kv|put a "" --prev-kv|put new 1 --prev-kv|put a --ignore-value
put nokey --ignore-value|put a v --ignore-value|put a v --ignore-lease|put a v --lease=123
put a v --lease=zz|put a|put|put a -- -dash|put a v third|del a|del a --prev-kv|del nokey
del --prefix c/ --prev-kv|del --from-key b|del a b c|del|del a b --prefix|put a v -w table
"""

OTHERS = """
compaction|compaction abc|compaction 99999|compact 99999|lease grant|lease grant abc
lease grant 9000000001|lease revoke 123|lease revoke zz|lease revoke|lease timetolive 123
lease timetolive 123 --keys|lease timetolive|lease keep-alive 123|lease keep-alive 123 --once
lease keep-alive|lease list|member list|mem li|member remove|member remove zz|member remove 1234
member add|member add n|member add n http://x:1|member update 1 --peer-urls=abc
move-leader|move-leader zz|move-leader 1234|alarm list|alarm disarm|alarm list x|defrag
snapshot save|snapshot save /nonexistent/s.db|watch|watch --prefix a b|watch -- echo|watch k --
txn x|endpoint health
"""


def commands(text):
    return [tuple(shlex.split(command)) for line in text.split("\n") for command in line.split("|")
            if command.strip()]


@pytest.mark.parametrize("output", FORMATS)
def test_reads(cluster, output):
    for text in SEED:
        assert run(STOCK, cluster.endpoints, "txn", stdin=text)[2] == 0
    for command in commands(READS):
        if "-w" in command and output != "simple":
            continue
        if "--hex" in command and output == "fields":
            continue  # 3.6 turned ids into hex
        stock, ours = both(cluster, *command, *([] if output == "simple" else ["-w", output]))
        assert ours == stock, command


@pytest.mark.parametrize("output", FORMATS)
def test_writes(cluster, output):
    for command in commands(WRITES):
        words = command
        if output != "simple" and "-w" not in command:
            words = ("-w", output, *command)
        stock, ours = both(cluster, *words, reset=SEED)
        assert ours == stock, words


@pytest.mark.parametrize("output", FORMATS)
def test_other_commands(cluster, output):
    for command in commands(OTHERS):
        if command[0].startswith("mem") and output != "simple":
            continue  # compared by itself below
        if command == ("alarm", "disarm") and output == "fields":
            continue  # the stock client crashes
        stock, ours = both(cluster, *command, *([] if output == "simple" or "--" in command
                                                else ["-w", output]))
        if command[:2] == ("snapshot", "save") and len(command) == 2:
            # 3.6 names the argument.
            assert ours[1] == [stock[1][0] + " <filename>"] and ours[2] == stock[2]
            continue
        assert ours == stock, command


TRANSACTIONS = [
    'ver("t1") = "0"\n\nput t1 x\nget t1\n\nput t1 y\n\n',
    'ver("a") > "0"\n\nput a x\nget a\ndel nokey\nget --prefix ""\n\n\n',
    'mod("a") = "0"\n\nput a 1\n\nput a "quoted word"\nget a\n\n',
    'value("b") = "3"\ncreate("b") != "0"\n\nde b --prev-kv\n\n\n',
    '\n\n\n', '\nput k 1\nput k 2\n\n\n', 'ver("a") > "0"\n\nget a\n\n', 'foo("a") > "0"\n\n\n\n',
    'mod(a) > "0"\n\n\n\n', 'mod a\n\n\n\n', 'mod("a") > "x"\n\n\n\n', '\nget\n\n\n', '\nfoo a\n\n\n',
    '\nput a\n\n\n', '  ver("a")  =  "1"  \r\n\r\n  get a  \r\n\r\n\r\n',
]


@pytest.mark.parametrize("output", FORMATS)
def test_transactions(cluster, output):
    for text in TRANSACTIONS:
        stock, ours = both(cluster, "txn", "-w", output, stdin=text.encode(), reset=SEED)
        # In the stock client a cobra error brings its usage along.
        stock = (stock[0], stock[1][-1:], stock[2])
        assert (ours[0], ours[1][-1:], ours[2]) == stock, text


def test_a_value_from_standard_input_is_kept_byte_for_byte(cluster):
    value = bytes(range(256)) + b"\n"
    assert run(APUSCTL, cluster.endpoints, "put", "raw", stdin=value)[2] == 0
    for program in (STOCK, APUSCTL):
        assert run(program, cluster.endpoints, "get", "raw", "--print-value-only")[0] == value + b"\n"
    assert run(APUSCTL, cluster.endpoints, "put", os.fsdecode(b"k\xff"), os.fsdecode(b"v\xfe"))[2] == 0
    assert run(STOCK, cluster.endpoints, "get", os.fsdecode(b"k\xff"))[0] == b"k\xff\nv\xfe\n"


def follow(program, cluster, *arguments, seconds=1.0):
    """What a watch has printed after a while."""
    process = subprocess.Popen([str(program), "--endpoints", ",".join(cluster.endpoints), "watch", *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"},
                               # Whoever runs the tests in the background may have had it ignored.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    return normalise(out), process.returncode


@pytest.mark.parametrize("output", FORMATS)
def test_watches(cluster, output):
    header = json.loads(run(STOCK, cluster.endpoints, "put", "w", "1", "-w", "json")[0])["header"]
    start = str(header["revision"])
    for command in [("put", "w", "2"), ("del", "w"), ("put", "w/sub", "3")]:
        assert run(STOCK, cluster.endpoints, *command)[2] == 0
    for words in [("w", "--rev", start), ("--prefix", "w", "--rev", start, "--prev-kv"),
                  ("w", "w0", "--rev", start)]:
        stock = follow(STOCK, cluster, *words, "-w", output)
        ours = follow(APUSCTL, cluster, *words, "-w", output)
        assert ours == stock and ours[0], words


def test_a_watch_runs_a_command_per_event(cluster):
    header = json.loads(run(STOCK, cluster.endpoints, "put", "x", 'v "q"', "-w", "json")[0])["header"]
    words = ("watch", "x", "--rev", str(header["revision"]), "--", "sh", "-c",
             "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; exit 7")
    stock, ours = both(cluster, *words)
    assert ours == stock and ours[2] == 1


def test_a_watch_behind_a_compaction(cluster):
    revision = json.loads(run(STOCK, cluster.endpoints, "put", "y", "1", "-w", "json")[0])["header"]["revision"]
    assert run(APUSCTL, cluster.endpoints, "compaction", str(revision))[0] == b"compacted revision %d\n" % revision
    for output in ("simple", "json"):
        stock, ours = both(cluster, "watch", "y", "--rev", "1", "-w", output)
        assert ours == stock and ours[2] == 5


def test_the_life_of_a_lease(cluster):
    out, _, code = run(APUSCTL, cluster.endpoints, "lease", "grant", "100")
    assert code == 0
    lease = re.fullmatch(rb"lease ([0-9a-f]{16}) granted with TTL\(100s\)\n", out)[1].decode()
    assert run(APUSCTL, cluster.endpoints, "put", "lk", "v", "--lease", lease)[0] == b"OK\n"
    for output in FORMATS:
        for words in [("timetolive", lease, "--keys"), ("list",), ("keep-alive", "--once", lease)]:
            stock, ours = both(cluster, "lease", *words, "-w", output)
            # The seconds left may change between the two.
            assert [re.sub(r"\b(99|100)\b", "S", str(part)) for part in ours] == \
                   [re.sub(r"\b(99|100)\b", "S", str(part)) for part in stock], words
    assert run(APUSCTL, cluster.endpoints, "lease", "revoke", lease)[0] == f"lease {lease} revoked\n".encode()
    assert run(APUSCTL, cluster.endpoints, "get", "lk")[0] == b""


def test_keep_alive_goes_on_until_the_lease_is_revoked(cluster):
    out, _, _ = run(APUSCTL, cluster.endpoints, "lease", "grant", "3", "-w", "json")
    lease = "%x" % json.loads(out)["ID"]
    process = subprocess.Popen([str(APUSCTL), "--endpoints", cluster.endpoints[0], "lease", "keep-alive", lease],
                               stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"})
    try:
        time.sleep(1.5)
        assert run(STOCK, cluster.endpoints, "lease", "revoke", lease)[2] == 0
        out, _ = process.communicate(timeout=10)
    finally:
        process.kill()
    lines = out.decode().splitlines()
    assert process.returncode == 0 and lines[-1].endswith("expired or revoked.")
    assert len(lines) >= 3 and all("keepalived with TTL(3)" in line for line in lines[:-1])


def test_endpoints(cluster):
    endpoint = re.escape(cluster.endpoints[0])
    out, _, code = run(APUSCTL, cluster.endpoints, "endpoint", "status")
    assert code == 0
    assert re.fullmatch(rf"{endpoint}, [0-9a-f]+, [0-9.]+, [0-9.]*, [0-9.]+ \wB, [0-9.]+ \wB, \d+%, "
                        r"[0-9.]+ \w?B, true, false, \d+, \d+, \d+, , , false\n", out.decode())
    # Fields that 3.5 does not know are the only difference.
    stock = json.loads(run(STOCK, cluster.endpoints, "endpoint", "status", "-w", "json")[0])
    ours = json.loads(run(APUSCTL, cluster.endpoints, "endpoint", "status", "-w", "json")[0])
    for name, value in stock[0]["Status"].items():
        if name not in ("raftIndex", "raftAppliedIndex", "dbSize", "dbSizeInUse"):
            assert ours[0]["Status"][name] == value
    stock = json.loads(run(STOCK, cluster.endpoints, "endpoint", "hashkv", "-w", "json")[0])
    ours = json.loads(run(APUSCTL, cluster.endpoints, "endpoint", "hashkv", "-w", "json")[0])
    assert ours[0]["HashKV"]["hash"] == stock[0]["HashKV"]["hash"]
    out, _, _ = run(APUSCTL, cluster.endpoints, "endpoint", "health", "--cluster", "-w", "table")
    lines = out.decode().splitlines()
    assert lines[0].startswith("┌") and lines[-1].endswith("┘") and len({len(line) for line in lines}) == 1
    assert f"http://{cluster.endpoints[0]}" in lines[3]


def test_members(cluster):
    stock = json.loads(run(STOCK, cluster.endpoints, "member", "list", "-w", "json")[0])
    out, _, _ = run(APUSCTL, cluster.endpoints, "member", "list", "-w", "json")
    assert json.loads(out) == stock
    stock = run(STOCK, cluster.endpoints, "member", "list", "-w", "fields")[0]
    ours = run(APUSCTL, cluster.endpoints, "member", "list", "-w", "fields")[0]
    assert ours == stock.replace(b'"Revision" : 0\n', b"")


def test_a_snapshot_is_complete(cluster, tmp_path):
    path = tmp_path / "s.db"
    out, _, code = run(APUSCTL, cluster.endpoints, "snapshot", "save", str(path))
    assert code == 0 and out.startswith(f"Snapshot saved at {path}\n".encode())
    assert path.stat().st_size % 512 == 32 and path.stat().st_mode & 0o777 == 0o600
    assert not path.with_suffix(".db.part").exists()
    status = subprocess.run([str(STOCK), "snapshot", "status", str(path)], capture_output=True, text=True,
                            env={"PATH": "/usr/bin:/bin"})
    assert status.returncode == 0, status.stderr


@pytest.mark.parametrize("words", ["get a", "put a 1", "endpoint health", "endpoint status", "defrag",
                                   "compaction 1", "member list", "alarm list", "lease grant 5"])
def test_without_a_server(words):
    options = {"timeout": 20}
    stock = run(STOCK, ["127.0.0.1:1"], "--command-timeout=300ms", *words.split(), **options)
    ours = run(APUSCTL, ["127.0.0.1:1"], "--command-timeout=300ms", *words.split(), **options)
    shorten = lambda errors: [re.sub(r"\. took \S+\.", "", line) for line in errors]
    assert (ours[0], shorten(ours[1]), ours[2]) == (stock[0], shorten(stock[1]), stock[2])


def test_the_environment(cluster):
    endpoints = {"ETCDCTL_ENDPOINTS": cluster.endpoints[0]}
    run(STOCK, cluster.endpoints, "put", "e", "1")
    for program in (STOCK, APUSCTL):
        assert run(program, None, "get", "e", environment=endpoints)[0] == b"e\n1\n"
        assert run(program, cluster.endpoints, "get", "e", environment=endpoints)[2] == 1
        out, _, code = run(program, None, "get", "none", environment={**endpoints, "ETCDCTL_WRITE_OUT": "json"})
        assert code == 0 and out.startswith(b'{"header":')


def test_a_member_that_is_down_is_passed_over(cluster):
    run(STOCK, cluster.endpoints, "put", "f", "1")
    for _ in range(3):
        assert run(APUSCTL, ["127.0.0.1:1", *cluster.endpoints], "get", "f")[0] == b"f\n1\n"
