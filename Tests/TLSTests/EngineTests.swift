import Testing

@testable import TLS

@Suite struct EngineTests {
  private let files: Certificates

  init() throws { files = try Certificates.shared.get() }

  @Test(arguments: [TLSVersion.tls12, .tls13])
  func bothEndsTalk(_ version: TLSVersion) throws {
    var settings = files.client("alice")
    settings.maxVersion = version
    let pair = try Pair(files.strictServer(), settings)
    #expect(pair.serverError == nil && pair.clientError == nil)
    #expect(pair.server.phase == .open && pair.client.phase == .open)
    #expect(pair.client.version == (version == .tls12 ? "TLSv1.2" : "TLSv1.3"))
    #expect(pair.client.applicationProtocol == "h2" && pair.server.applicationProtocol == "h2")
    #expect(pair.server.requestedName == "localhost")
    #expect(pair.server.verifiedCertificate?.commonName == "alice")
    #expect(pair.server.verifiedCertificate?.dnsNames == ["alice"])
    let certificate = try #require(pair.client.verifiedCertificate)
    #expect(certificate.commonName == "server" && certificate.serial == "11")
    #expect(certificate.dnsNames == ["localhost", "*.example.org"])
    #expect(certificate.ipAddresses == ["127.0.0.1", "::1"])
    #expect(certificate.isValid(forHost: "a.example.org"))
    #expect(!certificate.isValid(forHost: "a.b.example.org"))
    #expect(!certificate.isValid(forHost: "server"))

    try pair.client.write(Array("question".utf8))
    try pair.server.write(Array("answer".utf8))
    pair.exchange()
    #expect(pair.atServer == Array("question".utf8))
    #expect(pair.atClient == Array("answer".utf8))
  }

  @Test(arguments: [1, 7, 1000, 70_000])
  func muchArrivesWholeInPiecesOfAnySize(_ step: Int) throws {
    let pair = try Pair(files.server(), files.client())
    let data = (0..<150_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    try pair.client.write(data)
    pair.exchange(step: step)
    #expect(pair.atServer == data)
  }

  @Test func whatTheOwnerDoesNotTakeIsKept() throws {
    let pair = try Pair(files.server(), files.client())
    let data = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 >> 4) }
    try pair.client.write(data)
    let sealed = pair.client.takeOutput()
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 5000, alignment: 16)
    defer { scratch.deallocate() }
    var received: [UInt8] = []
    var calls = 0
    try sealed.withUnsafeBytes { bytes in
      try pair.server.receive(bytes, opens: false, scratch: scratch) { _ in
        Issue.record("nothing was asked for")
        return true
      }
    }
    while pair.server.hasPendingInput, calls < 100 {
      let empty = UnsafeRawBufferPointer(start: nil, count: 0)
      try pair.server.receive(empty, scratch: scratch) {
        received.append(contentsOf: $0)
        calls += 1
        return false
      }
    }
    #expect(received == data)
    #expect(calls == 8)
  }

  @Test func theEndIsSaid() throws {
    let pair = try Pair(files.server(), files.client())
    try pair.client.write(Array("last".utf8))
    pair.client.finish()
    pair.exchange()
    #expect(pair.server.peerHasFinished && pair.atServer == Array("last".utf8))
    #expect(!pair.client.peerHasFinished)
    // The other direction is still open.
    try pair.server.write(Array("more".utf8))
    pair.exchange()
    #expect(pair.atClient == Array("more".utf8))
  }

  // MARK: Refusals

  @Test func aServerOfAnotherAuthority() throws {
    var settings = files.client()
    settings.trustedCAFile = files.path("other-ca.pem")
    let pair = try Pair(files.server(), settings)
    #expect(
      pair.clientError?.description
        == "tls: failed to verify certificate: x509: certificate signed by unknown authority")
    #expect(pair.serverError?.description == "remote error: tls: unknown certificate authority")
  }

  @Test func anExpiredServer() throws {
    let pair = try Pair(files.server("expired"), files.client())
    let text = pair.clientError?.description ?? ""
    #expect(
      text.hasPrefix(
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: "
          + "current time 20"))
    #expect(pair.serverError?.description == "remote error: tls: expired certificate")
  }

  @Test(arguments: [
    ("127.0.0.1", nil), ("::1", nil), ("x.example.org", nil),
    ("elsewhere", "certificate is valid for localhost, *.example.org, not elsewhere"),
    ("10.0.0.1", "certificate is valid for 127.0.0.1, ::1, not 10.0.0.1"),
  ])
  func theNameOfTheServer(_ name: String, _ reason: String?) throws {
    let pair = try Pair(files.server(), files.client(), name: name)
    #expect(
      pair.clientError?.description
        == reason.map { "tls: failed to verify certificate: x509: \($0)" })
  }

  @Test func anAddressThatTheCertificateDoesNotName() throws {
    let pair = try Pair(files.server("alice"), files.client(), name: "127.0.0.1")
    #expect(
      pair.clientError?.description == "tls: failed to verify certificate: x509: cannot validate "
        + "certificate for 127.0.0.1 because it doesn't contain any IP SANs")
  }

  @Test func verificationCanBeSkipped() throws {
    var settings = files.client()
    settings.verifiesPeer = false
    let pair = try Pair(files.server("expired"), settings, name: "elsewhere")
    #expect(pair.client.phase == .open)
    #expect(pair.client.verifiedCertificate == nil && pair.client.peerCertificate != nil)
  }

  @Test(arguments: [(TLSVersion.tls12, "bad certificate"), (.tls13, "certificate required")])
  func aClientWithoutCertificate(_ version: TLSVersion, _ alert: String) throws {
    var settings = files.client()
    settings.maxVersion = version
    let pair = try Pair(files.strictServer(), settings)
    #expect(pair.serverError?.description == "tls: client didn't provide a certificate")
    #expect(pair.clientError?.description == "remote error: tls: \(alert)")
  }

  @Test func aClientThatIsNotAsked() throws {
    let pair = try Pair(files.server(), files.client("alice"))
    #expect(pair.server.phase == .open && pair.server.verifiedCertificate == nil)
  }

  @Test(arguments: ["crl.der", "crl.pem"])
  func aRevokedClient(_ list: String) throws {
    var settings = files.strictServer()
    settings.revocationFile = files.path(list)
    let refused = try Pair(settings, files.client("mallory"))
    #expect(
      refused.serverError?.description == "transport: certificate serial 13 revoked")
    #expect(refused.clientError?.description == "remote error: tls: revoked certificate")
    #expect(try Pair(settings, files.client("alice")).server.phase == .open)
  }

  @Test func namesThatAreAllowed() throws {
    var settings = files.strictServer()
    settings.allowedCommonNames = ["bob", "alice"]
    #expect(try Pair(settings, files.client("alice")).server.phase == .open)
    let refused = try Pair(settings, files.client("mallory"))
    #expect(refused.serverError?.description == "client certificate authentication failed")
    settings.allowedCommonNames = []
    settings.allowedHostNames = ["mallory"]
    #expect(try Pair(settings, files.client("mallory")).server.phase == .open)
    #expect(try Pair(settings, files.client("alice")).serverError != nil)
  }

  @Test func versionsAndSuites() throws {
    var old = files.client()
    old.maxVersion = .tls12
    var new = files.server()
    new.minVersion = .tls13
    #expect(try Pair(new, old).serverError != nil)
    var suites = files.server()
    suites.maxVersion = .tls12
    suites.cipherSuites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
    #expect(try Pair(suites, files.client()).client.cipher == "ECDHE-ECDSA-AES256-GCM-SHA384")
    suites.cipherSuites = ["TLS_RSA_WITH_AES_128_GCM_SHA256"]
    #expect(
      try Pair(suites, files.client()).serverError?.description
        == "tls: no cipher suite supported by both client and server")
  }

  @Test func protocols() throws {
    var settings = files.client()
    settings.protocols = ["http/1.1"]
    let old = try Pair(files.server(), settings)
    #expect(old.client.phase == .open && old.client.applicationProtocol == nil)
    settings.protocols = ["http/1.1", "h2"]
    #expect(try Pair(files.server(), settings).client.applicationProtocol == "h2")
    settings.protocols = ["spdy/3"]
    #expect(
      try Pair(files.server(), settings).serverError?.description
        == "tls: client requested unsupported application protocols")
  }

  // MARK: Bad bytes

  @Test func garbage() throws {
    let pair = try Pair(files.server(), files.client())
    for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", String(repeating: "\u{1}x", count: 400)] {
      let engine = try TLSEngine(pair.server.context)
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 16)
      defer { scratch.deallocate() }
      let error = #expect(throws: TLSError.self) {
        try Array(text.utf8).withUnsafeBytes { bytes in
          try engine.receive(bytes, scratch: scratch) { _ in true }
        }
      }
      #expect(error?.description == "tls: first record does not look like a TLS handshake")
      #expect(engine.phase == .closed)
    }
  }

  @Test func aTruncatedRecordGivesNothing() throws {
    let pair = try Pair(files.server(), files.client())
    try pair.client.write(Array("question".utf8))
    pair.feedServer(Array(pair.client.takeOutput().dropLast()))
    #expect(pair.atServer.isEmpty && pair.serverError == nil && !pair.server.peerHasFinished)
  }

  @Test func aChangedRecordEndsTheConnection() throws {
    let pair = try Pair(files.server(), files.client())
    try pair.client.write(Array("question".utf8))
    var record = pair.client.takeOutput()
    record[record.count - 1] ^= 1
    pair.feedServer(record)
    #expect(pair.serverError?.description == "local error: tls: bad record MAC")
    #expect(pair.atServer.isEmpty && pair.server.phase == .closed)
    pair.exchange()
    #expect(pair.clientError?.description == "remote error: tls: bad record MAC")
  }
}
