import Base
import HTTP

/// What the connections have in common that came in by one address.
///
/// Belongs to the gateway's loop.
final class ClientEntrance {
  /// Which protocols the address serves.
  enum Protocols { case all, grpc, http }

  /// What the gateway does with the events of a connection.
  struct Handlers {
    var called: (ServerCall, ClientConnection) -> Void
    var received: (ServerCall, UnsafeRawBufferPointer) -> Void
    var halfClosed: (ServerCall) -> Void
    var cancelled: (ServerCall) -> Void
    var writable: (ServerCall) -> Void
    /// The head of a request of HTTP/1.1, or of HTTP/2 that is not gRPC.
    var request: (HTTPExchange) -> Void
    /// Whether a request to become a WebSocket is seen to.
    var acceptsWebSocket: (HTTP1RequestHead) -> Bool
    /// Headers of all answers to such a request.
    var commonHeaders: (HTTP1Headers) -> [HTTPField]
    /// There is output to be flushed at the end of this turn.
    var touched: (ClientConnection) -> Void
    var closed: (ClientConnection) -> Void
  }

  let protocols: Protocols
  let handlers: Handlers
  let sessions: GRPCServerContext
  /// Output on its way from a session to its socket. One for all: memory that every connection has to
  /// itself has left the processor's caches by the time it is used again.
  private var output = Bytes()

  init(protocols: Protocols, handlers: Handlers, sessions: GRPCServerContext) {
    self.protocols = protocols
    self.handlers = handlers
    self.sessions = sessions
  }

  /// Calls `body` with an empty array. Calls inside of `body` get another.
  func withOutputBuffer<Result>(_ body: (inout Bytes) -> Result) -> Result {
    var buffer = Bytes()
    swap(&buffer, &output)
    buffer.removeAll(keepingCapacity: true)
    defer { swap(&buffer, &output) }
    return body(&buffer)
  }
}
