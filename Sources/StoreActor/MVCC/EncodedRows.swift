public import Base

/// Rows of a range as they stand in its answer: `kvs` fields of a RangeResponse, encoded.
///
/// Kept in pieces of bounded size: a long answer is neither moved while it grows nor put together
/// at its end, and costs no allocation per row.
public struct EncodedRows: Equatable, Sendable {
  /// A piece is closed before it grows beyond this, unless a single row is larger.
  static let pieceBytes = 256 << 10
  private static let fieldTag: UInt8 = 2 << 3 | 2

  /// Pieces that are full.
  private(set) var closed: [Bytes] = []
  /// The piece being filled.
  private(set) var open: Bytes = []
  public private(set) var count = 0
  public private(set) var byteCount = 0

  public init() {}

  public var isEmpty: Bool { count == 0 }

  /// Adds an encoded mvccpb.KeyValue.
  mutating func append(_ row: UnsafeRawBufferPointer) {
    var size = UInt64(row.count)
    let bytes = 1 + ProtobufWriter.varintCount(size) + row.count
    makeRoom(for: bytes)
    open.append(Self.fieldTag)
    while size >= 0x80 {
      open.append(UInt8(truncatingIfNeeded: size) | 0x80)
      size >>= 7
    }
    open.append(UInt8(truncatingIfNeeded: size))
    open.append(contentsOf: row)
    count += 1
    byteCount += bytes
  }

  mutating func append(_ row: Bytes) { row.withUnsafeBytes { append($0) } }

  /// The rows one by one: for tests and simulation.
  public var records: [Bytes] {
    var writer = ProtobufWriter()
    for piece in closed + [open] { writer.raw(piece) }
    return writer.bytes.withUnsafeBytes { bytes in
      var reader = ProtobufReader(bytes)
      var records: [Bytes] = []
      while let field = try? reader.next(), let record = try? field.bytes() {
        records.append(record)
      }
      return records
    }
  }

  private mutating func makeRoom(for bytes: Int) {
    if open.isEmpty {
      open.reserveCapacity(bytes)
    } else if open.count + bytes > Self.pieceBytes {
      closed.append(open)
      // More of the kind is to come.
      open = []
      open.reserveCapacity(max(bytes, Self.pieceBytes))
    }
  }
}
