public import Base

/// A v2 `Request` as entry data: how etcd up to 3.5 publishes member attributes and the version.
public struct LegacyRequest: Equatable, Sendable {
  public var id: UInt64
  public var method: String
  public var path: String
  public var value: String

  public init(id: UInt64, method: String = "PUT", path: String, value: String) {
    self.id = id
    self.method = method
    self.path = path
    self.value = value
  }

  /// - Parameter attributes: JSON `{"name":...,"clientURLs":[...]}`.
  public static func memberAttributes(
    id: UInt64, member: MemberID, attributes: String
  ) -> LegacyRequest {
    LegacyRequest(id: id, path: "/0/members/\(member.hex)/attributes", value: attributes)
  }

  /// - Parameter version: for example `3.4.0`.
  public static func clusterVersion(id: UInt64, version: String) -> LegacyRequest {
    LegacyRequest(id: id, path: "/0/version", value: version)
  }

  /// What a path that etcd itself writes means.
  public enum Target: Equatable, Sendable {
    case memberAttributes(MemberID)
    case clusterVersion
  }

  /// nil for anything else, which is ignored with a warning.
  public var target: Target? {
    guard method == "PUT" else { return nil }
    if path == "/0/version" { return .clusterVersion }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0].isEmpty, parts[1] == "0", parts[2] == "members",
      parts[4] == "attributes", let member = MemberID(parts[3], radix: 16)
    else { return nil }
    return .memberAttributes(member)
  }
}

// Request: ID 1, Method 2, Path 3, Val 4; the other fields do not matter to these two uses.
extension LegacyRequest: WireMessage {
  public var encodedCount: Int {
    ProtobufWriter.fieldCount(id)
      + [method, path, value].reduce(0) {
        $0 + ($1.isEmpty ? 0 : ProtobufWriter.fieldCount(content: $1.utf8.count))
      }
  }

  public func encode(into writer: inout ProtobufWriter) {
    writer.field(1, id)
    writer.field(2, method.utf8)
    writer.field(3, path.utf8)
    writer.field(4, value.utf8)
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(id: 0, method: "", path: "", value: "")
    var reader = WireReader(buffer, "Request")
    while let field = try reader.next() {
      switch field.number {
      case 1: id = try field.uint64()
      case 2: method = String(decoding: try field.buffer(), as: UTF8.self)
      case 3: path = String(decoding: try field.buffer(), as: UTF8.self)
      case 4: value = String(decoding: try field.buffer(), as: UTF8.self)
      default: break
      }
    }
  }
}
