/// A gRPC status code. Raw values are the numbers on the wire.
public enum StatusCode: Int, Sendable {
  case ok = 0
  case cancelled
  case unknown
  case invalidArgument
  case deadlineExceeded
  case notFound
  case alreadyExists
  case permissionDenied
  case resourceExhausted
  case failedPrecondition
  case aborted
  case outOfRange
  case unimplemented
  case `internal`
  case unavailable
  case dataLoss
  case unauthenticated
}

extension StatusCode {
  /// As Go writes it.
  public var name: String { Self.names[rawValue] }

  private static let names = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
    "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
  ]
}

/// An answer that is not the asked-for response: a status code and the text that clients match on.
///
/// The texts are a contract: client libraries tell errors apart by them, byte for byte.
public struct EtcdError: Error, Equatable, Sendable {
  public let code: StatusCode
  public let message: String

  public init(_ code: StatusCode, _ message: String) {
    self.code = code
    self.message = message
  }
}

extension EtcdError {
  // Requests that cannot be right.
  public static let keyNotProvided = EtcdError(
    .invalidArgument, "etcdserver: key is not provided")
  public static let keyNotFound = EtcdError(.invalidArgument, "etcdserver: key not found")
  public static let valueProvided = EtcdError(.invalidArgument, "etcdserver: value is provided")
  public static let leaseProvided = EtcdError(.invalidArgument, "etcdserver: lease is provided")
  public static let tooManyOperations = EtcdError(
    .invalidArgument, "etcdserver: too many operations in txn request")
  public static let duplicateKey = EtcdError(
    .invalidArgument, "etcdserver: duplicate key given in txn request")
  public static let invalidSortOption = EtcdError(
    .invalidArgument, "etcdserver: invalid sort option")
  public static let invalidClientAPIVersion = EtcdError(
    .invalidArgument, "etcdserver: invalid client api version")
  public static let requestTooLarge = EtcdError(
    .invalidArgument, "etcdserver: request is too large")

  // History.
  public static let compacted = EtcdError(
    .outOfRange, "etcdserver: mvcc: required revision has been compacted")
  public static let futureRevision = EtcdError(
    .outOfRange, "etcdserver: mvcc: required revision is a future revision")

  // Leases.
  public static let leaseNotFound = EtcdError(
    .notFound, "etcdserver: requested lease not found")
  public static let leaseExists = EtcdError(
    .failedPrecondition, "etcdserver: lease already exists")
  public static let leaseTTLTooLarge = EtcdError(
    .outOfRange, "etcdserver: too large lease TTL")
  public static let notPrimaryLessor = EtcdError(.unknown, "not a primary lessor")

  // Space and corruption.
  public static let noSpace = EtcdError(
    .resourceExhausted, "etcdserver: mvcc: database space exceeded")
  public static let corrupt = EtcdError(.dataLoss, "etcdserver: corrupt cluster")

  // Leadership, time and load.
  public static let noLeader = EtcdError(.unavailable, "etcdserver: no leader")
  public static let notLeader = EtcdError(.failedPrecondition, "etcdserver: not leader")
  public static let leaderChanged = EtcdError(.unavailable, "etcdserver: leader changed")
  public static let badLeaderTransferee = EtcdError(
    .failedPrecondition, "etcdserver: bad leader transferee")
  public static let leaderTransferTimeout = EtcdError(
    .unknown, "etcdserver: request timed out, leader transfer took too long")
  public static let stopped = EtcdError(.unavailable, "etcdserver: server stopped")
  public static let timeout = EtcdError(.unavailable, "etcdserver: request timed out")
  public static let timeoutLeaderFailure = EtcdError(
    .unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
  public static let timeoutConnectionLost = EtcdError(
    .unavailable, "etcdserver: request timed out, possibly due to connection lost")
  public static let timeoutWaitingForApply = EtcdError(
    .unavailable,
    "etcdserver: request timed out, waiting for the applied index took too long")
  public static let tooManyRequests = EtcdError(.unknown, "etcdserver: too many requests")
  public static let proposalDropped = EtcdError(.unknown, "raft proposal dropped")
  public static let deadlineExceeded = EtcdError(
    .deadlineExceeded, "context deadline exceeded")
  public static let watchCanceled = EtcdError(.cancelled, "etcdserver: watch canceled")

  // Membership.
  public static let memberNotFound = EtcdError(.notFound, "etcdserver: member not found")
  public static let memberURLsInvalid = EtcdError(
    .invalidArgument, "etcdserver: given member URLs are invalid")
  public static let memberExists = EtcdError(
    .failedPrecondition, "etcdserver: member ID already exist")
  public static let peerURLExists = EtcdError(
    .failedPrecondition, "etcdserver: Peer URLs already exists")
  public static let memberNotLearner = EtcdError(
    .failedPrecondition, "etcdserver: can only promote a learner member")
  public static let learnerNotReady = EtcdError(
    .failedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader")
  public static let tooManyLearners = EtcdError(
    .failedPrecondition, "etcdserver: too many learner members in cluster")
  /// With the code that etcd really sends.
  public static let notEnoughStartedMembers = EtcdError(
    .unknown, "etcdserver: re-configuration failed due to not enough started members")
  public static let unhealthy = EtcdError(.unavailable, "etcdserver: unhealthy cluster")
  public static let learnerUnsupported = EtcdError(
    .failedPrecondition, "etcdserver: rpc not supported for learner")

  // Downgrades.
  public static let downgradeVersionMalformed = EtcdError(
    .invalidArgument, "etcdserver: wrong downgrade target version format")
  public static let downgradeVersionInvalid = EtcdError(
    .invalidArgument, "etcdserver: invalid downgrade target version")
  public static let downgradeInProgress = EtcdError(
    .failedPrecondition, "etcdserver: cluster has a downgrade job in progress")
  public static let clusterVersionUnknown = EtcdError(
    .failedPrecondition, "etcdserver: cluster version not found during downgrade")
  public static let methodUnknown = EtcdError(.unknown, "etcdserver: unknown method")
}
