/// Protobuf fields written by hand, for the few messages that are on the hot path or must keep
/// exact bytes (Raft messages, log records, stored key-values). Everything else uses swift-protobuf.
public struct ProtobufWriter: Sendable {
  public private(set) var bytes: Bytes

  public init(reserving count: Int = 0) {
    bytes = []
    bytes.reserveCapacity(count)
  }

  /// Continues after what `bytes` holds already.
  public init(appendingTo bytes: consuming Bytes) { self.bytes = bytes }

  public mutating func varint(_ value: UInt64) {
    // Tags and most lengths are one byte long.
    if value < 0x80 { return bytes.append(UInt8(truncatingIfNeeded: value)) }
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  /// A varint field, written even when zero.
  public mutating func field(_ number: Int, always value: UInt64) {
    varint(UInt64(number) << 3)
    varint(value)
  }

  /// A varint field, left out when zero (proto3).
  public mutating func field(_ number: Int, _ value: UInt64) {
    if value != 0 { field(number, always: value) }
  }

  /// A signed varint field (int64), left out when zero.
  public mutating func field(_ number: Int, signed value: Int64) {
    field(number, UInt64(bitPattern: value))
  }

  public mutating func field(_ number: Int, _ value: Bool) {
    if value { field(number, always: 1) }
  }

  /// A bytes, string or message field, written even when empty.
  public mutating func field(_ number: Int, always value: some Collection<UInt8>) {
    lengthPrefix(number, value.count)
    bytes.append(contentsOf: value)
  }

  /// A bytes or string field, left out when empty (proto3).
  public mutating func field(_ number: Int, _ value: some Collection<UInt8>) {
    if !value.isEmpty { field(number, always: value) }
  }

  // Arrays, which is what nearly all contents are, without the price of the general form: that one
  // is not specialised in other modules.

  /// A bytes, string or message field, written even when empty.
  public mutating func field(_ number: Int, always value: Bytes) {
    lengthPrefix(number, value.count)
    bytes.append(contentsOf: value)
  }

  /// A bytes or string field, left out when empty (proto3).
  public mutating func field(_ number: Int, _ value: Bytes) {
    if !value.isEmpty { field(number, always: value) }
  }

  /// Tag and length of a bytes field whose content the caller appends next with `raw`.
  public mutating func lengthPrefix(_ number: Int, _ count: Int) {
    varint(UInt64(number) << 3 | 2)
    varint(UInt64(count))
  }

  public mutating func raw(_ more: Bytes) { bytes.append(contentsOf: more) }

  public mutating func raw(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }

  /// Writes a number over four bytes that are there, big-endian.
  mutating func patch(_ value: UInt32, at offset: Int) {
    bytes.withUnsafeMutableBytes {
      $0.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
  }

  /// Bytes that `varint(value)` takes.
  public static func varintCount(_ value: UInt64) -> Int {
    value == 0 ? 1 : (70 - value.leadingZeroBitCount) / 7
  }
}

/// What is wrong with bytes that claim to be a protobuf message.
public enum ProtobufError: Error, Equatable, Sendable {
  case truncated
  case varintTooLong
  case badTag(UInt64)
  case wrongType(field: Int)
}

/// Reads the fields of one protobuf message in place.
///
///     var reader = ProtobufReader(buffer)
///     while let field = try reader.next() {
///       switch field.number {
///       case 1: index = try field.uint64()
///       default: break   // unknown fields are skipped
///       }
///     }
public struct ProtobufReader {
  private let buffer: UnsafeRawBufferPointer
  private var offset = 0

  public init(_ buffer: UnsafeRawBufferPointer) { self.buffer = buffer }

  public struct Field {
    public let number: Int
    private let value: Value

    fileprivate enum Value {
      case varint(UInt64)
      case fixed(UInt64)
      case bytes(UnsafeRawBufferPointer)
    }

    fileprivate init(number: Int, value: Value) {
      self.number = number
      self.value = value
    }

    public func uint64() throws(ProtobufError) -> UInt64 {
      guard case .varint(let value) = value else { throw .wrongType(field: number) }
      return value
    }

    public func int64() throws(ProtobufError) -> Int64 { Int64(bitPattern: try uint64()) }

    public func bool() throws(ProtobufError) -> Bool { try uint64() != 0 }

    /// The content of a bytes, string or message field; valid as long as the reader's buffer.
    public func buffer() throws(ProtobufError) -> UnsafeRawBufferPointer {
      guard case .bytes(let value) = value else { throw .wrongType(field: number) }
      return value
    }

    public func bytes() throws(ProtobufError) -> Bytes { Bytes(try buffer()) }
  }

  /// The next field, or nil at the end.
  public mutating func next() throws(ProtobufError) -> Field? {
    guard offset < buffer.count else { return nil }
    let tag = try varint()
    // 29 bits are what a field number may have; other readers refuse what is larger, too.
    guard tag <= UInt64(UInt32.max), tag >> 3 > 0 else { throw .badTag(tag) }
    let number = Int(tag >> 3)
    switch tag & 7 {
    case 0: return Field(number: number, value: .varint(try varint()))
    case 1: return Field(number: number, value: .fixed(try fixed(8)))
    case 2:
      let count = try varint()
      guard count <= UInt64(buffer.count - offset) else { throw .truncated }
      let start = offset
      offset += Int(count)
      return Field(
        number: number, value: .bytes(UnsafeRawBufferPointer(rebasing: buffer[start..<offset])))
    case 5: return Field(number: number, value: .fixed(try fixed(4)))
    default: throw .badTag(tag)
    }
  }

  @inline(__always)
  private mutating func varint() throws(ProtobufError) -> UInt64 {
    // Tags and most lengths are one byte long.
    if offset < buffer.count, buffer[offset] < 0x80 {
      defer { offset += 1 }
      return UInt64(buffer[offset])
    }
    return try longVarint()
  }

  private mutating func longVarint() throws(ProtobufError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      guard offset < buffer.count else { throw .truncated }
      guard shift < 64 else { throw .varintTooLong }
      let byte = buffer[offset]
      offset += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
  }

  private mutating func fixed(_ count: Int) throws(ProtobufError) -> UInt64 {
    guard buffer.count - offset >= count else { throw .truncated }
    defer { offset += count }
    return (0..<count).reduce(0) { $0 | UInt64(buffer[offset + $1]) << (8 * UInt64($1)) }
  }
}
