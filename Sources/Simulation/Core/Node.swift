import Base
import RaftActor
import StoreActor

/// Work for a member's store, in the order in which it was asked for.
enum StoreItem {
  case entry(Entry)
  case role(RaftCore.SoftState)
  case keepAlive(client: Int, operation: UInt64, lease: LeaseID)
  case install(Snapshot)
  case makeSnapshot(for: MemberID)
}

/// A promise that waits for a sync.
struct Promise {
  var sequence: UInt64
  var messages: [Message]
  var install: Snapshot?
}

/// A linearizable read on its way.
struct PendingRead {
  var client: Int
  var operation: UInt64
  var index: LogIndex
}

/// One simulated member: a Raft core, a state machine, a watch hub, a disk and a clock.
final class Node {
  let slot: Int
  let id: MemberID
  /// nil while the process does not run.
  var core: RaftCore?
  var incarnation = 0
  var isRemoved = false
  var pausedUntil: UInt64 = 0
  /// Parts in 1,000 by which the clock runs fast.
  var drift = 0
  var disk: SimulatedDisk
  /// Set by a failed write: nothing may be promised any more.
  var hasFailed = false

  // What the actor around the core keeps.
  var promises: [Promise] = []
  var asked: UInt64 = 0
  var persisted: UInt64 = 0
  var trimmedThrough: LogIndex = 0
  var configurationChangedAt: LogIndex = 0
  var ticks = 0

  // What the store's actor keeps.
  var machine: SimulatedMachine
  var hub: WatchHub
  var output = ApplyOutput()
  var storeQueue: [StoreItem] = []
  var storeQueueHead = 0
  var storeIsDue = false
  var soft = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
  var promotesAtTerm: Term?
  var compactionIsDue = false
  var catchUpIsDue = false
  var storedIndex: LogIndex = 0
  /// The oracle's checksum of everything applied.
  var chain: UInt64 = 0

  // What the gateway keeps.
  var waiters: [UInt64: (client: Int, operation: UInt64)] = [:]
  var reads: [UInt64: PendingRead] = [:]
  var confirmedReads: [PendingRead] = []
  var nextRequest: UInt64
  var lastTick: UInt64 = 0
  /// The process stood still: leadership must be proved before a lease is renewed.
  var mustProve = false

  // What the oracle knows of it.
  var promisedTerm: Term = 0
  var promisedVote: MemberID = 0
  var acknowledged: (index: LogIndex, term: Term) = (0, 0)
  var lastStatus = (term: Term(0), commit: LogIndex(0), applied: LogIndex(0))
  var leaderLast: (term: Term, last: LogIndex) = (0, 0)
  /// On a leader: ticks since each peer was heard, by slot.
  var silence: [Int] = []

  init(slot: Int, id: MemberID, machine: SimulatedMachine, store: StoreImage) {
    self.slot = slot
    self.id = id
    self.machine = machine
    disk = SimulatedDisk(store: store)
    hub = WatchHub(currentRevision: 1, compactRevision: -1)
    nextRequest = id << 48
  }

  var isRunning: Bool { core != nil }

  /// The member's monotonic clock.
  func clock(_ now: UInt64) -> UInt64 { now / 1000 * UInt64(1000 + drift) }

  func makeRequestID() -> UInt64 {
    nextRequest += 1
    return nextRequest
  }

  func popStoreItem() -> StoreItem? {
    guard storeQueueHead < storeQueue.count else { return nil }
    defer {
      storeQueueHead += 1
      if storeQueueHead == storeQueue.count {
        storeQueue.removeAll(keepingCapacity: true)
        storeQueueHead = 0
      }
    }
    return storeQueue[storeQueueHead]
  }

  var hasStoreWork: Bool { storeQueueHead < storeQueue.count }

  /// The process is gone.
  func stop() {
    core = nil
    promises = []
    storeQueue = []
    storeQueueHead = 0
    storeIsDue = false
    compactionIsDue = false
    catchUpIsDue = false
    waiters = [:]
    reads = [:]
    confirmedReads = []
  }
}
