import Base
import EtcdAPI
import Glibc
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

let member: MemberID = 0xabcd_0000_0000_1234

func key(_ number: Int) -> Bytes { Bytes("budget/\(100_000 + number % 1000)".utf8) }

func putRequest(_ number: Int) -> Bytes {
  var writer = ProtobufWriter()
  writer.field(1, key(number))
  writer.field(2, Bytes(repeating: 7, count: 256))
  return writer.bytes
}

/// "If the key's version is above -1, put it": a transaction as locks and controllers send them.
func txnRequest(_ number: Int) -> Bytes {
  var compare = ProtobufWriter()
  compare.field(1, always: 1)
  compare.field(3, key(number))
  compare.field(4, signed: -1)
  var operation = ProtobufWriter()
  operation.field(2, putRequest(number))
  var writer = ProtobufWriter()
  writer.field(1, compare.bytes)
  writer.field(2, operation.bytes)
  return writer.bytes
}

func makeMachine() -> StateMachine<MemoryRecordStore> {
  StateMachine(
    settings: .init(member: member, cluster: 7, maxLearners: 1),
    kv: KeyValueMachine(store: MemoryRecordStore()),
    lessor: Lessor(ttlMin: 2, retryPeriod: 7_000_000_000), alarms: AlarmSet(),
    membership: Membership(), applied: 0, appliedTerm: 0)
}

/// A log in a temporary directory; what it writes stays in the page cache.
func makeLog() throws -> WriteAheadLog {
  let directory = "/tmp/apus-budget-\(getpid())"
  var options = WriteAheadLog.Options()
  options.firstFillBytes = 1 << 20
  return try WriteAheadLog.create(
    directory: directory + "/wal", metadata: WALMetadata(nodeID: member, clusterID: 7),
    options: options)
}

func removeLog() {
  let directory = "/tmp/apus-budget-\(getpid())"
  let files = PosixFileSystem()
  for name in (try? files.list(directory + "/wal")) ?? [] {
    try? files.remove(directory + "/wal/" + name)
  }
  try? files.remove(directory + "/wal")
  try? files.remove(directory)
}

func makeCore(_ id: MemberID, voters: [MemberID]) -> RaftCore {
  RaftCore(
    configuration: .init(id: id, announcesCommitLazily: true), hardState: HardState(),
    snapshot: SnapshotMetadata(), entries: [], applied: 0,
    confState: ConfState(voters: voters), generator: SeededGenerator(seed: id))
}

/// A put on a leader that is alone: request bytes in, Raft, log, store, response bytes out.
final class PutPath: GRPCServerDelegate {
  private static let batch = 16

  private var core = makeCore(member, voters: [member])
  private let log: WriteAheadLog
  private var machine = makeMachine()
  private var output = ApplyOutput()
  private var payloads: [Bytes] = []
  private var calls: [UInt64: ServerCall] = [:]
  private var next: UInt64 = 0

  init() throws { log = try makeLog() }

  func callStarted(_ call: ServerCall) {}
  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
    next += 1
    let id = member << 48 | next
    calls[id] = call
    payloads.append(InternalRequestEnvelope.wrap(.put, payload: Bytes(message), requestID: id))
  }
  func callHalfClosed(_ call: ServerCall) {}
  func callCancelled(_ call: ServerCall) {}
  func callWritable(_ call: ServerCall) {}
  func httpRequest(_ request: ServerCall, method: String) {}
  func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {}
  func httpRequestEnded(_ request: ServerCall) {}

  func run(_ count: Int) throws {
    defer { removeLog() }
    core.campaign()
    try settle()
    var configuration = GRPCServerConfiguration()
    configuration.routes = ["/etcdserverpb.KV/Put"]
    let server = GRPCServerSession(configuration: configuration, delegate: self)
    let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "m"))
    var answers = 0
    var bytes: [UInt8] = []
    for first in stride(from: 0, to: count, by: Self.batch) {
      for number in first..<first + Self.batch {
        let call = client.startCall(path: "/etcdserverpb.KV/Put", now: 1)
        call.onEnd = { status, _ in if status.isOK { answers += 1 } }
        call.send(message: putRequest(number))
        call.halfClose()
      }
      let input = client.takeOutput()
      _ = input.withUnsafeBytes { server.receive($0, now: 1) }
      _ = core.propose(payloads)
      payloads.removeAll(keepingCapacity: true)
      try settle()
      bytes.removeAll(keepingCapacity: true)
      server.appendOutput(to: &bytes)
      _ = bytes.withUnsafeBytes { client.receive($0, now: 1) }
    }
    precondition(answers >= count, "puts without an answer")
    client.close()
    server.close()
  }

  private func settle() throws {
    while let effects = core.takeEffects() {
      log.append(hardState: effects.hardState, entries: effects.entries)
      try log.flush(sync: false)
      if effects.mustSync { core.persisted(effects.sequence) }
      for entry in effects.committed {
        try machine.apply(entry, now: 0, hasSpace: { _ in true }, output: &output)
        for reply in output.replies {
          if case .message(let message) = reply.outcome {
            calls.removeValue(forKey: reply.id)?.reply(message: message)
          }
        }
        output.removeAll()
        core.applied(through: entry.index)
      }
    }
  }
}

/// A put, or a transaction with one, on a follower: message bytes in, log, acknowledgement bytes out, store.
final class FollowerPath {
  private static let batch = 16

  private let kind: InternalRequestEnvelope.Kind
  private let log: WriteAheadLog
  private var follower = makeCore(2, voters: [1, 2])
  private var machine = makeMachine()
  private var output = ApplyOutput()

  init(_ kind: InternalRequestEnvelope.Kind) throws {
    self.kind = kind
    log = try makeLog()
  }

  private func request(_ number: Int) -> Bytes {
    kind == .txn ? txnRequest(number) : putRequest(number)
  }

  func run(_ count: Int) throws {
    defer { removeLog() }
    var index: LogIndex = 0
    for first in stride(from: 0, to: count, by: Self.batch) {
      let entries = (0..<Self.batch).map { offset in
        Entry(
          term: 1, index: index + LogIndex(offset) + 1,
          data: InternalRequestEnvelope.wrap(
            kind, payload: request(first + offset), requestID: UInt64(first + offset + 1)))
      }
      let message = Message(
        kind: .append, to: 2, from: 1, term: 1, logTerm: index == 0 ? 0 : 1, index: index,
        entries: entries, commit: index)
      let bytes = message.encoded()
      follower.step(try Message(decoding: bytes))
      index += LogIndex(Self.batch)
      while let effects = follower.takeEffects() {
        log.append(hardState: effects.hardState, entries: effects.entries)
        try log.flush(sync: false)
        if effects.mustSync { follower.persisted(effects.sequence) }
        for answer in effects.sendAfterSync { _ = answer.encoded() }
        for entry in effects.committed {
          try machine.apply(entry, now: 0, hasSpace: { _ in true }, output: &output)
          output.removeAll()
          follower.applied(through: entry.index)
        }
      }
    }
  }
}

/// A range of 100 keys: request bytes to response bytes.
struct RangePath {
  func run(_ count: Int) {
    var machine = makeMachine()
    var output = ApplyOutput()
    for number in 0..<1000 {
      let entry = Entry(
        term: 1, index: LogIndex(number + 1),
        data: InternalRequestEnvelope.wrap(
          .put, payload: putRequest(number), requestID: UInt64(number + 1)))
      do {
        try machine.apply(entry, now: 0, hasSpace: { _ in true }, output: &output)
      } catch {
        preconditionFailure("\(error)")
      }
      output.removeAll()
    }
    var writer = ProtobufWriter()
    writer.field(1, key(100))
    writer.field(2, key(200))
    for _ in 0..<count {
      do {
        let request = try Etcdserverpb_RangeRequest(serializedBytes: writer.bytes)
        var cursor = try machine.kv.openRange(request)
        let isWhole = try machine.kv.advance(&cursor, visits: 1000, bytes: 1 << 20)
        precondition(isWhole)
        let bytes = machine.responseEncoder.encode(cursor.result)
        precondition(bytes.count > 25_600)
      } catch {
        preconditionFailure("\(error)")
      }
    }
  }
}

/// A change that 200 watchers of a prefix get: matched, queued, encoded. Counted per event.
struct WatchPath {
  func run(_ count: Int) {
    var hub = WatchHub(currentRevision: 1, compactRevision: 0)
    var encoder = WatchResponseEncoder(cluster: 1 << 60, member: 1 << 61)
    for stream: UInt64 in 0..<20 {
      hub.openStream(id: stream)
      for _ in 0..<10 {
        hub.create(
          stream: stream,
          request: WatchCreate(
            key: Bytes("budget/".utf8), rangeEnd: Bytes("budget0".utf8), startRevision: 0))
      }
    }
    _ = hub.takeOutput()
    for revision in 2..<Int64(max(2, count / 200 + 2)) {
      var writer = ProtobufWriter()
      writer.field(1, key(Int(revision)))
      writer.field(3, signed: revision)
      writer.field(5, Bytes(repeating: 7, count: 256))
      let change = Change(
        kind: .put, key: key(Int(revision)), revision: Revision(main: revision),
        keyValue: writer.bytes)
      hub.notify([change], revision: revision) { _ in nil }
      for delivery in hub.takeOutput() {
        _ = encoder.framed(delivery, term: 1)
      }
    }
  }
}
