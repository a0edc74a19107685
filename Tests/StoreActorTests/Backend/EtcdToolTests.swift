import Base
import Foundation
import Testing

@testable import StoreActor

/// Real etcd as the judge of our snapshot files, and its files as our input.
///
/// Uses every directory of `APUS_ETCD_DIRECTORIES` (colon separated; default: `PATH`) that holds
/// the `etcd` and `etcdctl` programs. Loopback ports below those that
/// the system gives to outgoing connections, another pair for every process.
@Suite(.serialized) struct EtcdToolTests {
  struct Tools: CustomTestStringConvertible, Sendable {
    let directory: String
    let etcd: String
    let etcdctl: String
    /// Separate from 3.5 on; before, etcdctl has the commands.
    let snapshotTool: String
    let port: Int
    var testDescription: String { directory }
  }

  static let found: [Tools] = {
    let environment = ProcessInfo.processInfo.environment
    let directories = environment["APUS_ETCD_DIRECTORIES"] ?? environment["PATH"] ?? ""
    let firstPort = 16_000 + 8 * (Int(ProcessInfo.processInfo.processIdentifier) % 2_000)
    var tools: [Tools] = []
    for entry in directories.split(separator: ":") {
      let directory = URL(fileURLWithPath: String(entry)).resolvingSymlinksInPath().path
      if tools.contains(where: { $0.directory == directory }) { continue }
      let programs = ["etcd", "etcdctl", "etcdutl"].map { "\(directory)/\($0)" }
      guard isProgram(programs[0]), isProgram(programs[1]) else { continue }
      tools.append(
        Tools(
          directory: directory, etcd: programs[0], etcdctl: programs[1],
          snapshotTool: isProgram(programs[2]) ? programs[2] : programs[1],
          port: firstPort + 2 * tools.count))
    }
    return tools
  }()

  /// A machine program, not a wrapper script, whose child would outlive it.
  private static func isProgram(_ path: String) -> Bool {
    FileHandle(forReadingAtPath: path)?.readData(ofLength: 4) == Data([0x7f, 0x45, 0x4c, 0x46])
  }

  private struct Output {
    let status: Int32
    let text: String
  }

  private func start(_ program: String, _ arguments: [String], log: String) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.environment = ["ETCDCTL_API": "3", "HOME": scratch.path]
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    let handle = try #require(FileHandle(forWritingAtPath: log))
    process.standardOutput = handle
    process.standardError = handle
    try process.run()
    return process
  }

  private func run(_ program: String, _ arguments: [String]) throws -> Output {
    let log = scratch.file("output")
    let process = try start(program, arguments, log: log)
    process.waitUntilExit()
    return Output(
      status: process.terminationStatus,
      text: String(decoding: try TestFile.read(log), as: UTF8.self))
  }

  /// Runs `body` while etcd serves `dataDirectory`.
  private func serve(
    _ tools: Tools, _ dataDirectory: String, _ body: (_ endpoint: String) throws -> Void
  ) throws {
    let client = "http://127.0.0.1:\(tools.port)"
    let peer = "http://127.0.0.1:\(tools.port + 1)"
    let log = scratch.file("etcd.log")
    let server = try start(
      tools.etcd,
      [
        "--name", "m", "--data-dir", dataDirectory, "--listen-client-urls", client,
        "--advertise-client-urls", client, "--listen-peer-urls", peer,
        "--initial-advertise-peer-urls", peer, "--initial-cluster", "m=\(peer)",
      ], log: log)
    defer {
      server.terminate()
      server.waitUntilExit()
    }
    for _ in 0..<40 {
      let health = try run(
        tools.etcdctl, ["--endpoints", client, "--command-timeout", "500ms", "get", "probe"])
      if health.status == 0 { return try body(client) }
      if !server.isRunning { break }
      usleep(100_000)
    }
    let text = String(decoding: try TestFile.read(log), as: UTF8.self)
    Issue.record("etcd does not serve \(dataDirectory): \(text.suffix(3_000))")
  }

  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  private func keyValue(_ key: String, _ value: Bytes, revision: Int64) -> Bytes {
    var writer = ProtobufWriter()
    writer.field(1, Bytes(text: key))
    writer.field(2, signed: revision)
    writer.field(3, signed: revision)
    writer.field(4, 1)
    writer.field(5, value)
    return writer.bytes
  }

  /// A store with enough records for three levels of pages.
  private func makeStore() throws -> Backend {
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    var batch = WriteBatch()
    for index in 0..<20_000 {
      let revision = Int64(index) + 2
      let value =
        index == 7 ? Bytes(repeating: 0x37, count: 300_000) : Bytes(text: "value \(index)")
      batch.putRecord(
        Revision(main: revision), isTombstone: false,
        keyValue("/k/\(index)", value, revision: revision))
    }
    var tombstone = ProtobufWriter()
    tombstone.field(1, Bytes(text: "/k/5"))
    batch.putRecord(Revision(main: 20_002), isTombstone: true, tombstone.bytes)
    batch.put(.meta, BackendKey.confState, Bytes(text: #"{"voters":[1],"auto_leave":false}"#))
    try backend.commit(batch, consistentIndex: 20_010, term: 2)
    return backend
  }

  @Test(
    .enabled(if: !found.isEmpty, "no etcd and etcdctl programs in APUS_ETCD_DIRECTORIES or PATH"),
    arguments: found)
  func etcdTakesOursAndWeTakeIts(tools: Tools) throws {
    let backend = try makeStore()
    let snapshot = scratch.file("ours.db")
    _ = try SnapshotFile.export(from: try backend.makeReadView(), to: snapshot)
    try SnapshotFile.appendHash(to: snapshot)
    let status = try run(tools.snapshotTool, ["snapshot", "status", snapshot, "-w", "json"])
    #expect(status.status == 0 && status.text.contains(#""revision":20002"#), "\(status.text)")
    let peer = "http://127.0.0.1:\(tools.port + 1)"
    let restored = scratch.file("restored")
    let restore = try run(
      tools.snapshotTool,
      [
        "snapshot", "restore", snapshot, "--data-dir", restored, "--name", "m",
        "--initial-cluster", "m=\(peer)", "--initial-advertise-peer-urls", peer,
      ])
    try #require(restore.status == 0, "\(restore.text)")
    let theirs = scratch.file("theirs.db")
    try serve(tools, restored) { endpoint in
      let ctl = { (arguments: [String]) in
        try run(tools.etcdctl, ["--endpoints", endpoint] + arguments).text
      }
      #expect(try ctl(["get", "/k/19999"]) == "/k/19999\nvalue 19999\n")
      #expect(try ctl(["get", "/k/7"]).utf8.count == 300_000 + 6)
      #expect(try ctl(["get", "/k/5"]).isEmpty)
      let count = try ctl(["get", "/k/", "--prefix", "--limit", "1", "-w", "fields"])
      #expect(count.contains("\"Count\" : 19999\n"), "\(count)")
      #expect(try ctl(["put", "/after", "restore"]) == "OK\n")
      #expect(try ctl(["del", "/k/9"]) == "1\n")
      #expect(try ctl(["compact", "19000"]).contains("19000"))
      #expect(try ctl(["lease", "grant", "600"]).contains("granted"))
      _ = try ctl(["snapshot", "save", theirs])
    }
    let found = try Backend.importSnapshot(
      path: theirs, into: scratch.file("imported"), options: testOptions)
    #expect(found.hadHash && found.consistentIndex > 0)
    #expect(found.members.count == 1 && found.lastRevision == Revision(main: 20_004))
    let view = try Backend.open(directory: scratch.file("imported"), options: testOptions)
      .makeReadView()
    let after = keyValue("/after", Bytes(text: "restore"), revision: 20_003)
    #expect(try view.record(at: Revision(main: 20_003)).map { Bytes($0) } == after)
    #expect(try view.record(at: Revision(main: 9)).map { $0.count } == 300_000 + 16)
    // A second trip: what came from etcd goes back to it.
    let again = scratch.file("again.db")
    _ = try SnapshotFile.export(from: view, to: again)
    try SnapshotFile.appendHash(to: again)
    let second = try run(tools.snapshotTool, ["snapshot", "status", again, "-w", "json"])
    #expect(second.status == 0 && second.text.contains(#""revision":20004"#), "\(second.text)")
  }
}
