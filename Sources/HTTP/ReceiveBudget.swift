import Synchronization

/// What all connections together may hold of requests that are not complete: a message of which every
/// stream has sent but half adds up. Any thread.
public final class ReceiveBudget: Sendable {
  public let limitBytes: Int
  private let held = Atomic<Int>(0)

  public init(limitBytes: Int) {
    self.limitBytes = limitBytes
  }

  public var heldBytes: Int { held.load(ordering: .relaxed) }

  /// Notes that a holder has `bytes` now instead of `before`. The more is refused when there is no room
  /// for it: the holder then gives up all it has.
  public func change(from before: Int, to bytes: Int) -> Bool {
    let now = held.add(bytes - before, ordering: .relaxed).newValue
    guard bytes > before, now > limitBytes else { return true }
    held.subtract(bytes - before, ordering: .relaxed)
    return false
  }
}
