public import Base

/// Why a lease operation was refused.
public enum LeaseError: Error, Equatable, Sendable {
  case notFound
  case exists
  case ttlTooLarge
  /// Only the leader keeps clocks.
  case notPrimary
}

/// What is stored of a lease (leasepb.Lease). Its keys are found by the `lease` field of key-values.
public struct LeaseRecord: Equatable, Sendable {
  public var id: LeaseID
  /// Granted, in seconds.
  public var ttl: Int64
  /// Checkpointed remaining seconds; 0 = none, the full TTL counts.
  public var remainingTTL: Int64

  public init(id: LeaseID, ttl: Int64, remainingTTL: Int64 = 0) {
    self.id = id
    self.ttl = ttl
    self.remainingTTL = remainingTTL
  }

  public init(decoding bytes: Bytes) throws(ProtobufError) {
    self.init(id: 0, ttl: 0)
    let result = bytes.withUnsafeBytes { buffer -> Result<LeaseRecord, ProtobufError> in
      Result { () throws(ProtobufError) in try LeaseRecord(decoding: buffer) }
    }
    self = try result.get()
  }

  private init(decoding buffer: UnsafeRawBufferPointer) throws(ProtobufError) {
    self.init(id: 0, ttl: 0)
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      switch field.number {
      case 1: id = try field.int64()
      case 2: ttl = try field.int64()
      case 3: remainingTTL = try field.int64()
      default: break
      }
    }
  }

  public var encoded: Bytes {
    var writer = ProtobufWriter(reserving: 24)
    writer.field(1, signed: id)
    writer.field(2, signed: ttl)
    writer.field(3, signed: remainingTTL)
    return writer.bytes
  }
}

/// What the owner must store, in the transaction that applies the operation.
public enum LeaseEffect: Equatable, Sendable {
  case put(LeaseRecord)
  case delete(LeaseID)
}

public struct LeaseRevocation: Equatable, Sendable {
  /// Keys that were attached, in byte order: to be deleted in one revision.
  public let keys: [Bytes]
  public let effect: LeaseEffect
}

/// The answer to a keepalive.
public enum RenewOutcome: Equatable, Sendable {
  /// Granted TTL in seconds, running anew.
  case renewed(ttl: Int64)
  /// Unknown: the client is told TTL 0.
  case notFound
  /// Expired and not renewed. Wait until its revocation is applied, then tell the client TTL 0.
  case expiredPendingRevoke
  /// A checkpoint is stored or on its way, and would let a new leader expire the lease too early.
  /// Propose a checkpoint of 0 for it, and renew again once that is applied.
  case clearCheckpointFirst
  case notPrimary
}

public struct LeaseTimeToLive: Equatable, Sendable {
  /// Seconds left, truncated toward zero; negative when overdue by a second or more.
  public let remaining: Int64
  public let granted: Int64
}

public struct LeaseCheckpoint: Equatable, Sendable {
  public let id: LeaseID
  /// Seconds left, rounded up.
  public let remainingTTL: Int64

  public init(id: LeaseID, remainingTTL: Int64) {
    self.id = id
    self.remainingTTL = remainingTTL
  }
}

/// Numbers for leases whose id the client leaves to the server: unique per member and process run.
///
/// Layout as etcd's: two bytes of the member, five of time, one of counting; never 0 or negative.
public struct LeaseIDGenerator: Sendable {
  private var last: UInt64

  /// - Parameter milliseconds: wall-clock time at start, so that a restart does not repeat numbers.
  public init(member: MemberID, milliseconds: UInt64) {
    last = (member & 0x7fff) << 48 | (milliseconds & 0xff_ffff_ffff) << 8
  }

  public mutating func next() -> LeaseID {
    // Counts on into the time bytes; the member's bytes stay.
    last = last & (0x7fff << 48) | (last &+ 1) & 0xffff_ffff_ffff
    return last == 0 ? next() : LeaseID(last)
  }
}
