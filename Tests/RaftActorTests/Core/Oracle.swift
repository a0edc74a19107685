import Base

@testable import RaftActor

/// Watches a simulated cluster from outside and remembers everything that may never change again.
struct Oracle {
  typealias Violation = SimulatedCluster.Violation

  private struct EntryKey: Hashable {
    var index: LogIndex
    var term: Term
  }

  private struct VoteKey: Hashable {
    var voter: MemberID
    var term: Term
  }

  private struct Origin: Equatable {
    var hash: UInt64
    var previousTerm: Term
  }

  private struct Leadership: Equatable {
    var member: MemberID
    var incarnation: Int
  }

  /// Committed entries by index - 1, and the state hash after each.
  private(set) var committed: [Entry] = []
  private var hashes: [UInt64] = []
  private var entries: [EntryKey: Origin] = [:]
  private var leaders: [Term: Leadership] = [:]
  private var votes: [VoteKey: MemberID] = [:]
  private var lastCommit: [MemberID: (incarnation: Int, commit: LogIndex, term: Term)] = [:]
  private(set) var highestCommit: LogIndex = 0
  /// The highest commit anywhere when the read began.
  private var reads: [UInt64: LogIndex] = [:]
  private var doneReads: Set<UInt64> = []
  private(set) var readsDone = 0

  static func mix(_ hash: UInt64, _ entry: Entry) -> UInt64 {
    var mixed = (hash ^ entry.term) &* 0x100_0000_01b3
    mixed = (mixed ^ entry.kind.rawValue) &* 0x100_0000_01b3
    for byte in entry.data { mixed = (mixed ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return mixed
  }

  mutating func bootstrap(_ entry: Entry) {
    guard entry.index > LogIndex(committed.count) else { return }
    hashes.append(Self.mix(hashes.last ?? 0, entry))
    committed.append(entry)
    highestCommit = entry.index
  }

  // MARK: - Reads

  mutating func readStarted(_ id: UInt64) { reads[id] = highestCommit }
  func isReadDone(_ id: UInt64) -> Bool { doneReads.contains(id) }

  // MARK: - Effects

  mutating func check(_ effects: RaftCore.Effects, of node: SimulatedCluster.Node) throws {
    for state in effects.readStates {
      guard let id = ReadQueue.decode(state.context), let needed = reads[id] else {
        throw Violation(description: "read of unknown origin at \(node.id)")
      }
      guard state.index >= needed else {
        throw Violation(description: "stale read at \(node.id): \(state.index) < \(needed)")
      }
      doneReads.insert(id)
      readsDone += 1
    }
    for entry in effects.committed { try commit(entry, at: node.id) }
    try register(effects.entries, of: node)
    if let soft = effects.softState, soft.role == .leader {
      let leadership = Leadership(member: node.id, incarnation: node.incarnation)
      if let known = leaders[soft.term], known != leadership {
        throw Violation(description: "two leaders of term \(soft.term): \(known), \(leadership)")
      }
      leaders[soft.term] = leadership
      try checkCompleteness(of: node)
    }
  }

  /// Committed entries never change, whoever reports them.
  private mutating func commit(_ entry: Entry, at node: MemberID) throws {
    if entry.index <= LogIndex(committed.count) {
      guard committed[Int(entry.index) - 1] == entry else {
        throw Violation(description: "committed entry \(entry.index) differs at \(node)")
      }
      return
    }
    guard entry.index == LogIndex(committed.count) + 1 else {
      throw Violation(description: "committed entry \(entry.index) skips some at \(node)")
    }
    hashes.append(Self.mix(hashes.last ?? 0, entry))
    committed.append(entry)
  }

  /// Log matching: position and term determine the entry and all before it.
  private mutating func register(_ new: [Entry], of node: SimulatedCluster.Node) throws {
    guard let core = node.core else { return }
    var previousTerm = new.first.flatMap { core.log.term(at: $0.index - 1) } ?? 0
    for entry in new {
      let key = EntryKey(index: entry.index, term: entry.term)
      let origin = Origin(hash: Self.mix(0, entry), previousTerm: previousTerm)
      if let known = entries[key], known != origin {
        throw Violation(description: "logs differ at \(entry.index), term \(entry.term)")
      }
      entries[key] = origin
      previousTerm = entry.term
    }
  }

  /// Leader completeness: a new leader holds everything committed.
  private func checkCompleteness(of node: SimulatedCluster.Node) throws {
    guard let core = node.core else { return }
    for entry in committed where entry.index > core.log.baseIndex {
      guard core.log.term(at: entry.index) == entry.term else {
        throw Violation(description: "leader \(node.id) of \(core.term) lacks \(entry.index)")
      }
    }
  }

  // MARK: - Pointers and commits

  mutating func check(_ nodes: [SimulatedCluster.Node], _ slot: Int) throws {
    let node = nodes[slot]
    guard let core = node.core else { return }
    guard
      core.applied <= core.handedOut && core.handedOut <= core.commit
        && core.commit <= core.log.lastIndex && core.durable <= core.log.lastIndex
        && (core.log.baseIndex <= core.applied || core.pendingSnapshot > 0)
    else { throw Violation(description: "pointers out of order at \(node.id)") }
    let before = lastCommit[node.id]
    if let before, before.incarnation == node.incarnation,
      core.commit < before.commit || core.term < before.term
    {
      throw Violation(description: "commit or term went back at \(node.id)")
    }
    if core.role == .leader, core.commit > before?.commit ?? 0 {
      try checkCommitRule(core, nodes)
    }
    lastCommit[node.id] = (node.incarnation, core.commit, core.term)
    highestCommit = max(highestCommit, core.commit)
  }

  /// What a leader commits lies on the disks of a quorum.
  private func checkCommitRule(_ core: RaftCore, _ nodes: [SimulatedCluster.Node]) throws {
    guard let term = core.log.term(at: core.commit), term == core.term else { return }
    let voters = core.confState.voters
    let holders = nodes.filter {
      voters.contains($0.id)
        && ($0.disk.base.index >= core.commit || $0.disk.term(at: core.commit) == term)
    }
    guard holders.count >= Quorum.size(voters: voters.count) else {
      throw Violation(
        description: "leader \(core.id) committed \(core.commit) on \(holders.count) disks")
    }
  }

  func check(_ machine: SimulatedCluster.Machine, of node: MemberID) throws {
    guard machine.index <= LogIndex(hashes.count),
      machine.hash == (machine.index == 0 ? 0 : hashes[Int(machine.index) - 1])
    else { throw Violation(description: "state of \(node) differs at \(machine.index)") }
  }

  // MARK: - Messages

  /// Called when a message really leaves.
  mutating func check(_ message: Message, from node: SimulatedCluster.Node) throws {
    switch message.kind {
    case .preVote, .preVoteResponse, .proposal, .readIndex: break
    default:
      guard message.term <= node.disk.hardState.term else {
        throw Violation(description: "\(node.id) sends a term that its disk lacks: \(message)")
      }
    }
    switch message.kind {
    case .voteResponse where !message.reject:
      try vote(node.id, for: message.to, term: message.term)
    case .vote:
      try vote(node.id, for: node.id, term: message.term)
    case .appendResponse where !message.reject:
      guard message.index <= node.disk.lastIndex else {
        throw Violation(description: "\(node.id) acknowledges beyond its disk: \(message)")
      }
    default: break
    }
  }

  private mutating func vote(_ voter: MemberID, for candidate: MemberID, term: Term) throws {
    let key = VoteKey(voter: voter, term: term)
    if let known = votes[key], known != candidate {
      throw Violation(description: "\(voter) votes twice in term \(term)")
    }
    votes[key] = candidate
  }
}
