/// A position in the store's history: transaction `main`, and change `sub` inside it.
///
/// Stored as 17 bytes: `main` big-endian, `_`, `sub` big-endian, so that byte order is time order.
public struct Revision: Hashable, Comparable, Sendable {
  public var main: Int64
  public var sub: Int64

  @inlinable
  public init(main: Int64, sub: Int64 = 0) {
    self.main = main
    self.sub = sub
  }

  @inlinable
  public static func < (left: Revision, right: Revision) -> Bool {
    left.main != right.main ? left.main < right.main : left.sub < right.sub
  }
}
