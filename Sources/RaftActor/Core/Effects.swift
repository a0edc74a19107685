public import Base

extension RaftCore {
  /// One batch of work for the owner of the core.
  ///
  /// Batches are numbered without gaps. Everything written (`snapshot`, `entries`, `hardState`) goes
  /// to the log in batch order; `sendAfterSync` of batch n leaves when all writes of batches <= n
  /// that asked for a sync are durable.
  public struct Effects: Sendable {
    /// The number to pass to ``RaftCore/persisted(_:)``.
    public let sequence: UInt64
    /// A received snapshot to store and install. Written before `entries`.
    public var snapshot: Snapshot?
    /// To append to the log, in order. The first index may be at or below the end of what was
    /// written earlier: then the old entries from there on are void.
    public var entries: [Entry] = []
    /// Written after `entries`; nil if unchanged.
    public var hardState: HardState?
    /// Entries, term, vote or a snapshot must become durable. False: write, do not wait.
    public var mustSync = false
    /// May leave before the writes of this batch are durable.
    public var sendNow: [Message] = []
    /// Promises: must not leave before the writes of this batch and all earlier ones are durable.
    public var sendAfterSync: [Message] = []
    /// To apply, in order: committed, and durable here.
    public var committed: [Entry] = []
    /// Reads that may be served once the state machine has applied `index`.
    public var readStates: [ReadState] = []
    /// Reads that a leader accepted and could not confirm before it stepped down.
    public var droppedReads: [Bytes] = []
    /// Role, leader or term changed.
    public var softState: SoftState?
    /// Members that need a snapshot: answer with ``RaftCore/snapshotReadyToSend(to:_:)``, or with
    /// ``RaftCore/reportSnapshot(_:succeeded:)`` (false) if none can be made.
    public var snapshotWanted: [MemberID] = []

    init(sequence: UInt64) { self.sequence = sequence }
  }

  public enum Role: Equatable, Sendable { case follower, preCandidate, candidate, leader }

  /// What is worth telling the rest of the member; never stored.
  public struct SoftState: Equatable, Sendable {
    public var role: Role
    /// 0 = none known.
    public var leader: MemberID
    public var term: Term

    public init(role: Role, leader: MemberID, term: Term) {
      self.role = role
      self.leader = leader
      self.term = term
    }
  }

  /// A confirmed read.
  public struct ReadState: Equatable, Sendable {
    public var context: Bytes
    public var index: LogIndex

    public init(context: Bytes, index: LogIndex) {
      self.context = context
      self.index = index
    }
  }

  public enum DropReason: Equatable, Sendable {
    case noLeader, transferInProgress, overloaded, notMember
  }

  public enum ProposalOutcome: Equatable, Sendable {
    /// This leader put the proposals at these positions. A refused configuration change takes up its
    /// position as an empty normal entry.
    case appended(first: LogIndex, last: LogIndex)
    case forwarded(to: MemberID)
    case dropped(DropReason)
  }

  /// How the leader sends to a member: carefully, optimistically, or not until a snapshot arrived.
  public enum PeerState: Equatable, Sendable { case probe, replicate, snapshot }

  public struct PeerStatus: Equatable, Sendable {
    public var id: MemberID
    public var isLearner: Bool
    public var match: LogIndex
    public var next: LogIndex
    public var state: PeerState
    public var recentActive: Bool
    public var inflightMessages: Int
  }

  public struct Status: Equatable, Sendable {
    public var id: MemberID
    public var term: Term
    public var vote: MemberID
    public var role: Role
    public var leader: MemberID
    public var commit: LogIndex
    public var applied: LogIndex
    /// The last entry known to be on this member's disk.
    public var durable: LogIndex
    public var firstIndex: LogIndex
    public var lastIndex: LogIndex
    /// Configuration changes are refused while this is above `applied`.
    public var pendingConfIndex: LogIndex
    /// The member that leadership is being handed to; 0 = none.
    public var transferee: MemberID
    /// All members ascending by id, this one included; the numbers mean something on a leader only.
    public var peers: [PeerStatus]
  }
}
