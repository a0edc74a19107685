public import Base

/// The outside of an InternalRaftRequest: who asked, and where the one request lies.
///
/// Entry data is wrapped once, by the member that proposes, and looked through at apply without
/// decoding the request itself.
public struct InternalRequestEnvelope: Equatable, Sendable {
  /// Field numbers of the requests. etcd dispatches in the order of `dispatchRank`.
  public enum Kind: Int, Sendable, CaseIterable {
    case range = 3, put, deleteRange, txn, compaction, leaseGrant, leaseRevoke, alarm,
      leaseCheckpoint
    case authEnable = 1000
    case authDisable = 1011, authenticate, authStatus
    case authUserAdd = 1100, authUserDelete, authUserGet, authUserChangePassword,
      authUserGrantRole, authUserRevokeRole, authUserList, authRoleList
    case authRoleAdd = 1200, authRoleDelete, authRoleGet, authRoleGrantPermission,
      authRoleRevokePermission
    case clusterVersionSet = 1300, clusterMemberAttributesSet, downgradeInfoSet
    case downgradeVersionTest = 9900

    /// Cluster requests are looked at first, then all others by number.
    fileprivate var dispatchRank: Int { rawValue >= 1300 ? rawValue - 10_000 : rawValue }
  }

  /// Wakes the caller on the member that proposed; 0 when nobody waits.
  public var requestID: UInt64
  /// Empty when the caller gave no token.
  public var username: String
  public var authRevision: UInt64
  /// Field number of the request. Not in `Kind` = from a later version.
  public var field: Int
  /// Where the encoded request lies in the entry's data.
  public var payload: Range<Int>

  public var kind: Kind? { Kind(rawValue: field) }

  private static let headerField = 100
  private static let putTag = UInt8(Kind.put.rawValue << 3 | 2)

  /// Whether an entry is a put or empty: what is applied in microseconds whatever it says.
  public static func isBrief(_ entry: Entry) -> Bool {
    entry.kind == .normal && (entry.data.first.map { $0 == putTag } ?? true)
  }

  /// Puts an already encoded request into an InternalRaftRequest: fields ascending, as etcd writes.
  public static func wrap(
    field: Int, payload: UnsafeRawBufferPointer, requestID: UInt64, username: String = "",
    authRevision: UInt64 = 0
  ) -> Bytes {
    let name = username.utf8
    var headerCount = ProtobufWriter.fieldCount(requestID) + ProtobufWriter.fieldCount(authRevision)
    if !name.isEmpty { headerCount += ProtobufWriter.fieldCount(content: name.count) }
    var writer = ProtobufWriter(reserving: payload.count + headerCount + 24)
    func request() {
      writer.lengthPrefix(field, payload.count)
      writer.raw(payload)
    }
    if field < headerField { request() }
    writer.lengthPrefix(headerField, headerCount)
    writer.field(1, requestID)
    writer.field(2, name)
    writer.field(3, authRevision)
    if field > headerField { request() }
    return writer.bytes
  }

  public static func wrap(
    _ kind: Kind, payload: Bytes, requestID: UInt64, username: String = "", authRevision: UInt64 = 0
  ) -> Bytes {
    payload.withUnsafeBytes {
      wrap(
        field: kind.rawValue, payload: $0, requestID: requestID, username: username,
        authRevision: authRevision)
    }
  }
}

/// What the data of a normal entry holds.
public enum EntryPayload: Equatable, Sendable {
  /// The entry that starts a term.
  case empty
  case request(InternalRequestEnvelope)
  /// How etcd 3.4 and 3.5 publish members and the cluster version.
  case legacy(LegacyRequest)

  /// - Throws: `WireError` if `data` is neither form: the log cannot be applied past it.
  public init(_ data: Bytes) throws(WireError) {
    if data.isEmpty {
      self = .empty
      return
    }
    let result = data.withUnsafeBytes { buffer -> Result<EntryPayload, WireError> in
      do throws(WireError) { return .success(try EntryPayload(decoding: buffer)) } catch {
        return .failure(error)
      }
    }
    self = try result.get()
  }

  private init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    do throws(WireError) {
      self = try InternalRequestEnvelope.parse(buffer)
    } catch {
      // The path of a v2 request is never a valid RangeRequest, so the two cannot be confused.
      guard let legacy = try? LegacyRequest(decoding: buffer), !legacy.method.isEmpty else {
        throw error
      }
      self = .legacy(legacy)
    }
  }
}

extension InternalRequestEnvelope {
  fileprivate static func parse(
    _ buffer: UnsafeRawBufferPointer
  ) throws(WireError) -> EntryPayload {
    var envelope = InternalRequestEnvelope(
      requestID: 0, username: "", authRevision: 0, field: 0, payload: 0..<0)
    var plainID: UInt64 = 0
    var reader = WireReader(buffer, "InternalRaftRequest")
    while let field = try reader.next() {
      switch field.number {
      case 1: plainID = try field.uint64()
      case 2: return .legacy(try LegacyRequest(decoding: try field.buffer()))
      case headerField: try envelope.readHeader(try field.buffer())
      default: try envelope.offer(field, in: buffer)
      }
    }
    if plainID != 0 { envelope.requestID = plainID }
    guard envelope.field != 0 else { throw .noRequest }
    return .request(envelope)
  }

  private mutating func readHeader(_ buffer: UnsafeRawBufferPointer) throws(WireError) {
    var reader = WireReader(buffer, "RequestHeader")
    while let field = try reader.next() {
      switch field.number {
      case 1: requestID = try field.uint64()
      case 2: username = String(decoding: try field.buffer(), as: UTF8.self)
      case 3: authRevision = try field.uint64()
      default: break
      }
    }
  }

  private mutating func offer(
    _ candidate: WireReader.Field, in buffer: UnsafeRawBufferPointer
  ) throws(WireError) {
    let content = try candidate.buffer()
    if candidate.number == Kind.range.rawValue {
      // Distinguishes a RangeRequest from the path of a v2 request.
      var reader = WireReader(content, "RangeRequest")
      while try reader.next() != nil {}
    }
    let rank = Kind(rawValue: candidate.number)?.dispatchRank ?? Int.max
    let held = field == 0 ? nil : kind?.dispatchRank ?? Int.max
    if let held, held < rank { return }
    field = candidate.number
    guard let start = content.baseAddress, let base = buffer.baseAddress else {
      payload = 0..<0
      return
    }
    let offset = start - base
    payload = offset..<offset + content.count
  }
}
