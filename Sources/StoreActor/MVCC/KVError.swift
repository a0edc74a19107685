/// Why a key-value request is refused. One case per etcd error; the store is unchanged after each.
public enum KVError: Error, Equatable, Sendable {
  /// The key of a range, put, delete or compare is empty.
  case keyNotProvided
  /// `ignore_value` or `ignore_lease` on an absent key, or a transaction operation without request.
  case keyNotFound
  /// `ignore_value` together with a value.
  case valueProvided
  /// `ignore_lease` together with a lease.
  case leaseProvided
  /// The put names a lease that does not exist.
  case leaseNotFound
  /// The revision lies below what compaction has left.
  case compacted
  /// The revision has not happened yet.
  case futureRevision
  /// A transaction has more operations than allowed.
  case tooManyOps
  /// A transaction would change one key twice.
  case duplicateKey
  /// The sort order or target of a range is not a known number.
  case invalidSortOption
}
