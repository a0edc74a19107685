import Base

/// Code that reads bytes it cannot trust.
///
/// An input may be refused; it may not end the process, take long, or take much memory.
protocol FuzzTarget {
  static var name: String { get }
  /// Good inputs, from which others are made.
  static var corpus: [Bytes] { get }

  init()

  /// Reads one input.
  mutating func read(_ input: Bytes, _ random: inout SeededGenerator)

  /// Removes what the target has put on the disk. Not called if an input has ended the process.
  static func cleanUp()
}

extension FuzzTarget {
  static func cleanUp() {}
}

enum FuzzTargets {
  static var all: [any FuzzTarget.Type] {
    [
      WALTarget.self, PeerStreamTarget.self, HTTP2Target.self, HTTP1Target.self,
      RequestTarget.self, ConfigurationTarget.self, SnapshotTarget.self,
    ]
  }
}
