/// The name of a user or a role.
///
/// Names are byte strings to etcd. Swift's strings are equal when they only look alike (an accented
/// letter in one piece or in two), which would make two users one.
public struct AuthName: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let text: String

  public init(_ text: String) { self.text = text }

  public static func == (left: AuthName, right: AuthName) -> Bool {
    left.text.utf8.elementsEqual(right.text.utf8)
  }

  public static func < (left: AuthName, right: AuthName) -> Bool {
    left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
  }

  public func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
    hasher.combine(0xff as UInt8)
  }

  public var description: String { text }

  static let root = AuthName("root")
}

/// On whose behalf a request is made.
public struct AuthCaller: Equatable, Sendable {
  /// Nobody: no token and no certificate.
  public static var anonymous: AuthCaller { AuthCaller(username: "", revision: 0) }
  public var username: String
  /// The revision of users and roles that the caller's identity was established under; 0 = nobody.
  public var revision: UInt64

  public init(username: String, revision: UInt64) {
    self.username = username
    self.revision = revision
  }

  public var isAnonymous: Bool { revision == 0 }
}
