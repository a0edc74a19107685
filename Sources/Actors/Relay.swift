import Synchronization

/// Passes messages on to an actor that is made after the one that sends them.
public final class Relay<Message>: Sendable {
  private let target = Mutex<(@Sendable (Message) -> Void)?>(nil)

  public init() {}

  public func connect(_ target: @escaping @Sendable (Message) -> Void) {
    self.target.withLock { $0 = target }
  }

  /// Any thread. Lost while nothing is connected.
  public func send(_ message: Message) { target.withLock { $0 }?(message) }
}
