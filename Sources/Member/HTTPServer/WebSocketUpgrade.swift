import Base
import COpenSSL
import HTTP

/// The request that turns an HTTP/1.1 connection into a WebSocket, and its answer.
enum WebSocketUpgrade {
  enum Answer {
    /// With this HTTP status.
    case refused(Int)
    /// The headers of the 101 answer.
    case accepted([HTTPField])
  }

  static func isAskedFor(by head: HTTP1RequestHead) -> Bool {
    hasToken("upgrade", in: "connection", head) && hasToken("websocket", in: "upgrade", head)
  }

  static func answer(to head: HTTP1RequestHead) -> Answer {
    guard head.method == "GET" else { return .refused(405) }
    guard hasToken("13", in: "sec-websocket-version", head),
      let key = head.headers.first("sec-websocket-key"), !key.isEmpty
    else { return .refused(400) }
    var headers = [
      HTTPField("Upgrade", "websocket"), HTTPField("Connection", "Upgrade"),
      HTTPField("Sec-WebSocket-Accept", accept(key)),
    ]
    // Browsers can name a token nowhere else than as a subprotocol: "Bearer, <token>".
    if tokens("sec-websocket-protocol", head).first?.lowercased() == "bearer" {
      headers.append(HTTPField("Sec-WebSocket-Protocol", "Bearer"))
    }
    return .accepted(headers)
  }

  /// The request as the gateway sees it: a POST, with the token where others have it.
  static func headers(of head: HTTP1RequestHead) -> HTTP1Headers {
    var headers = head.headers
    guard !headers.contains("authorization") else { return headers }
    let protocols = tokens("sec-websocket-protocol", head)
    if protocols.count == 2, protocols[0].lowercased() == "bearer" {
      headers.fields.append(HTTPField("Authorization", "Bearer \(protocols[1])"))
    } else if let token = cookie("token", head) {
      headers.fields.append(HTTPField("Authorization", "Bearer \(token)"))
    }
    return headers
  }

  /// What proves to the client that its key was read (RFC 6455, 4.2.2).
  private static func accept(_ key: String) -> String {
    let text = Bytes((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)
    var digest = Bytes(repeating: 0, count: Int(SHA_DIGEST_LENGTH))
    var count: UInt32 = 0
    EVP_Digest(text, text.count, &digest, &count, EVP_sha1(), nil)
    return Base64.encode(digest) + "="
  }

  private static func tokens(_ name: String, _ head: HTTP1RequestHead) -> [String] {
    head.headers.all(name).flatMap { $0.split(separator: ",") }.map { token in
      String(token.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
  }

  private static func hasToken(
    _ token: String, in name: String, _ head: HTTP1RequestHead
  ) -> Bool {
    tokens(name, head).contains { HTTP1Headers.matches($0, token) }
  }

  private static func cookie(_ name: String, _ head: HTTP1RequestHead) -> String? {
    for pair in head.headers.all("cookie").flatMap({ $0.split(separator: ";") }) {
      let parts = pair.drop { $0 == " " }.split(separator: "=", maxSplits: 1)
      if parts.count == 2, parts[0] == name { return String(parts[1]) }
    }
    return nil
  }
}
