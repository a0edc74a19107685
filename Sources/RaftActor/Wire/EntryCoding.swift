public import Base

// Entry: type 1, term 2, index 3, data 4.
extension Entry: WireMessage {
  /// Room that `encodeHeader` may need: three varint fields and the tag and length of the data.
  static let headerBytesMax = 48

  public var encodedCount: Int {
    headerCount + data.count
  }

  private var headerCount: Int {
    ProtobufWriter.fieldCount(kind.rawValue) + ProtobufWriter.fieldCount(term)
      + ProtobufWriter.fieldCount(index)
      + (data.isEmpty ? 0 : 1 + ProtobufWriter.varintCount(UInt64(data.count)))
  }

  /// Writes everything but the data itself to `target` (at least `headerBytesMax` bytes).
  ///
  /// The log and the streams put the data behind it with one copy, so that an entry is never
  /// assembled in a buffer of its own.
  /// - Returns: the count of bytes written.
  func encodeHeader(to target: UnsafeMutableRawPointer) -> Int {
    var cursor = VarintCursor(target)
    if kind != .normal { cursor.field(tag: 0x08, kind.rawValue) }
    if term != 0 { cursor.field(tag: 0x10, term) }
    if index != 0 { cursor.field(tag: 0x18, index) }
    if !data.isEmpty { cursor.field(tag: 0x22, UInt64(data.count)) }
    return cursor.count
  }

  public func encode(into writer: inout ProtobufWriter) {
    withUnsafeTemporaryAllocation(byteCount: Self.headerBytesMax, alignment: 8) { scratch in
      guard let base = scratch.baseAddress else { return }
      let count = encodeHeader(to: base)
      writer.raw(UnsafeRawBufferPointer(start: base, count: count))
    }
    data.withUnsafeBytes { writer.raw($0) }
  }

  public init(decoding buffer: UnsafeRawBufferPointer) throws(WireError) {
    self.init(term: 0, index: 0)
    var reader = WireReader(buffer, "Entry")
    while let field = try reader.next() {
      switch field.number {
      case 1:
        let value = try field.uint64()
        guard let kind = Kind(rawValue: value) else { throw .unknownKind("Entry", value) }
        self.kind = kind
      case 2: term = try field.uint64()
      case 3: index = try field.uint64()
      case 4: data = try field.bytes()
      default: break
      }
    }
  }
}

/// Varints written to memory that the caller has made large enough.
struct VarintCursor {
  private let base: UnsafeMutableRawPointer
  private(set) var count = 0

  init(_ base: UnsafeMutableRawPointer) { self.base = base }

  mutating func byte(_ value: UInt8) {
    base.storeBytes(of: value, toByteOffset: count, as: UInt8.self)
    count += 1
  }

  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      byte(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    byte(UInt8(truncatingIfNeeded: rest))
  }

  mutating func field(tag: UInt8, _ value: UInt64) {
    byte(tag)
    varint(value)
  }
}
