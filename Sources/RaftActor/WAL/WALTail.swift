/// Where the readable records of the last segment end, and what lies behind them.
struct WALTail {
  let segment: WALSegmentName
  /// End of the last good record: where the next one goes.
  let offset: Int
  /// Running checksum there.
  let crc: UInt32
  /// End of the last byte that is not zero; `offset` when the rest is clean.
  let dirtyEnd: Int
  /// Why the bytes behind `offset` are not records; nil when there are none.
  let tornReason: String?
  let fileBytes: Int
}

extension WALTail {
  private static let sectorBytes = 512

  /// Decides whether a last segment that stopped being readable may be cut off there.
  ///
  /// A power cut leaves any subset of the sectors of what was not synced. Cutting is right for
  /// that, and only for that: a record that was acknowledged must never vanish silently.
  /// - Parameters:
  ///   - step: why reading stopped at `offset`; not a record.
  ///   - mark: how far the log is known to be synced, if that is known.
  ///   - unsyncedBytesMax: the most a writer leaves unsynced.
  /// - Throws: `WALError.corrupt`, or `segmentMissing` if a later segment was synced already.
  static func judge(
    _ step: WALRecordStep, in bytes: UnsafeRawBufferPointer, offset: Int, crc: UInt32,
    segment: WALSegmentName, directory: String, mark: SyncedMark?, unsyncedBytesMax: Int
  ) throws(WALError) -> WALTail {
    let path = directory + "/" + segment.name
    let dirtyEnd = max(offset, endOfContent(bytes))
    if let mark, mark.sequence > segment.sequence {
      throw .segmentMissing(
        directory: directory,
        reason: "segment \(mark.sequence) was in use, the last one there is \(segment.sequence)")
    }
    let verdict = verdict(step, in: bytes, offset: offset, dirtyEnd: dirtyEnd)
    if let mark, mark.sequence == segment.sequence, offset < mark.offset {
      let reason = verdict.reason ?? "the log ends here"
      throw .corrupt(
        file: path, offset: offset, reason: "\(reason), but it was synced up to \(mark.offset)")
    }
    guard let reason = verdict.reason else {
      return WALTail(
        segment: segment, offset: offset, crc: crc, dirtyEnd: offset, tornReason: nil,
        fileBytes: bytes.count)
    }
    guard verdict.mayBeTorn else { throw .corrupt(file: path, offset: offset, reason: reason) }
    // Sectors of one unsynced batch reach the disk in any order, so good records may follow a hole
    // within that batch. Without a mark nothing tells how far a batch reached.
    let tolerated = mark == nil || verdict.isBeyondFile ? 0 : unsyncedBytesMax
    let follower = chainedRecord(in: bytes, after: offset, before: dirtyEnd)
    if let follower, follower >= offset + tolerated {
      throw .corrupt(
        file: path, offset: offset, reason: "\(reason), but valid records follow at \(follower)")
    }
    return WALTail(
      segment: segment, offset: offset, crc: crc, dirtyEnd: dirtyEnd, tornReason: reason,
      fileBytes: bytes.count)
  }

  private struct Verdict {
    var reason: String?
    var mayBeTorn = true
    var isBeyondFile = false
  }

  private static func verdict(
    _ step: WALRecordStep, in bytes: UnsafeRawBufferPointer, offset: Int, dirtyEnd: Int
  ) -> Verdict {
    switch step {
    case .record: preconditionFailure("reading goes on after a good record")
    case .end:
      return dirtyEnd == offset ? Verdict() : Verdict(reason: "bytes behind a zero length")
    case .beyondFile(let reason): return Verdict(reason: reason, isBeyondFile: true)
    case .invalid(let reason, nil):
      // The write stopped inside the length field.
      return Verdict(reason: reason, mayBeTorn: dirtyEnd < offset + 8)
    case .invalid(let reason, let frame?):
      let stoppedInside = dirtyEnd < frame.upperBound
      return Verdict(
        reason: reason,
        mayBeTorn: stoppedInside || hasZeroSector(bytes, offset + 8..<frame.upperBound)
      )
    }
  }

  /// Whether a part of `range` that shares a sector is entirely zero.
  private static func hasZeroSector(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> Bool {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = min(range.upperBound, (start / sectorBytes + 1) * sectorBytes)
      if bytes[start..<end].allSatisfy({ $0 == 0 }) { return true }
      start = end
    }
    return false
  }

  static func endOfContent(_ bytes: UnsafeRawBufferPointer) -> Int {
    var end = bytes.count
    while end >= 8, bytes.loadUnaligned(fromByteOffset: end - 8, as: UInt64.self) == 0 { end -= 8 }
    while end > 0, bytes[end - 1] == 0 { end -= 1 }
    return end
  }

  /// The first frame behind `offset` whose checksum is confirmed by the frame after it.
  private static func chainedRecord(
    in bytes: UnsafeRawBufferPointer, after offset: Int, before end: Int
  ) -> Int? {
    for candidate in stride(from: offset + 8, to: end, by: 8) {
      guard case .record(let first) = WALRecordScanner.frame(in: bytes, at: candidate) else {
        continue
      }
      var scanner = WALRecordScanner(bytes, from: candidate + first.frameBytes, crc: first.crc)
      if case .record(let second) = scanner.next(), !second.data.isEmpty { return candidate }
    }
    return nil
  }
}
