/// The header block being received. HTTP/2 sends one block at a time, and nearly always in one
/// piece, so all sessions of a thread share one of these and its buffers.
struct IncomingHeaders {
  enum Timeout { case none, nanoseconds(UInt64), malformed(String) }
  enum Encoding { case known(MessageEncoding), unknown(String) }

  private(set) var path: [UInt8] = []
  private(set) var method: [UInt8] = []
  private(set) var contentType: [UInt8] = []
  private(set) var isPOST = false
  private(set) var isGRPC = false
  private(set) var isTooLarge = false
  /// Between ``begin()`` and ``end()``.
  private(set) var isIncomplete = false
  private(set) var timeout = Timeout.none
  private(set) var encoding = Encoding.known(.identity)
  private(set) var fields = HeaderFields()
  private var listBytes = 0

  mutating func begin() {
    path.removeAll(keepingCapacity: true)
    method.removeAll(keepingCapacity: true)
    contentType.removeAll(keepingCapacity: true)
    isPOST = false
    isGRPC = false
    isTooLarge = false
    isIncomplete = true
    timeout = .none
    encoding = .known(.identity)
    fields.removeAll()
    listBytes = 0
  }

  /// The block is complete.
  mutating func end() { isIncomplete = false }

  mutating func add(
    name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, listBytesMax: Int
  ) {
    // The size of a header list as HTTP/2 counts it: 32 bytes of overhead per field.
    listBytes += name.count + value.count + 32
    guard listBytes <= listBytesMax else {
      isTooLarge = true
      return
    }
    switch name.count {
    case 2 where name.equals("te"): break
    case 5 where name.equals(":path"): path.append(contentsOf: value)
    case 7 where name.equals(":method"):
      method.append(contentsOf: value)
      isPOST = value.equals("POST")
    case 7 where name.equals(":scheme"): break
    case 12 where name.equals("content-type"): addContentType(name: name, value: value)
    case 12 where name.equals("grpc-timeout"): addTimeout(value)
    case 13 where name.equals("grpc-encoding"): addEncoding(value)
    case 20 where name.equals("grpc-accept-encoding"): break
    default: fields.append(name: name, value: value)
    }
  }

  private mutating func addContentType(
    name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>
  ) {
    isGRPC = value.isGRPCContentType
    if !isGRPC {
      contentType.append(contentsOf: value)
      fields.append(name: name, value: value)
    }
  }

  private mutating func addTimeout(_ value: UnsafeBufferPointer<UInt8>) {
    if let nanoseconds = GRPCTimeout.parse(value) {
      timeout = .nanoseconds(nanoseconds)
    } else {
      timeout = .malformed(String(decoding: value, as: UTF8.self))
    }
  }

  /// Makes the timeout a field like any other: to plain HTTP it means nothing.
  mutating func keepTimeout() {
    let value: [UInt8]
    switch timeout {
    case .none: return
    case .nanoseconds(let nanoseconds):
      value = Array(GRPCTimeout.format(nanoseconds: nanoseconds).utf8)
    case .malformed(let text): value = Array(text.utf8)
    }
    Array("grpc-timeout".utf8).withUnsafeBufferPointer { name in
      value.withUnsafeBufferPointer { fields.append(name: name, value: $0) }
    }
  }

  private mutating func addEncoding(_ value: UnsafeBufferPointer<UInt8>) {
    if value.equals("gzip") {
      encoding = .known(.gzip)
    } else if value.equals("identity") || value.isEmpty {
      encoding = .known(.identity)
    } else {
      encoding = .unknown(String(decoding: value, as: UTF8.self))
    }
  }
}
