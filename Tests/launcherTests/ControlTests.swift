import ArgumentParser
import Testing

@testable import launcher

private let report = ClusterReport(
  launcherPID: 7,
  members: [
    MemberReport(
      name: "m1", pid: 8, state: "running", role: .leader, uptimeSeconds: 65, restarts: 1,
      clientURL: "http://127.0.0.1:1", peerURL: "http://127.0.0.1:2", dataPath: "d/m1"),
    MemberReport(
      name: "m2", pid: nil, state: "exited (1)", role: .unknown, uptimeSeconds: nil, restarts: 0,
      clientURL: "http://127.0.0.1:3", peerURL: "http://127.0.0.1:4", dataPath: "d/m2"),
  ])

@Test(arguments: ControlVerb.allCases)
func requestsSurviveTheSocket(_ verb: ControlVerb) throws {
  let request = ControlRequest(
    verb, members: ["m1", "a\"\n"], isAll: verb == .stop,
    user: verb == .add ? ClusterUser(name: "root", password: "a:\"\n") : nil)
  #expect(request.line.hasSuffix("\n"))
  #expect(request.line.dropLast().contains("\n") == false)
  #expect(try ControlRequest(parsing: String(request.line.dropLast())) == request)
}

@Test(arguments: ["", "stop", "{}", #"{"verb":7}"#, #"{"verb":"dance"}"#])
func badRequestsAreRefused(_ line: String) {
  #expect(throws: ControlError.self) { try ControlRequest(parsing: line) }
}

@Test(arguments: [
  ControlReply.note("m1 stopped"), .failed("no \"m9\""), .done, .status(report),
])
func repliesSurviveTheSocket(_ reply: ControlReply) {
  #expect(ControlReply(parsing: String(reply.line.dropLast())) == reply)
  #expect(reply.isFinal == (reply != .note("m1 stopped")))
}

@Test(arguments: ["", "[]", "{}", #"{"done":false}"#])
func badRepliesAreIgnored(_ line: String) {
  #expect(ControlReply(parsing: line) == nil)
}

@Test func statusIsATable() {
  #expect(
    report.statusLines(Palette(isEnabled: false)) == [
      "NAME  STATE       ROLE    PID  UPTIME  RESTARTS  CLIENT URL          PEER URL",
      "m1    running     leader  8    1m05s   1         http://127.0.0.1:1  http://127.0.0.1:2",
      "m2    exited (1)  -       -    -       0         http://127.0.0.1:3  http://127.0.0.1:4",
    ])
}

@Test func jsonKeepsOrderAndEscapes() throws {
  let text = #"{"b":[1,-2.5e3,true,null],"a":{"x":"\u00e9\n\ud83d\ude00\"\\"},"c":""}"#
  let value = try #require(JSONValue(parsing: text))
  #expect(
    value.compactText == #"{"b":[1,-2.5e3,true,null],"a":{"x":"é\n😀\"\\"},"c":""}"#)
  #expect(value["a"]?["x"]?.text == "é\n😀\"\\")
  #expect(JSONValue(parsing: value.prettyText()) == value)
}

@Test(arguments: [
  "", "{", "[1,]", "{\"a\":}", "{\"a\":1,}", "tru", "1 2", "\"a", "\"\\x\"", "-", "[1}",
  String(repeating: "[", count: 100) + String(repeating: "]", count: 100),
])
func brokenJSONIsRefused(_ text: String) {
  #expect(JSONValue(parsing: text) == nil)
}

@Test func usersAreNamedByFlagsOrVariables() throws {
  func named(_ flags: [String], _ variables: [String: String] = [:]) throws -> ClusterUser? {
    try UserOption.parse(flags).named { variables[$0] }
  }
  let root = ClusterUser(name: "root", password: "a:b")
  #expect(try named([]) == nil)
  #expect(try named(["--user", "root:a:b"]) == root)
  #expect(try named(["--user", "root", "--password", "a:b"]) == root)
  #expect(try named([], ["ETCDCTL_USER": "root:a:b"]) == root)
  #expect(try named(["--user", "root"], ["ETCDCTL_PASSWORD": "a:b"]) == root)
  #expect(try named(["--user", "root:a:b"], ["ETCDCTL_USER": "other:pw"]) == root)
  #expect(throws: (any Error).self) { try named(["--user", "root"]) }
  #expect(throws: (any Error).self) { try named(["--password", "a"]) }
}
