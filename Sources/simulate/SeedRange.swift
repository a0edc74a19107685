import ArgumentParser

/// `A..B`, both included.
struct SeedRange: ExpressibleByArgument {
  let range: ClosedRange<UInt64>

  init(_ range: ClosedRange<UInt64>) { self.range = range }

  init?(argument: String) {
    let parts = argument.split(separator: ".", omittingEmptySubsequences: true)
    guard let first = parts.first.flatMap({ UInt64($0) }),
      let last = parts.last.flatMap({ UInt64($0) }),
      parts.count <= 2, first <= last
    else { return nil }
    range = first...last
  }

  /// `count` parts of about equal size.
  func parts(_ count: Int) -> [SeedRange] {
    let size = (range.upperBound - range.lowerBound) / UInt64(count) + 1
    return stride(from: range.lowerBound, through: range.upperBound, by: Int(size)).map {
      SeedRange($0...min(range.upperBound, $0 + size - 1))
    }
  }
}
