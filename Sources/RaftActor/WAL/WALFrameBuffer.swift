import Base

/// Frames waiting for one write: memory that is used again and again.
///
/// In front of them lies what the log holds of the block in which they begin, so that they can also
/// be written as whole blocks, as a disk wants them that is written to without the page cache.
struct WALFrameBuffer: ~Copyable {
  /// A multiple of the sectors of all disks, and what file systems align to.
  static let blockBytes = 4096

  private var base: UnsafeMutableRawPointer
  private var capacity: Int
  /// Bytes of the first block that are in the log already; fewer than a block.
  private(set) var carried = 0
  private(set) var count = 0
  /// Running checksum of the log, up to and including the last frame.
  var crc: UInt32

  private static let capacityAtRest = 1 << 20
  /// Length field, record type, checksum, tag and length of the data.
  private static let envelopeBytesMax = 8 + 2 + 6 + 6

  init(crc: UInt32) {
    self.crc = crc
    capacity = Self.capacityAtRest
    base = .allocate(byteCount: capacity, alignment: Self.blockBytes)
  }

  deinit { base.deallocate() }

  /// The frames.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + carried, count: count) }

  /// The frames in whole blocks, with what precedes them and zeros behind them. Valid until the next
  /// change.
  mutating func blocks() -> UnsafeRawBufferPointer {
    let end = carried + count
    let whole = Self.roundedUp(end)
    (base + end).initializeMemory(as: UInt8.self, repeating: 0, count: whole - end)
    return UnsafeRawBufferPointer(start: base, count: whole)
  }

  /// The frames are in the log: forgets all but the block in which the next ones begin. Memory that
  /// one large batch took is given back.
  mutating func didWrite() {
    let end = carried + count
    let kept = end % Self.blockBytes
    if end > kept { base.copyMemory(from: base + (end - kept), byteCount: kept) }
    carried = kept
    count = 0
    if capacity > 4 * Self.capacityAtRest { move(toCapacity: Self.capacityAtRest) }
  }

  /// The next frames begin a file.
  mutating func startFile() {
    precondition(count == 0, "a file starts between batches")
    carried = 0
  }

  /// Takes what the log holds of the block in which the next frames begin.
  mutating func carry(_ bytes: UnsafeRawBufferPointer) {
    precondition(count == 0 && bytes.count < Self.blockBytes, "part of a block, between batches")
    if let source = bytes.baseAddress { base.copyMemory(from: source, byteCount: bytes.count) }
    carried = bytes.count
  }

  private static func roundedUp(_ bytes: Int) -> Int { (bytes + blockBytes - 1) & -blockBytes }

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
    let start = base + carried + count
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
    let needed = Self.roundedUp(carried + count + more)
    if needed > capacity { move(toCapacity: max(2 * capacity, needed)) }
  }

  private mutating func move(toCapacity capacity: Int) {
    let target = UnsafeMutableRawPointer.allocate(
      byteCount: capacity, alignment: Self.blockBytes)
    target.copyMemory(from: base, byteCount: carried + count)
    base.deallocate()
    base = target
    self.capacity = capacity
  }
}
