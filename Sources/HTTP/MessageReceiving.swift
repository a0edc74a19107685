import CNGHTTP2

/// A call as far as receiving goes.
protocol ReceivingCall: AnyObject {
  var id: Int32 { get }
  var isOpen: Bool { get }
  var encoding: MessageEncoding { get }
  /// Bytes that are not delivered yet.
  var inbox: MessageAssembler { get set }
  /// Bytes by which the stream's window stays shut.
  var withheldBytes: Int { get set }
  var isReceivePaused: Bool { get set }
  var isDispatching: Bool { get set }
}

/// A session that delivers the messages of its calls: the same at both ends of a connection.
protocol MessageReceiving: AnyObject {
  associatedtype Call: ReceivingCall

  var connection: HTTP2Connection { get }
  var receiveMessageBytesMax: Int { get }

  /// Hands over one whole message.
  func hand(_ message: UnsafeRawBufferPointer, to call: Call)

  /// Ends a call whose messages cannot be read.
  func refuse(_ call: Call, _ status: GRPCStatus)

  /// Delivers what is whole at the head of `bytes`; returns how many bytes are done with.
  func deliver(_ call: Call, _ bytes: UnsafeRawBufferPointer) -> Int
}

extension MessageReceiving {
  /// A piece for a call that is paused. Other calls must not starve: only the stream's own window
  /// stays shut.
  func withhold(_ call: Call, _ bytes: UnsafeRawBufferPointer) {
    nghttp2_session_consume_connection(connection.raw, bytes.count)
    call.withheldBytes += bytes.count
    call.inbox.partial.append(contentsOf: bytes)
  }

  /// A piece for a call that takes it.
  func collect(_ call: Call, _ bytes: UnsafeRawBufferPointer) {
    if call.inbox.partial.isEmpty {
      let used = deliver(call, bytes)
      if used < bytes.count { call.inbox.partial.append(contentsOf: bytes[used...]) }
      return
    }
    let isReady = call.inbox.completes(with: bytes.count)
    call.inbox.partial.append(contentsOf: bytes)
    if isReady { deliverPartial(call) }
  }

  /// Delivers what was withheld and opens the stream's window again. From inside a delivery that
  /// delivery goes on with the rest.
  ///
  /// - Returns: false if there is nothing further to do for the call now.
  func reopen(_ call: Call) -> Bool {
    guard call.isReceivePaused else { return false }
    call.isReceivePaused = false
    guard !call.isDispatching, call.isOpen else { return false }
    if call.withheldBytes > 0 {
      nghttp2_session_consume_stream(connection.raw, call.id, call.withheldBytes)
      call.withheldBytes = 0
    }
    if !call.inbox.partial.isEmpty { deliverPartial(call) }
    return true
  }

  private func deliverPartial(_ call: Call) {
    var bytes: [UInt8] = []
    swap(&bytes, &call.inbox.partial)
    let used = bytes.withUnsafeBytes { deliver(call, $0) }
    if used < bytes.count {
      bytes.removeFirst(used)
      call.inbox.partial = bytes
    }
  }

  func deliverMessages(_ call: Call, _ bytes: UnsafeRawBufferPointer) -> Int {
    var at = 0
    call.isDispatching = true
    defer { call.isDispatching = false }
    while at < bytes.count, call.isOpen, !call.isReceivePaused {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
      switch MessageAssembler.next(rest, limit: receiveMessageBytesMax, encoding: call.encoding) {
      case .needMore: return at
      case .message(let payload, let isCompressed):
        at += payload.upperBound
        let message = UnsafeRawBufferPointer(rebasing: rest[payload])
        if isCompressed {
          deliverCompressed(call, message)
        } else {
          hand(message, to: call)
        }
      case .failed(let status): refuse(call, status)
      }
    }
    return call.isOpen ? at : bytes.count
  }

  private func deliverCompressed(_ call: Call, _ payload: UnsafeRawBufferPointer) {
    do {
      let message = try MessageAssembler.inflate(payload, limit: receiveMessageBytesMax)
      message.withUnsafeBytes { hand($0, to: call) }
    } catch {
      refuse(call, error)
    }
  }
}
