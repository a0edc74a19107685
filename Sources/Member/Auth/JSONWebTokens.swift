import Base
import EtcdAPI
import FoundationEssentials
import StoreActor

/// Signs and verifies tokens that carry a user's name and the revision they were made under.
///
/// Nothing is kept of them: they end with their time, or with the next change of users and roles.
struct JSONWebTokens: Sendable {
  private enum Key: Sendable {
    case pair(SignatureKey)
    case secret(Bytes)
  }

  let method: JWTMethod
  /// Seconds.
  private let ttl: Int64
  private let key: Key

  /// Reads the key files.
  init(
    _ options: AuthTokenOptions.JWTOptions
  ) throws(AuthTokenOptions.Failure) {
    method = options.method
    ttl = options.ttl
    let publicKey = try Self.file(options.publicKeyFile)
    let privateKey = try Self.file(options.privateKeyFile)
    guard method.family != .hmac else {
      guard !privateKey.isEmpty else { throw .missingKey }
      key = .secret(privateKey)
      return
    }
    key = .pair(try Self.key(method, publicKey: publicKey, privateKey: privateKey))
  }

  private static func file(_ path: String?) throws(AuthTokenOptions.Failure) -> Bytes {
    guard let path else { return [] }
    do {
      return try WholeFile.read(path)
    } catch {
      throw .invalidOptions.because(error.description)
    }
  }

  private static func key(
    _ method: JWTMethod, publicKey: Bytes, privateKey: Bytes
  ) throws(AuthTokenOptions.Failure) -> SignatureKey {
    var own: SignatureKey?
    if !privateKey.isEmpty {
      own = try checked(SignatureKey.privateKey(privateKey), method, "priv-key")
    }
    var others: SignatureKey?
    if !publicKey.isEmpty {
      others = try checked(SignatureKey.publicKey(publicKey), method, "pub-key")
    }
    if let own, let others, !own.matches(others) { throw .keyMismatch }
    guard let key = own ?? others else { throw .missingKey }
    return key
  }

  private static func checked(
    _ key: SignatureKey?, _ method: JWTMethod, _ option: String
  ) throws(AuthTokenOptions.Failure) -> SignatureKey {
    guard let key else {
      throw .invalidOptions.because("\(option) holds no key in PEM form")
    }
    guard key.fits(method) else {
      throw .invalidOptions.because("\(option) holds no key for \(method.rawValue)")
    }
    return key
  }

  // MARK: - Tokens

  /// - Parameter now: seconds since 1970.
  func sign(user: String, revision: UInt64, now: Int64) throws(EtcdError) -> String {
    if case .pair(let key) = key, !key.canSign { throw .tokenVerifyOnly }
    let header = "{\"alg\":\"\(method.rawValue)\",\"typ\":\"JWT\"}"
    let claims =
      "{\"exp\":\(now + ttl),\"revision\":\(revision),\"username\":\(JSONText.string(user))}"
    let text = Self.encode(Bytes(header.utf8)) + "." + Self.encode(Bytes(claims.utf8))
    let message = Bytes(text.utf8)
    switch key {
    case .secret(let secret):
      return text + "." + Self.encode(method.authenticate(message, secret: secret))
    case .pair(let key):
      guard let signature = key.sign(message, method) else {
        throw EtcdError(.unknown, "key is invalid")
      }
      return text + "." + Self.encode(signature)
    }
  }

  /// What a token says that this cluster has signed, and until when.
  struct Verified: Equatable {
    var caller: AuthCaller
    /// Seconds since 1970.
    var expires: Double
  }

  /// - Parameter now: seconds since 1970.
  /// - Returns: nil for a token that is not ours, or whose time has not come or is over.
  func verify(_ token: String, now: Int64) -> Verified? {
    struct Header: Decodable { var alg: String }
    struct Claims: Decodable {
      var username: String
      var revision: Double
      var exp: Double?
      var nbf: Double?
    }
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let signature = Self.decode(parts[2]),
      let header = Self.json(Header.self, parts[0]), header.alg == method.rawValue
    else { return nil }
    let message = Bytes("\(parts[0]).\(parts[1])".utf8)
    switch key {
    case .secret(let secret):
      guard Self.areEqual(method.authenticate(message, secret: secret), signature) else {
        return nil
      }
    case .pair(let key): guard key.verify(signature, message, method) else { return nil }
    }
    guard let claims = Self.json(Claims.self, parts[1]), claims.revision >= 0,
      claims.revision < 0x1p63
    else { return nil }
    let expires = claims.exp ?? .infinity
    guard Double(now) < expires, claims.nbf ?? 0 <= Double(now) else { return nil }
    return Verified(
      caller: AuthCaller(username: claims.username, revision: UInt64(claims.revision)),
      expires: expires)
  }

  private static func areEqual(_ left: Bytes, _ right: Bytes) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for (left, right) in zip(left, right) { difference |= left ^ right }
    return difference == 0
  }

  private static func json<Value: Decodable>(_ type: Value.Type, _ part: Substring) -> Value? {
    decode(part).flatMap { try? JSONDecoder().decode(type, from: Data($0)) }
  }

  /// The alphabet for URLs, without padding.
  private static func encode(_ bytes: Bytes) -> String {
    var text = Data(bytes).base64EncodedString()
    while text.last == "=" { text.removeLast() }
    return String(text.map { $0 == "+" ? "-" : $0 == "/" ? "_" : $0 })
  }

  private static func decode(_ text: Substring) -> Bytes? {
    guard !text.utf8.contains(where: { "+/=".utf8.contains($0) }) else { return nil }
    var standard = String(text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
    standard += String(repeating: "=", count: (4 - standard.utf8.count % 4) % 4)
    return Data(base64Encoded: standard).map { Bytes($0) }
  }
}
