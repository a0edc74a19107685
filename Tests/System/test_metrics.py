"""Metrics: names, types, labels, buckets and true values; the official dashboard's and alerts' expressions.

What Prometheus itself has to say needs Debian's package `prometheus`; those tests are skipped without it."""

import json
import math
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from harness import Cluster, free_ports

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")


def exponential(start, factor, count):
    return [start * factor ** power for power in range(count)]


MS14 = exponential(0.001, 2, 14)
# name: (type, labels, buckets). What etcd 3.7 exports, but for what only its Go runtime has.
TABLE = {
    "etcd_server_has_leader": ("gauge", "", None),
    "etcd_server_is_leader": ("gauge", "", None),
    "etcd_server_is_learner": ("gauge", "", None),
    "etcd_server_leader_changes_seen_total": ("counter", "", None),
    "etcd_server_learner_promote_successes": ("counter", "", None),
    "etcd_server_heartbeat_send_failures_total": ("counter", "", None),
    "etcd_server_snapshot_apply_in_progress_total": ("gauge", "", None),
    "etcd_server_proposals_committed_total": ("gauge", "", None),
    "etcd_server_proposals_applied_total": ("gauge", "", None),
    "etcd_server_proposals_pending": ("gauge", "", None),
    "etcd_server_proposals_failed_total": ("counter", "", None),
    "etcd_server_request_duration_seconds": ("histogram", "success type", MS14),
    "etcd_server_range_duration_seconds": ("histogram", "success", exponential(0.0001, 2, 20)),
    "etcd_server_apply_duration_seconds": ("histogram", "op success version", exponential(0.0001, 2, 20)),
    "etcd_server_slow_apply_total": ("counter", "", None),
    "etcd_server_slow_read_indexes_total": ("counter", "", None),
    "etcd_server_read_indexes_failed_total": ("counter", "", None),
    "etcd_server_quota_backend_bytes": ("gauge", "", None),
    "etcd_server_version": ("gauge", "server_version", None),
    "etcd_cluster_version": ("gauge", "cluster_version", None),
    "etcd_server_go_version": ("gauge", "server_go_version", None),
    "etcd_server_id": ("gauge", "server_id", None),
    "etcd_server_feature_enabled": ("gauge", "name stage", None),
    "etcd_server_client_requests_total": ("counter", "client_api_version type", None),
    "etcd_server_health_success": ("counter", "", None),
    "etcd_server_health_failures": ("counter", "", None),
    "etcd_server_healthcheck": ("gauge", "name type", None),
    "etcd_server_healthchecks_total": ("counter", "name status type", None),
    "etcd_disk_wal_fsync_duration_seconds": ("histogram", "", MS14),
    "etcd_disk_wal_write_duration_seconds": ("histogram", "", MS14),
    "etcd_disk_wal_write_bytes_total": ("gauge", "", None),
    "etcd_disk_backend_commit_duration_seconds": ("histogram", "", MS14),
    "etcd_disk_backend_defrag_duration_seconds": ("histogram", "", exponential(0.1, 2, 13)),
    "etcd_disk_backend_snapshot_duration_seconds": ("histogram", "", exponential(0.01, 2, 17)),
    "etcd_disk_defrag_inflight": ("gauge", "", None),
    "etcd_snap_db_fsync_duration_seconds": ("histogram", "", MS14),
    "etcd_snap_db_save_total_duration_seconds": ("histogram", "", exponential(0.1, 2, 10)),
    "etcd_snap_fsync_duration_seconds": ("histogram", "", MS14),
    "etcd_mvcc_db_total_size_in_bytes": ("gauge", "", None),
    "etcd_mvcc_db_total_size_in_use_in_bytes": ("gauge", "", None),
    "etcd_mvcc_db_open_read_transactions": ("gauge", "", None),
    "etcd_mvcc_put_total": ("counter", "", None),
    "etcd_mvcc_delete_total": ("counter", "", None),
    "etcd_mvcc_range_total": ("counter", "", None),
    "etcd_mvcc_txn_total": ("counter", "", None),
    "etcd_mvcc_hash_duration_seconds": ("histogram", "", exponential(0.01, 2, 15)),
    "etcd_mvcc_hash_rev_duration_seconds": ("histogram", "", exponential(0.01, 2, 15)),
    "etcd_network_client_grpc_received_bytes_total": ("counter", "", None),
    "etcd_network_client_grpc_sent_bytes_total": ("counter", "", None),
    "etcd_network_active_peers": ("gauge", "Local Remote", None),
    "etcd_network_disconnected_peers_total": ("counter", "Local Remote", None),
    "etcd_network_known_peers": ("gauge", "Local Remote", None),
    "etcd_network_peer_received_bytes_total": ("counter", "From", None),
    "etcd_network_peer_sent_bytes_total": ("counter", "To", None),
    "etcd_network_peer_received_failures_total": ("counter", "From", None),
    "etcd_network_peer_sent_failures_total": ("counter", "To", None),
    "etcd_network_peer_round_trip_time_seconds": ("histogram", "To", exponential(0.0001, 2, 16)),
    "os_fd_used": ("gauge", "", None),
    "os_fd_limit": ("gauge", "", None),
    "etcd_debugging_mvcc_keys_total": ("gauge", "", None),
    "etcd_debugging_mvcc_current_revision": ("gauge", "", None),
    "etcd_debugging_mvcc_compact_revision": ("gauge", "", None),
    "etcd_debugging_mvcc_total_put_size_in_bytes": ("gauge", "", None),
    "etcd_debugging_mvcc_events_total": ("counter", "", None),
    "etcd_debugging_mvcc_pending_events_total": ("gauge", "", None),
    "etcd_debugging_mvcc_watch_stream_total": ("gauge", "", None),
    "etcd_debugging_mvcc_watcher_total": ("gauge", "", None),
    "etcd_debugging_mvcc_slow_watcher_total": ("gauge", "", None),
    "etcd_debugging_mvcc_db_compaction_keys_total": ("counter", "", None),
    "etcd_debugging_mvcc_db_compaction_last": ("gauge", "", None),
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds": ("histogram", "", exponential(1, 2, 13)),
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds": ("histogram", "", exponential(100, 2, 14)),
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds":
        ("histogram", "", exponential(0.5, 2, 14)),
    "etcd_debugging_lease_granted_total": ("counter", "", None),
    "etcd_debugging_lease_renewed_total": ("counter", "", None),
    "etcd_debugging_lease_revoked_total": ("counter", "", None),
    "etcd_debugging_lease_ttl_total": ("histogram", "", exponential(1, 2, 24)),
    "etcd_debugging_server_lease_expired_total": ("counter", "", None),
    "etcd_debugging_auth_revision": ("gauge", "", None),
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds": ("histogram", "", MS14),
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_disk_backend_commit_spill_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_disk_backend_commit_write_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_snap_save_marshalling_duration_seconds": ("histogram", "", MS14),
    "etcd_debugging_snap_save_total_duration_seconds": ("histogram", "", MS14),
    "grpc_server_started_total": ("counter", "grpc_method grpc_service grpc_type", None),
    "grpc_server_handled_total": ("counter", "grpc_code grpc_method grpc_service grpc_type", None),
    "grpc_server_msg_received_total": ("counter", "grpc_method grpc_service grpc_type", None),
    "grpc_server_msg_sent_total": ("counter", "grpc_method grpc_service grpc_type", None),
    "grpc_server_handling_seconds": ("histogram", "grpc_method grpc_service grpc_type",
                                     [.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10]),
    "process_cpu_seconds_total": ("counter", "", None),
    "process_open_fds": ("gauge", "", None),
    "process_max_fds": ("gauge", "", None),
    "process_resident_memory_bytes": ("gauge", "", None),
    "process_virtual_memory_bytes": ("gauge", "", None),
    "process_virtual_memory_max_bytes": ("gauge", "", None),
    "process_start_time_seconds": ("gauge", "", None),
    "promhttp_metric_handler_requests_in_flight": ("gauge", "", None),
    "promhttp_metric_handler_requests_total": ("counter", "code", None),
}
# Above zero on the member that the work of `busy` went through.
FED = """etcd_server_has_leader etcd_server_is_leader etcd_server_leader_changes_seen_total
    etcd_server_proposals_committed_total etcd_server_proposals_applied_total etcd_server_quota_backend_bytes
    etcd_server_request_duration_seconds_count etcd_server_range_duration_seconds_count
    etcd_server_apply_duration_seconds_count etcd_server_version etcd_cluster_version etcd_server_id
    etcd_server_client_requests_total etcd_server_health_success etcd_server_healthcheck
    etcd_disk_wal_fsync_duration_seconds_count etcd_disk_wal_write_duration_seconds_count
    etcd_disk_wal_write_bytes_total etcd_disk_backend_commit_duration_seconds_count
    etcd_disk_backend_defrag_duration_seconds_count etcd_disk_backend_snapshot_duration_seconds_count
    etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
    etcd_mvcc_db_open_read_transactions etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_range_total
    etcd_mvcc_txn_total etcd_mvcc_hash_rev_duration_seconds_count etcd_network_client_grpc_received_bytes_total
    etcd_network_client_grpc_sent_bytes_total etcd_network_active_peers etcd_network_known_peers
    etcd_network_peer_received_bytes_total etcd_network_peer_sent_bytes_total
    etcd_network_peer_round_trip_time_seconds_count os_fd_used os_fd_limit etcd_debugging_mvcc_keys_total
    etcd_debugging_mvcc_current_revision etcd_debugging_mvcc_compact_revision
    etcd_debugging_mvcc_total_put_size_in_bytes etcd_debugging_mvcc_events_total
    etcd_debugging_mvcc_watch_stream_total etcd_debugging_mvcc_watcher_total
    etcd_debugging_mvcc_db_compaction_keys_total etcd_debugging_mvcc_db_compaction_last
    etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count
    etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count
    etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count etcd_debugging_lease_granted_total
    etcd_debugging_lease_renewed_total etcd_debugging_lease_revoked_total etcd_debugging_lease_ttl_total_count
    etcd_debugging_server_lease_expired_total
    etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count
    etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds_count
    etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count
    etcd_debugging_disk_backend_commit_write_duration_seconds_count etcd_snap_fsync_duration_seconds_count
    etcd_debugging_snap_save_total_duration_seconds_count grpc_server_started_total grpc_server_handled_total
    grpc_server_msg_received_total grpc_server_msg_sent_total grpc_server_handling_seconds_count
    process_cpu_seconds_total process_resident_memory_bytes promhttp_metric_handler_requests_total""".split()


def scrape(member):
    with urllib.request.urlopen(f"http://{member.endpoint}/metrics", timeout=5) as page:
        return page.read().decode()


def samples(text):
    """(name, labels, value) of each line."""
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"([a-z_A-Z:0-9]+)(?:\{(.*)\})? (\S+)", line).groups()
        found.append((name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")), float(value)))
    return found


@pytest.fixture(scope="module")
def busy():
    """A cluster that has done some of everything, through its leader."""
    with Cluster(flags=["--metrics=extensive", "--snapshot-count=20"]) as cluster:
        leader = cluster.leader()
        ctl = lambda *words, **more: cluster.ctl(*words, endpoints=[leader.endpoint], check=True, **more)
        watch = subprocess.Popen(
            [shutil.which("etcdctl"), "--endpoints", leader.endpoint, "watch", "--prefix", "k"],
            stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
        try:
            short = ctl("lease", "grant", "2").stdout.split()[1]
            long = ctl("lease", "grant", "600").stdout.split()[1]
            time.sleep(0.3)
            for index in range(40):
                ctl("put", f"k{index % 7}", "value")
            ctl("get", "--prefix", "k")
            ctl("del", "k1")
            ctl("lease", "keep-alive", "--once", long)
            ctl("lease", "revoke", long)
            ctl("txn", stdin='value("k0") = "value"\n\nput k8 a\nput k9 b\n\n\n')
            ctl("compaction", "20", "--physical")
            ctl("defrag")
            ctl("snapshot", "save", str(cluster.folder / "s.db"))
            ctl("endpoint", "hashkv")
            for path in ("health", "livez", "readyz"):
                urllib.request.urlopen(f"http://{leader.endpoint}/{path}", timeout=5).read()
            deadline = time.monotonic() + 20
            while "etcd_debugging_server_lease_expired_total 1" not in scrape(leader):
                assert time.monotonic() < deadline, f"lease {short} did not expire"
                time.sleep(0.2)
            # Peers are probed every few seconds.
            time.sleep(4.5)
            yield cluster, leader
        finally:
            watch.kill()
            watch.wait()


def test_names_types_labels_and_buckets(busy):
    _, leader = busy
    text = scrape(leader)
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    wrong = []
    by_name = {}
    for name, labels, _ in samples(text):
        by_name.setdefault(name, []).append(labels)
    for name, (kind, labels, bounds) in TABLE.items():
        if types.get(name) != kind:
            wrong.append(f"{name}: {types.get(name)} instead of {kind}")
            continue
        series = by_name.get(name) or by_name.get(name + "_count")
        if " ".join(sorted(series[0])) != labels:
            wrong.append(f"{name}: labels {sorted(series[0])} instead of {labels}")
        if bounds:
            first = {key: value for key, value in by_name[name + "_bucket"][0].items() if key != "le"}
            found = [each["le"] for each in by_name[name + "_bucket"]
                     if {key: value for key, value in each.items() if key != "le"} == first]
            if found[-1] != "+Inf" or len(found) != len(bounds) + 1 or not all(
                    math.isclose(float(one), other) for one, other in zip(found, bounds)):
                wrong.append(f"{name}: buckets {found}")
    assert not wrong, "\n".join(wrong)


def test_values_are_true(busy):
    cluster, leader = busy
    text = scrape(leader)
    sums = {}
    for name, _, value in samples(text):
        sums[name] = sums.get(name, 0) + value
    assert [name for name in FED if not sums.get(name)] == []
    # 40 puts and the two of the transaction; one delete; what clients and leases did.
    assert sums["etcd_mvcc_put_total"] == 42
    assert sums["etcd_mvcc_delete_total"] == 1
    assert sums["etcd_mvcc_txn_total"] == 1
    assert sums["etcd_debugging_lease_granted_total"] == 2
    assert sums["etcd_debugging_lease_renewed_total"] == 1
    assert sums["etcd_debugging_mvcc_keys_total"] == 8
    assert sums["etcd_network_known_peers"] == 2 and sums["etcd_network_active_peers"] == 2
    assert sums["etcd_debugging_mvcc_total_put_size_in_bytes"] == 40 * 7 + 2 * 3
    assert 'server_id="' + f'{leader.status()["header"]["member_id"]:x}' in text
    assert 'etcd_server_version{server_version="3.7.1"} 1' in text
    assert 'etcd_cluster_version{cluster_version="3.7"} 1' in text
    # What was begun and has not ended are the open streams.
    streams = {key: 0 for key in ("etcdserverpb.Watch", "etcdserverpb.Lease")}
    for name, labels, value in samples(text):
        if labels.get("grpc_type") == "bidi_stream" and name.endswith(("_started_total", "_handled_total")):
            streams[labels["grpc_service"]] += value if "started" in name else -value
    assert streams == {"etcdserverpb.Watch": 1, "etcdserverpb.Lease": 0}
    follower = next(member for member in cluster.members if member is not leader)
    others = {name: value for name, labels, value in samples(scrape(follower)) if not labels}
    assert others["etcd_mvcc_put_total"] == 42 and others["etcd_server_is_leader"] == 0


def test_a_lost_peer_shows():
    with Cluster() as cluster:
        leader = cluster.leader()
        cluster.followers()[0].kill()
        deadline = time.monotonic() + 10
        while True:
            text = scrape(leader)
            active = [value for name, _, value in samples(text) if name == "etcd_network_active_peers"]
            lost = [value for name, _, value in samples(text) if name == "etcd_network_disconnected_peers_total"]
            if sorted(active) == [0, 1] and sum(lost) >= 1:
                break
            assert time.monotonic() < deadline, (active, lost)
            time.sleep(0.1)


# Names that are etcd's, and that promtool has its own opinion of.
ODD_NAMES = re.compile("counter metrics should have|non-counter metrics should not have|use base unit|"
                       "metric names should not contain|camelCase|should not include|non-histogram")


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_reads_them(busy):
    _, leader = busy
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=scrape(leader), capture_output=True, text=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if not ODD_NAMES.search(line)]
    # 3: nothing but opinions on names.
    assert done.returncode in (0, 3) and complaints == [], done


S = 'job=~".*etcd.*"'
CODES = "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded"
STARTED = "sum(grpc_server_started_total{%s,grpc_service=\"%s\",grpc_type=\"bidi_stream\"}) - " \
          "sum(grpc_server_handled_total{%s,grpc_service=\"%s\",grpc_type=\"bidi_stream\"})"
PANELS = [
    f"sum(etcd_server_has_leader{{{S}}})",
    f'sum(rate(grpc_server_started_total{{{S},grpc_type="unary"}}[5s]))',
    f'sum(rate(grpc_server_handled_total{{{S},grpc_type="unary",grpc_code=~"{CODES}"}}[5s]))',
    STARTED % (S, "etcdserverpb.Watch", S, "etcdserverpb.Watch"),
    STARTED % (S, "etcdserverpb.Lease", S, "etcdserverpb.Lease"),
    f"etcd_mvcc_db_total_size_in_bytes{{{S}}}",
    f"histogram_quantile(0.99, sum(rate(etcd_disk_wal_fsync_duration_seconds_bucket{{{S}}}[5s])) by (instance, le))",
    "histogram_quantile(0.99, sum(rate(etcd_disk_backend_commit_duration_seconds_bucket"
    f"{{{S}}}[5s])) by (instance, le))",
    f"process_resident_memory_bytes{{{S}}}",
    f"rate(etcd_network_client_grpc_received_bytes_total{{{S}}}[5s])",
    f"rate(etcd_network_client_grpc_sent_bytes_total{{{S}}}[5s])",
    f"sum(rate(etcd_network_peer_received_bytes_total{{{S}}}[5s])) by (instance)",
    f"sum(rate(etcd_network_peer_sent_bytes_total{{{S}}}[5s])) by (instance)",
    f"sum(rate(etcd_server_proposals_failed_total{{{S}}}[5s]))",
    f"sum(etcd_server_proposals_pending{{{S}}})",
    f"sum(rate(etcd_server_proposals_committed_total{{{S}}}[5s]))",
    f"sum(rate(etcd_server_proposals_applied_total{{{S}}}[5s]))",
    f"changes(etcd_server_leader_changes_seen_total{{{S}}}[1d])",
    "histogram_quantile(0.99, sum by (instance, le) (rate(etcd_network_peer_round_trip_time_seconds_bucket"
    f"{{{S}}}[5m])))",
]
# Each with whether it has a value in a healthy cluster before it is compared with its limit.
ALERTS = [
    (f"max without (endpoint) (sum without (instance) (up{{{S}}} == bool 0) or count without (To) "
     f"(sum without (instance) (rate(etcd_network_peer_sent_failures_total{{{S}}}[120s])) > 0.01))", ">", 0),
    (f"sum(up{{{S}}} == bool 1) without (instance)", "<", f"((count(up{{{S}}}) without (instance) + 1) / 2)"),
    (f"etcd_server_has_leader{{{S}}}", "==", 0),
    (f"increase((max without (instance) (etcd_server_leader_changes_seen_total{{{S}}}) or "
     f"0*absent(etcd_server_leader_changes_seen_total{{{S}}}))[15m:1s])", ">=", 4),
    (f'100 * sum(rate(grpc_server_handled_total{{{S},grpc_code=~"{CODES}"}}[5m])) without (grpc_type, grpc_code) '
     f"/ sum(rate(grpc_server_handled_total{{{S}}}[5m])) without (grpc_type, grpc_code)", ">", 5),
    (f'histogram_quantile(0.99, sum(rate(grpc_server_handling_seconds_bucket{{{S},grpc_method!="Defragment",'
     'grpc_type="unary"}[5m])) without(grpc_type))', ">", 5),
    (f"histogram_quantile(0.99, rate(etcd_network_peer_round_trip_time_seconds_bucket{{{S}}}[5m]))", ">", 1),
    (f"rate(etcd_server_proposals_failed_total{{{S}}}[15m])", ">", 5),
    (f"histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket{{{S}}}[5m]))", ">", 5),
    (f"histogram_quantile(0.99, rate(etcd_disk_backend_commit_duration_seconds_bucket{{{S}}}[5m]))", ">", 5),
    (f"(last_over_time(etcd_mvcc_db_total_size_in_bytes{{{S}}}[5m]) / "
     f"last_over_time(etcd_server_quota_backend_bytes{{{S}}}[5m]))*100", ">", 95),
    (f"predict_linear(etcd_mvcc_db_total_size_in_bytes{{{S}}}[4h], 4*60*60)", ">",
     f"10 * etcd_server_quota_backend_bytes{{{S}}}"),
    (f"(last_over_time(etcd_mvcc_db_total_size_in_use_in_bytes{{{S}}}[5m]) / "
     f"last_over_time(etcd_mvcc_db_total_size_in_bytes{{{S}}}[5m]))", "<",
     f"0.5 and etcd_mvcc_db_total_size_in_use_in_bytes{{{S}}} > 104857600"),
]


@pytest.mark.skipif(not PROMETHEUS, reason="Debian's prometheus is not installed")
def test_dashboard_and_alerts_evaluate(busy):
    """Every panel and every alert of the official mixin finds data, and no alert fires."""
    cluster, leader = busy
    (port,) = free_ports(1)
    targets = ", ".join(f"'{endpoint}'" for endpoint in cluster.endpoints)
    config = cluster.folder / "prometheus.yml"
    config.write_text("global: {scrape_interval: 500ms, scrape_timeout: 400ms}\n"
                      "scrape_configs: [{job_name: etcd, static_configs: [{targets: [%s]}]}]\n" % targets)
    server = subprocess.Popen(
        [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={cluster.folder}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}"], stderr=open(cluster.folder / "prometheus.log", "wb"))

    def query(expression):
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]["result"]

    try:
        deadline = time.monotonic() + 30
        ready = f"count(count_over_time(up{{{S}}}[10s]) > 8)"
        while True:
            cluster.ctl("put", "more", "load", endpoints=[leader.endpoint], check=True)
            try:
                if [each["value"][1] for each in query(ready)] == ["3"]:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline, (cluster.folder / "prometheus.log").read_text()[-2000:]
            time.sleep(0.2)
        assert [panel for panel in PANELS if not query(panel)] == []
        for expression, sign, limit in ALERTS:
            values = query(expression)
            assert values, f"no data: {expression}"
            assert query(f"{expression} {sign} {limit}") == [], f"fires: {expression}"
    finally:
        server.terminate()
        server.wait(10)
