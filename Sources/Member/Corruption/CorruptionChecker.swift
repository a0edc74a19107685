import Actors
import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import StoreActor
import SwiftProtobuf

/// What the corruption checker hears.
enum CorruptionInput: Sendable {
  /// One heartbeat interval has passed.
  case tick
  /// This member's hash at its newest revision; nil if it could not be taken. `id` is the check's.
  case own(UInt64, MemberHash?)
  case peer(UInt64, MemberID, PeerHashAnswer)
}

/// The actor that looks, on the leader, for members whose data is not the cluster's, and raises the
/// CORRUPT alarm for them through the log.
actor CorruptionChecker {
  struct Outlets: Sendable {
    /// Asks for this member's newest hash; answered by `own`.
    var hashOwn: @Sendable (_ check: UInt64, _ linearizable: Bool) -> Void
    /// Asks a member for its hash at a revision; answered by `peer`.
    var ask: @Sendable (_ check: UInt64, MemberID, _ urls: [String], _ revision: Int64) -> Void
    var raise: @Sendable (MemberID) -> Void
    var isLeader: @Sendable () -> Bool
    var status: @Sendable () -> StoreStatus
  }

  /// How often a member that is a little behind is asked again, a tick apart.
  private static let triesMax = 20

  private enum Step {
    /// Waits for the own hash, then for everybody's at its revision, then for the own once more.
    case first
    case answers(LeaderComparison)
    case second(LeaderComparison)
    /// Compares what was hashed at a compaction; older ones are left in `rest`, newest first.
    case compaction(HashComparison, rest: [KeyValueHash])
  }

  private struct Check {
    var id: UInt64
    var step: Step
    var revision: Int64 = 0
    var waitingFor: [MemberID: Int] = [:]
    var again: [MemberID] = []
  }

  private nonisolated let executor: any ActorExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  nonisolated let inbox: Inbox<CorruptionInput>
  private let member: MemberID
  private var schedule: CorruptionSchedule
  private let outlets: Outlets
  private let log: EtcdLogger
  private var check: Check?
  private var checks: UInt64 = 0
  /// Compactions up to here were found equal on all members.
  private var comparedThrough: Int64 = 0

  init(
    member: MemberID, schedule: CorruptionSchedule, inbox: Inbox<CorruptionInput>,
    executor: any ActorExecutor, outlets: Outlets, log: EtcdLogger
  ) {
    self.member = member
    self.schedule = schedule
    self.inbox = inbox
    self.executor = executor
    self.outlets = outlets
    self.log = log
  }

  nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { checker in
        for input in batch { checker.handle(input) }
      }
    }
  }

  private func handle(_ input: CorruptionInput) {
    switch input {
    case .tick: tick()
    case .own(let id, let hash): if check?.id == id { hashed(hash) }
    case .peer(let id, let peer, let answer): if check?.id == id { answered(peer, answer) }
    }
  }

  private func tick() {
    let isLeader = outlets.isLeader()
    if !isLeader { check = nil }
    if check != nil { return askAgain() }
    switch schedule.tick(now: monotonicNanoseconds(), mayRun: isLeader) {
    case .hashes:
      begin(.first)
      outlets.hashOwn(checks, false)
    case .compactions:
      let unchecked = outlets.status().compactionHashes.reversed()
        .filter { $0.revision > comparedThrough }
      compareCompaction(Array(unchecked))
    case nil: break
    }
  }

  private func begin(_ step: Step) {
    checks += 1
    check = Check(id: checks, step: step)
  }

  // MARK: - Questions

  private var others: [MemberRecord] {
    outlets.status().membership.members.filter { $0.id != member }
  }

  private func askEverybody(at revision: Int64) {
    check?.revision = revision
    let others = others
    for record in others { check?.waitingFor[record.id] = Self.triesMax }
    for record in others { outlets.ask(checks, record.id, record.peerURLs, revision) }
    if others.isEmpty { everybodyAnswered() }
  }

  private func askAgain() {
    guard let again = check?.again, !again.isEmpty, let revision = check?.revision else { return }
    check?.again = []
    for record in others where again.contains(record.id) {
      outlets.ask(checks, record.id, record.peerURLs, revision)
    }
  }

  private func answered(_ peer: MemberID, _ answer: PeerHashAnswer) {
    guard let tries = check?.waitingFor[peer] else { return }
    switch answer {
    case .behind where tries > 1:
      check?.waitingFor[peer] = tries - 1
      check?.again.append(peer)
      return
    case .hash(let hash): add(peer, hash)
    case .behind, .compacted: break
    case .unreachable(let reason):
      log.warn(
        "failed hash kv request", ("remote-peer-id", peer.hex), ("error", reason))
    }
    check?.waitingFor[peer] = nil
    if check?.waitingFor.isEmpty == true { everybodyAnswered() }
  }

  private func add(_ peer: MemberID, _ answer: MemberHash) {
    switch check?.step {
    case .answers(var comparison):
      comparison.add(peer, answer)
      check?.step = .answers(comparison)
    case .compaction(var comparison, let rest):
      comparison.add(peer, answer.hash)
      check?.step = .compaction(comparison, rest: rest)
    default: break
    }
  }

  private func everybodyAnswered() {
    switch check?.step {
    case .answers(let comparison):
      check?.step = .second(comparison)
      outlets.hashOwn(checks, true)
    case .compaction(let comparison, let rest): compactionCompared(comparison, rest)
    default: break
    }
  }

  // MARK: - All data

  private func hashed(_ hash: MemberHash?) {
    guard let hash else {
      check = nil
      return log.warn("failed to hash the member's own data")
    }
    switch check?.step {
    case .first:
      check?.step = .answers(
        LeaderComparison(memberCount: others.count + 1, own: member, first: hash.hash))
      askEverybody(at: hash.hash.revision)
    case .second(let comparison):
      check = nil
      switch comparison.verdict(second: hash) {
      case .equal(let compared):
        log.info("finished peer corruption check", ("number-of-peers-checked", compared))
      case .corrupt(let suspects): raise(suspects, at: hash.hash.revision)
      }
    default: break
    }
  }

  // MARK: - Compactions

  /// Compares the newest of `hashes`, and older ones as long as not everybody could be compared.
  private func compareCompaction(_ hashes: [KeyValueHash]) {
    guard let hash = hashes.first else {
      check = nil
      return
    }
    let comparison = HashComparison(memberCount: others.count + 1, own: member, hash: hash)
    begin(.compaction(comparison, rest: Array(hashes.dropFirst())))
    askEverybody(at: hash.revision)
  }

  private func compactionCompared(_ comparison: HashComparison, _ rest: [KeyValueHash]) {
    let revision = comparison.own.hash.revision
    check = nil
    switch comparison.verdict {
    case .equal(let compared):
      guard comparison.isComplete else {
        log.warn(
          "skipped revision in compaction hash check; was not able to check all peers",
          ("number-of-peers-checked", compared), ("revision", revision))
        return compareCompaction(rest)
      }
      comparedThrough = max(comparedThrough, revision)
      log.info("finished compaction hash check", ("revision", revision))
    case .corrupt(let suspects): raise(suspects, at: revision)
    }
  }

  // MARK: - The alarm

  private func raise(_ suspects: [MemberID], at revision: Int64) {
    guard outlets.isLeader() else { return }
    let raised = outlets.status().alarms.filter { $0.kind == .corrupt }.map(\.member)
    for suspect in suspects {
      log.error(
        "found data inconsistency with peers", ("member-id", suspect.hex), ("revision", revision))
      if !raised.contains(suspect) { outlets.raise(suspect) }
    }
  }
}

// MARK: - Answers as they come

extension MemberHash {
  /// Nil if the store refused.
  init?(_ outcome: StoreReply.Outcome) {
    guard case .message(let bytes) = outcome,
      let response = try? Etcdserverpb_HashKVResponse(serializedBytes: bytes)
    else { return nil }
    hash = KeyValueHash(
      hash: response.hash, revision: response.hashRevision,
      compactRevision: response.compactRevision)
    current = response.header.revision
  }
}
