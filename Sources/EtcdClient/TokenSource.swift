// Who the client is, and the token that says so.

import Actors
import EtcdAPI
import HTTP
import SwiftProtobuf

/// What a client shows of itself to a cluster with authentication.
public enum ClientIdentity: Sendable, Equatable {
  case password(user: String, password: String)
  /// A token that was made elsewhere; there is no other.
  case token(String)
}

/// Keeps a client's token and gets a new one when a member does not take it. Loop thread only, checked;
/// hence the unchecked conformance.
final class TokenSource: @unchecked Sendable {
  /// New tokens that one call may ask for.
  static let refreshesMax = 5

  private let identity: ClientIdentity?
  private(set) var token: String?
  /// Waiting for the login under way.
  private var waiting: [(EtcdClientError?) -> Void] = []

  init(_ identity: ClientIdentity?) {
    self.identity = identity
    if case .token(let token) = identity { self.token = token }
  }

  /// What goes with every call.
  var fields: [HTTPField] { token.map { [HTTPField("token", $0)] } ?? [] }

  /// Whether a new token may make up for this refusal.
  func helps(against message: String) -> Bool {
    guard case .password = identity else { return false }
    return [EtcdError.invalidAuthToken, .authRevisionOld, .userEmpty]
      .contains { $0.message == message }
  }

  /// Logs in, once for all that ask meanwhile. `done` gets nil also if the cluster does not ask for
  /// names: then there is no token. Not called from within this method.
  func logIn(
    with pool: ChannelPool, deadline: UInt64?, _ done: @escaping (EtcdClientError?) -> Void
  ) {
    pool.loop.preconditionOnLoop()
    guard case .password(let user, let password) = identity else { return done(nil) }
    waiting.append(done)
    guard waiting.count == 1 else { return }
    var request = Etcdserverpb_AuthenticateRequest()
    request.name = user
    request.password = password
    let payload: [UInt8] = (try? request.serializedBytes()) ?? []
    let operation = UnaryOperation(
      pool: pool, method: .authenticate, payload: payload, endpoint: nil, metadata: [],
      deadline: deadline
    ) { self.loggedIn($0) }
    operation.begin()
  }

  private func loggedIn(_ outcome: UnaryOperation.Outcome) {
    var failure: EtcdClientError?
    switch outcome {
    case .success(let bytes):
      token = (try? Etcdserverpb_AuthenticateResponse(serializedBytes: bytes))?.token
    case .failure(let error) where error.matches(.authNotEnabled): token = nil
    case .failure(let error): failure = error
    }
    let waiting = self.waiting
    self.waiting = []
    for done in waiting { done(failure) }
  }
}
