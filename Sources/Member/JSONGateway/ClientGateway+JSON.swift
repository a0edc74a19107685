import Actors
import Base
import HTTP
import StoreActor

extension ClientGateway {
  /// Begins a call that comes as JSON. `path` is below `/v3/`.
  func jsonCall(_ exchange: HTTPExchange, path: String) {
    // The call would not be made in the name that the certificate has.
    let name = exchange.connection.certificateCommonName ?? ""
    if !name.isEmpty, storeStatus.auth.isEnabled {
      return exchange.respond(
        PageResponse(
          error: 400,
          "CommonName of client sending a request against gateway will be ignored and not used as "
            + "expected"))
    }
    guard let route = JSONRoute.find(path) else {
      return exchange.respond(JSONStatus.response(GRPCStatus(.notFound, "Not Found")))
    }
    guard exchange.method == "POST" else {
      return exchange.respond(
        JSONStatus.response(GRPCStatus(.unimplemented, "Method Not Allowed")))
    }
    var deadline: UInt64?
    if let text = exchange.headers.first("grpc-timeout"), !text.isEmpty {
      let timeout = Array(text.utf8).withUnsafeBufferPointer { GRPCTimeout.parse($0) }
      guard let timeout else {
        return exchange.respond(
          JSONStatus.response(GRPCStatus(.invalidArgument, "invalid grpc-timeout: \(text)")))
      }
      let (sum, overflow) = executor.now.addingReportingOverflow(timeout)
      deadline = overflow ? .max : sum
    }
    exchange.handler = JSONCall(
      exchange, route: route, metadata: Self.metadata(of: exchange.headers), deadline: deadline,
      messageBytesMax: sessionConfiguration.receiveMessageBytesMax,
      budget: sessionConfiguration.receiveBudget,
      handlers: JSONCallHandlers(
        started: { call, connection in self.started(call, on: connection) },
        received: { call, message in self.received(call, message) },
        halfClosed: { call in self.halfClosed(call) },
        cancelled: { call in self.cancelled(call) },
        writable: { call in self.writable(call) },
        encodeAside: { call, route, message in self.encodeAside(call, route, message) }))
  }

  private func encodeAside(_ call: JSONCall, _ route: JSONRoute, _ message: Bytes) {
    let id = ids.next()
    jsonCalls[id] = (call, message.count)
    let inbox = inbox
    outlets.aside { inbox.send(.encodedJSON(id: id, try? route.encode(message))) }
  }

  func encodedJSON(id: UInt64, _ json: Bytes?) {
    guard let (call, count) = jsonCalls.removeValue(forKey: id) else { return }
    call.encoded(json, messageBytes: count)
  }

  /// Metadata of a call from the headers of its request: `Authorization`, all that is called
  /// `Grpc-Metadata-...` under the rest of its name, and the mark that says it came by the gateway.
  static func metadata(of headers: HTTP1Headers) -> HeaderFields {
    let prefix = "grpc-metadata-"
    var fields = [HTTPField("grpcgateway-accept", headers.first("accept") ?? "")]
    for field in headers.fields {
      let name = field.name.lowercased()
      if name == "authorization" {
        fields.append(HTTPField(name, field.value))
      } else if name.hasPrefix(prefix), name.count > prefix.count {
        fields.append(HTTPField(String(name.dropFirst(prefix.count)), field.value))
      }
    }
    return HeaderFields(fields)
  }
}
