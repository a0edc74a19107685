/// What `--auth-token` asks for.
public enum AuthTokenOptions: Equatable, Sendable {
  /// Random letters, which the log ties to a user.
  case simple
  case jwt(JWTOptions)
  /// An empty value: nobody can log in with a password.
  case none

  public struct JWTOptions: Equatable, Sendable {
    public var method: JWTMethod
    public var publicKeyFile: String?
    public var privateKeyFile: String?
    /// Life of a token in seconds.
    public var ttl: Int64
    /// Names that mean nothing, sorted.
    public var unknown: [String]
  }

  /// Why a member cannot start, in etcd's words.
  public struct Failure: Error, Equatable, CustomStringConvertible {
    public static let invalidOptions = Failure(description: "auth: invalid auth options")
    public static let missingKey = Failure(description: "auth: missing key data")
    public static let keyMismatch = Failure(
      description: "auth: public and private keys don't match")

    public let description: String
    /// More than etcd's text tells, for the log.
    public var reason: String?

    public func because(_ reason: String) -> Failure {
      var failure = self
      failure.reason = reason
      return failure
    }
  }

  /// - Parameter text: `simple`, or `jwt,sign-method=M,pub-key=FILE,priv-key=FILE,ttl=5m`.
  public init(_ text: String) throws(Failure) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    var options: [String: String] = [:]
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", omittingEmptySubsequences: false)
      guard pair.count == 2, options.updateValue(String(pair[1]), forKey: String(pair[0])) == nil
      else { throw .invalidOptions }
    }
    switch parts.first ?? "" {
    case "simple": self = .simple
    case "jwt": self = .jwt(try JWTOptions(options))
    case "": self = .none
    default: throw .invalidOptions
    }
  }
}

extension AuthTokenOptions.JWTOptions {
  private static let known: Set<String> = ["sign-method", "pub-key", "priv-key", "ttl"]
  private static let defaultTTL: Int64 = 300

  fileprivate init(_ options: [String: String]) throws(AuthTokenOptions.Failure) {
    func given(_ name: String) -> String? {
      options[name].flatMap { $0.isEmpty ? nil : $0 }
    }
    ttl = Self.defaultTTL
    if let text = given("ttl") {
      do throws(GoDuration.ParseError) {
        ttl = try GoDuration.parse(text).components.seconds
      } catch {
        throw .invalidOptions.because(error.description)
      }
    }
    publicKeyFile = given("pub-key")
    privateKeyFile = given("priv-key")
    guard let method = JWTMethod(rawValue: options["sign-method"] ?? "") else {
      throw .invalidOptions.because("auth: invalid auth signature method")
    }
    self.method = method
    unknown = options.keys.filter { !Self.known.contains($0) }.sorted()
  }
}

/// How a JSON web token is signed.
public enum JWTMethod: String, CaseIterable, Sendable {
  case rs256 = "RS256"
  case rs384 = "RS384"
  case rs512 = "RS512"
  case ps256 = "PS256"
  case ps384 = "PS384"
  case ps512 = "PS512"
  case es256 = "ES256"
  case es384 = "ES384"
  case es512 = "ES512"
  case edDSA = "EdDSA"
  case hs256 = "HS256"
  case hs384 = "HS384"
  case hs512 = "HS512"

  enum Family {
    case rsa
    case rsaPSS
    case ecdsa
    case ed25519
    case hmac
  }

  var family: Family {
    switch self {
    case .rs256, .rs384, .rs512: .rsa
    case .ps256, .ps384, .ps512: .rsaPSS
    case .es256, .es384, .es512: .ecdsa
    case .edDSA: .ed25519
    case .hs256, .hs384, .hs512: .hmac
    }
  }
}
