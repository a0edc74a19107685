import Foundation
import Glibc
import Testing

@testable import TLS

/// Certificates made once with the `openssl` command, in a folder that the tests share.
///
/// `ca` signs `server` (localhost, 127.0.0.1), `alice`, `mallory` (revoked in `crl.der`) and `expired`;
/// `other-ca` signs nothing.
struct Certificates {
  static let shared = Result { try Certificates() }

  let folder: String

  private init() throws {
    folder = NSTemporaryDirectory() + "apus-tls-\(UInt32.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let script = """
      set -e; cd "\(folder)"
      authority() {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
          -keyout $1.key -out $1.pem -subj /CN=$1
      }
      leaf() {
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $1.key \
          -out $1.csr -subj "/O=apus/CN=$1"
        echo "subjectAltName=$2" > $1.ext
        openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -set_serial $3 -days $4 \
          -extfile $1.ext -out $1.pem
      }
      authority ca; authority other-ca
      leaf server DNS:localhost,DNS:*.example.org,IP:127.0.0.1,IP:::1 17 30
      leaf alice DNS:alice 18 30
      leaf mallory DNS:mallory 19 30
      leaf expired DNS:localhost 20 -1
      touch index.txt
      printf '[ca]\\ndefault_ca=a\\n[a]\\ndatabase=index.txt\\ndefault_md=sha256\\n' > ca.cnf
      openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke mallory.pem
      openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -crldays 30 -out crl.pem
      openssl crl -in crl.pem -outform DER -out crl.der
      """
    try #require(Self.run(script) == 0, "the openssl command has failed")
  }

  /// Runs a shell without descriptors of this process: another test may have taken them all.
  private static func run(_ script: String) -> Int32 {
    let texts = ["sh", "-c", "exec >/dev/null 2>&1\n" + script]
    var words: [UnsafeMutablePointer<CChar>?] = texts.map { text in strdup(text) }
    words.append(nil)
    defer { for word in words { free(word) } }
    var child: pid_t = 0
    guard posix_spawn(&child, "/bin/sh", nil, nil, &words, environ) == 0 else { return -1 }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    return status
  }

  func path(_ name: String) -> String { "\(folder)/\(name)" }

  /// What a server says that shows `name` and asks for nothing.
  func server(_ name: String = "server") -> TLSSettings {
    var settings = TLSSettings()
    settings.certificateFile = path("\(name).pem")
    settings.keyFile = path("\(name).key")
    settings.verifiesPeer = false
    settings.protocols = ["h2"]
    return settings
  }

  /// A server that asks for a certificate of `ca`.
  func strictServer() -> TLSSettings {
    var settings = server()
    settings.verifiesPeer = true
    settings.trustedCAFile = path("ca.pem")
    return settings
  }

  /// A client that trusts `ca` and shows `name`, if there is one.
  func client(_ name: String? = nil) -> TLSSettings {
    var settings = TLSSettings()
    if let name {
      settings.certificateFile = path("\(name).pem")
      settings.keyFile = path("\(name).key")
    }
    settings.trustedCAFile = path("ca.pem")
    settings.protocols = ["h2"]
    return settings
  }
}

/// Two engines joined by memory.
final class Pair {
  let server: TLSEngine
  let client: TLSEngine
  private(set) var serverError: TLSError?
  private(set) var clientError: TLSError?
  private(set) var atServer: [UInt8] = []
  private(set) var atClient: [UInt8] = []
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1000, alignment: 16)

  init(
    _ serverSettings: TLSSettings, _ clientSettings: TLSSettings, name: String = "localhost"
  ) throws {
    server = try TLSEngine(TLSContext(.server, serverSettings))
    client = try TLSEngine(TLSContext(.client, clientSettings), serverName: name)
    try client.start()
    exchange()
  }

  deinit { scratch.deallocate() }

  /// Carries bytes in pieces of `step` bytes until neither end has any.
  func exchange(step: Int = .max) {
    while true {
      let (up, down) = (client.takeOutput(), server.takeOutput())
      if up.isEmpty && down.isEmpty { return }
      carry(up, step) { self.feedServer($0) }
      carry(down, step) { self.feedClient($0) }
    }
  }

  private func carry(_ bytes: [UInt8], _ step: Int, _ feed: ([UInt8]) -> Void) {
    var rest = bytes[...]
    while !rest.isEmpty {
      feed(Array(rest.prefix(step)))
      rest = rest.dropFirst(step)
    }
  }

  func feedServer(_ bytes: [UInt8]) {
    do throws(TLSError) {
      try receive(server, bytes) { self.atServer.append(contentsOf: $0) }
    } catch { serverError = error }
  }

  func feedClient(_ bytes: [UInt8]) {
    do throws(TLSError) {
      try receive(client, bytes) { self.atClient.append(contentsOf: $0) }
    } catch { clientError = error }
  }

  private func receive(
    _ engine: TLSEngine, _ bytes: [UInt8], _ take: @escaping (UnsafeRawBufferPointer) -> Void
  ) throws(TLSError) {
    let result = bytes.withUnsafeBytes { buffer -> Result<Void, TLSError> in
      do throws(TLSError) {
        try engine.receive(buffer, scratch: scratch) {
          take($0)
          return true
        }
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }
}

extension TLSEngine {
  func write(_ bytes: [UInt8]) throws(TLSError) {
    let result = bytes.withUnsafeBytes { buffer -> Result<Void, TLSError> in
      do throws(TLSError) { return .success(try write(buffer)) } catch { return .failure(error) }
    }
    try result.get()
  }
}
