/// A gRPC status code. Raw values are the numbers on the wire.
package enum StatusCode: Int, Sendable {
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
  package var name: String { Self.names[rawValue] }

  private static let names = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
    "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
  ]
}

/// An answer that is not the asked-for response: a status code and the text that clients match on.
///
/// The texts are a contract: client libraries tell errors apart by them, byte for byte.
package struct EtcdError: Error, Equatable, Sendable {
  package let code: StatusCode
  package let message: String

  package init(_ code: StatusCode, _ message: String) {
    self.code = code
    self.message = message
  }
}

extension EtcdError {
  // Requests that cannot be right.
  package static let keyNotProvided = EtcdError(
    .invalidArgument, "etcdserver: key is not provided")
  package static let keyNotFound = EtcdError(.invalidArgument, "etcdserver: key not found")
  package static let valueProvided = EtcdError(.invalidArgument, "etcdserver: value is provided")
  package static let leaseProvided = EtcdError(.invalidArgument, "etcdserver: lease is provided")
  package static let tooManyOperations = EtcdError(
    .invalidArgument, "etcdserver: too many operations in txn request")
  package static let duplicateKey = EtcdError(
    .invalidArgument, "etcdserver: duplicate key given in txn request")
  package static let invalidSortOption = EtcdError(
    .invalidArgument, "etcdserver: invalid sort option")
  package static let invalidClientAPIVersion = EtcdError(
    .invalidArgument, "etcdserver: invalid client api version")
  package static let requestTooLarge = EtcdError(
    .invalidArgument, "etcdserver: request is too large")

  // History.
  package static let compacted = EtcdError(
    .outOfRange, "etcdserver: mvcc: required revision has been compacted")
  package static let futureRevision = EtcdError(
    .outOfRange, "etcdserver: mvcc: required revision is a future revision")

  // Leases.
  package static let leaseNotFound = EtcdError(
    .notFound, "etcdserver: requested lease not found")
  package static let leaseExists = EtcdError(
    .failedPrecondition, "etcdserver: lease already exists")
  package static let leaseTTLTooLarge = EtcdError(
    .outOfRange, "etcdserver: too large lease TTL")
  package static let notPrimaryLessor = EtcdError(.unknown, "not a primary lessor")

  // Space and corruption.
  package static let noSpace = EtcdError(
    .resourceExhausted, "etcdserver: mvcc: database space exceeded")
  package static let corrupt = EtcdError(.dataLoss, "etcdserver: corrupt cluster")

  // Leadership, time and load.
  package static let noLeader = EtcdError(.unavailable, "etcdserver: no leader")
  package static let notLeader = EtcdError(.failedPrecondition, "etcdserver: not leader")
  package static let leaderChanged = EtcdError(.unavailable, "etcdserver: leader changed")
  package static let badLeaderTransferee = EtcdError(
    .failedPrecondition, "etcdserver: bad leader transferee")
  package static let leaderTransferTimeout = EtcdError(
    .unknown, "etcdserver: request timed out, leader transfer took too long")
  package static let stopped = EtcdError(.unavailable, "etcdserver: server stopped")
  package static let timeout = EtcdError(.unavailable, "etcdserver: request timed out")
  package static let timeoutLeaderFailure = EtcdError(
    .unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
  package static let timeoutConnectionLost = EtcdError(
    .unavailable, "etcdserver: request timed out, possibly due to connection lost")
  package static let timeoutWaitingForApply = EtcdError(
    .unavailable,
    "etcdserver: request timed out, waiting for the applied index took too long")
  package static let tooManyRequests = EtcdError(.unknown, "etcdserver: too many requests")
  package static let proposalDropped = EtcdError(.unknown, "raft proposal dropped")
  package static let deadlineExceeded = EtcdError(
    .deadlineExceeded, "context deadline exceeded")
  package static let watchCanceled = EtcdError(.cancelled, "etcdserver: watch canceled")

  // Membership.
  package static let memberNotFound = EtcdError(.notFound, "etcdserver: member not found")
  package static let memberURLsInvalid = EtcdError(
    .invalidArgument, "etcdserver: given member URLs are invalid")
  package static let memberExists = EtcdError(
    .failedPrecondition, "etcdserver: member ID already exist")
  package static let peerURLExists = EtcdError(
    .failedPrecondition, "etcdserver: Peer URLs already exists")
  package static let memberNotLearner = EtcdError(
    .failedPrecondition, "etcdserver: can only promote a learner member")
  package static let learnerNotReady = EtcdError(
    .failedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader")
  package static let tooManyLearners = EtcdError(
    .failedPrecondition, "etcdserver: too many learner members in cluster")
  /// With the code that etcd really sends.
  package static let notEnoughStartedMembers = EtcdError(
    .unknown, "etcdserver: re-configuration failed due to not enough started members")
  package static let unhealthy = EtcdError(.unavailable, "etcdserver: unhealthy cluster")
  package static let learnerUnsupported = EtcdError(
    .failedPrecondition, "etcdserver: rpc not supported for learner")

  // Downgrades.
  package static let downgradeVersionMalformed = EtcdError(
    .invalidArgument, "etcdserver: wrong downgrade target version format")
  package static let downgradeVersionInvalid = EtcdError(
    .invalidArgument, "etcdserver: invalid downgrade target version")
  package static let downgradeInProgress = EtcdError(
    .failedPrecondition, "etcdserver: cluster has a downgrade job in progress")
  package static let clusterVersionUnknown = EtcdError(
    .failedPrecondition, "etcdserver: cluster version not found during downgrade")
  package static let methodUnknown = EtcdError(.unknown, "etcdserver: unknown method")
}
