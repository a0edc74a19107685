"""Sends the same requests to Apus and to etcd and compares the answers field by field."""

import collections
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from differences import DIFFERENCES, Delta
from harness import Cluster

REFERENCES = ("etcd34", "etcd35")
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Tally:
    requests: int = 0
    compared: int = 0
    explained: collections.Counter = field(default_factory=collections.Counter)


TALLY = Tally()

# Fields whose value is a server's own: only whether they are set is compared.
OWN = {
    "ResponseHeader": {"cluster_id", "member_id", "raft_term"},
    "Member": {"ID"},
    "StatusResponse": {"dbSize", "leader", "raftIndex", "raftTerm", "raftAppliedIndex",
                       "dbSizeInUse"},
    "HashResponse": {"hash"},
}


def plain(message, rename):
    """A message as nested dictionaries of the fields that are set."""
    own = OWN.get(message.DESCRIPTOR.name, ())
    out = {}
    for descriptor, value in message.ListFields():
        name = descriptor.name
        if name in own:
            out[name] = "*"
        elif descriptor.is_repeated:
            out[name] = [element(each, rename) for each in value]
            if name == "alarms":  # in no defined order
                out[name].sort(key=str)
        else:
            out[name] = element(value, rename)
    return out


def element(value, rename):
    if hasattr(value, "DESCRIPTOR"):
        return plain(value, rename)
    if isinstance(value, (str, int)) and value in rename:
        return rename[value]
    return value


def deltas(mine, theirs, path=""):
    """The places where two plain values differ, as (path, mine, theirs)."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for name in sorted(mine.keys() | theirs.keys(), key=str):
            yield from deltas(mine.get(name), theirs.get(name), f"{path}.{name}" if path else name)
    elif isinstance(mine, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(mine) == len(theirs):
        for index, (a, b) in enumerate(zip(mine, theirs)):
            yield from deltas(a, b, f"{path}[{index}]")
    elif mine != theirs:
        yield path, mine, theirs


def short(value):
    text = str(value).strip().replace("\n", " ")
    return text if len(text) < 300 else text[:300] + f"... ({len(text)})"


@dataclass
class Step:
    """One request and what came back, in comparable form."""
    label: str
    request: Any
    outcome: Any


class Session:
    """One scenario on one server: sends requests and keeps the transcript."""

    def __init__(self, api, member, kind):
        self.api, self.member, self.kind = api, member, kind
        self.steps, self.streams = [], []
        self.channel = grpc.insecure_channel(member.endpoint, options=OPTIONS)
        self.rename = {f"http://{member.endpoint}": "<client-url>", member.peer_url: "<peer-url>"}
        self.stubs = {name: getattr(api.grpc, name + "Stub")(self.channel)
                      for name in ("KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth")}

    def close(self):
        for stream in self.streams:
            stream.close()
        self.channel.close()

    def call(self, method, request=None, rows=None, **fields):
        """Calls `Service.Method` and records the answer. Returns it, or None after an error.

        `rows` is a sort key for answers whose rows have no defined order. Names with a leading
        underscore are options of the call, all others fields of its request."""
        service, name = method.split(".")
        options = {key[1:]: fields.pop(key) for key in list(fields) if key.startswith("_")}
        if request is None:
            kind = f"{'Auth' if service == 'Auth' and not name.startswith('Auth') else ''}{name}Request"
            kind = {"CompactRequest": "CompactionRequest"}.get(kind, kind)
            request = getattr(self.api.rpc, kind)(**fields)
        answer, outcome = None, None
        try:
            answer = getattr(self.stubs[service], name)(request, **{"timeout": 15, **options})
            outcome = plain(answer, self.rename)
            if rows:
                outcome["kvs"] = sorted(outcome.get("kvs", []), key=rows)
        except grpc.RpcError as error:
            outcome = failure(error)
        self.steps.append(Step(method, request, outcome))
        return answer

    def raw(self, path, body, **options):
        """Sends any bytes to any path; records the status, or the bytes that came back."""
        call = self.channel.unary_unary(path)
        try:
            outcome = {"bytes": bool(call(body, timeout=10, **options)) or True}
        except grpc.RpcError as error:
            outcome = failure(error)
        self.steps.append(Step(f"raw {path}", body, outcome))

    def note(self, label, value):
        """Records a fact that a scenario derives itself."""
        self.steps.append(Step(label, None, {"value": value}))
        return value

    def txn(self, compare=(), success=(), failure=()):
        return self.call("KV.Txn", compare=compare, success=success, failure=failure)

    def revision(self):
        kv = self.stubs["KV"]
        return kv.Range(self.api.rpc.RangeRequest(key=b"\0", count_only=True), timeout=10).header.revision

    def watch(self, **options):
        stream = WatchStream(self, options)
        self.streams.append(stream)
        return stream


def failure(error):
    return {"error": {"code": error.code().name, "text": error.details()}}


class WatchStream:
    """A watch stream. Events are gathered per watcher, since how they are batched is not defined."""

    def __init__(self, session, options):
        self.session, self.api = session, session.api
        self.requests = queue.Queue()
        self.control, self.ended = queue.Queue(), queue.Queue()
        self.events = collections.defaultdict(list)
        self.parts = collections.defaultdict(list)
        self.arrived = threading.Condition()
        self.call = session.stubs["Watch"].Watch(iter(self.requests.get, None), **options)
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        try:
            for answer in self.call:
                if answer.events:
                    with self.arrived:
                        self.events[answer.watch_id] += answer.events
                        self.parts[answer.watch_id].append(answer)
                        self.arrived.notify_all()
                else:
                    self.control.put(answer)
            self.ended.put({"ended": True})
        except grpc.RpcError as error:
            self.ended.put(failure(error))

    def _record(self, label, request, outcome):
        self.session.steps.append(Step(label, request, outcome))

    def send(self, **union):
        self.requests.put(self.api.rpc.WatchRequest(**union))

    def create(self, expect=1, **options):
        """Sends a creation and records `expect` answers without events."""
        request = self.api.rpc.WatchCreateRequest(**options)
        self.send(create_request=request)
        answers = [self.answer("Watch.create", request) for _ in range(expect)]
        return answers[0].watch_id if answers and answers[0] is not None else None

    def cancel(self, watch_id, answered=True):
        self.send(cancel_request=self.api.rpc.WatchCancelRequest(watch_id=watch_id))
        if answered:
            self.answer("Watch.cancel")

    def progress(self, answered=True):
        self.send(progress_request=self.api.rpc.WatchProgressRequest())
        if answered:
            self.answer("Watch.progress")

    def answer(self, label, request=None, timeout=5):
        try:
            answer = self.control.get(timeout=timeout)
        except queue.Empty:
            self._record(label, request, {"silence": True})
            return None
        self._record(label, request, plain(answer, self.session.rename))
        return answer

    def silent(self, label="Watch.silence", seconds=0.4):
        """Records whether nothing but events comes for a while."""
        try:
            answer = plain(self.control.get(timeout=seconds), self.session.rename)
        except queue.Empty:
            answer = {}
        self._record(label, None, answer)

    def take(self, watch_id, count, label="Watch.events", timeout=6):
        """Waits for `count` events of a watcher, a moment for surplus ones, and records them."""
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.events[watch_id]) >= count, timeout)
        if count == 0:
            time.sleep(0.25)
        return self._taken(watch_id, label)

    def take_until(self, watch_id, revision, label="Watch.events", timeout=15):
        """Waits for the event of a revision and records everything up to it."""
        with self.arrived:
            self.arrived.wait_for(
                lambda: self.events[watch_id]
                and self.events[watch_id][-1].kv.mod_revision >= revision, timeout)
        return self._taken(watch_id, label)

    def _taken(self, watch_id, label):
        with self.arrived:
            found = list(self.events[watch_id])
            self.events[watch_id].clear()
            parts = list(self.parts[watch_id])
            self.parts[watch_id].clear()
        outcome = {"events": [plain(each, {}) for each in found],
                   "headers": "in order" if well_ordered(parts) else parts}
        self._record(label, None, outcome)
        return parts

    def half_close(self):
        self.requests.put(None)

    def end(self, timeout=5):
        try:
            self._record("Watch.end", None, self.ended.get(timeout=timeout))
        except queue.Empty:
            self._record("Watch.end", None, {"running": True})

    def close(self):
        self.call.cancel()
        self.requests.put(None)


def well_ordered(parts):
    """Revisions rise, none is split over unfragmented answers, no header lags behind its events."""
    last, partial = 0, False
    for part in parts:
        revisions = [event.kv.mod_revision for event in part.events]
        if revisions != sorted(revisions) or part.header.revision < revisions[-1]:
            return False
        if revisions[0] < last or (revisions[0] == last and not partial):
            return False
        last, partial = revisions[-1], part.fragment
    return True


class Servers:
    """One single-member cluster per kind."""

    def __init__(self, api, kinds=("apus", *REFERENCES), flags=()):
        self.api, self.kinds = api, kinds
        self.clusters = {kind: Cluster((kind,), flags=flags) for kind in kinds}

    def __enter__(self):
        try:
            for cluster in self.clusters.values():
                cluster.members[0].start()
            for kind in self.kinds:
                self.clusters[kind].members[0].wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for cluster in self.clusters.values():
            cluster.__exit__()

    def compare(self, scenario, name, level=True, against=REFERENCES):
        sessions = [Session(self.api, self.clusters[kind].members[0], kind)
                    for kind in self.kinds if kind == "apus" or kind in against]
        try:
            if level:
                self._level(sessions)
            with ThreadPoolExecutor(len(sessions)) as pool:
                list(pool.map(scenario, sessions))
        except Exception as error:
            raise AssertionError(f"{name}: {error}\n{self._dead(sessions)}") from error
        finally:
            for session in sessions:
                session.close()
        mine, *others = sessions
        TALLY.requests += len(mine.steps)
        problems = [line for other in others for line in unexplained(mine, other)]
        assert not problems, (
            f"{name}: {len(problems)} differences that no table entry explains\n"
            + "\n".join(problems[:40]))
        return mine

    def _dead(self, sessions):
        """Names every server that ended by itself, with the last request it got."""
        lines = []
        for session in sessions:
            process = session.member.process
            if process.poll() is not None:
                log = session.member.log_text()
                at = max(log.find("panic"), log.find("Fatal error"), 0)
                lines.append(f"{session.kind} ended with {process.returncode}:\n{log[at:][:1500]}")
                lines += [f"  {step.label} [{short(step.request)}]" for step in session.steps
                          if "error" in step.outcome][-3:]
        return "\n".join(lines)

    def _level(self, sessions):
        """Empties the stores and brings them to one revision, so that a scenario starts alike."""
        for session in sessions:
            session.stubs["KV"].DeleteRange(
                self.api.rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
            for lease in session.stubs["Lease"].LeaseLeases(self.api.rpc.LeaseLeasesRequest()).leases:
                session.stubs["Lease"].LeaseRevoke(self.api.rpc.LeaseRevokeRequest(ID=lease.ID))
        target = max(session.revision() for session in sessions) + 1
        for session in sessions:
            while session.revision() < target - 1:
                session.stubs["KV"].Put(self.api.rpc.PutRequest(key=b"level"))
        for session in sessions:
            if session.revision() < target:
                session.stubs["KV"].Put(self.api.rpc.PutRequest(key=b"level"))
        for session in sessions:
            session.stubs["KV"].DeleteRange(self.api.rpc.DeleteRangeRequest(key=b"level"))
            assert session.revision() == target + 1


def unexplained(mine, other):
    """Lines about the differences of two transcripts that the table does not explain."""
    if len(mine.steps) != len(other.steps):
        yield f"{len(mine.steps)} steps on Apus, {len(other.steps)} on {other.kind}"
    for index, (a, b) in enumerate(zip(mine.steps, other.steps)):
        TALLY.compared += 1
        if a.label != b.label:
            yield f"step {index}: {a.label} on Apus, {b.label} on {other.kind}"
            continue
        for path, here, there in steps_differ(a.outcome, b.outcome):
            if a.label == "Lease.LeaseTimeToLive" and path == "TTL" and near(here, there):
                continue
            delta = Delta(other.kind, a.label, a.request, path, here, there)
            for entry in DIFFERENCES:
                if other.kind in entry.kinds and entry.applies(delta):
                    TALLY.explained[entry.id, other.kind] += 1
                    break
            else:
                yield (f"step {index} {a.label} [{short(a.request)}] {path}:\n"
                       f"    Apus   {short(here)}\n    {other.kind} {short(there)}")


def near(seconds, others):
    """Time left on leases granted at about the same moment."""
    return bool(seconds and others) and seconds > 0 and others > 0 and abs(seconds - others) <= 15


def steps_differ(mine, theirs):
    """An error against an answer, or against another error, is one difference."""
    if ("error" in mine) or ("error" in theirs):
        if mine != theirs:
            yield "outcome", mine, theirs
        return
    yield from deltas(mine, theirs)
