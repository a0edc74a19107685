public import Base
import Glibc

/// Keys selected by `key` and `range_end`, by etcd's rule for every request that takes a range.
public enum KeyRange: Hashable, Sendable {
  /// `range_end` empty: exactly this key.
  case single(Bytes)
  /// `start <= key < end`; empty when `end <= start`.
  case span(start: Bytes, end: Bytes)
  /// `range_end` is one zero byte: every key from `start` on.
  case from(Bytes)

  public init(key: Bytes, rangeEnd: Bytes) {
    if rangeEnd.isEmpty {
      self = .single(key)
    } else if rangeEnd == [0] {
      self = .from(key)
    } else {
      self = .span(start: key, end: rangeEnd)
    }
  }

  public var start: Bytes {
    switch self {
    case .single(let key), .from(let key): key
    case .span(let start, _): start
    }
  }

  public func contains(_ key: Bytes) -> Bool {
    switch self {
    case .single(let single): key == single
    case .from(let start): !key.precedes(start)
    case .span(let start, let end): !key.precedes(start) && key.precedes(end)
    }
  }
}

extension Array where Element == UInt8 {
  /// Unsigned byte order: the order of keys.
  public func precedes(_ other: Bytes) -> Bool { compare(other) < 0 }

  /// Negative, zero or positive, like `memcmp` with the shorter array first on a tie.
  public func compare(_ other: Bytes) -> Int {
    withUnsafeBytes { left in
      other.withUnsafeBytes { right in
        let common = Swift.min(left.count, right.count)
        let order = common == 0 ? 0 : Int(memcmp(left.baseAddress!, right.baseAddress!, common))
        return order != 0 ? order : left.count - right.count
      }
    }
  }
}
