import Base

/// Frames waiting for one write: memory that is used again and again.
struct WALFrameBuffer: ~Copyable {
  private var base: UnsafeMutableRawPointer
  private var capacity: Int
  private(set) var count = 0
  /// Running checksum of the log, up to and including the last frame.
  var crc: UInt32

  private static let capacityAtRest = 1 << 20
  /// Length field, record type, checksum, tag and length of the data.
  private static let envelopeBytesMax = 8 + 2 + 6 + 6

  init(crc: UInt32) {
    self.crc = crc
    capacity = Self.capacityAtRest
    base = .allocate(byteCount: capacity, alignment: 4096)
  }

  deinit { base.deallocate() }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// Forgets the frames; memory that one large batch took is given back.
  mutating func removeAll() {
    count = 0
    guard capacity > 4 * Self.capacityAtRest else { return }
    base.deallocate()
    capacity = Self.capacityAtRest
    base = .allocate(byteCount: capacity, alignment: 4096)
  }

  mutating func append(_ entry: Entry) {
    withUnsafeTemporaryAllocation(byteCount: Entry.headerBytesMax, alignment: 8) { scratch in
      guard let start = scratch.baseAddress else { return }
      let header = UnsafeRawBufferPointer(start: start, count: entry.encodeHeader(to: start))
      entry.data.withUnsafeBytes { append(.entry, header, $0) }
    }
  }

  mutating func append(_ kind: WALRecord.Kind, _ data: Bytes) {
    data.withUnsafeBytes { append(kind, UnsafeRawBufferPointer(start: nil, count: 0), $0) }
  }

  /// The record that opens a segment and carries the checksum over.
  mutating func appendSegmentStart() { append(.crc, []) }

  /// One frame whose data is `head` followed by `body`.
  private mutating func append(
    _ kind: WALRecord.Kind, _ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer
  ) {
    crc = CRC32C.extend(CRC32C.extend(crc, head), body)
    let dataCount = head.count + body.count
    reserve(Self.envelopeBytesMax + dataCount + 8)
    let start = base + count
    var cursor = VarintCursor(start + 8)
    cursor.field(tag: 0x08, kind.rawValue)
    cursor.field(tag: 0x10, UInt64(crc))
    if dataCount > 0 { cursor.field(tag: 0x1a, UInt64(dataCount)) }
    var end = start + 8 + cursor.count
    end = Self.copy(head, to: end)
    end = Self.copy(body, to: end)
    let length = end - (start + 8)
    let padding = -length & 7
    end.initializeMemory(as: UInt8.self, repeating: 0, count: padding)
    let top: UInt64 = padding == 0 ? 0 : 0x80 | UInt64(padding)
    start.storeBytes(of: (UInt64(length) | top << 56).littleEndian, as: UInt64.self)
    count += 8 + length + padding
  }

  private static func copy(
    _ part: UnsafeRawBufferPointer, to target: UnsafeMutableRawPointer
  ) -> UnsafeMutableRawPointer {
    if let source = part.baseAddress { target.copyMemory(from: source, byteCount: part.count) }
    return target + part.count
  }

  private mutating func reserve(_ more: Int) {
    guard count + more > capacity else { return }
    capacity = max(2 * capacity, count + more)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 4096)
    larger.copyMemory(from: base, byteCount: count)
    base.deallocate()
    base = larger
  }
}
