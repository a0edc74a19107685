import Glibc
import HTTP
import Testing

@testable import Member

@Suite struct HTTPSettingsTests {
  @Test(arguments: [
    ("a.example", "a.example"), ("a.example:2379", "a.example"), ("127.0.0.1:1", "127.0.0.1"),
    ("[::1]:2379", "::1"), ("::1", "::1"), ("[::1]", "[::1]"), ("", ""), ("a:", "a"),
  ])
  func hostNames(header: String, name: String) {
    #expect(HTTPSettings.hostName(header) == name)
  }

  @Test func origins() {
    var settings = HTTPSettings()
    #expect(settings.allowedOrigin(nil) == "*")
    #expect(settings.allowedOrigin("http://x:1") == "*")
    settings.origins = ["http://a.example:80"]
    #expect(settings.allowedOrigin("http://a.example:80") == "http://a.example:80")
    #expect(settings.allowedOrigin("http://b.example:80") == nil)
    #expect(settings.allowedOrigin(nil) == nil)
  }

  @Test(arguments: [
    ("a%20b", "a b"), ("a+b", "a b"), ("%zz", "%zz"), ("%4", "%4"), ("%41%", "A%"), ("", ""),
  ])
  func percentCoding(text: String, plain: String) {
    #expect(PercentCoding.decode(text) == plain)
  }

  @Test func webSocketUpgrade() throws {
    func head(_ fields: [HTTPField], method: String = "GET") -> HTTP1RequestHead {
      HTTP1RequestHead(method: method, target: "/v3/watch", headers: HTTP1Headers(fields))
    }
    let full = [
      HTTPField("Connection", "keep-alive, Upgrade"), HTTPField("Upgrade", "WebSocket"),
      HTTPField("Sec-WebSocket-Version", "13"),
      HTTPField("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
      HTTPField("Sec-WebSocket-Protocol", "Bearer, abc"),
    ]
    #expect(WebSocketUpgrade.isAskedFor(by: head(full)))
    #expect(!WebSocketUpgrade.isAskedFor(by: head([full[0]])))
    guard case .accepted(let headers) = WebSocketUpgrade.answer(to: head(full)) else {
      Issue.record("not accepted")
      return
    }
    // The example of RFC 6455.
    #expect(headers.contains(HTTPField("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")))
    #expect(headers.contains(HTTPField("Sec-WebSocket-Protocol", "Bearer")))
    #expect(WebSocketUpgrade.headers(of: head(full)).first("authorization") == "Bearer abc")
    guard case .refused(405) = WebSocketUpgrade.answer(to: head(full, method: "POST")) else {
      Issue.record("a POST is no handshake")
      return
    }
  }

  @Test func serviceManager() throws {
    #expect(ServiceManager(path: "") == nil)
    #expect(ServiceManager(path: "relative") == nil)
    #expect(ServiceManager(path: "/" + String(repeating: "x", count: 200)) == nil)
    let nobody = try #require(ServiceManager(path: "@apus-test-nobody-\(getpid())"))
    #expect(!nobody.notify("READY=1"))
  }
}
