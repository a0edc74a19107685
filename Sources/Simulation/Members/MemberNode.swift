import Actors
import Base
import Glibc
import RaftActor
import StoreActor
import Synchronization

/// What a member's actors tell the world outside.
enum MemberOutput: Sendable {
  case send([Message])
  case committed([Entry])
  case reads([RaftCore.ReadState])
  case soft(RaftCore.SoftState)
  case dropped([UInt64])
  case persisted(UInt64)
  case logFailed(String)
  case replies([StoreReply])
  case watch([(stream: UInt64, messages: FramedMessages)])
  case snapshotMade(MemberID, Snapshot?, path: String)
  case pause(StorePause)
  case announceLater
  case membership(Membership)
}

/// Collects outputs in order; the simulation takes them after each turn of an executor.
final class MemberOutbox: Sendable {
  private let outputs = Mutex<[MemberOutput]>([])

  func add(_ output: MemberOutput) { outputs.withLock { $0.append(output) } }

  func take() -> [MemberOutput] {
    outputs.withLock { outputs in
      defer { outputs = [] }
      return outputs
    }
  }
}

/// The clock that a member's store reads.
final class MemberClock: Sendable {
  private let time = Atomic<UInt64>(0)

  func set(_ now: UInt64) { time.store(now, ordering: .relaxed) }
  var now: UInt64 { time.load(ordering: .relaxed) }
}

/// The actors of a running member, wired as a member process wires them.
struct MemberActors {
  let loop: ReplayExecutor
  let logThread: ReplayExecutor
  let storeThread: ReplayExecutor
  let backendThread: ReplayExecutor
  let exportThread: ReplayExecutor
  let raft: RaftNode
  let log: LogWriter
  let store: KVStore
  let backend: BackendWriter

  var executors: [ReplayExecutor] { [loop, logThread, storeThread, backendThread, exportThread] }
}

/// Who waits for an answer, and of which kind it is.
struct MemberWaiter {
  enum Kind { case write, range, keepAlive }

  let client: Int
  let operation: UInt64
  let kind: Kind
}

/// One member: its disks, which outlive it, and its actors while it runs.
final class MemberNode {
  let slot: Int
  let id: MemberID
  let files: SimulatedFileSystem
  let clock = MemberClock()
  let outbox = MemberOutbox()
  /// The folder of the present incarnation's store.
  var folder: String
  var actors: MemberActors?
  var incarnation = 0
  var pausedUntil: UInt64 = 0
  var isRemoved = false
  /// Executors with a turn to come, by their position.
  var isScheduled = [Bool](repeating: false, count: 5)
  var soft = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
  var membership = Membership()
  var waiters: [UInt64: MemberWaiter] = [:]
  var reads: [UInt64: StoreRead] = [:]
  var nextRequest: UInt64
  /// A power cut is under way inside a write.
  var losesPower = false

  // The oracle's.
  var promisedTerm: Term = 0
  var acknowledged: (index: LogIndex, term: Term) = (0, 0)
  var lastApplied: LogIndex = 0

  init(slot: Int, id: MemberID, folder: String, seed: UInt64) {
    self.slot = slot
    self.id = id
    self.folder = folder
    files = SimulatedFileSystem(seed: seed)
    nextRequest = id << 48
  }

  func makeRequestID() -> UInt64 {
    nextRequest += 1
    return nextRequest
  }

  /// The process is gone; what it wrote to its files stays.
  func stop() {
    actors?.executors.forEach { $0.kill() }
    actors = nil
    _ = outbox.take()
    isScheduled = [Bool](repeating: false, count: 5)
    waiters = [:]
    reads = [:]
    soft = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
  }

  static func receivedPath(_ index: LogIndex, in folder: String) -> String {
    "\(folder)/received-\(index.hex).db"
  }
}
