import Base
import EtcdAPI
import FoundationEssentials
import SwiftProtobuf
import Testing

@testable import StoreActor

/// Users and roles with the tables that their changes have filled.
struct StoredAuth {
  var state = AuthState()
  var tables: [BackendBucket: [Bytes: Bytes]] = [:]

  mutating func change(
    _ body: (inout AuthState, inout [TableWrite]) throws(EtcdError) -> Void
  ) throws(EtcdError) {
    var writes: [TableWrite] = []
    let before = state
    do throws(EtcdError) {
      try body(&state, &writes)
    } catch {
      #expect(writes.isEmpty && before.revision == state.revision)
      throw error
    }
    store(writes)
  }

  private mutating func store(_ writes: [TableWrite]) {
    for write in writes { tables[write.bucket, default: [:]][write.key] = write.value }
  }

  mutating func disable() {
    var writes: [TableWrite] = []
    _ = state.disable(&writes)
    store(writes)
  }

  /// The same as a member finds it at its next start.
  func reloaded() throws -> AuthState {
    AuthState(
      isEnabled: tables[.auth]?[AuthState.enabledKey] == [1],
      revision: tables[.auth]?[AuthState.revisionKey].flatMap { bytes in
        bytes.withUnsafeBytes { UInt64(bigEndianBytes: $0) }
      } ?? 0,
      users: try (tables[.authUsers] ?? [:]).values.map { try Authpb_User(serializedBytes: $0) },
      roles: try (tables[.authRoles] ?? [:]).values.map { try Authpb_Role(serializedBytes: $0) })
  }

  mutating func addUser(_ name: String, password: Bytes = [1]) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in
      var request = Etcdserverpb_AuthUserAddRequest()
      request.name = name
      request.hashedPassword = Data(password).base64EncodedString()
      try state.addUser(request, hash: { _ in nil }, &writes)
    }
  }

  mutating func addRole(_ name: String) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in try state.addRole(name, &writes) }
  }

  mutating func grant(_ role: String, to user: String) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in
      try state.grantRole(role, toUser: user, &writes)
    }
  }

  mutating func permit(
    _ role: String, _ type: Authpb_Permission.TypeEnum, _ key: String, _ end: String = ""
  ) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in
      var request = Etcdserverpb_AuthRoleGrantPermissionRequest()
      request.name = role
      request.perm.permType = type
      request.perm.key = Data(key.utf8)
      request.perm.rangeEnd = Data(end.utf8)
      try state.grantPermission(request, &writes)
    }
  }

  mutating func forbid(_ role: String, _ key: String, _ end: String = "") throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in
      var request = Etcdserverpb_AuthRoleRevokePermissionRequest()
      request.role = role
      request.key = Data(key.utf8)
      request.rangeEnd = Data(end.utf8)
      try state.revokePermission(request, &writes)
    }
  }

  mutating func deleteUser(_ name: String) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in try state.deleteUser(name, &writes) }
  }

  mutating func deleteRole(_ name: String) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in try state.deleteRole(name, &writes) }
  }

  mutating func revoke(_ role: String, from user: String) throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in
      try state.revokeRole(role, fromUser: user, &writes)
    }
  }

  mutating func enable() throws(EtcdError) {
    try change { (state, writes) throws(EtcdError) in try state.enable(&writes) }
  }

  /// Root with its role, and authentication on.
  static func enabled() throws -> StoredAuth {
    var auth = StoredAuth()
    try auth.addUser("root")
    try auth.grant("root", to: "root")
    try auth.enable()
    return auth
  }

  func caller(_ name: String) -> AuthCaller {
    AuthCaller(username: name, revision: state.revision)
  }
}

private func refusal(_ body: () throws(EtcdError) -> Void) -> EtcdError? {
  do throws(EtcdError) {
    try body()
    return nil
  } catch {
    return error
  }
}

@Suite struct AuthStateTests {
  @Test func rootComesBeforeEverythingElse() throws {
    var auth = StoredAuth()
    #expect(throws: EtcdError.rootUserMissing) { try auth.enable() }
    try auth.addUser("root")
    #expect(throws: EtcdError.rootRoleMissing) { try auth.enable() }
    try auth.grant("root", to: "root")
    #expect(auth.state.revision == 3)
    try auth.enable()
    try auth.enable()
    #expect(auth.state.isEnabled && auth.state.revision == 3)
    try auth.addRole("root")
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.deleteUser("root") }
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.deleteRole("root") }
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.revoke("root", from: "root") }
    auth.disable()
    #expect(!auth.state.isEnabled && auth.state.revision == 5)
    auth.disable()
    #expect(auth.state.revision == 5)
    try auth.deleteUser("root")
  }

  @Test func namesHaveToFit() throws {
    var auth = StoredAuth()
    #expect(throws: EtcdError.userEmpty) { try auth.addUser("") }
    #expect(throws: EtcdError.roleEmpty) { try auth.addRole("") }
    try auth.addUser("u")
    try auth.addRole("r")
    #expect(throws: EtcdError.userExists) { try auth.addUser("u") }
    #expect(throws: EtcdError.roleExists) { try auth.addRole("r") }
    #expect(throws: EtcdError.userNotFound) { try auth.grant("r", to: "x") }
    #expect(throws: EtcdError.roleNotFound) { try auth.grant("x", to: "u") }
    let revision = auth.state.revision
    try auth.grant("r", to: "u")
    try auth.grant("r", to: "u")
    #expect(auth.state.revision == revision + 1)
    #expect(throws: EtcdError.roleNotFound) { try auth.permit("x", .read, "a") }
    #expect(throws: EtcdError.permissionNotGranted) { try auth.forbid("r", "a") }
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.permit("r", .read, "") }
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.permit("r", .read, "b", "a") }
    #expect(throws: EtcdError.invalidAuthManagement) { try auth.permit("r", .read, "b", "b") }
    try auth.permit("r", .read, "b", "\0")
    // Two spellings that look alike are two users.
    try auth.addUser("\u{e9}")
    try auth.addUser("e\u{301}")
    #expect(auth.state.userNames == ["e\u{301}", "u", "\u{e9}"])
  }

  @Test func rightsFollowRolesAndPermissions() throws {
    var auth = try StoredAuth.enabled()
    try auth.addUser("u")
    try auth.addRole("r")
    try auth.grant("r", to: "u")
    try auth.permit("r", .read, "a", "c")
    try auth.permit("r", .write, "b")
    try auth.permit("r", .readwrite, "c", "d")
    func may(_ access: AuthState.Access, _ range: KeyRange) -> EtcdError? {
      refusal { () throws(EtcdError) in try auth.state.check(auth.caller("u"), access, range) }
    }
    #expect(may(.read, .span(start: [0x61], end: [0x64])) == nil)
    #expect(may(.read, .from([0x61])) == .permissionDenied)
    #expect(may(.write, .single([0x62])) == nil)
    #expect(may(.write, .single([0x61])) == .permissionDenied)
    try auth.permit("r", .read, "c", "d")
    #expect(may(.write, .single([0x63])) == .permissionDenied)
    try auth.forbid("r", "a", "c")
    #expect(may(.read, .single([0x61])) == .permissionDenied)
    try auth.deleteRole("r")
    #expect(may(.write, .single([0x62])) == .permissionDenied)
    #expect(try auth.state.roles(ofUser: "u") == [])
    let root = auth.caller("root")
    #expect(throws: Never.self) { try auth.state.check(root, .write, .from([0])) }
  }

  @Test func callersAreToldWhatIsWrong() throws {
    let auth = try StoredAuth.enabled()
    let state = auth.state
    let key = KeyRange.single([1])
    #expect(throws: EtcdError.userEmpty) { try state.check(.anonymous, .read, key) }
    #expect(throws: EtcdError.permissionDenied) { try state.check(auth.caller("x"), .read, key) }
    #expect(throws: EtcdError.authRevisionOld) {
      try state.check(AuthCaller(username: "root", revision: 1), .read, key)
    }
    #expect(throws: EtcdError.userEmpty) { try state.checkAdmin(.anonymous) }
    #expect(throws: EtcdError.userNotFound) { try state.checkAdmin(auth.caller("x")) }
    // Who is root is asked whatever the revision.
    #expect(throws: Never.self) {
      try state.checkAdmin(AuthCaller(username: "root", revision: 1))
    }
    #expect(throws: Never.self) { try AuthState().check(.anonymous, .write, key) }
    #expect(throws: EtcdError.authNotEnabled) { try AuthState().passwordHash(of: "root") }
    #expect(throws: EtcdError.authFailed) { try state.passwordHash(of: "x") }
  }

  @Test func usersWithoutPasswordKeepNone() throws {
    var auth = try StoredAuth.enabled()
    try auth.change { (state, writes) throws(EtcdError) in
      var request = Etcdserverpb_AuthUserAddRequest()
      request.name = "cn"
      request.options.noPassword = true
      try state.addUser(request, hash: { _ in nil }, &writes)
    }
    let state = auth.state
    #expect(throws: EtcdError.noPasswordUser) { try state.passwordHash(of: "cn") }
    try auth.change { (state, writes) throws(EtcdError) in
      var request = Etcdserverpb_AuthUserChangePasswordRequest()
      request.name = "cn"
      request.hashedPassword = "AQ=="
      try state.changePassword(request, hash: { _ in nil }, &writes)
    }
    #expect(auth.state.users[AuthName("cn")]?.record.password.isEmpty == true)
  }

  /// Random changes: the file tells the whole state, and rights are those of the plain rules.
  @Test(arguments: 0..<12)
  func theTablesHoldEverything(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var auth = try StoredAuth.enabled()
    let names = ["a", "b", "c"]
    func pick(_ list: [String]) -> String { list[Int.random(in: 0..<list.count, using: &random)] }
    let types: [Authpb_Permission.TypeEnum] = [.read, .write, .readwrite]
    for step in 0..<150 {
      let (user, role) = (pick(names), pick(names))
      let (key, end) = (pick(["1", "2", "3"]), pick(["", "2", "3", "4", "\0"]))
      _ = refusal { () throws(EtcdError) in
        switch Int.random(in: 0..<9, using: &random) {
        case 0: try auth.addUser(user)
        case 1: try auth.addRole(role)
        case 2, 3: try auth.grant(role, to: user)
        case 4:
          try auth.revoke(role, from: user)
        case 5: try auth.forbid(role, key, end)
        case 6 where step % 5 == 0:
          try auth.deleteRole(role)
        case 7 where step % 5 == 0:
          try auth.deleteUser(user)
        default:
          try auth.permit(role, types[Int.random(in: 0..<3, using: &random)], key, end)
        }
      }
    }
    let again = try auth.reloaded()
    #expect(again.isEnabled && again.revision == auth.state.revision)
    #expect(again.userNames == auth.state.userNames && again.roleNames == auth.state.roleNames)
    for user in names {
      let name = AuthName(user)
      #expect(again.users[name]?.record == auth.state.users[name]?.record)
      #expect(again.users[name]?.rights == auth.state.users[name]?.rights)
      for key in ["1", "2", "3", "4"] {
        let granted = (auth.state.users[name]?.record.roles ?? []).flatMap { role in
          (auth.state.roles[AuthName(role)]?.keyPermission ?? []).filter {
            KeyRange(key: Bytes($0.key), rangeEnd: Bytes($0.rangeEnd)).contains(Bytes(key.utf8))
          }
        }
        let mayRead = granted.contains { $0.permType != .write }
        let failed = refusal { () throws(EtcdError) in
          try again.check(
            AuthCaller(username: user, revision: again.revision), .read, .single(Bytes(key.utf8)))
        }
        #expect((failed == nil) == mayRead, "seed \(seed), user \(user), key \(key)")
      }
    }
  }
}

@Suite struct SimpleTokensTests {
  private func tokens() -> SimpleTokens {
    var tokens = SimpleTokens(ttl: 100)
    tokens.assign("abc", index: 7, to: "u", now: 0)
    return tokens
  }

  @Test func bothWaysOfCountingAreUnderstood() {
    var tokens = tokens()
    #expect(tokens.lookUp("abc.7", applied: 9, now: 1) == .user("u"))
    #expect(tokens.lookUp("abc.6", applied: 9, now: 1) == .user("u"))
    for wrong in ["abc.5", "abc.8", "abc", "abc.", ".7", "abc.7.7", "xyz.7", "abc.-1"] {
      #expect(tokens.lookUp(wrong, applied: 9, now: 1) == .invalid)
    }
    #expect(tokens.lookUp("xyz.9", applied: 9, now: 1) == .unknownBefore(10))
    #expect(tokens.lookUp("xyz.\(UInt64.max)", applied: 9, now: 1) == .invalid)
  }

  @Test func useLengthensLife() {
    var tokens = tokens()
    #expect(tokens.lookUp("abc.7", applied: 9, now: 99) == .user("u"))
    #expect(tokens.lookUp("abc.7", applied: 9, now: 198) == .user("u"))
    tokens.expire(now: 297)
    #expect(tokens.count == 1)
    #expect(tokens.lookUp("abc.7", applied: 9, now: 298) == .invalid)
    tokens.expire(now: 298)
    #expect(tokens.count == 0)
  }

  @Test func eventsEndTokens() {
    let board = TokenBoard(ttl: 100)
    for (position, user) in ["u", "v", "u"].enumerated() {
      board.apply(.assigned(letters: "t\(position)", index: 1, user: user), now: 0)
    }
    board.apply(.userChanged("u"), now: 0)
    #expect(board.change { $0.count } == 1)
    #expect(board.change { $0.lookUp("t1.1", applied: 2, now: 0) } == .user("v"))
    board.apply(.disabled, now: 0)
    #expect(board.change { $0.count } == 0)
  }
}

@Suite struct BcryptTests {
  /// From other implementations.
  @Test(arguments: [
    ("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"),
    ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
    ("pässwörd ÿ€𝄞", "$2a$04$DCq7YPn5Rq63x1Lad4cll.HS.XU.S10WU1QbqTnhE7Cn4nh8GtA8u"),
    ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
    ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
  ])
  func knownHashes(_ password: String, _ hash: String) {
    #expect(Bcrypt.verify(password, Bytes(hash.utf8)))
    #expect(!Bcrypt.verify(password + "x", Bytes(hash.utf8)))
    #expect(
      Bcrypt.verify(password, Bytes(("$2b" + hash.dropFirst(3)).utf8)), "another name of the same")
  }

  @Test func hashesAreThoseOfGo() throws {
    let salt = Bytes(0..<16)
    let hash = try #require(Bcrypt.hash("pässwörd", cost: 4, salt: salt))
    #expect(String(decoding: hash.prefix(7), as: UTF8.self) == "$2a$04$")
    #expect(hash.count == 60)
    #expect(hash == Bcrypt.hash("pässwörd", cost: 4, salt: salt))
    #expect(Bcrypt.verify("pässwörd", hash))
    #expect(!Bcrypt.verify("passwort", hash))
    let longest = String(repeating: "x", count: 72)
    #expect(Bcrypt.hash(longest, cost: 4, salt: salt) != nil)
    #expect(Bcrypt.hash(longest + "x", cost: 4, salt: salt) == nil)
    #expect(Bcrypt.hash("a\0b", cost: 4, salt: salt) == nil)
  }

  @Test func whatIsNoHashHasNoPassword() {
    for text in ["", "x", "$2a$10$", String(repeating: "$", count: 60)] {
      #expect(!Bcrypt.verify("", Bytes(text.utf8)))
    }
    #expect(
      !Bcrypt.verify(
        "a\0", Bytes("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe".utf8)))
  }
}
