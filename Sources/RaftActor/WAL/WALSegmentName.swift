package import Base

/// A segment's file name: `<sequence>-<first index>.wal`, each 16 hexadecimal digits.
package struct WALSegmentName: Equatable, Comparable, Sendable {
  /// 0, 1, 2, ... without holes.
  package var sequence: UInt64
  /// The first entry that the segment may contain.
  package var firstIndex: LogIndex

  package init(sequence: UInt64, firstIndex: LogIndex) {
    self.sequence = sequence
    self.firstIndex = firstIndex
  }

  /// nil for any other file.
  package init?(_ name: String) {
    guard name.hasSuffix(".wal") else { return nil }
    let parts = name.dropLast(4).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 16 }),
      let sequence = UInt64(parts[0], radix: 16), let firstIndex = LogIndex(parts[1], radix: 16)
    else { return nil }
    self.init(sequence: sequence, firstIndex: firstIndex)
  }

  package var name: String { "\(sequence.paddedHex)-\(firstIndex.paddedHex).wal" }

  package static func < (left: WALSegmentName, right: WALSegmentName) -> Bool {
    (left.sequence, left.firstIndex) < (right.sequence, right.firstIndex)
  }
}
