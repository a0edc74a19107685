package import Base

extension RaftCore {
  /// One batch of work for the owner of the core.
  ///
  /// Batches are numbered without gaps. Everything written (`snapshot`, `entries`, `hardState`) goes
  /// to the log in batch order; `sendAfterSync` of batch n leaves when all writes of batches <= n
  /// that asked for a sync are durable.
  package struct Effects: Sendable {
    /// The number to pass to ``RaftCore/persisted(_:)``.
    package let sequence: UInt64
    /// A received snapshot to store and install. Written before `entries`.
    package var snapshot: Snapshot?
    /// To append to the log, in order. The first index may be at or below the end of what was
    /// written earlier: then the old entries from there on are void.
    package var entries: [Entry] = []
    /// Written after `entries`; nil if unchanged.
    package var hardState: HardState?
    /// Entries, term, vote or a snapshot must become durable. False: write, do not wait.
    package var mustSync = false
    /// May leave before the writes of this batch are durable.
    package var sendNow: [Message] = []
    /// Promises: must not leave before the writes of this batch and all earlier ones are durable.
    package var sendAfterSync: [Message] = []
    /// To apply, in order: committed, and durable here.
    package var committed: [Entry] = []
    /// Reads that may be served once the state machine has applied `index`.
    package var readStates: [ReadState] = []
    /// Reads that a leader accepted and could not confirm before it stepped down.
    package var droppedReads: [Bytes] = []
    /// Role, leader or term changed.
    package var softState: SoftState?
    /// Members that need a snapshot: answer with ``RaftCore/snapshotReadyToSend(to:_:)``, or with
    /// ``RaftCore/reportSnapshot(_:succeeded:)`` (false) if none can be made.
    package var snapshotWanted: [MemberID] = []

    init(sequence: UInt64) { self.sequence = sequence }
  }

  package enum Role: Equatable, Sendable { case follower, preCandidate, candidate, leader }

  /// What is worth telling the rest of the member; never stored.
  package struct SoftState: Equatable, Sendable {
    package var role: Role
    /// 0 = none known.
    package var leader: MemberID
    package var term: Term

    package init(role: Role, leader: MemberID, term: Term) {
      self.role = role
      self.leader = leader
      self.term = term
    }
  }

  /// A confirmed read.
  package struct ReadState: Equatable, Sendable {
    package var context: Bytes
    package var index: LogIndex

    package init(context: Bytes, index: LogIndex) {
      self.context = context
      self.index = index
    }
  }

  package enum DropReason: Equatable, Sendable {
    case noLeader, transferInProgress, overloaded, notMember
  }

  package enum ProposalOutcome: Equatable, Sendable {
    /// This leader put the proposals at these positions. A refused configuration change takes up its
    /// position as an empty normal entry.
    case appended(first: LogIndex, last: LogIndex)
    case forwarded(to: MemberID)
    case dropped(DropReason)
  }

  /// How the leader sends to a member: carefully, optimistically, or not until a snapshot arrived.
  package enum PeerState: Equatable, Sendable { case probe, replicate, snapshot }

  package struct PeerStatus: Equatable, Sendable {
    package var id: MemberID
    package var isLearner: Bool
    package var match: LogIndex
    package var next: LogIndex
    package var state: PeerState
    package var recentActive: Bool
    package var inflightMessages: Int
  }

  package struct Status: Equatable, Sendable {
    package var id: MemberID
    package var term: Term
    package var vote: MemberID
    package var role: Role
    package var leader: MemberID
    package var commit: LogIndex
    package var applied: LogIndex
    /// The last entry known to be on this member's disk.
    package var durable: LogIndex
    package var firstIndex: LogIndex
    package var lastIndex: LogIndex
    /// Configuration changes are refused while this is above `applied`.
    package var pendingConfIndex: LogIndex
    /// The member that leadership is being handed to; 0 = none.
    package var transferee: MemberID
    /// All members ascending by id, this one included; the numbers mean something on a leader only.
    package var peers: [PeerStatus]
  }
}
