/// The name of a user or a role.
///
/// Names are byte strings to etcd. Swift's strings are equal when they only look alike (an accented
/// letter in one piece or in two), which would make two users one.
package struct AuthName: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let text: String

  package init(_ text: String) { self.text = text }

  package static func == (left: AuthName, right: AuthName) -> Bool {
    left.text.utf8.elementsEqual(right.text.utf8)
  }

  package static func < (left: AuthName, right: AuthName) -> Bool {
    left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    for byte in text.utf8 { hasher.combine(byte) }
    hasher.combine(0xff as UInt8)
  }

  package var description: String { text }

  static let root = AuthName("root")
}

/// On whose behalf a request is made.
package struct AuthCaller: Equatable, Sendable {
  /// Nobody: no token and no certificate.
  package static var anonymous: AuthCaller { AuthCaller(username: "", revision: 0) }
  package var username: String
  /// The revision of users and roles that the caller's identity was established under; 0 = nobody.
  package var revision: UInt64

  package init(username: String, revision: UInt64) {
    self.username = username
    self.revision = revision
  }

  package var isAnonymous: Bool { revision == 0 }
}
