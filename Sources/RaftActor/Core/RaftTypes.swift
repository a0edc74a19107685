public import Base

/// One position of the replicated log (raftpb.Entry).
public struct Entry: Equatable, Sendable {
  public enum Kind: UInt64, Sendable {
    case normal = 0
    case configurationChange = 1
    /// Joint consensus. Read, never written: it would stop every etcd member of a mixed cluster.
    case configurationChangeV2 = 2
  }

  public var term: Term
  public var index: LogIndex
  public var kind: Kind
  /// An encoded InternalRaftRequest or ConfChange; empty in the entry that starts a term.
  public var data: Bytes

  public init(term: Term, index: LogIndex, kind: Kind = .normal, data: Bytes = []) {
    self.term = term
    self.index = index
    self.kind = kind
    self.data = data
  }
}

/// What a member must never forget (raftpb.HardState).
public struct HardState: Equatable, Sendable {
  public var term: Term
  /// The candidate voted for in `term`; 0 = none.
  public var vote: MemberID
  public var commit: LogIndex

  public init(term: Term = 0, vote: MemberID = 0, commit: LogIndex = 0) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }
}

/// Who votes and who only listens (raftpb.ConfState). Lists are kept sorted ascending.
public struct ConfState: Equatable, Sendable {
  public var voters: [MemberID]
  public var learners: [MemberID]
  /// Non-empty only during joint consensus, which Apus does not use.
  public var votersOutgoing: [MemberID]
  public var learnersNext: [MemberID]
  public var autoLeave: Bool

  public init(
    voters: [MemberID] = [], learners: [MemberID] = [], votersOutgoing: [MemberID] = [],
    learnersNext: [MemberID] = [], autoLeave: Bool = false
  ) {
    self.voters = voters
    self.learners = learners
    self.votersOutgoing = votersOutgoing
    self.learnersNext = learnersNext
    self.autoLeave = autoLeave
  }
}

/// Where a snapshot stands in the log (raftpb.SnapshotMetadata).
public struct SnapshotMetadata: Equatable, Sendable {
  public var index: LogIndex
  public var term: Term
  public var confState: ConfState

  public init(index: LogIndex = 0, term: Term = 0, confState: ConfState = ConfState()) {
    self.index = index
    self.term = term
    self.confState = confState
  }
}

/// raftpb.Snapshot. `data` is the v2-store JSON that etcd 3.4 to 3.6 want; the store itself travels
/// as a file beside the message.
public struct Snapshot: Equatable, Sendable {
  public var metadata: SnapshotMetadata
  public var data: Bytes

  public init(metadata: SnapshotMetadata = SnapshotMetadata(), data: Bytes = []) {
    self.metadata = metadata
    self.data = data
  }
}

/// A message between members (raftpb.Message).
public struct Message: Equatable, Sendable {
  public enum Kind: UInt64, Sendable {
    case hup = 0, beat, proposal, append, appendResponse, vote, voteResponse, snapshot, heartbeat,
      heartbeatResponse, unreachable, snapshotStatus, checkQuorum, transferLeader, timeoutNow,
      readIndex, readIndexResponse, preVote, preVoteResponse, storageAppend, storageAppendResponse,
      storageApply, storageApplyResponse, forgetLeader
  }

  /// Only the leader of a term sends these.
  var isFromLeader: Bool { kind == .append || kind == .heartbeat || kind == .snapshot }

  public var kind: Kind
  public var to: MemberID
  public var from: MemberID
  public var term: Term
  public var logTerm: Term
  public var index: LogIndex
  public var entries: [Entry]
  public var commit: LogIndex
  public var snapshot: Snapshot?
  public var reject: Bool
  public var rejectHint: LogIndex
  public var context: Bytes

  public init(
    kind: Kind, to: MemberID = 0, from: MemberID = 0, term: Term = 0, logTerm: Term = 0,
    index: LogIndex = 0, entries: [Entry] = [], commit: LogIndex = 0, snapshot: Snapshot? = nil,
    reject: Bool = false, rejectHint: LogIndex = 0, context: Bytes = []
  ) {
    self.kind = kind
    self.to = to
    self.from = from
    self.term = term
    self.logTerm = logTerm
    self.index = index
    self.entries = entries
    self.commit = commit
    self.snapshot = snapshot
    self.reject = reject
    self.rejectHint = rejectHint
    self.context = context
  }
}

/// One membership change (raftpb.ConfChange), the payload of a `configurationChange` entry.
public struct ConfChange: Equatable, Sendable {
  public enum Kind: UInt64, Sendable {
    case addNode = 0, removeNode, updateNode, addLearnerNode
  }

  /// Request id: wakes the caller that proposed it.
  public var id: UInt64
  public var kind: Kind
  public var nodeID: MemberID
  /// JSON describing the member; opaque to Raft.
  public var context: Bytes

  public init(id: UInt64 = 0, kind: Kind, nodeID: MemberID, context: Bytes = []) {
    self.id = id
    self.kind = kind
    self.nodeID = nodeID
    self.context = context
  }
}
