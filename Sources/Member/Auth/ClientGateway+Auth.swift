import Actors
import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// A login under way.
struct Login {
  let handle: CallHandle
  let name: String
  let password: String
}

/// The calls of the Auth service.
extension ClientGateway {
  func authCall(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    switch handle.method {
    case .authenticate: try authenticate(handle, message)
    case .authStatus: try authStatus(handle)
    case .userAdd: try userAdd(handle, message)
    case .userChangePassword: try changePassword(handle, message)
    case .roleGrantPermission: try grantPermission(handle, message)
    default:
      guard let kind = handle.method.authKind else {
        preconditionFailure("\(handle.method) is no call of the Auth service")
      }
      try proposeAuth(handle, kind, Bytes(message))
    }
  }

  /// Everything goes through the log, what only reads as well: whoever asks sees the latest.
  private func proposeAuth(
    _ handle: CallHandle, _ kind: InternalRequestEnvelope.Kind, _ payload: Bytes
  ) throws {
    try propose(kind, payload, .call(handle), caller: try caller(of: handle))
  }

  private var clusterVersion: Version {
    storeStatus.membership.clusterVersion.flatMap(Version.init) ?? Version(3, 0)
  }

  /// Members of etcd 3.4 are there, which know less.
  private var hasOldMembers: Bool { clusterVersion == Version(3, 4) }

  private func authStatus(_ handle: CallHandle) throws {
    let caller = try caller(of: handle)
    guard clusterVersion < Version(3, 5) else {
      return try propose(.authStatus, [], .call(handle), caller: caller)
    }
    // An entry of this kind would end every member of etcd 3.4, and 3.0 may turn out to be that.
    let auth = storeStatus.auth
    try reply(
      handle,
      Etcdserverpb_AuthStatusResponse.with {
        $0.header = header()
        $0.enabled = auth.isEnabled
        $0.authRevision = auth.revision
      })
  }

  // MARK: - Passwords

  private func userAdd(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    var request = try Etcdserverpb_AuthUserAddRequest(copying: message)
    guard request.options.noPassword else {
      return try proposeHashed(
        .authUserAdd, request, password: \.password, hash: \.hashedPassword, for: handle)
    }
    request.password = ""
    try proposeAuth(handle, .authUserAdd, try request.serializedBytes())
  }

  private func changePassword(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_AuthUserChangePasswordRequest(copying: message)
    guard !request.password.isEmpty else {
      return try proposeAuth(handle, .authUserChangePassword, Bytes(message))
    }
    try proposeHashed(
      .authUserChangePassword, request, password: \.password, hash: \.hashedPassword, for: handle)
  }

  /// Proposes a request with its password hashed; as it came if members of etcd 3.4 are there, which
  /// read no hash.
  private func proposeHashed<Request: SwiftProtobuf.Message>(
    _ kind: InternalRequestEnvelope.Kind, _ request: Request,
    password: WritableKeyPath<Request, String>, hash: WritableKeyPath<Request, String>,
    for handle: CallHandle
  ) throws {
    guard !hasOldMembers else {
      return try proposeAuth(handle, kind, try request.serializedBytes())
    }
    try self.hash(request[keyPath: password], for: handle) { made in
      var complete = request
      complete[keyPath: password] = ""
      complete[keyPath: hash] = made
      try self.proposeAuth(handle, kind, try complete.serializedBytes())
    }
  }

  /// Hashes a password on a worker, for somebody who may set one.
  private func hash(
    _ password: String, for handle: CallHandle, _ body: @escaping (String) throws -> Void
  ) throws {
    guard password.utf8.count <= Bcrypt.passwordBytesMax else { throw EtcdError.passwordTooLong }
    guard Bcrypt.isHashable(password) else {
      throw EtcdError(.invalidArgument, "apus: a password must not contain a zero byte")
    }
    // Only root costs the members a hash.
    try asRoot(handle) {
      try self.work(.hash(password: password, cost: self.auth.bcryptCost)) { result in
        guard case .hashed(let hash?) = result else {
          return self.fail(handle, EtcdError(.internal, "the password cannot be hashed"))
        }
        self.attempt(handle) { try body(Data(hash).base64EncodedString()) }
      }
    }
  }

  /// Goes on if the caller is root, here or as of the latest entry: this member may lag behind.
  private func asRoot(_ handle: CallHandle, _ body: @escaping () throws -> Void) throws {
    guard !storeStatus.auth.isAdmin(try caller(of: handle)) else { return try body() }
    let waiter = Waiter.own { outcome in
      if case .failure(let error) = outcome { return self.fail(handle, error) }
      self.refreshStatus()
      self.attempt(handle) {
        try self.requireRoot(handle)
        try body()
      }
    }
    readLinearizable(.nothing, waiter)
  }

  // MARK: - Logins

  private func authenticate(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_AuthenticateRequest(copying: message)
    let login = Login(handle: handle, name: request.name, password: request.password)
    // What is known of the user here must not be older than the call.
    let waiter = Waiter.own { outcome in
      if case .failure(let error) = outcome { return self.fail(handle, error) }
      self.refreshStatus()
      self.attempt(handle) { try self.checkPassword(login) }
    }
    readLinearizable(.nothing, waiter)
  }

  private func checkPassword(_ login: Login) throws {
    let state = storeStatus.auth
    let hash = try state.passwordHash(of: login.name)
    try verify(login.password, hash) { isRight in
      guard isRight else {
        self.log.warn("invalid authentication was requested", ("user", login.name))
        return self.fail(login.handle, .authFailed)
      }
      self.attempt(login.handle) { try self.proposeLogin(login, checkedAt: state.revision) }
    }
  }

  /// Clients of one service log in together with one password: it is checked once for all that wait.
  private func verify(
    _ password: String, _ hash: Bytes, _ done: @escaping (Bool) -> Void
  ) throws {
    let check = PasswordCheck(password: password, hash: hash)
    if passwordChecks[check] != nil {
      passwordChecks[check]?.append(done)
      return
    }
    try work(.verify(password: password, hash: hash)) { result in
      let waiting = self.passwordChecks.removeValue(forKey: check) ?? []
      guard case .verified(let isRight) = result else { return }
      for done in waiting { done(isRight) }
    }
    passwordChecks[check] = [done]
  }

  private func proposeLogin(_ login: Login, checkedAt revision: UInt64) throws {
    let request = Etcdserverpb_InternalAuthenticateRequest.with {
      $0.name = login.name
      if case .simple = auth.provider { $0.simpleToken = SimpleTokens.randomLetters() }
    }
    let waiter = Waiter.own { outcome in
      switch outcome {
      case .failure(let error): self.fail(login.handle, error)
      case .message(let message):
        self.refreshStatus()
        self.attempt(login.handle) {
          // The password may have been changed between check and entry.
          guard self.storeStatus.auth.revision == revision else {
            return try self.checkPassword(login)
          }
          try self.answer(login, message, revision)
        }
      }
    }
    try propose(.authenticate, try request.serializedBytes(), waiter)
  }

  private func answer(_ login: Login, _ message: Bytes, _ revision: UInt64) throws {
    var response = try Etcdserverpb_AuthenticateResponse(serializedBytes: message)
    switch auth.provider {
    case .none: throw EtcdError.authFailed
    case .simple:
      response.token = tokenText(response.token)
      try reply(login.handle, response)
    case .jwt(let tokens):
      try work(.sign(tokens, user: login.name, revision: revision)) { result in
        guard case .signed(let signed) = result else { return }
        self.attempt(login.handle) {
          response.token = try signed.get()
          try self.reply(login.handle, response)
        }
      }
    }
  }

  /// The number behind the letters: the entry's for members before 3.5.3, later the one before.
  private func tokenText(_ text: String) -> String {
    guard !countsTokensFromEntry, let dot = text.lastIndex(of: "."),
      let index = LogIndex(text[text.index(after: dot)...])
    else { return text }
    return "\(text[..<dot]).\(index - 1)"
  }

  /// Whether a member is there that knows tokens by the number of their entry only.
  private var countsTokensFromEntry: Bool { hasOldMembers || hasEarlyTokens }

  // MARK: - Roles

  /// What no member takes is refused before it gets into the log: older ones would end, or take it.
  private func grantPermission(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_AuthRoleGrantPermissionRequest(copying: message)
    let payload = Bytes(message)
    try asRoot(handle) {
      guard request.hasPerm else { throw EtcdError.permissionNotGiven }
      try AuthState.checkRange(request.perm)
      try self.proposeAuth(handle, .authRoleGrantPermission, payload)
    }
  }

  // MARK: - Workers

  /// Runs a job off the loop; `done` is called on it.
  private func work(
    _ job: PasswordJob, _ done: @escaping (PasswordResult) -> Void
  ) throws(EtcdError) {
    let id = ids.next()
    guard passwordQueue.add(id, job, isUrgent: job.isUrgent) else { throw .tooManyRequests }
    passwordJobs[id] = done
    startJobs()
  }

  private func startJobs() {
    let inbox = inbox
    while let (worker, id, job) = passwordQueue.next() {
      auth.workers.run(job, on: worker) { inbox.send(.worked(id: id, worker: worker, $0)) }
    }
  }

  func worked(_ id: UInt64, _ worker: Int, _ result: PasswordResult) {
    passwordQueue.finished(worker: worker)
    startJobs()
    passwordJobs.removeValue(forKey: id)?(result)
  }

  /// Runs a later step of a call; what it throws is the call's end.
  private func attempt(_ handle: CallHandle, _ body: () throws -> Void) {
    do {
      try body()
    } catch let error as EtcdError {
      fail(handle, error)
    } catch is TokenPending {
      fail(handle, .invalidAuthToken)
    } catch {
      fail(handle, EtcdError(.internal, "\(error)"))
    }
  }
}

/// A password that is being compared.
struct PasswordCheck: Hashable {
  let password: String
  let hash: Bytes
}

extension GatewayMethod {
  /// The entry that a call of the Auth service becomes as it stands.
  fileprivate var authKind: InternalRequestEnvelope.Kind? {
    switch self {
    case .authEnable: .authEnable
    case .authDisable: .authDisable
    case .userGet: .authUserGet
    case .userList: .authUserList
    case .userDelete: .authUserDelete
    case .userGrantRole: .authUserGrantRole
    case .userRevokeRole: .authUserRevokeRole
    case .roleAdd: .authRoleAdd
    case .roleGet: .authRoleGet
    case .roleList: .authRoleList
    case .roleDelete: .authRoleDelete
    case .roleRevokePermission: .authRoleRevokePermission
    default: nil
    }
  }
}

extension SimpleTokens {
  /// The secret part of a token, from the system's source of randomness.
  static func randomLetters() -> String {
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    var random = SystemRandomNumberGenerator()
    return String((0..<16).map { _ in letters[Int.random(in: letters.indices, using: &random)] })
  }
}
