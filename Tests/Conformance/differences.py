"""The one table of differences between Apus (level: etcd 3.7) and the etcd releases it is compared
with. docs/compatibility.md carries the same entries for readers; test_table.py keeps both alike."""

from dataclasses import dataclass
from typing import Any, Callable

BOTH = ("etcd34", "etcd35")


@dataclass(frozen=True)
class Delta:
    """One place where an answer differs."""
    kind: str
    label: str
    request: Any
    path: str
    apus: Any
    reference: Any


@dataclass(frozen=True)
class Difference:
    id: str
    kinds: tuple
    reason: str  # "etcd 3.7" or "Apus"
    text: str
    applies: Callable[[Delta], bool]
    racy: bool = False  # shows up in some runs only


def error(outcome):
    found = outcome.get("error") if isinstance(outcome, dict) else None
    return found if isinstance(found, dict) else {}


def code(outcome):
    """The status name of a failed call, None for an answer."""
    return error(outcome).get("code")


def text(outcome):
    return error(outcome).get("text") or ""


TOKEN_REASONS = (
    "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied")
OLD_DECODER = ("illegal base64", "json: cannot unmarshal", "unknown value", "invalid character")
STATUS = "HTTP /v3/maintenance/status"
UNDECODABLE = "grpc: error unmarshalling request: "
REFUSALS = ("etcdserver: permission denied", "etcdserver: user name is empty",
            "etcdserver: invalid auth token")


DIFFERENCES = [
    Difference(
        "downgrade", ("etcd34",), "etcd 3.7",
        "`Downgrade` is answered. 3.4 does not know the call.",
        lambda d: d.label.startswith("Maintenance.Downgrade") and code(d.reference) == "UNIMPLEMENTED"),
    Difference(
        "version", BOTH, "etcd 3.7",
        "`StatusResponse.version` names the level that Apus keeps to, 3.7.",
        lambda d: d.label in ("Maintenance.Status", STATUS) and d.path in ("version", "body.version")
        and d.apus.startswith("3.7.")),
    Difference(
        "newer-fields", BOTH, "etcd 3.7",
        "Fields that exist since 3.6 are filled: `StatusResponse.storageVersion`, `dbSizeQuota` and "
        "`downgradeInfo`, `HashKVResponse.hash_revision`, `SnapshotResponse.version`.",
        lambda d: d.reference in (None, False) and d.path.removeprefix("body.") in (
            "storageVersion", "dbSizeQuota", "downgradeInfo", "hash_revision", "value.version")
        or d.label == "HTTP /v3/maintenance/snapshot" and d.path.endswith(".result.version")),
    Difference(
        "keys-only-lease", BOTH, "etcd 3.7",
        "Rows of a `keys_only` range carry no `lease`, unless sorted by value. Releases up to 3.6 "
        "fill it.",
        lambda d: d.label in ("KV.Range", "KV.Txn") and d.path.endswith(".lease")
        and d.apus is None),
    Difference(
        "sort-options", BOTH, "etcd 3.7",
        "An unknown `sort_order` or `sort_target` is refused with `etcdserver: invalid sort option`. "
        "Releases before 3.6 ignore an unknown order, and an unknown target ends the whole server "
        "process, so the suite sends it to Apus alone.",
        lambda d: text(d.apus) == "etcdserver: invalid sort option" and code(d.reference) is None),
    Difference(
        "alarm-header", ("etcd34",), "etcd 3.7",
        "`AlarmResponse` has a header. 3.4 leaves it out.",
        lambda d: d.label in ("Maintenance.Alarm", "HTTP /v3/maintenance/alarm")
        and d.path in ("header", "body.header") and d.reference is None),
    Difference(
        "alarm-none", ("etcd34",), "etcd 3.7",
        "Activating the alarm kind NONE has no effect and answers an empty list. 3.4 stores such an "
        "alarm, which then shows in lists.",
        lambda d: d.label in ("Maintenance.Alarm", "errors") and d.path.startswith(("alarms", "value"))
        and without_none(d.reference) == (d.apus or [])),
    Difference(
        "undecodable", BOTH, "Apus",
        "A message that cannot be decoded fails with INTERNAL and the text `grpc: error "
        "unmarshalling request: ` as in etcd; what follows is the decoder's own wording.",
        lambda d: code(d.apus) == code(d.reference) == "INTERNAL"
        and text(d.apus).startswith(UNDECODABLE) and text(d.reference).startswith(UNDECODABLE)),
    Difference(
        "path-without-slash", BOTH, "etcd 3.7",
        "A path without a method, such as `/nothing`, answers UNIMPLEMENTED. The older gRPC library "
        "answers RESOURCE_EXHAUSTED with the same text.",
        lambda d: code(d.apus) == "UNIMPLEMENTED" and code(d.reference) == "RESOURCE_EXHAUSTED"
        and text(d.apus) == text(d.reference) and text(d.apus).startswith("malformed method name")),
    Difference(
        "gzip", ("etcd34",), "etcd 3.7",
        "Requests compressed with gzip are accepted. 3.4 refuses them.",
        lambda d: "Decompressor is not installed" in text(d.reference) and code(d.apus) is None
        and '"gzip"' in text(d.reference)),
    Difference(
        "watch-negative-start", BOTH, "etcd 3.7",
        "A watch with a negative `start_revision` fails at its creation with the compacted text. "
        "Before 3.4.31 and 3.5.24 it is served like a very old revision.",
        lambda d: d.label == "Watch.create" and d.request.start_revision < 0
        and d.path in ("cancel_reason", "canceled", "watch_id")),
    Difference(
        "tombstone-at-compaction", BOTH, "etcd 3.7",
        "A deletion at exactly the compacted revision is kept, so that a watch from that revision "
        "still sees it. Before 3.4.34 and 3.5.16 it is lost.",
        lambda d: d.label in ("Watch.events", "Watch.events from the compacted revision")
        and d.path == "events" and [e for e in d.apus if not deletion(e)] ==
        [e for e in d.reference if not deletion(e)] and len(d.apus) > len(d.reference)),
    Difference(
        "progress-when-behind", BOTH, "etcd 3.7",
        "A progress request is answered only if the stream has watchers and all of them are caught "
        "up and past their start revision. Before 3.4.31 and 3.5.13 it is answered at once, which "
        "can make a client lose events.",
        lambda d: d.label.startswith("Watch.progress ") and d.apus is None),
    Difference(
        "watch-deadline", BOTH, "etcd 3.7",
        "A watch stream whose deadline passes ends with DEADLINE_EXCEEDED. The older gRPC library "
        "reports UNKNOWN `context deadline exceeded`.",
        lambda d: d.label == "Watch.end" and code(d.apus) == "DEADLINE_EXCEEDED"
        and code(d.reference) in ("UNKNOWN", "DEADLINE_EXCEEDED")
        or d.label == "HTTP /v3/watch" and ".error." in d.path
        and (d.apus, d.reference) in ((4, 2), (504, 500), ("Gateway Timeout", "Internal Server Error")),
        racy=True),
    Difference(
        "hash-at-compaction", BOTH, "etcd 3.7",
        "`HashKV` at exactly the compacted revision is answered. Older releases refuse it as "
        "compacted.",
        lambda d: d.label == "Maintenance.HashKV" and code(d.apus) is None
        and text(d.reference).endswith("has been compacted")
        and d.apus.get("compact_revision") == d.request.revision),
    Difference(
        "hash-negative", BOTH, "Apus",
        "`HashKV` with a negative revision means the current one, as in `Range`. etcd hashes an "
        "empty history.",
        lambda d: d.label == "Maintenance.HashKV" and d.request.revision < 0
        and d.path in ("hash", "hash_revision")),
    Difference(
        "token-while-off", BOTH, "Apus",
        "While authentication is off, nobody looks at a token. etcd refuses one that it does not "
        "know even then.",
        lambda d: (text(d.reference) == "etcdserver: invalid auth token" and code(d.apus) is None)
        or (d.label == "Watch.create" and d.path in ("cancel_reason", "canceled", "watch_id")
            and d.request.start_revision == 0 and d.apus is None
            and d.reference in (True, -1, *TOKEN_REASONS))),
    Difference(
        "range-stream", BOTH, "etcd 3.7",
        "`KV.RangeStream` exists. It came with 3.7.",
        lambda d: d.label == "KV.RangeStream" and code(d.reference) == "UNIMPLEMENTED"
        and "merged" in d.apus),
    Difference(
        "auth-status", ("etcd34",), "etcd 3.7",
        "`Auth.AuthStatus` exists. It came with 3.5.",
        lambda d: d.label == "Auth.AuthStatus" and code(d.reference) == "UNIMPLEMENTED"),
    Difference(
        "auth-status-open", ("etcd35",), "etcd 3.7",
        "Anybody may ask for `Auth.AuthStatus`. Up to 3.6 only root may.",
        lambda d: d.label in ("Auth.AuthStatus", "HTTP /v3/auth/status") and code(d.apus) is None
        and text(d.reference) in REFUSALS),
    Difference(
        "utf8", BOTH, "etcd 3.7",
        "Strings in requests have to be UTF-8. Releases up to 3.6 take any bytes.",
        lambda d: text(d.apus).startswith(UNDECODABLE + "invalidUTF8")),
    Difference(
        "role-root", BOTH, "etcd 3.7",
        "`Auth.RoleGet` of the role `root`, once it was added, shows the permission to read and write "
        "everything. Older releases show none.",
        lambda d: d.label == "Auth.RoleGet" and d.request.role == "root" and d.path == "perm"),
    Difference(
        "permission-range", BOTH, "etcd 3.7",
        "A permission has to be given, and on a range that holds a key: otherwise "
        "`etcdserver: permission not given`, `etcdserver: invalid auth management`. Releases before 3.6 "
        "grant what means nothing, and a role that exists without a permission ends their process.",
        lambda d: d.label == "Auth.RoleGrantPermission" and text(d.apus) in (
            "etcdserver: permission not given", "etcdserver: invalid auth management")),
    Difference(
        "watch-refused", BOTH, "etcd 3.7",
        "A watch that is refused has `watch_id` -1 and a `cancel_reason` that says why. Older releases "
        "say PermissionDenied whatever it was, and 0 or the id asked for.",
        lambda d: d.label in ("Watch.create", "HTTP /v3/watch")
        and (d.path.endswith("watch_id") and str(d.apus) == "-1" and d.reference is None
             or d.path == "cancel_reason" and (d.apus or "").endswith(REFUSALS)
             and d.reference in (None, *TOKEN_REASONS)), racy=True),
    Difference(
        "nested-rights", BOTH, "etcd 3.7",
        "Inside a transaction nested ones are looked at as well, `prev_kv` needs the right to read, and "
        "a lease the right to all keys that hang on it. Before 3.4.44, 3.5.30 and 3.6.11 not all of "
        "them are.",
        lambda d: (d.label == "KV.Txn" and text(d.apus) == "etcdserver: permission denied"
                   and code(d.reference) is None)),
    Difference(
        "more-rights", BOTH, "etcd 3.7",
        "`Status`, `Alarm`, `MemberList` and the Lease calls ask for a user, `Compact`, `Defragment`, "
        "`Hash`, `HashKV`, `MoveLeader` and changes of alarms for root, and keys of a lease are shown to "
        "those who may read them. Before 3.4.42, 3.5.28 and 3.6.9 they are open, or refused with "
        "UNKNOWN and a text that begins with `auth:`.",
        lambda d: d.label.startswith(("Maintenance.", "Cluster.", "Lease.", "KV.Compact"))
        and text(d.apus) in REFUSALS
        and (code(d.reference) in (None, "OUT_OF_RANGE")
             or text(d.reference).startswith("auth: ")
             or text(d.reference) in ("etcdserver: bad leader transferee",
                                      "etcdserver: member not found"))),
    Difference(
        "gateway-routing", BOTH, "etcd 3.7",
        "JSON gateway: an unknown path answers 404 and a method other than POST answers 501, both with an "
        "error body. Before 3.6 these are plain texts, the second one with 405.",
        lambda d: (code(d.apus), code(d.reference)) in (("HTTP 404", "HTTP 404"), ("HTTP 501", "HTTP 405"))
        and d.label == "HTTP routing" and text(d.apus).strip() == text(d.reference).strip()),
    Difference(
        "gateway-precondition", ("etcd34",), "etcd 3.7",
        "JSON gateway: FAILED_PRECONDITION is told as HTTP 400. 3.4 tells it as 412.",
        lambda d: (code(d.apus), code(d.reference)) == ("HTTP 400", "HTTP 412")
        and text(d.apus) == text(d.reference)),
    Difference(
        "gateway-decoder", BOTH, "etcd 3.7",
        "JSON gateway: a value that is JSON but not of its field's kind is refused with the same status; "
        "the text is the decoder's own wording. Broken JSON is told in etcd's words.",
        lambda d: code(d.apus) == code(d.reference) is not None and d.label.startswith("HTTP /v3/")
        and text(d.apus).startswith("proto: ") and "invalid character" not in text(d.apus)),
    Difference(
        "gateway-accepts", BOTH, "etcd 3.7",
        "JSON gateway: bytes may come in the URL-safe alphabet and without padding, whole numbers with an "
        "exponent or a point, and an enum name that is not known is passed over. Before 3.6 these are refused.",
        lambda d: d.label.startswith("HTTP /v3/") and code(d.apus) in (None, "HTTP 400")
        and code(d.reference) == "HTTP 400" and text(d.reference).startswith(OLD_DECODER)),
    Difference(
        "gateway-stream-error", BOTH, "etcd 3.7",
        "JSON gateway: an error in a stream names its gRPC code as `code`, as 3.6 does, beside the fields "
        "that 3.5 has. An error before a stream's first message has the form of 3.5.",
        lambda d: d.label.startswith("HTTP /v3/") and d.path.endswith(".error.code")
        and d.reference is None),
    Difference(
        "gateway-paths", BOTH, "etcd 3.7",
        "JSON gateway: `/v3/maintenance/hashkv` exists, and `/v3/auth/status` also for 3.4.",
        lambda d: d.label in ("HTTP /v3/maintenance/hashkv", "HTTP /v3/auth/status")
        and code(d.reference) == "HTTP 404"),
    Difference(
        "health-reason", ("etcd34",), "etcd 3.7",
        "`/health` gives a `reason`. It came with 3.5.",
        lambda d: d.label.startswith("HTTP /health") and d.path == "body.reason"),
]


def deletion(event):
    return event.get("type") == 1


def without_none(alarms):
    """A list of alarms, or of texts about them, without those of the kind NONE."""
    if not isinstance(alarms, list):
        return None
    return [each for each in alarms
            if (each.get("alarm") if isinstance(each, dict) else "NONE" not in each)]
