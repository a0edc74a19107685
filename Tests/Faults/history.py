"""What clients asked, what they were answered, and when (nanoseconds of the machine's monotonic clock)."""

import dataclasses
import gzip
import math
import threading

OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"
# A refusal with one of these codes says that the request had no effect; any other error says nothing.
DEFINITE = {"INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED", "ALREADY_EXISTS", "UNIMPLEMENTED", "UNAUTHENTICATED"}
NEVER = math.inf


@dataclasses.dataclass(slots=True)
class Op:
    """One call. `incarnation` counts the starts of the member; None if it was restarted meanwhile."""
    id: int
    client: int
    member: str
    incarnation: int | None
    kind: str
    request: object
    called: float
    returned: float = NEVER
    outcome: str = UNKNOWN
    code: str = ""
    response: object = None
    user: str = ""  # one whose rights are limited

    def __str__(self):
        request = " ".join(str(self.request).split())
        response = " ".join(str(self.response).split()) if self.response is not None else self.code
        return (f"op {self.id} {self.kind} by client {self.client} {self.user} at {self.member}#{self.incarnation} "
                f"[{self.called / 1e9:.6f}..{self.returned / 1e9:.6f}] {self.outcome}: "
                f"{request[:400]} -> {response[:600]}")


@dataclasses.dataclass(slots=True)
class Watch:
    """One watch stream with one watcher. `collector` marks the full-range ones that supply the ground truth."""
    id: int
    member: str
    incarnation: int | None
    request: object
    called: float
    collector: bool = False
    resumes: int | None = None
    permitted: list | None = None  # ranges (key, end) that its user may read; None for all
    responses: list = dataclasses.field(default_factory=list)
    end: str = ""
    user: str = ""
    # Its member answers a request for progress although it owes the watcher history, as etcd 3.4.23 and 3.5.1 do.
    hasty: bool = False

    def __str__(self):
        request = " ".join(str(self.request).split())
        return f"watch {self.id} at {self.member}#{self.incarnation} ({request}) called {self.called / 1e9:.6f}"


class History:
    def __init__(self):
        self.ops, self.watches = [], []
        self.faults = []  # (time, text)
        self.rights = []  # of limited users: rights.Right
        self.finals = {}  # member name -> dict of what it said after all was healed
        self.logs = {}  # member name -> what its log held after its end: wal.Log
        self.clock_error = 0  # by how much a monotonic clock of a member may have been wrong
        self.lock = threading.Lock()

    def save(self, path):
        """A text for people: one line per item, in order of time."""
        lines = [(op.called, str(op)) for op in self.ops]
        lines += [(when, f"fault [{when / 1e9:.6f}] {text}") for when, text in self.faults]
        for watch in self.watches:
            lines.append((watch.called, f"{watch} ended: {watch.end}"))
            for when, response in watch.responses:
                text = " ".join(str(response).split())
                lines.append((when, f"watch {watch.id} at {watch.member} [{when / 1e9:.6f}] {text[:1000]}"))
        with gzip.open(path, "wt") as file:
            for _, line in sorted(lines, key=lambda each: each[0]):
                file.write(line + "\n")
