import Base
import EtcdAPI
import Foundation
import StoreActor
import Testing

@testable import Member

/// Key files in a folder of their own.
private final class KeyFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "apus-keys-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ text: String) throws -> String {
    let file = "\(path)/\(UUID().uuidString)"
    try text.write(toFile: file, atomically: true, encoding: .utf8)
    return file
  }

  func tokens(
    _ method: JWTMethod, publicKey: String? = nil, privateKey: String? = nil, ttl: Int64 = 300
  ) throws -> JSONWebTokens {
    try JSONWebTokens(
      .init(
        method: method, publicKeyFile: try publicKey.map(file),
        privateKeyFile: try privateKey.map(file), ttl: ttl, unknown: []))
  }
}

private func keys(_ method: JWTMethod) -> (publicKey: String?, privateKey: String) {
  switch method.family {
  case .rsa, .rsaPSS: (TokenSamples.rsaPublic, TokenSamples.rsaPrivate)
  case .ed25519: (TokenSamples.ed25519Public, TokenSamples.ed25519Private)
  case .hmac: (nil, TokenSamples.secret)
  case .ecdsa:
    switch method {
    case .es256: (TokenSamples.p256Public, TokenSamples.p256Private)
    case .es384: (TokenSamples.p384Public, TokenSamples.p384Private)
    default: (TokenSamples.p521Public, TokenSamples.p521Private)
    }
  }
}

private func failure(_ body: () throws -> Void) -> AuthTokenOptions.Failure? {
  do {
    try body()
    return nil
  } catch {
    return error as? AuthTokenOptions.Failure
  }
}

@Suite struct JSONWebTokenTests {
  private let now: Int64 = 2_000_000_000

  @Test(arguments: JWTMethod.allCases)
  func whatIsSignedIsRecognised(_ method: JWTMethod) throws {
    let folder = try KeyFolder()
    let (publicKey, privateKey) = keys(method)
    let signer = try folder.tokens(method, publicKey: publicKey, privateKey: privateKey)
    let token = try signer.sign(user: "al\"ice é", revision: 41, now: now)
    let caller = AuthCaller(username: "al\"ice é", revision: 41)
    #expect(signer.verify(token, now: now)?.caller == caller)
    #expect(signer.verify(token, now: now + 299)?.expires == Double(now + 300))
    #expect(signer.verify(token, now: now + 300) == nil)
    if let publicKey {
      let verifier = try folder.tokens(method, publicKey: publicKey)
      #expect(verifier.verify(token, now: now)?.caller == caller)
      #expect(throws: EtcdError.tokenVerifyOnly) {
        try verifier.sign(user: "a", revision: 1, now: now)
      }
    }
  }

  @Test(arguments: JWTMethod.allCases)
  func tokensOfOtherProgramsAreRecognised(_ method: JWTMethod) throws {
    let folder = try KeyFolder()
    let (publicKey, privateKey) = keys(method)
    let tokens = try folder.tokens(method, publicKey: publicKey, privateKey: privateKey)
    let sample = try #require(TokenSamples.tokens[method.rawValue])
    #expect(
      tokens.verify(sample, now: now)?.caller == AuthCaller(username: "alice", revision: 7))
    // One letter in the middle of each part.
    for part in 0..<3 {
      var parts = sample.split(separator: ".").map { Array($0.utf8) }
      let middle = parts[part].count / 2
      parts[part][middle] = parts[part][middle] == 0x41 ? 0x42 : 0x41
      let forged = parts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ".")
      #expect(tokens.verify(forged, now: now) == nil)
    }
    for other in TokenSamples.tokens where other.key != method.rawValue {
      #expect(tokens.verify(other.value, now: now) == nil)
    }
  }

  @Test func nothingElseIsAToken() throws {
    let folder = try KeyFolder()
    let tokens = try folder.tokens(.hs256, privateKey: TokenSamples.secret)
    // `{"alg":"none"}` with the same claims, and no signature.
    let claims = try #require(TokenSamples.tokens["HS256"]).split(separator: ".")[1]
    for text in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.\(claims).", "\(claims)"] {
      #expect(tokens.verify(text, now: now) == nil)
    }
  }

  @Test func keysComeInSeveralForms() throws {
    let folder = try KeyFolder()
    let sample = try #require(TokenSamples.tokens["RS256"])
    for publicKey in [TokenSamples.rsaCertificate, TokenSamples.rsaPKCS1Public] {
      let tokens = try folder.tokens(.rs256, publicKey: publicKey)
      #expect(tokens.verify(sample, now: now) != nil)
    }
    let old = try folder.tokens(.rs256, privateKey: TokenSamples.rsaPKCS1Private)
    #expect(old.verify(sample, now: now) != nil)
    #expect(throws: Never.self) { try old.sign(user: "a", revision: 1, now: now) }
  }

  @Test func keysThatDoNotServeAreRefused() throws {
    let folder = try KeyFolder()
    #expect(failure { _ = try folder.tokens(.rs256) } == .missingKey)
    #expect(failure { _ = try folder.tokens(.hs256) } == .missingKey)
    #expect(
      failure { _ = try folder.tokens(.hs256, publicKey: TokenSamples.secret) } == .missingKey)
    #expect(
      failure {
        _ = try folder.tokens(
          .es256, publicKey: TokenSamples.p256Public, privateKey: TokenSamples.p384Private)
      }?.description == "auth: invalid auth options")
    let other = try folder.tokens(
      .es256, publicKey: TokenSamples.p256Public, privateKey: TokenSamples.p256Private)
    #expect(other.method == .es256)
    #expect(
      failure {
        _ = try JSONWebTokens(
          .init(
            method: .rs256, publicKeyFile: "/nowhere/key", privateKeyFile: nil, ttl: 1,
            unknown: []))
      }?.description == "auth: invalid auth options")
  }
}

@Suite struct AuthTokenOptionsTests {
  @Test func knownForms() throws {
    #expect(try AuthTokenOptions("simple") == .simple)
    #expect(try AuthTokenOptions("") == .none)
    #expect(
      try AuthTokenOptions("jwt,sign-method=ES384,pub-key=a,priv-key=b,ttl=1m30s,zz=1,aa=2")
        == .jwt(
          .init(
            method: .es384, publicKeyFile: "a", privateKeyFile: "b", ttl: 90,
            unknown: ["aa", "zz"])))
    #expect(
      try AuthTokenOptions("jwt,sign-method=HS256,priv-key=b")
        == .jwt(
          .init(
            method: .hs256, publicKeyFile: nil, privateKeyFile: "b", ttl: 300, unknown: [])))
  }

  @Test(arguments: [
    "opaque", "jwt", "jwt,sign-method", "jwt,sign-method=RS256,sign-method=RS256",
    "jwt,sign-method=a=b", "jwt,sign-method=RS999", "jwt,sign-method=RS256,ttl=soon", "simple,x",
  ])
  func refused(_ text: String) {
    #expect(
      failure { _ = try AuthTokenOptions(text) }?.description == "auth: invalid auth options")
  }
}

@Suite struct PasswordQueueTests {
  @Test func workersTakeTurnsAndUrgentJobsGoFirst() {
    var queue = PasswordQueue<String>(workers: 2, limit: 3)
    let added = ["a", "b", "c", "too many"].map { queue.add(1, $0, isUrgent: false) }
    #expect(added == [true, true, true, false])
    let isUrgentAdded = queue.add(10, "now", isUrgent: true)
    #expect(isUrgentAdded)
    let first = queue.next()
    let second = queue.next()
    #expect(first?.job == "now" && second?.job == "a" && first?.worker != second?.worker)
    let nothing = queue.next()
    #expect(nothing == nil && queue.waitingCount == 2)
    queue.finished(worker: second?.worker ?? -1)
    let third = queue.next()
    #expect(third?.job == "b" && third?.worker == second?.worker)
  }
}

@Suite struct AuthenticatorTests {
  private func state() -> AuthState {
    AuthState(isEnabled: true, revision: 5, users: [], roles: [])
  }

  private func authenticator(
    _ provider: GatewayAuth.Provider, _ board: TokenBoard, names: Bool = false
  ) throws -> Authenticator {
    Authenticator(
      GatewayAuth(
        provider: provider, tokens: board, workers: try PasswordWorkers(count: 1), bcryptCost: 4,
        usesCertificateNames: names))
  }

  @Test func aTokenCountsBeforeACertificate() throws {
    let board = TokenBoard(ttl: 1_000)
    board.apply(.assigned(letters: "abc", index: 10, user: "alice"), now: 0)
    var some = try authenticator(.simple, board, names: true)
    func caller(_ token: String?, _ name: String?) throws -> AuthCaller {
      try some.caller(
        Credentials(token: token, certificateName: name), state: state(), applied: 20, now: 1)
    }
    let alice = AuthCaller(username: "alice", revision: 5)
    #expect(try caller("abc.10", "bob") == alice)
    #expect(try caller("Bearer abc.9", nil) == alice)
    #expect(try caller(nil, "bob") == AuthCaller(username: "bob", revision: 5))
    #expect(try caller(nil, nil) == .anonymous)
    #expect(throws: EtcdError.invalidAuthToken) { try caller("", "bob") }
    #expect(throws: EtcdError.invalidAuthToken) { try caller("abc.8", "bob") }
    var others = try authenticator(.simple, board)
    #expect(
      try others.caller(
        Credentials(certificateName: "bob"), state: state(), applied: 20, now: 1) == .anonymous)
  }

  @Test func aTokenOfALaterEntryIsWaitedFor() throws {
    var some = try authenticator(.simple, TokenBoard(ttl: 1_000))
    do {
      _ = try some.caller(Credentials(token: "x.30"), state: state(), applied: 20, now: 1)
      Issue.record("the token cannot be known")
    } catch let pending as TokenPending {
      #expect(pending.index == 31)
    }
  }

  @Test func aSignedTokenCarriesItsRevision() throws {
    let folder = try KeyFolder()
    let tokens = try folder.tokens(.hs256, privateKey: TokenSamples.secret)
    var some = try authenticator(.jwt(tokens), TokenBoard(ttl: 1))
    let token = try #require(TokenSamples.tokens["HS256"])
    for _ in 0..<2 {
      #expect(
        try some.caller(Credentials(token: token), state: state(), applied: 0, now: 0)
          == AuthCaller(username: "alice", revision: 7))
    }
    #expect(throws: EtcdError.invalidAuthToken) {
      try some.caller(Credentials(token: "abc.10"), state: state(), applied: 0, now: 0)
    }
  }
}
