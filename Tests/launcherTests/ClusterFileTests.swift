import Testing

@testable import launcher

private let members = """
  members:
    - {name: m1, client-url: "http://127.0.0.1:2379", peer-url: "http://127.0.0.1:2380"}
  """

private func problems(_ text: String) -> [String] {
  ClusterFileParser.parse(text, path: "c.conf").problems.map { $0.description(path: "c.conf") }
}

/// A file with one member whose lines begin in line 3.
private func withMember(_ lines: String...) -> String {
  "data-dir: d\nmembers:\n  - " + lines.joined(separator: "\n    ")
}

struct Mistake: Sendable, CustomTestStringConvertible {
  let text: String
  let expected: [String]
  var testDescription: String { expected.first ?? "no mistake" }

  init(_ text: String, _ expected: String...) {
    self.text = text
    self.expected = expected
  }
}

private let clientLine = "client-url: http://127.0.0.1:2379"
private let peerLine = "peer-url: http://127.0.0.1:2380"
private let empty =
  "data-dir: apus-data, and members: [{name: m1, client-url: "
  + "\"http://127.0.0.1:2379\", peer-url: \"http://127.0.0.1:2380\"}]"

private let topMistakes = [
  Mistake("", "c.conf: the file is empty; write instead: \(empty)"),
  Mistake("# nothing\n", "c.conf: the file is empty; write instead: \(empty)"),
  Mistake(
    "just words", "c.conf:1: the file is not a list of `key: value`; write instead: \(empty)"),
  Mistake(
    "data_dirs: d\n\(members)",
    "c.conf:1: unknown key `data_dirs`, did you mean `data-dir`?; write instead: data-dir:"),
  Mistake(
    "data-dir: d\nlog-level: info\n\(members)",
    "c.conf:2: `log-level` is a flag of the members; "
      + "write instead: it under `defaults:`, indented"),
  Mistake(
    "data-dir: d\nzzz: 1\n\(members)",
    "c.conf:2: unknown key `zzz`; write instead: data-dir, defaults, restart, members"),
  Mistake(
    "data-dir: [d]\n\(members)",
    "c.conf:1: `data-dir` is not a path; write instead: data-dir: apus-data"),
  Mistake(
    "data-dir: d\nrestart: sometimes\n\(members)",
    "c.conf:2: `restart` cannot be \"sometimes\"; "
      + "write instead: restart: never, on-failure or always"),
  Mistake(
    "data-dir: d\ndefaults: fast\n\(members)",
    "c.conf:2: `defaults` is not a list of `flag: value`; "
      + "write instead: defaults: {log-level: info}"),
  Mistake(members, "c.conf: `data-dir` is missing; write instead: data-dir: apus-data"),
  Mistake(
    "data-dir: d", "c.conf: `members` is missing; write instead: \(empty.dropFirst(25))"),
  Mistake(
    "data-dir: d\nmembers: 3",
    "c.conf:2: `members` is not a list; write instead: \(empty.dropFirst(25))"),
  Mistake(
    "data-dir: d\nmembers: []",
    "c.conf:2: `members` is empty; write instead: \(empty.dropFirst(25))"),
  Mistake(
    "data-dir: d\nmembers: [m1]",
    "c.conf:2: a member is not a list of `key: value`; write instead: - name: m1"),
]

private let yamlMistakes = [
  Mistake(
    "data-dir: d\nmembers:\n\t- name: m1",
    "c.conf:3: the line is indented with a tab, which YAML does not allow; write instead: spaces"),
  Mistake(
    "data-dir: d\nmembers: a: b",
    "c.conf:2: not YAML: mapping values are not allowed in this context; "
      + "write instead: `key: value`, each key on its own line"),
  Mistake(
    "data-dir: d\n\ndata-dir: e\n\(members)",
    "c.conf:3: `data-dir` stands here twice; write instead: one of the two"),
]

private let memberMistakes = [
  Mistake(
    withMember(clientLine, peerLine),
    "c.conf:3: a member has no `name`; write instead: - name: m1"),
  Mistake(
    withMember("name: m1"),
    "c.conf:3: member m1 has no `client-url`; "
      + "write instead: client-url: http://127.0.0.1:2379",
    "c.conf:3: member m1 has no `peer-url`; write instead: peer-url: http://127.0.0.1:2380"),
  Mistake(
    withMember("name: a/b", clientLine, peerLine),
    "c.conf:3: `a/b` cannot be a name: it names the member's folder too; "
      + "write instead: a name of letters, digits, - and _, such as m1"),
  Mistake(
    withMember("name: m1.log", clientLine, peerLine),
    "c.conf:3: `m1.log` cannot be a name: it names the member's folder too; "
      + "write instead: a name of letters, digits, - and _, such as m1"),
  Mistake(
    withMember("name: m1", "client-urls: http://127.0.0.1:1", peerLine),
    "c.conf:4: unknown key `client-urls`, did you mean `client-url`?; "
      + "write instead: client-url:"),
  Mistake(
    withMember("name: m1", "client-url: 127.0.0.1:2379", peerLine),
    "c.conf:4: \"127.0.0.1:2379\" is not a URL; write instead: http://127.0.0.1:2379"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "data-dir: x"),
    "c.conf:6: the launcher sets the flag `data-dir` itself; "
      + "write instead: `data-dir:` at the top of the file"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "initial-cluster-token: x"),
    "c.conf:6: all members share one `initial-cluster-token`; "
      + "write instead: it under `defaults:`"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "hartbeat-interval: 9"),
    "c.conf:6: unknown flag `hartbeat-interval`, did you mean `heartbeat-interval`?; "
      + "write instead: heartbeat-interval: 9"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "--log-level: info"),
    "c.conf:6: flags stand here without dashes: `--log-level`; write instead: log-level:"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "snapshot-count: many"),
    "c.conf:6: snapshot-count is a whole number, not \"many\"; write instead: snapshot-count: 10"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "pre-vote: maybe"),
    "c.conf:6: pre-vote is true or false, not \"maybe\"; write instead: pre-vote: true"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "corrupt-check-time: 10"),
    "c.conf:6: corrupt-check-time is a duration with a unit, not \"10\"; "
      + "write instead: corrupt-check-time: 10s"),
  Mistake(
    withMember("name: m1", clientLine, peerLine, "metrics: {a: b}"),
    "c.conf:6: `metrics` needs one value; write instead: metrics: VALUE"),
  Mistake(
    withMember("name: m1", clientLine, "peer-url: http://localhost:2379"),
    "c.conf:5: port 2379 is used by client-url of m1 in line 4 already; "
      + "write instead: peer-url: http://localhost:2389"),
  Mistake(
    withMember("name: m1", clientLine, peerLine) + "\n  - name: m1\n    client-url: "
      + "http://127.0.0.1:1\n    peer-url: http://127.0.0.1:2\n",
    "c.conf:3: warning: 2 members survive no more failures than 1; "
      + "write instead: 1 or 3 members",
    "c.conf:6: the name `m1` is taken in line 3; write instead: name: m2"),
]

@Test(arguments: topMistakes + yamlMistakes + memberMistakes)
func everyMistakeIsNamedWithItsLine(_ mistake: Mistake) {
  #expect(problems(mistake.text) == mistake.expected)
  #expect(ClusterFileParser.parse(mistake.text, path: "c.conf").file == nil)
}

@Test func mistakesAreReportedTogether() {
  let text = "dir: d\nrestart: 7\nmembers:\n  - name: m1\n    client-url: ftp://x:1\n"
  #expect(problems(text).count == 5)
}

@Test func aGoodFileBecomesAPlan() throws {
  let text = """
    data-dir: data
    restart: on-failure
    defaults:
      initial-cluster-token: t
      log-level: info
      pre-vote: false
    members:
      - name: m1
        client-url: http://127.0.0.1:2379
        peer-url: https://[::1]:2380
        log-level: debug
        listen-metrics-urls: [http://127.0.0.1:1, http://127.0.0.1:2]
    """
  let outcome = ClusterFileParser.parse(text, path: "conf/c.conf")
  #expect(outcome.problems.isEmpty)
  let file = try #require(outcome.file)
  #expect(file.dataDirectory == "conf/data")
  #expect(file.restart == .onFailure)
  #expect(file.token == "t")
  let member = try #require(file.members.first)
  #expect(member.peerURL == MemberURL(scheme: .https, host: "::1", port: 2380))
  #expect(member.peerURL.text == "https://[::1]:2380")
  #expect(
    member.flags.map { "\($0.name)=\($0.value)" } == [
      "initial-cluster-token=t", "pre-vote=false", "log-level=debug",
      "listen-metrics-urls=http://127.0.0.1:1,http://127.0.0.1:2",
    ])
}

@Test func warningsDoNotForbidAStart() {
  let text = withMember("name: m1", "client-url: http://0.0.0.0:2379", peerLine, "zzzzzz: 1")
  let outcome = ClusterFileParser.parse(text, path: "c.conf")
  #expect(outcome.file != nil)
  #expect(outcome.mistakes.isEmpty)
  #expect(
    outcome.problems.map(\.text) == [
      "clients are told to connect to 0.0.0.0",
      "`zzzzzz` is not a flag known here; a member may refuse it",
    ])
}

@Test(arguments: [
  ("http://127.0.0.1:2379", nil), ("https://[::1]:1", nil), ("http://localhost:65535", nil),
  ("http://127.0.0.1", "http://127.0.0.1:2379"), ("http://:2379", nil),
  ("http://127.0.0.1:0", "http://127.0.0.1:2379"),
  ("http://127.0.0.1:65536", "http://127.0.0.1:2379"),
  ("http://127.0.0.1:x", "http://127.0.0.1:2379"), ("ftp://127.0.0.1:1", "http://127.0.0.1:1"),
  ("http://127.0.0.1:1/", "http://127.0.0.1:1"), ("http://::1:1", "http://[::1]:2379"),
  ("http://u@127.0.0.1:1", "http://127.0.0.1:1"), ("http://example.com:7", "http://127.0.0.1:7"),
  ("http://127.0.0.1:1,http://127.0.0.1:2", "http://127.0.0.1:1"),
  ("http://1.2.3:1", "http://127.0.0.1:1"), ("http://1.2.3.400:1", "http://127.0.0.1:1"),
])
func urlsAreCheckedAndRepaired(_ text: String, _ instead: String?) {
  var advice: String?
  do throws(MemberURL.Problem) {
    _ = try MemberURL(parsing: text, defaultPort: 2379)
  } catch {
    advice = error.instead
    #expect((try? MemberURL(parsing: error.instead, defaultPort: 2379)) != nil)
  }
  #expect(advice == instead)
}

@Test func nearestWordIsFoundOnlyIfItIsNear() {
  #expect(Spelling.nearest(to: "membrs", among: ["data-dir", "members"]) == "members")
  #expect(Spelling.nearest(to: "Data_Dir", among: ["data-dir", "members"]) == "data-dir")
  #expect(Spelling.nearest(to: "colour", among: ["data-dir", "members"]) == nil)
}
