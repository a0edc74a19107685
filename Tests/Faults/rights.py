"""Users who may touch some keys and only for a while: their tokens, what was granted and revoked when, and whether the
answers that they got agree with that.

Changes of rights go through the log like writes, and their answers name the store's revision at which they were applied.
So a right is held from one revision to another one, and who is served at a revision outside has been served wrongly,
whichever member did it.
"""

import collections
import dataclasses
import threading
import time

import grpc
import protos

from .history import NEVER, OK, REFUSED
from .model import contains

PASSWORD = "secret"
OLD_TOKEN = ("invalid auth token", "revision of auth store is old", "revision in header is old")
DETAILS = ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression")


@dataclasses.dataclass
class Right:
    """Bounds are wide where an outcome was unknown: it may have been held from `first` to `last`, and was for
    certain after `granted` and before `revoking`."""
    user: str
    key: bytes
    end: bytes
    first: int  # revisions
    last: float = NEVER
    granted: float = 0  # nanoseconds
    revoking: float = NEVER

    def covers(self, user, key):
        return self.user == user and contains(self.key, self.end, key)


class Guard:
    """Who calls whom as whom. Tokens belong to a member; they are lost with it, and old after changes of rights."""

    def __init__(self):
        self.api, self.tokens, self.lock = protos.load(), {}, threading.Lock()

    def enable(self, cluster, users):
        def ctl(*words):
            cluster.ctl(*words, check=True)
        ctl("user", "add", f"root:{PASSWORD}")
        for user in users:
            ctl("user", "add", f"{user}:{PASSWORD}")
            ctl("role", "add", user)
            ctl("user", "grant-role", user, user)
        ctl("auth", "enable")
        cluster.ctl_flags = ["--user", f"root:{PASSWORD}"]
        cluster.guard = self

    def token(self, endpoint, user):
        if (endpoint, user) not in self.tokens:
            request = self.api.rpc.AuthenticateRequest(name=user, password=PASSWORD)
            with grpc.insecure_channel(endpoint, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                try:
                    token = self.api.grpc.AuthStub(channel).Authenticate(request, timeout=1).token
                except grpc.RpcError:
                    return None
            with self.lock:
                self.tokens[endpoint, user] = token
        return self.tokens.get((endpoint, user))

    def heard(self, endpoint, user, text):
        """A refusal that may mean the token."""
        if any(each in (text or "") for each in (*OLD_TOKEN, "user name is empty")):
            with self.lock:
                self.tokens.pop((endpoint, user), None)

    def channel(self, channel, endpoint, user):
        return grpc.intercept_channel(channel, Bearer(self, endpoint, user))


class Call(collections.namedtuple("Call", DETAILS), grpc.ClientCallDetails):
    pass


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds the token of a user to each call."""

    def __init__(self, guard, endpoint, user):
        self.guard, self.endpoint, self.user = guard, endpoint, user

    def intercept_unary_unary(self, go_on, details, request):
        token = self.guard.token(self.endpoint, self.user)
        values = {name: getattr(details, name, None) for name in DETAILS}
        values["metadata"] = [*(details.metadata or ()), *([("token", token)] if token else ())]
        return go_on(Call(**values), request)

    intercept_unary_stream = intercept_stream_stream = intercept_unary_unary


class Administrator:
    """Grants and revokes, one change after the other, until each is known to be done."""

    def __init__(self, ctx, history):
        self.ctx, self.history, self.revision = ctx, history, 1
        self.rpc, self.auth = ctx.api.rpc, ctx.api.auth

    def call(self, method, request):
        """The response of a random member, or the text of the error."""
        member = self.ctx.any()
        calls = self.ctx.calls(member)
        try:
            response = getattr(self.ctx.api.grpc.AuthStub(calls.channel), method)(request, timeout=2)
        except grpc.RpcError as error:
            self.ctx.cluster.guard.heard(member.endpoint, "root", error.details())
            return None, error.details() or ""
        self.revision = response.header.revision
        return response, ""

    def until_done(self, method, request, done):
        """Returns the revisions between which it took effect, or None if nobody answers."""
        before, alone = self.revision, True
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            response, error = self.call(method, request)
            if response is not None:
                return (response.header.revision if alone else before), response.header.revision
            if done in error:  # by an attempt before this one
                if (shown := self.call("RoleGet", self.rpc.AuthRoleGetRequest(role=request_role(request)))[0]) is not None:
                    return before, shown.header.revision
            if not any(each in error for each in OLD_TOKEN):
                alone = False
            time.sleep(0.05)
        return None

    def grant(self, user, key, end):
        right = Right(user, key, end, self.revision, granted=NEVER)
        with self.history.lock:
            self.history.rights.append(right)  # before the answer: somebody else may be served sooner
        permission = self.auth.Permission(permType=self.auth.Permission.READWRITE, key=key, range_end=end)
        bounds = self.until_done("RoleGrantPermission", self.rpc.AuthRoleGrantPermissionRequest(
            name=user, perm=permission), done="nothing says so")
        if bounds:
            right.first, right.granted = bounds[0], time.monotonic_ns()
        return bounds is not None and right

    def revoke(self, right):
        right.revoking = time.monotonic_ns()
        bounds = self.until_done("RoleRevokePermission", self.rpc.AuthRoleRevokePermissionRequest(
            role=right.user, key=right.key, range_end=right.end), done="permission is not granted to the role")
        if bounds:
            right.last = bounds[1]
        return bounds is not None


def request_role(request):
    return getattr(request, "role", None) or request.name


def keys_of(op):
    """The keys that a request of a limited user names: those make requests of single keys only."""
    if op.kind == "txn":
        return {getattr(each, each.WhichOneof("request")).key for each in op.request.success}
    return {op.request.key}


def check_rights(history, report):
    """Rules R1 to R3, of each call and watch of a limited user."""
    for op in history.ops:
        if op.user and op.outcome == OK:
            revision = op.response.header.revision
            for key in keys_of(op):
                if not was_held(history.rights, op.user, key, revision):
                    report("R1", op.returned, f"{op.user} has no right to {key} at revision {revision}: {op}")
        elif op.user and op.outcome == REFUSED and op.code == "PERMISSION_DENIED" \
                and not getattr(op.request, "serializable", False):
            if all(any(right.covers(op.user, key) and right.granted < op.called and op.returned < right.revoking
                       for right in history.rights) for key in keys_of(op)):
                report("R2", op.returned, f"{op.user} has the right all the time: {op}")
    for watch in history.watches:
        for when, response in watch.responses if watch.user else ():
            if response.created and not response.canceled and not was_held(
                    history.rights, watch.user, watch.request.key, response.header.revision):
                report("R3", when, f"{watch.user} may not read that at {response.header.revision}: {watch}")


def was_held(rights, user, key, revision):
    return any(right.covers(user, key) and right.first <= revision <= right.last for right in rights)
