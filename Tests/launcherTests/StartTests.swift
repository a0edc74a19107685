import Actors
import Testing

@testable import launcher

private func plan(_ name: String, _ port: UInt16, flags: [MemberFlag] = []) -> MemberPlan {
  MemberPlan(
    name: name, line: 1, clientURL: MemberURL(scheme: .http, host: "127.0.0.1", port: port),
    clientURLLine: 2, peerURL: MemberURL(scheme: .http, host: "127.0.0.1", port: port + 1),
    peerURLLine: 3, flags: flags)
}

private func cluster(_ members: [MemberPlan], dataDirectory: String = "d") -> ClusterFile {
  ClusterFile(
    path: "c.conf", dataDirectory: dataDirectory, dataDirectoryLine: 1, restart: .never,
    members: members)
}

@Test func flagsAreOneWordEachAndTheFilesFlagsComeLast() {
  let flags = [MemberFlag(name: "pre-vote", value: "false", line: 4)]
  let file = cluster([plan("m1", 10, flags: flags), plan("m2", 20)])
  #expect(
    FlagRendering.arguments(for: file.members[0], in: file) == [
      "--name=m1", "--data-dir=d/m1", "--listen-client-urls=http://127.0.0.1:10",
      "--advertise-client-urls=http://127.0.0.1:10", "--listen-peer-urls=http://127.0.0.1:11",
      "--initial-advertise-peer-urls=http://127.0.0.1:11",
      "--initial-cluster=m1=http://127.0.0.1:11,m2=http://127.0.0.1:21",
      "--initial-cluster-state=new", "--pre-vote=false",
    ])
}

@Test func contradictingEnvironmentIsLeftOut() {
  let kept = FlagRendering.environment(
    ["PATH=/bin", "ETCD_NAME=x", "ETCD_DATA_DIR=y", "ETCD_CONFIG_FILE=z", "ETCD_LOG_LEVEL=info"],
    arguments: ["--name=m1", "--data-dir=d"])
  #expect(kept == ["PATH=/bin", "ETCD_LOG_LEVEL=info"])
}

@Test func aDataFolderKnowsItsCluster() throws {
  let file = cluster([plan("m1", 10), plan("m2", 20)])
  let identity = try #require(ClusterIdentity(parsing: ClusterIdentity(of: file).text))
  #expect(identity == ClusterIdentity(of: file))
  #expect(identity.differences(from: file).isEmpty)

  let token = [MemberFlag(name: "initial-cluster-token", value: "t", line: 9)]
  let other = cluster([plan("m1", 12, flags: token), plan("m3", 30, flags: token)])
  #expect(
    identity.differences(from: other).map { $0.description(path: "c.conf") } == [
      "c.conf:9: initial-cluster-token was \"etcd-cluster\", now it is \"t\"; "
        + "write instead: initial-cluster-token: etcd-cluster",
      "c.conf:3: peer-url of m1 was http://127.0.0.1:11, now it is http://127.0.0.1:13; "
        + "write instead: peer-url: http://127.0.0.1:11",
      "c.conf:1: member m3 was not part of the cluster",
      "c.conf: member m2 (http://127.0.0.1:21) is missing, though it is part of the cluster",
    ])
}

@Test func restartsBackOffAndCalmDown() {
  var always = RestartPlanner(policy: .always)
  let delays = (0..<7).map { _ in always.delay(after: .status(0), ranSeconds: 1) }
  #expect(delays == [1, 2, 4, 8, 16, 30, 30])
  #expect(always.delay(after: .status(0), ranSeconds: 60) == 1)

  var onFailure = RestartPlanner(policy: .onFailure)
  #expect(onFailure.delay(after: .status(0), ranSeconds: 1) == nil)
  #expect(onFailure.delay(after: .status(1), ranSeconds: 1) == 1)
  #expect(onFailure.delay(after: .signal(9), ranSeconds: 1) == 2)

  var never = RestartPlanner(policy: .never)
  #expect(never.delay(after: .signal(9), ranSeconds: 1) == nil)
}

@Test func aRequestedEndIsNotAnAccident() {
  #expect(MemberPhase.stopping.ended(.signal(15)) == .stopped)
  #expect(MemberPhase.killing.ended(.signal(9)) == .killed)
  #expect(MemberPhase.running.ended(.signal(9)).text == "exited (SIGKILL)")
  #expect(MemberPhase.starting.ended(.status(1)).text == "exited (1)")
}

@Test func excerptKeepsTheTailOrTheReasonOfARefusal() {
  var excerpt = LogExcerpt()
  for number in 1...12 { excerpt.append("line \(number)") }
  #expect(excerpt.lines(for: .status(1), wasServing: false).count == 10)
  #expect(excerpt.lines(for: .signal(9), wasServing: true).first == "line 3")
  #expect(excerpt.lines(for: .status(2), wasServing: false) == ["line 1"])
}

@Test func processesAreRecognizedByTheirStart() throws {
  let line = "12 (a) b) S 1 12 12 0 -1 4 1 2 3 4 5 6 7 8 20 0 9 0 777 10 11"
  let status = try #require(ProcessStatus(parsing: line))
  #expect(status.state == "S")
  #expect(status.startTicks == 777)
  #expect(ProcessStatus(parsing: "12 (a") == nil)

  let record = ProcessRecord(members: [
    .init(name: "m1", process: ProcessIdentity(pid: 12, startTicks: 777))
  ])
  #expect(ProcessRecord(parsing: record.text) == record)
  #expect(
    ProcessRecord.advice(record.members)
      == "members of an earlier launcher are still running: m1 (pid 12); stop them with: kill 12")
  #expect(ProcessRecord.advice([]) == nil)
}

@Test func listeningSocketsAreFoundByPort() {
  let table = """
      sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
       0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1
       1: 0100007F:094B 0100007F:1234 01 00000000:00000000 00:00000000 00000000  0  0 4712 1
       2: 0100007F:094C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4713 1
    """
  #expect(ProcessTable.listeningInodes(table, port: 2379) == ["4711"])
}

@Test(arguments: [
  ("etcd_server_has_leader 1\netcd_server_is_leader 1\n", MemberRole.leader),
  ("etcd_server_has_leader 1\netcd_server_is_leader 0\n", .follower),
  ("etcd_server_has_leader 0\netcd_server_is_leader 0\n", .leaderless),
  (
    "etcd_server_has_leader 1\netcd_server_is_leader 0\netcd_server_is_learner 1\n", .learner
  ),
])
func metricsTellTheRole(_ body: String, _ role: MemberRole) {
  let plain = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n# HELP x\n\(body)"
  #expect(MetricsAnswer.role(inResponse: Array(plain.utf8)) == role)
  // The second chunk begins in the middle of a line.
  let half = body.utf8.count / 2
  let chunks =
    [body.prefix(half), body.dropFirst(half)]
    .map { "\(String($0.utf8.count, radix: 16))\r\n\($0)\r\n" }.joined() + "0\r\n\r\n"
  let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\(chunks)"
  #expect(MetricsAnswer.role(inResponse: Array(chunked.utf8)) == role)
}

@Test func otherAnswersTellNoRole() {
  #expect(MetricsAnswer.role(inResponse: Array("HTTP/1.1 404 Not Found\r\n\r\n".utf8)) == nil)
  #expect(MetricsAnswer.role(inResponse: Array("HTTP/1.1 200 OK\r\n\r\nfoo 1\n".utf8)) == nil)
  #expect(MetricsAnswer.role(inResponse: []) == nil)
}
