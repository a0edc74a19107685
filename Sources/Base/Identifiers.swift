/// Raw bytes: keys, values, encoded messages.
public typealias Bytes = [UInt8]

/// A member's identity, by etcd's recipe (SHA-1 of peer URLs and cluster token). Never 0.
public typealias MemberID = UInt64

/// The identity of a cluster, fixed at bootstrap.
public typealias ClusterID = UInt64

/// A Raft term: increases with every election.
public typealias Term = UInt64

/// A position in the Raft log. The first entry is 1; 0 means "before the log".
public typealias LogIndex = UInt64

/// A lease's identity. Any value but 0; negative ones are legal.
public typealias LeaseID = Int64

extension UInt64 {
  /// Lower-case hexadecimal without padding: how etcd prints member and cluster ids.
  public var hex: String { String(self, radix: 16) }

  /// The same with all of its 16 digits: how etcd names files.
  public var paddedHex: String { String(repeating: "0", count: 16 - hex.utf8.count) + hex }

  /// Eight bytes, most significant first.
  public var bigEndianBytes: Bytes { withUnsafeBytes(of: bigEndian) { Bytes($0) } }
}
