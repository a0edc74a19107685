import Actors
import Base
import HTTP

/// A WebSocket that carries one request: each message is a line of its body, each line of the answer
/// a message. Loop thread.
final class WebSocketConnection: HTTPResponder {
  private static let messageBytesMax = 4 << 20

  private unowned let connection: ClientConnection
  private let stream: StreamConnection
  private var codec = WebSocketCodec(messageBytesMax: messageBytesMax)
  private var exchange: HTTPExchange?
  /// The beginning of a line whose end has not been written.
  private var line = Bytes()
  private var output = Bytes()
  private var isOver = false

  init(connection: ClientConnection, stream: StreamConnection) {
    self.connection = connection
    self.stream = stream
  }

  func start(_ head: HTTP1RequestHead) {
    let exchange = HTTPExchange(
      method: "POST", target: head.target, headers: WebSocketUpgrade.headers(of: head),
      connection: connection, responder: self)
    exchange.isMessageStream = true
    self.exchange = exchange
    connection.begin(exchange)
  }

  func receive(_ bytes: UnsafeRawBufferPointer) {
    do throws(WebSocketCodec.Failure) {
      for event in try codec.receive(bytes) where !isOver { take(event) }
    } catch {
      close(code: error.closeCode)
    }
  }

  private func take(_ event: WebSocketCodec.Event) {
    switch event {
    case .message(let message):
      (message + [UInt8(ascii: "\n")]).withUnsafeBytes { exchange?.received($0) }
    case .ping(let payload):
      WebSocketCodec.append(.pong, payload, to: &output)
      connection.touch()
    case .close(let code): close(code: code ?? 1000)
    }
  }

  // MARK: - The answer

  /// The status cannot be told any more: an error is told by its body.
  func begin(status: Int, headers: [HTTPField], length: Int?) {}

  func send(_ body: Bytes) {
    line.append(contentsOf: body)
    while let end = line.firstIndex(of: UInt8(ascii: "\n")) {
      WebSocketCodec.append(.text, line[..<end], to: &output)
      line.removeFirst(end + 1)
    }
    connection.touch()
  }

  func end() {
    if !line.isEmpty { WebSocketCodec.append(.text, line, to: &output) }
    line = []
    exchange = nil
    close(code: 1000)
  }

  var queuedBytes: Int { output.count + (stream.isWritable ? 0 : stream.queuedBytes) }

  func flush() {
    guard !isOver, !output.isEmpty else { return }
    var bytes = Bytes()
    swap(&bytes, &output)
    stream.write(bytes)
    if stream.isWritable { exchange?.becameWritable() }
  }

  func becameWritable() { exchange?.becameWritable() }

  private func close(code: UInt16) {
    guard !isOver else { return }
    WebSocketCodec.appendClose(code, to: &output)
    stream.write(output)
    close()
    connection.finishAfterOutput()
  }

  /// The connection is over.
  func close() {
    guard !isOver else { return }
    isOver = true
    let exchange = exchange
    self.exchange = nil
    exchange?.gone()
  }
}
