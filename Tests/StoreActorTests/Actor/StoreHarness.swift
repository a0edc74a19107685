import Actors
import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf
import Synchronization
import TestSupport

@testable import StoreActor

/// The store's actor and its writer on executors that a test steps through.
final class StoreHarness {
  static let member: MemberID = 0xabcd_0000_0000_1234

  /// What the store has told others.
  struct Record {
    var replies: [StoreReply] = []
    var parts: [Bytes] = []
    var pauses: [StorePause] = []
    var proposals: [(Term, InternalRequestEnvelope.Kind, Bytes)] = []
    var measures: [StoreMeasure] = []
    /// Pauses of the writer, with what goes on after them.
    var rests: [(milliseconds: Int, input: BackendInput)] = []
  }

  let executor = StepExecutor()
  let backendExecutor = StepExecutor()
  let backend: Backend
  let store: KVStore
  private let writer: BackendWriter
  private let told = SharedRecord()
  private let scratch: ScratchDirectory
  private var index: LogIndex
  private var requests: UInt64 = 0

  var record: Record { told.value.withLock { $0 } }

  /// What the store takes for the time: nanoseconds.
  var now: UInt64 {
    get { told.clock.withLock { $0 } }
    set { told.clock.withLock { $0 = newValue } }
  }

  init(leaseCheckpointInterval: UInt64? = nil, electionTimeout: UInt64 = 1_000_000_000) throws {
    scratch = try ScratchDirectory()
    backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let told = told
    let machine = try StoreLoader.load(
      backend: backend, settings: .init(member: Self.member, cluster: 7, maxLearners: 1),
      lessor: Lessor(
        ttlMin: 1, retryPeriod: 7_000_000_000, checkpointInterval: leaseCheckpointInterval),
      failed: { fatalError("\($0)") })
    writer = BackendWriter(
      backend: backend, executor: backendExecutor, exporter: backendExecutor,
      later: { milliseconds, input in
        told.value.withLock { $0.rests.append((milliseconds, input)) }
      },
      report: { report in told.reports.withLock { $0 }?.send(.backend(report)) })
    store = KVStore(
      machine: machine, backend: backend, backendInbox: writer.inbox,
      settings: KVStore.Settings(
        quotaBytes: nil, electionTimeout: electionTimeout, fragmentBytes: 2 << 20,
        snapshotDirectory: scratch.path, progressTicks: 1000, slowApply: .max,
        compactionBatch: 1000, hashesCompactions: false),
      executor: executor, tokens: TokenBoard(ttl: 300_000_000_000), outlets: Self.outlets(told),
      clock: { told.clock.withLock { $0 } })
    index = 0
    told.reports.withLock { $0 = store.inbox }
    writer.start()
    store.start()
    settle()
  }

  private static func outlets(_ told: SharedRecord) -> StoreOutlets {
    StoreOutlets(
      reply: { replies in told.value.withLock { $0.replies += replies } },
      deliver: { _, _ in },
      stream: { _, part in told.value.withLock { $0.parts.append(part) } },
      applied: { _ in }, configurationApplied: { _, _ in }, stored: { _ in },
      snapshotMade: { _, _, _ in }, snapshotInstalled: { _ in }, exported: { _, _ in },
      proposeAsLeader: { term, _, requests in
        told.value.withLock { $0.proposals += requests.map { (term, $0.0, $0.1) } }
      },
      raiseNoSpace: { _ in }, diskFull: { _, _ in },
      membershipChanged: { _ in }, compactionFinished: { _ in },
      pause: { kind in told.value.withLock { $0.pauses.append(kind) } },
      measured: { measure in told.value.withLock { $0.measures.append(measure) } },
      failed: { fatalError($0) })
  }

  // MARK: - Stepping

  /// Runs the store's next piece of work; false if there is none.
  @discardableResult
  func step() -> Bool { executor.step() }

  /// Runs everything that can run without time passing.
  func settle() {
    while executor.step() || backendExecutor.step() {}
  }

  /// Ends the pauses that were asked for.
  func endPauses() {
    let pauses = told.value.withLock { record in
      defer { record.pauses = [] }
      return record.pauses
    }
    for kind in pauses { store.inbox.send(.pauseEnded(kind)) }
  }

  /// Lets the writer go on after its rests.
  func endRests() -> [(milliseconds: Int, input: BackendInput)] {
    let rests = told.value.withLock { record in
      defer { record.rests = [] }
      return record.rests
    }
    for rest in rests { writer.inbox.send(rest.input) }
    return rests
  }

  func forget() { told.value.withLock { $0 = Record() } }

  // MARK: - Requests

  func nextID() -> UInt64 {
    requests += 1
    return Self.member << 48 | requests
  }

  /// An entry of the log that is next in turn; returns the id that its caller waits under.
  @discardableResult
  func apply(
    _ kind: InternalRequestEnvelope.Kind, _ message: some SwiftProtobuf.Message, term: Term = 2
  ) throws -> UInt64 {
    let id = nextID()
    apply(
      InternalRequestEnvelope.wrap(kind, payload: try message.serializedBytes(), requestID: id),
      term: term)
    return id
  }

  func apply(_ data: Bytes, term: Term = 2) {
    index += 1
    store.inbox.send(.apply([Entry(term: term, index: index, data: data)]))
  }

  @discardableResult
  func put(_ key: String, _ value: String = "v", lease: Int64 = 0) throws -> UInt64 {
    try apply(.put, Etcdserverpb_PutRequest.with(key, value, lease: lease))
  }

  /// Many keys in few entries: `prefix` and five digits.
  func fill(_ prefix: String, _ count: Int, value: String = "v") throws {
    for first in stride(from: 0, to: count, by: 100) {
      let keys = (first..<min(count, first + 100)).map { "\(prefix)\(10000 + $0)" }
      try apply(.txn, Etcdserverpb_TxnRequest.when(then: keys.map { .put($0, value) }))
    }
    settle()
    forget()
  }

  func becomeLeader(term: Term = 2) {
    store.inbox.send(.role(.init(role: .leader, leader: Self.member, term: term)))
    apply([], term: term)
    settle()
  }

  /// Half a second passes for what is looked at that often.
  func halfASecond() {
    now += 500_000_000
    for _ in 0..<5 { store.inbox.send(.tick) }
    settle()
  }

  /// Puts into the log what the store has proposed, in order.
  @discardableResult
  func applyProposals() -> Int {
    let proposals = told.value.withLock { record in
      defer { record.proposals = [] }
      return record.proposals
    }
    for (term, kind, payload) in proposals {
      apply(InternalRequestEnvelope.wrap(kind, payload: payload, requestID: nextID()), term: term)
    }
    settle()
    return proposals.count
  }

  func read(_ kind: StoreRead.Kind) -> UInt64 {
    let id = nextID()
    store.inbox.send(.read([StoreRead(id: id, kind: kind)], atLeast: 0))
    return id
  }

  func reply(to id: UInt64) -> StoreReply? { record.replies.first { $0.id == id } }

  func message<Message: SwiftProtobuf.Message>(_ type: Message.Type, _ id: UInt64) throws
    -> Message?
  {
    guard let reply = reply(to: id), case .message(let first) = reply.outcome else { return nil }
    return try Message(serializedBytes: first + reply.rest.joined())
  }

  func failure(_ id: UInt64) -> EtcdError? {
    if case .failure(let error) = reply(to: id)?.outcome { error } else { nil }
  }
}

private final class SharedRecord: Sendable {
  let value = Mutex(StoreHarness.Record())
  let clock = Mutex<UInt64>(1_000_000_000_000)
  let reports = Mutex<Inbox<StoreInput>?>(nil)
}
