import Foundation
import Testing

@testable import TLS

@Suite struct FileTests {
  private let files: Certificates
  private let folder: String

  init() throws {
    files = try Certificates.shared.get()
    folder = files.path("files-\(UInt32.random(in: 0 ... .max))")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func put(_ name: String, as target: String) throws {
    let path = "\(folder)/\(target)"
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: files.path(name), toPath: path)
  }

  private var settings: TLSSettings {
    var settings = files.server()
    settings.certificateFile = "\(folder)/cert.pem"
    settings.keyFile = "\(folder)/key.pem"
    return settings
  }

  @Test func aRenewedCertificateIsUsedAtOnce() throws {
    try put("server.pem", as: "cert.pem")
    try put("server.key", as: "key.pem")
    let source = TLSContextSource(.server, settings)
    let first = try source.current()
    #expect(try source.current() === first)
    try put("alice.pem", as: "cert.pem")
    #expect(throws: TLSError("tls: private key does not match public key")) {
      try source.current()
    }
    try put("alice.key", as: "key.pem")
    #expect(try source.current().certificate?.commonName == "alice")
    #expect(first.certificate?.commonName == "server")
  }

  @Test func missingAndBadFiles() throws {
    #expect(throws: TLSError("open \(folder)/cert.pem: no such file or directory")) {
      try TLSContext(.server, settings)
    }
    var half = settings
    half.certificateFile = ""
    #expect(
      throws: TLSError(
        "KeyFile and CertFile must both be present[key: \(folder)/key.pem, cert: ]")
    ) {
      try TLSContext(.server, half)
    }
    try put("server.key", as: "cert.pem")
    try put("server.key", as: "key.pem")
    #expect(throws: TLSError.self) { try TLSContext(.server, settings) }
    var list = files.strictServer()
    list.revocationFile = files.path("ca.key")
    #expect(throws: TLSError.self) { try TLSContext(.server, list) }
    list.revocationFile = ""
    list.trustedCAFile = files.path("ca.key")
    #expect(throws: TLSError.self) { try TLSContext(.server, list) }
  }

  @Test func selfSignedCertificates() throws {
    let made = SelfSignedFiles(
      directory: "\(folder)/fixtures/client", hosts: ["127.0.0.1", "localhost"], years: 1)
    #expect(try made.renewIfDue())
    #expect(try !made.renewIfDue())
    let mode = try FileManager.default.attributesOfItem(atPath: made.keyFile)[.posixPermissions]
    #expect(mode as? Int == 0o600)
    let pem = try [UInt8](Data(contentsOf: URL(fileURLWithPath: made.certificateFile)))
    let certificate = try #require(TLSCertificate(pem: pem))
    #expect(certificate.ipAddresses == ["127.0.0.1"] && certificate.dnsNames == ["localhost"])
    let days = (certificate.notAfter - Int64(Date().timeIntervalSince1970)) / 86_400
    #expect((364...365).contains(days))
    // Who trusts the certificate itself accepts it.
    var client = files.client()
    client.trustedCAFile = made.certificateFile
    var server = settings
    server.certificateFile = made.certificateFile
    server.keyFile = made.keyFile
    #expect(try Pair(server, client, name: "127.0.0.1").client.phase == .open)
    // One whose life is over soon is made anew.
    let old = SelfSignedFiles(
      directory: made.directory, hosts: ["localhost"], years: 20)
    #expect(try old.renewIfDue())
    let source = TLSContextSource(.server, server, selfSigned: old)
    #expect(try source.current().certificate?.dnsNames == ["localhost"])
  }
}
