public import Base
public import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

/// The changes that the log asks for. Each checks first, then changes, then adds what is to be stored;
/// after an error nothing has changed.
extension AuthState {
  public mutating func enable(_ writes: inout [TableWrite]) throws(EtcdError) {
    guard !isEnabled else { return }
    guard let root = users[.root] else { throw .rootUserMissing }
    guard root.rights.isRoot else { throw .rootRoleMissing }
    isEnabled = true
    writes.append(TableWrite(bucket: .auth, key: Self.enabledKey, value: [1]))
  }

  /// - Returns: whether it was on.
  public mutating func disable(_ writes: inout [TableWrite]) -> Bool {
    guard isEnabled else { return false }
    isEnabled = false
    writes.append(TableWrite(bucket: .auth, key: Self.enabledKey, value: [0]))
    countChange(&writes)
    return true
  }

  // MARK: - Users

  /// - Parameter hash: makes the hash of a password that arrived in clear, as members of etcd 3.4
  ///   propose it.
  public mutating func addUser(
    _ request: Etcdserverpb_AuthUserAddRequest, hash: (String) -> Bytes?,
    _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    guard !request.name.isEmpty else { throw .userEmpty }
    let name = AuthName(request.name)
    guard users[name] == nil else { throw .userExists }
    var record = Authpb_User()
    record.name = Data(request.name.utf8)
    // Present even if empty: etcd 3.5 reads through it without looking.
    record.options = request.options
    if !record.options.noPassword {
      record.password = try Self.password(request.password, request.hashedPassword, hash)
    }
    users[name] = User(record: record)
    store(name, &writes)
    countChange(&writes)
  }

  private static func password(
    _ clear: String, _ encoded: String, _ hash: (String) -> Bytes?
  ) throws(EtcdError) -> Data {
    if !clear.isEmpty, encoded.isEmpty {
      guard let made = hash(clear) else { throw .passwordTooLong }
      return Data(made)
    }
    guard let decoded = Data(base64Encoded: encoded) else { throw .noPasswordUser }
    return decoded
  }

  public mutating func deleteUser(
    _ nameText: String, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(nameText)
    if isEnabled, name == .root { throw .invalidAuthManagement }
    guard users.removeValue(forKey: name) != nil else { throw .userNotFound }
    store(name, &writes)
    countChange(&writes)
  }

  public mutating func changePassword(
    _ request: Etcdserverpb_AuthUserChangePasswordRequest, hash: (String) -> Bytes?,
    _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(request.name)
    guard var record = users[name]?.record else { throw .userNotFound }
    record.password =
      record.options.noPassword
      ? Data() : try Self.password(request.password, request.hashedPassword, hash)
    users[name]?.record = record
    store(name, &writes)
    countChange(&writes)
  }

  public mutating func grantRole(
    _ roleText: String, toUser nameText: String, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(nameText)
    let role = AuthName(roleText)
    guard let granted = users[name]?.record.roles.map(AuthName.init) else { throw .userNotFound }
    guard role == .root || roles[role] != nil else { throw .roleNotFound }
    guard !granted.contains(role) else { return }
    users[name]?.record.roles = (granted + [role]).sorted().map(\.text)
    refresh(name)
    store(name, &writes)
    countChange(&writes)
  }

  public mutating func revokeRole(
    _ roleText: String, fromUser nameText: String, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(nameText)
    let role = AuthName(roleText)
    if isEnabled, name == .root, role == .root { throw .invalidAuthManagement }
    guard users[name] != nil else { throw .userNotFound }
    guard removeRole(role, fromUser: name, &writes) else { throw .roleNotGranted }
    countChange(&writes)
  }

  /// - Returns: whether the user had it.
  private mutating func removeRole(
    _ role: AuthName, fromUser name: AuthName, _ writes: inout [TableWrite]
  ) -> Bool {
    guard let granted = users[name]?.record.roles else { return false }
    let kept = granted.filter { AuthName($0) != role }
    guard kept.count < granted.count else { return false }
    users[name]?.record.roles = kept
    refresh(name)
    store(name, &writes)
    return true
  }

  // MARK: - Roles

  public mutating func addRole(
    _ nameText: String, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    guard !nameText.isEmpty else { throw .roleEmpty }
    let name = AuthName(nameText)
    guard roles[name] == nil else { throw .roleExists }
    roles[name] = Authpb_Role.with { $0.name = Data(nameText.utf8) }
    storeRole(name, &writes)
    countChange(&writes)
  }

  public mutating func deleteRole(
    _ nameText: String, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(nameText)
    if isEnabled, name == .root { throw .invalidAuthManagement }
    guard roles.removeValue(forKey: name) != nil else { throw .roleNotFound }
    storeRole(name, &writes)
    for user in users.keys.sorted() { _ = removeRole(name, fromUser: user, &writes) }
    countChange(&writes)
  }

  /// - Parameter checksRange: members before 3.6 take any range.
  public mutating func grantPermission(
    _ request: Etcdserverpb_AuthRoleGrantPermissionRequest, checksRange: Bool = true,
    _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    guard request.hasPerm else { throw .permissionNotGiven }
    if checksRange { try Self.checkRange(request.perm) }
    let name = AuthName(request.name)
    guard var permissions = roles[name]?.keyPermission else { throw .roleNotFound }
    var new = Authpb_Permission()
    new.permType = request.perm.permType
    new.key = request.perm.key
    new.rangeEnd = request.perm.rangeEnd
    // Of several with one key only the first is looked at, as in etcd.
    let key = Bytes(new.key)
    let position =
      permissions.firstIndex { !Bytes($0.key).precedes(key) } ?? permissions.count
    if position < permissions.count, permissions[position].key == new.key,
      permissions[position].rangeEnd == new.rangeEnd
    {
      permissions[position].permType = new.permType
    } else {
      // Behind those of the same key.
      let end = permissions.firstIndex { key.precedes(Bytes($0.key)) } ?? permissions.count
      permissions.insert(new, at: end)
    }
    roles[name]?.keyPermission = permissions
    storeRole(name, &writes)
    refreshUsers(withRole: name)
    countChange(&writes)
  }

  /// Whether a permission can be granted: it names a key, and at least one.
  public static func checkRange(_ permission: Authpb_Permission) throws(EtcdError) {
    guard !permission.key.isEmpty else { throw .invalidAuthManagement }
    if case .span(let start, let end) = KeyRange(
      key: Bytes(permission.key), rangeEnd: Bytes(permission.rangeEnd)),
      !start.precedes(end)
    {
      throw .invalidAuthManagement
    }
  }

  public mutating func revokePermission(
    _ request: Etcdserverpb_AuthRoleRevokePermissionRequest, _ writes: inout [TableWrite]
  ) throws(EtcdError) {
    let name = AuthName(request.role)
    guard let permissions = roles[name]?.keyPermission else { throw .roleNotFound }
    let kept = permissions.filter { $0.key != request.key || $0.rangeEnd != request.rangeEnd }
    guard kept.count < permissions.count else { throw .permissionNotGranted }
    roles[name]?.keyPermission = kept
    storeRole(name, &writes)
    refreshUsers(withRole: name)
    countChange(&writes)
  }

  // MARK: - To be stored

  private mutating func countChange(_ writes: inout [TableWrite]) {
    revision += 1
    writes.append(revisionWrite)
  }

  /// The revision as the file holds it.
  public var revisionWrite: TableWrite {
    TableWrite(bucket: .auth, key: Self.revisionKey, value: revision.bigEndianBytes)
  }

  private func store(_ name: AuthName, _ writes: inout [TableWrite]) {
    let value = users[name].map { Self.encoded($0.record) }
    writes.append(TableWrite(bucket: .authUsers, key: Bytes(name.text.utf8), value: value))
  }

  private func storeRole(_ name: AuthName, _ writes: inout [TableWrite]) {
    let value = roles[name].map { Self.encoded($0) }
    writes.append(TableWrite(bucket: .authRoles, key: Bytes(name.text.utf8), value: value))
  }

  private static func encoded(_ message: some SwiftProtobuf.Message) -> Bytes {
    do {
      return try message.serializedBytes()
    } catch {
      // Only a required field that is missing makes encoding fail; these messages have none.
      preconditionFailure("a record of users and roles cannot be encoded: \(error)")
    }
  }
}
