public import Base
public import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

/// Users, roles and permissions, and whether they are asked for.
///
/// A value that every member reaches by applying the same entries. What a user may do is worked out
/// when users or roles change, not when a request asks.
public struct AuthState: Sendable {
  public enum Access: Sendable {
    case read
    case write
  }

  /// What a user's roles add up to.
  struct Rights: Equatable, Sendable {
    var isRoot = false
    var read = KeyIntervals()
    var write = KeyIntervals()
  }

  struct User: Sendable {
    var record: Authpb_User
    var rights = Rights()
  }

  static let enabledKey = Bytes("authEnabled".utf8)
  static let revisionKey = Bytes("authRevision".utf8)

  public internal(set) var isEnabled = false
  /// Counts changes, as etcd counts them. The first revision is 1.
  public internal(set) var revision: UInt64 = 1
  var users: [AuthName: User] = [:]
  var roles: [AuthName: Authpb_Role] = [:]

  public init() {}

  /// Takes up what the store's file holds.
  /// - Parameter revision: 0 if the file has none yet.
  public init(
    isEnabled: Bool, revision: UInt64, users: [Authpb_User], roles: [Authpb_Role]
  ) {
    self.isEnabled = isEnabled
    self.revision = max(1, revision)
    for role in roles { self.roles[AuthName(role.name.text)] = role }
    for user in users { self.users[AuthName(user.name.text)] = User(record: user) }
    for name in self.users.keys { refresh(name) }
  }

  // MARK: - Questions

  /// Whether the caller may do what only root may.
  public func checkAdmin(_ caller: AuthCaller) throws(EtcdError) {
    guard isEnabled else { return }
    guard !caller.username.isEmpty else { throw .userEmpty }
    guard let user = users[AuthName(caller.username)] else { throw .userNotFound }
    guard user.rights.isRoot else { throw .permissionDenied }
  }

  public func isAdmin(_ caller: AuthCaller) -> Bool {
    !isEnabled || users[AuthName(caller.username)]?.rights.isRoot == true
  }

  /// Whether the caller may read or write all keys of a range.
  public func check(
    _ caller: AuthCaller, _ access: Access, _ range: KeyRange
  ) throws(EtcdError) {
    guard isEnabled else { return }
    guard !caller.isAnonymous else { throw .userEmpty }
    guard caller.revision >= revision else { throw .authRevisionOld }
    guard let rights = users[AuthName(caller.username)]?.rights else { throw .permissionDenied }
    guard !rights.isRoot else { return }
    let allowed = access == .read ? rights.read : rights.write
    guard allowed.covers(range) else { throw .permissionDenied }
  }

  /// Users or roles have changed since the caller's rights were looked at.
  public func checkRevision(_ caller: AuthCaller) throws(EtcdError) {
    if isEnabled, !caller.isAnonymous, caller.revision != revision { throw .authRevisionOld }
  }

  /// What a login needs to know of a user.
  /// - Throws: if nobody can log in under that name.
  public func passwordHash(of name: String) throws(EtcdError) -> Bytes {
    guard isEnabled else { throw .authNotEnabled }
    guard let user = users[AuthName(name)]?.record else { throw .authFailed }
    guard !user.options.noPassword else { throw .noPasswordUser }
    return Bytes(user.password)
  }

  func hasPassword(_ name: String) -> Bool {
    users[AuthName(name)].map { !$0.record.options.noPassword } ?? false
  }

  /// In byte order.
  public var userNames: [String] { users.keys.sorted().map(\.text) }
  public var roleNames: [String] { roles.keys.sorted().map(\.text) }

  /// Sorted.
  public func roles(ofUser name: String) throws(EtcdError) -> [String] {
    guard let user = users[AuthName(name)] else { throw .userNotFound }
    return user.record.roles
  }

  public func hasRole(_ caller: AuthCaller, _ role: String) -> Bool {
    users[AuthName(caller.username)]?.record.roles.contains { AuthName($0) == AuthName(role) }
      ?? false
  }

  /// Sorted by key. Root's role may do everything, whatever was granted to it.
  public func permissions(ofRole name: String) throws(EtcdError) -> [Authpb_Permission] {
    guard let role = roles[AuthName(name)] else { throw .roleNotFound }
    guard AuthName(name) != .root else {
      return [
        .with {
          $0.permType = .readwrite
          $0.rangeEnd = Data([0])
        }
      ]
    }
    return role.keyPermission
  }

  // MARK: - Rights

  /// Works out anew what a user may do.
  mutating func refresh(_ name: AuthName) {
    guard let record = users[name]?.record else { return }
    var rights = Rights()
    var read: [KeyRange] = []
    var write: [KeyRange] = []
    for role in record.roles.map(AuthName.init) {
      if role == .root { rights.isRoot = true }
      for permission in roles[role]?.keyPermission ?? [] {
        let range = KeyRange(
          key: Bytes(permission.key), rangeEnd: Bytes(permission.rangeEnd))
        switch permission.permType {
        case .read: read.append(range)
        case .write: write.append(range)
        case .readwrite:
          read.append(range)
          write.append(range)
        case .UNRECOGNIZED: break
        }
      }
    }
    rights.read = KeyIntervals(read)
    rights.write = KeyIntervals(write)
    users[name]?.rights = rights
  }

  mutating func refreshUsers(withRole role: AuthName) {
    for (name, user) in users where user.record.roles.contains(where: { AuthName($0) == role }) {
      refresh(name)
    }
  }
}

extension Data {
  /// A name in the store's file.
  var text: String { String(decoding: self, as: UTF8.self) }
}
