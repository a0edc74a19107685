package import Base

/// One position of the replicated log (raftpb.Entry).
package struct Entry: Equatable, Sendable {
  package enum Kind: UInt64, Sendable {
    case normal = 0
    case configurationChange = 1
    /// Joint consensus. Read, never written: it would stop every etcd member of a mixed cluster.
    case configurationChangeV2 = 2
  }

  package var term: Term
  package var index: LogIndex
  package var kind: Kind
  /// An encoded InternalRaftRequest or ConfChange; empty in the entry that starts a term.
  package var data: Bytes

  package init(term: Term, index: LogIndex, kind: Kind = .normal, data: Bytes = []) {
    self.term = term
    self.index = index
    self.kind = kind
    self.data = data
  }
}

/// What a member must never forget (raftpb.HardState).
package struct HardState: Equatable, Sendable {
  package var term: Term
  /// The candidate voted for in `term`; 0 = none.
  package var vote: MemberID
  package var commit: LogIndex

  package init(term: Term = 0, vote: MemberID = 0, commit: LogIndex = 0) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }
}

/// Who votes and who only listens (raftpb.ConfState). Lists are kept sorted ascending.
package struct ConfState: Equatable, Sendable {
  package var voters: [MemberID]
  package var learners: [MemberID]
  /// Non-empty only during joint consensus, which Apus does not use.
  package var votersOutgoing: [MemberID]
  package var learnersNext: [MemberID]
  package var autoLeave: Bool

  package init(
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
package struct SnapshotMetadata: Equatable, Sendable {
  package var index: LogIndex
  package var term: Term
  package var confState: ConfState

  package init(index: LogIndex = 0, term: Term = 0, confState: ConfState = ConfState()) {
    self.index = index
    self.term = term
    self.confState = confState
  }
}

/// raftpb.Snapshot. `data` is the v2-store JSON that etcd 3.4 to 3.6 want; the store itself travels
/// as a file beside the message.
package struct Snapshot: Equatable, Sendable {
  package var metadata: SnapshotMetadata
  package var data: Bytes

  package init(metadata: SnapshotMetadata = SnapshotMetadata(), data: Bytes = []) {
    self.metadata = metadata
    self.data = data
  }
}

/// A message between members (raftpb.Message).
package struct Message: Equatable, Sendable {
  package enum Kind: UInt64, Sendable {
    case hup = 0, beat, proposal, append, appendResponse, vote, voteResponse, snapshot, heartbeat,
      heartbeatResponse, unreachable, snapshotStatus, checkQuorum, transferLeader, timeoutNow,
      readIndex, readIndexResponse, preVote, preVoteResponse, storageAppend, storageAppendResponse,
      storageApply, storageApplyResponse, forgetLeader
  }

  /// Only the leader of a term sends these.
  var isFromLeader: Bool { kind == .append || kind == .heartbeat || kind == .snapshot }

  package var kind: Kind
  package var to: MemberID
  package var from: MemberID
  package var term: Term
  package var logTerm: Term
  package var index: LogIndex
  package var entries: [Entry]
  package var commit: LogIndex
  package var snapshot: Snapshot?
  package var reject: Bool
  package var rejectHint: LogIndex
  package var context: Bytes

  package init(
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
package struct ConfChange: Equatable, Sendable {
  package enum Kind: UInt64, Sendable {
    case addNode = 0, removeNode, updateNode, addLearnerNode
  }

  /// Request id: wakes the caller that proposed it.
  package var id: UInt64
  package var kind: Kind
  package var nodeID: MemberID
  /// JSON describing the member; opaque to Raft.
  package var context: Bytes

  package init(id: UInt64 = 0, kind: Kind, nodeID: MemberID, context: Bytes = []) {
    self.id = id
    self.kind = kind
    self.nodeID = nodeID
    self.context = context
  }
}
