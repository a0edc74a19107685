import Base

/// One record of the log, as it lies in a segment.
public struct WALRecord {
  public enum Kind: UInt64, Sendable {
    case metadata = 1, entry, state, crc, snapshot
  }

  public let kind: Kind
  /// The running checksum after this record's data.
  public let crc: UInt32
  /// Valid as long as the segment's memory.
  public let data: UnsafeRawBufferPointer
  /// Where the frame starts in the file, and how long it is with length field and padding.
  public let offset: Int
  public let frameBytes: Int
  let padding: Int
}

/// What is known about the end of readable records.
public enum WALRecordStep {
  case record(WALRecord)
  /// A zero length or the end of the file.
  case end
  /// A frame that is not what a writer produces; `frame` is its extent without padding, if known.
  case invalid(reason: String, frame: Range<Int>?)
  /// A length that reaches beyond the file.
  case beyondFile(reason: String)
}

/// Reads the frames of one segment.
///
///     u64 little-endian: length in the low 56 bits, 0x80 | padding in the top byte (0 if none)
///     Record {type 1, crc 2, data 3}, then 0-7 zero bytes up to a multiple of 8
public struct WALRecordScanner {
  private let bytes: UnsafeRawBufferPointer
  /// Start of the next frame.
  public private(set) var offset: Int
  /// The checksum over all data so far.
  public private(set) var crc: UInt32
  /// False before the first record of a scan that begins in the middle of the log: the checksum
  /// is then taken from the segment's first record.
  private var isChained: Bool

  /// - Parameter crc: the previous segment's final checksum; nil to begin in the middle.
  public init(_ bytes: UnsafeRawBufferPointer, from offset: Int = 0, crc: UInt32?) {
    self.bytes = bytes
    self.offset = offset
    self.crc = crc ?? 0
    isChained = crc != nil
  }

  public mutating func next() -> WALRecordStep {
    switch Self.frame(in: bytes, at: offset) {
    case .end: return .end
    case .invalid(let reason, let frame): return .invalid(reason: reason, frame: frame)
    case .beyondFile(let reason): return .beyondFile(reason: reason)
    case .record(let record):
      let end = offset + record.frameBytes
      let frame = offset..<end - record.padding
      if record.kind == .crc {
        guard record.data.isEmpty, !isChained || record.crc == crc else {
          return .invalid(reason: "the segment does not continue the one before", frame: frame)
        }
        crc = record.crc
      } else {
        let expected = CRC32C.extend(crc, record.data)
        guard record.crc == expected else {
          return .invalid(
            reason: "checksum \(UInt64(record.crc).hex), computed \(UInt64(expected).hex)",
            frame: frame)
        }
        crc = expected
      }
      isChained = true
      offset = end
      return .record(record)
    }
  }

  /// The frame at `offset`, without a look at its checksum.
  static func frame(in bytes: UnsafeRawBufferPointer, at offset: Int) -> WALRecordStep {
    guard bytes.count - offset >= 8 else { return .end }
    let field = UInt64(
      littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    if field == 0 { return .end }
    let top = UInt8(field >> 56)
    let length = Int(field & 0x00ff_ffff_ffff_ffff)
    let padding = Int(top & 7)
    guard top == 0 || (top & 0xf8 == 0x80 && padding > 0), (length + padding) % 8 == 0 else {
      return .invalid(reason: "invalid length field", frame: nil)
    }
    guard length + padding <= bytes.count - offset - 8 else {
      return .beyondFile(reason: "record of \(length) bytes reaches beyond the file")
    }
    let frame = offset..<offset + 8 + length
    let body = UnsafeRawBufferPointer(rebasing: bytes[offset + 8..<offset + 8 + length])
    let tail = bytes[frame.upperBound..<frame.upperBound + padding]
    guard tail.allSatisfy({ $0 == 0 }) else {
      return .invalid(reason: "padding is not zero", frame: frame)
    }
    guard let fields = try? Self.fields(of: body) else {
      return .invalid(reason: "the record is malformed", frame: frame)
    }
    guard let kind = WALRecord.Kind(rawValue: fields.type) else {
      return .invalid(reason: "unknown record type \(fields.type)", frame: frame)
    }
    return .record(
      WALRecord(
        kind: kind, crc: fields.crc, data: fields.data, offset: offset,
        frameBytes: frame.count + padding, padding: padding))
  }

  private static func fields(
    of body: UnsafeRawBufferPointer
  ) throws(WireError) -> (type: UInt64, crc: UInt32, data: UnsafeRawBufferPointer) {
    var type: UInt64 = 0
    var crc: UInt32 = 0
    var data = UnsafeRawBufferPointer(start: nil, count: 0)
    var reader = WireReader(body, "Record")
    while let field = try reader.next() {
      switch field.number {
      case 1: type = try field.uint64()
      case 2:
        let value = try field.uint64()
        guard let exact = UInt32(exactly: value) else { throw .unknownKind("Record", value) }
        crc = exact
      case 3: data = try field.buffer()
      default: break
      }
    }
    return (type, crc, data)
  }
}
