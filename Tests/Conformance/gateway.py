"""Requests to the JSON gateway, recorded in the form that the driver compares."""

import base64
import http.client
import json
import socket
import time

from driver import Step

# Values that are a server's own: only whether they are there is compared.
OWN = {"cluster_id", "member_id", "raft_term", "dbSize", "leader", "raftIndex", "raftTerm",
       "raftAppliedIndex", "dbSizeInUse", "hash", "memberID"}
# Headers that say something to a client.
HEADERS = ("content-type", "grpc-metadata-content-type", "access-control-allow-origin",
           "access-control-allow-methods", "access-control-allow-headers", "allow", "location",
           "x-content-type-options", "upgrade", "sec-websocket-accept", "sec-websocket-version")


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def comparable(value, rename, key=None):
    if isinstance(value, dict):
        return {name: comparable(each, rename, name) for name, each in value.items()}
    if isinstance(value, list):
        return [comparable(each, rename, key) for each in value]
    if key in OWN or (key == "ID" and len(str(value)) > 12) or key == "blob":
        return "*"
    return rename.get(value, value)


def parsed(body, rename):
    """A body as JSON, a list of values if there are several, or as the text it is."""
    try:
        values = [comparable(json.loads(line), rename) for line in body.splitlines()]
    except ValueError:
        return body
    return values[0] if len(values) == 1 else values


def outcome(status, body, rename):
    """What a request came to. An error counts as one fact, as over gRPC."""
    value = parsed(body, rename)
    if status < 400:
        return {"status": status, "body": value}
    message = value.get("message") if isinstance(value, dict) else None
    text = message if isinstance(message, str) else body
    return {"error": {"code": f"HTTP {status}", "text": text, "body": value}}


class Gateway:
    """One server's gateway within a scenario."""

    def __init__(self, session):
        self.session = session
        self.host, port = session.member.endpoint.split(":")
        self.port = int(port)

    def request(self, path, body=b"", method="POST", headers=None, label=None, timeout=10,
                headers_too=False):
        """Sends one request and records status and body; returns the decoded body."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            found = outcome(answer.status, text, self.session.rename)
            if headers_too:
                found["headers"] = {name: answer.headers[name] for name in HEADERS
                                      if name in answer.headers}
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError(f"{self.session.kind} {path} {body[:200]!r}: {error!r}") from error
        finally:
            connection.close()
        self.session.steps.append(Step(label or f"HTTP {path}", body, found))
        try:
            return json.loads(text)
        except ValueError:
            return text

    def stream(self, path, body, lines, headers=None, timeout=6, label=None):
        """Sends a request whose answer may never end; records its first `lines` lines, and whether it
        ended after fewer."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        text, status = "", None
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request("POST", path, body, headers or {})
            answer = connection.getresponse()
            status = answer.status
            while text.count("\n") < lines:
                piece = answer.read1(65536)
                if not piece:
                    text += "(end)"
                    break
                text += piece.decode()
        except (socket.timeout, TimeoutError):
            text += "(silence)"
        finally:
            connection.close()
        lines = text.replace("(end)", "\n(end)").replace("(silence)", "\n(silence)").split("\n")
        results = [parsed(line, self.session.rename) for line in lines if line]
        found = {"status": status, "lines": results}
        if status is not None and status >= 400:
            found = outcome(status, text.removesuffix("(end)"), self.session.rename)
        self.session.steps.append(Step(label or f"HTTP {path}", body, found))
        return results


class WatchRequest:
    """A watch whose request body goes on: chunk by chunk, over a plain socket."""

    def __init__(self, gateway, path="/v3/watch"):
        self.gateway = gateway
        self.socket = socket.create_connection((gateway.host, gateway.port), timeout=5)
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: {gateway.host}\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n".encode())
        self.buffer = b""

    def send(self, text):
        data = text.encode()
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def results(self, count, timeout=5):
        """Waits for so many results."""
        deadline = time.monotonic() + timeout
        while self.buffer.count(b'{"result":') < count and time.monotonic() < deadline:
            self.socket.settimeout(max(0.05, deadline - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except (socket.timeout, TimeoutError):
                break
            if not piece:
                break
            self.buffer += piece
        lines = [line for line in self.buffer.decode().split("\r\n") if line.startswith("{")]
        return [parsed(line, self.gateway.session.rename) for line in lines]

    def close(self):
        self.socket.close()
