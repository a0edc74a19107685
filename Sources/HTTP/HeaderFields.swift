/// One header or metadata entry. HTTP/2 names are lower case.
public struct HTTPField: Equatable, Sendable {
  public var name: String
  public var value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// Header fields packed into one buffer, in arrival order.
///
/// Clients repeat the same metadata on every call of a connection, so a session compares a new
/// block with the one before and shares its storage: most calls keep no header memory at all.
public struct HeaderFields: Sendable, Equatable {
  // Each entry: name length (2 bytes), value length (4 bytes), name, value.
  private(set) var bytes: [UInt8] = []

  public init() {}

  /// Names must be lower case and shorter than 64 KiB.
  public init(_ fields: [HTTPField]) {
    for field in fields {
      Array(field.name.utf8).withUnsafeBufferPointer { name in
        Array(field.value.utf8).withUnsafeBufferPointer { append(name: name, value: $0) }
      }
    }
  }

  public var isEmpty: Bool { bytes.isEmpty }

  /// Precondition: the name is shorter than 64 KiB (header lists are bounded far below).
  mutating func append(
    name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>
  ) {
    let nameCount = UInt16(name.count)
    let valueCount = UInt32(value.count)
    bytes.append(UInt8(truncatingIfNeeded: nameCount))
    bytes.append(UInt8(truncatingIfNeeded: nameCount >> 8))
    bytes.append(UInt8(truncatingIfNeeded: valueCount))
    bytes.append(UInt8(truncatingIfNeeded: valueCount >> 8))
    bytes.append(UInt8(truncatingIfNeeded: valueCount >> 16))
    bytes.append(UInt8(truncatingIfNeeded: valueCount >> 24))
    bytes.append(contentsOf: name)
    bytes.append(contentsOf: value)
  }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
  }

  /// Calls `body` with the byte ranges of every entry until it returns false.
  private func scan(_ body: (_ name: Range<Int>, _ value: Range<Int>) -> Bool) {
    var at = 0
    while at + 6 <= bytes.count {
      let nameCount = Int(bytes[at]) | Int(bytes[at + 1]) << 8
      let valueCount =
        Int(bytes[at + 2]) | Int(bytes[at + 3]) << 8 | Int(bytes[at + 4]) << 16
        | Int(bytes[at + 5]) << 24
      let name = at + 6..<at + 6 + nameCount
      let value = name.upperBound..<name.upperBound + valueCount
      guard body(name, value) else { return }
      at = value.upperBound
    }
  }

  /// The bytes of the first value of `name` (lower case), as the peer sent them.
  public func firstBytes(_ name: String) -> ArraySlice<UInt8>? {
    var found: ArraySlice<UInt8>?
    let wanted = name.utf8
    scan { nameRange, valueRange in
      guard nameRange.count == wanted.count, bytes[nameRange].elementsEqual(wanted) else {
        return true
      }
      found = bytes[valueRange]
      return false
    }
    return found
  }

  /// The first value of `name` (lower case); bytes that are not UTF-8 are replaced.
  public func first(_ name: String) -> String? {
    firstBytes(name).map { String(decoding: $0, as: UTF8.self) }
  }

  /// All entries in arrival order.
  public var all: [HTTPField] {
    var fields: [HTTPField] = []
    scan { name, value in
      fields.append(
        HTTPField(
          String(decoding: bytes[name], as: UTF8.self),
          String(decoding: bytes[value], as: UTF8.self)))
      return true
    }
    return fields
  }
}
