public import Base
import COpenSSL

/// Member and cluster ids by etcd's recipe, which mixed clusters and snapshots depend on.
public enum Identity {
  /// A member of the initial cluster: SHA-1 over its sorted peer URLs and the cluster token.
  public static func memberID(peerURLs: [String], token: String) -> MemberID {
    hash(Array((peerURLs.sortedAsBytes.joined() + token).utf8))
  }

  /// A member added at run time: no token, but the time of the call.
  /// - Parameter unixSeconds: the wall clock of the member that handles the call.
  public static func memberID(peerURLs: [String], addedAt unixSeconds: Int64) -> MemberID {
    memberID(peerURLs: peerURLs, token: String(unixSeconds))
  }

  /// SHA-1 over the ids of the initial members, ascending, each big-endian.
  public static func clusterID(members: [MemberID]) -> ClusterID {
    var bytes: [UInt8] = []
    for id in members.sorted() {
      for shift in stride(from: 56, through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: id >> UInt64(shift)))
      }
    }
    return hash(bytes)
  }

  /// The first eight bytes of the SHA-1, big-endian.
  private static func hash(_ bytes: [UInt8]) -> UInt64 {
    var digest = [UInt8](repeating: 0, count: Int(SHA_DIGEST_LENGTH))
    _ = SHA1(bytes, bytes.count, &digest)
    return digest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
}

extension [String] {
  /// Go's string order, which differs from Swift's for text that is not ASCII.
  fileprivate var sortedAsBytes: [String] {
    sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}

/// Who is who in a cluster that is about to be started from `--initial-cluster`.
public struct InitialIdentities: Sendable, Equatable {
  public struct Member: Sendable, Equatable {
    public let id: MemberID
    public let name: String
    public let peerURLs: [EtcdURL]
  }

  public let clusterID: ClusterID
  public let localID: MemberID
  /// Ascending by id: the order in which bootstrap writes them to the log.
  public let members: [Member]
}

/// Makes ids for proposals, read-index rounds, membership changes and leases.
///
/// Unique per member and start: 16 bits of the member id, 40 bits of the start time, and a counter
/// that runs over into the time's bits, which a clock that keeps running has long passed.
public struct RequestIDGenerator: Sendable {
  private let prefix: UInt64
  private var suffix: UInt64

  /// - Parameter unixMilliseconds: the wall clock at the start of the process.
  public init(member: MemberID, unixMilliseconds: UInt64) {
    prefix = member << 48
    suffix = (unixMilliseconds & (1 << 40 - 1)) << 8
  }

  public mutating func next() -> UInt64 {
    suffix &+= 1
    return prefix | (suffix & (1 << 48 - 1))
  }

  /// An id for a lease the caller left unnamed: positive.
  public mutating func nextLeaseID() -> LeaseID {
    while true {
      let id = LeaseID(next() & UInt64(LeaseID.max))
      if id != 0 { return id }
    }
  }
}
