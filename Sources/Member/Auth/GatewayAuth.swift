import Base
import EtcdAPI
import StoreActor

/// What a client shows of itself, whichever way it came.
struct Credentials {
  /// As received; a `Bearer ` prefix may stand before it. nil = none was sent.
  var token: String?
  /// Of the verified client certificate.
  var certificateName: String?
}

/// The token may be one that this member has yet to hear of: ask again once that entry is applied.
struct TokenPending: Error {
  let index: LogIndex
}

/// How callers are told apart, and with what.
struct GatewayAuth: Sendable {
  enum Provider: Sendable {
    case simple
    case jwt(JSONWebTokens)
    case none
  }

  let provider: Provider
  let tokens: TokenBoard
  let workers: PasswordWorkers
  let bcryptCost: Int
  /// Whether the name in a client's certificate stands for a user (`--client-cert-auth`).
  let usesCertificateNames: Bool
}

extension GatewayAuth.Provider {
  init(_ options: AuthTokenOptions) throws(AuthTokenOptions.Failure) {
    switch options {
    case .simple: self = .simple
    case .jwt(let options): self = .jwt(try JSONWebTokens(options))
    case .none: self = .none
    }
  }
}

/// Finds out who a caller is. Owned by the gateway.
struct Authenticator {
  /// Tokens whose signature was found good lately; to check one again costs 100 us.
  private var verified: [String: JSONWebTokens.Verified] = [:]
  private static let verifiedMax = 4096
  private static let bearer = "Bearer "

  let auth: GatewayAuth

  init(_ auth: GatewayAuth) { self.auth = auth }

  /// - Parameters:
  ///   - state: users and roles as this member knows them.
  ///   - applied: the last entry applied here, looked up before the call.
  ///   - now: monotonic nanoseconds.
  /// - Throws: ``TokenPending``, or the refusal as ``EtcdError``.
  mutating func caller(
    _ credentials: Credentials, state: AuthState, applied: LogIndex, now: UInt64
  ) throws -> AuthCaller {
    if var token = credentials.token {
      if token.hasPrefix(Self.bearer) { token.removeFirst(Self.bearer.count) }
      return try caller(token: token, state, applied: applied, now: now)
    }
    if auth.usesCertificateNames, let name = credentials.certificateName {
      return AuthCaller(username: name, revision: state.revision)
    }
    return .anonymous
  }

  private mutating func caller(
    token: String, _ state: AuthState, applied: LogIndex, now: UInt64
  ) throws -> AuthCaller {
    switch auth.provider {
    case .none: throw EtcdError.invalidAuthToken
    case .simple:
      let found = auth.tokens.change { $0.lookUp(token, applied: applied, now: now) }
      switch found {
      case .user(let name): return AuthCaller(username: name, revision: state.revision)
      case .unknownBefore(let index): throw TokenPending(index: index)
      case .invalid: throw EtcdError.invalidAuthToken
      }
    case .jwt(let tokens):
      let seconds = unixSeconds()
      if let known = verified[token] {
        if Double(seconds) < known.expires { return known.caller }
        verified[token] = nil
      }
      guard let new = tokens.verify(token, now: seconds) else { throw EtcdError.invalidAuthToken }
      if verified.count >= Self.verifiedMax { verified.removeAll(keepingCapacity: true) }
      verified[token] = new
      return new.caller
    }
  }
}
