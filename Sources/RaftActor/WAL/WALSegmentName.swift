public import Base

/// A segment's file name: `<sequence>-<first index>.wal`, each 16 hexadecimal digits.
public struct WALSegmentName: Equatable, Comparable, Sendable {
  /// 0, 1, 2, ... without holes.
  public var sequence: UInt64
  /// The first entry that the segment may contain.
  public var firstIndex: LogIndex

  public init(sequence: UInt64, firstIndex: LogIndex) {
    self.sequence = sequence
    self.firstIndex = firstIndex
  }

  /// nil for any other file.
  public init?(_ name: String) {
    guard name.hasSuffix(".wal") else { return nil }
    let parts = name.dropLast(4).split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == 16 }),
      let sequence = UInt64(parts[0], radix: 16), let firstIndex = LogIndex(parts[1], radix: 16)
    else { return nil }
    self.init(sequence: sequence, firstIndex: firstIndex)
  }

  public var name: String { "\(sequence.paddedHex)-\(firstIndex.paddedHex).wal" }

  public static func < (left: WALSegmentName, right: WALSegmentName) -> Bool {
    (left.sequence, left.firstIndex) < (right.sequence, right.firstIndex)
  }
}
