import Base

/// A set of keys made of intervals: sorted, merged where they overlap or touch.
///
/// Merging makes every question one binary search: a range is inside the set exactly if one interval
/// holds all of it.
public struct KeyIntervals: Equatable, Sendable {
  /// `start <= key < end`; nil = no upper bound.
  struct Interval: Equatable, Sendable {
    var start: Bytes
    var end: Bytes?
  }

  private(set) var intervals: [Interval] = []

  public init() {}

  /// Empty ranges hold no key and are left out.
  public init(_ ranges: [KeyRange]) {
    let sorted = ranges.compactMap(Self.interval).sorted { $0.start.precedes($1.start) }
    for next in sorted { append(next) }
  }

  private static func interval(_ range: KeyRange) -> Interval? {
    switch range {
    case .single(let key): Interval(start: key, end: key + [0])
    case .from(let start): Interval(start: start, end: nil)
    case .span(let start, let end):
      start.precedes(end) ? Interval(start: start, end: end) : nil
    }
  }

  private mutating func append(_ next: Interval) {
    guard let last = intervals.last, Self.reaches(last.end, next.start) else {
      return intervals.append(next)
    }
    if !Self.reaches(last.end, next.end) { intervals[intervals.count - 1].end = next.end }
  }

  /// Whether an interval that ends at `end` goes as far as `other`.
  private static func reaches(_ end: Bytes?, _ other: Bytes?) -> Bool {
    guard let end else { return true }
    guard let other else { return false }
    return !end.precedes(other)
  }

  /// Whether every key of `range` is in the set. An empty range is judged by its start, as in etcd.
  public func covers(_ range: KeyRange) -> Bool {
    guard let interval = interval(at: range.start) else { return false }
    switch range {
    case .single: return true
    case .span(_, let end): return Self.reaches(interval.end, end)
    case .from: return interval.end == nil
    }
  }

  /// The interval that holds `key`.
  private func interval(at key: Bytes) -> Interval? {
    var low = 0
    var high = intervals.count
    while low < high {
      let middle = (low + high) / 2
      if key.precedes(intervals[middle].start) { high = middle } else { low = middle + 1 }
    }
    guard low > 0 else { return nil }
    let candidate = intervals[low - 1]
    guard let end = candidate.end else { return candidate }
    return key.precedes(end) ? candidate : nil
  }
}
