import Base
import HTTP

/// A request of HTTP/2 that is not gRPC: what its call carries through the session.
final class HTTP2Request {
  let exchange: HTTPExchange
  private let responder: HTTP2Responder

  init(_ call: ServerCall, method: String, connection: ClientConnection) {
    var fields = call.fields.all
    if let host = call.metadata(":authority") { fields.insert(HTTPField("host", host), at: 0) }
    responder = HTTP2Responder(call, connection: connection, omitsBody: method == "HEAD")
    exchange = HTTPExchange(
      method: method, target: call.path, headers: HTTP1Headers(fields), connection: connection,
      responder: responder)
  }
}

/// Lives as long as its call does, which carries it.
private final class HTTP2Responder: HTTPResponder {
  private unowned let call: ServerCall
  private unowned let connection: ClientConnection
  private let omitsBody: Bool

  init(_ call: ServerCall, connection: ClientConnection, omitsBody: Bool) {
    self.call = call
    self.connection = connection
    self.omitsBody = omitsBody
  }

  func begin(status: Int, headers: [HTTPField], length: Int?) {
    var headers = headers
    if let length { headers.append(HTTPField("content-length", "\(length)")) }
    call.beginResponse(status: status, headers: headers)
    connection.touch()
  }

  func send(_ body: Bytes) {
    guard !omitsBody else { return }
    call.send(body: body)
    connection.touch()
  }

  func end() {
    call.endResponse()
    connection.touch()
  }

  var queuedBytes: Int { call.queuedBytes }
}
