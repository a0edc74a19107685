import Base
import CNGHTTP2

// MARK: - Receiving

extension GRPCServerSession: MessageReceiving {
  /// A piece of a request's body.
  func onData(_ call: ServerCall, _ bytes: UnsafeRawBufferPointer) {
    emptyFrames = 0
    if call.isReceivePaused, call.phase == .open {
      withhold(call, bytes)
      return noteHeld(call)
    }
    guard call.phase == .open else {
      // Answered already: what the stream's window holds may still come, and no more.
      nghttp2_session_consume_connection(connection.raw, bytes.count)
      return
    }
    nghttp2_session_consume(connection.raw, call.id, bytes.count)
    collect(call, bytes)
    if call.heldBytes != call.inbox.partial.count { noteHeld(call) }
  }

  /// Tells the budget what a call holds; a call for which there is no room ends.
  func noteHeld(_ call: ServerCall) {
    guard let budget = context.configuration.receiveBudget else { return }
    let bytes = call.inbox.partial.count
    guard !budget.change(from: call.heldBytes, to: bytes) else { return call.heldBytes = bytes }
    refuse(
      call, GRPCStatus(.resourceExhausted, "apus: too many unfinished requests at the same time"))
  }

  var receiveMessageBytesMax: Int { context.configuration.receiveMessageBytesMax }

  /// A plain request's body is handed on as it comes.
  func deliver(_ call: ServerCall, _ bytes: UnsafeRawBufferPointer) -> Int {
    guard call.kind == .http else { return deliverMessages(call, bytes) }
    delegate?.httpRequest(call, received: bytes)
    return bytes.count
  }

  func hand(_ message: UnsafeRawBufferPointer, to call: ServerCall) {
    delegate?.call(call, received: message)
  }

  /// Ends a call for a fault of its client.
  func refuse(_ call: ServerCall, _ status: GRPCStatus) {
    guard call.phase == .open else { return }
    call.isCancelled = true
    finish(call, status)
    delegate?.callCancelled(call)
  }

  /// The client has ended its side of the stream.
  func onRemoteEnd(_ call: ServerCall) {
    call.hasRemoteEnded = true
    if !call.isReceivePaused { endRequest(call) }
  }

  private func endRequest(_ call: ServerCall) {
    guard !call.isHalfClosed else { return }
    call.isHalfClosed = true
    guard call.phase == .open else { return }
    switch call.kind {
    case .http: delegate?.httpRequestEnded(call)
    case .grpc where call.inbox.partial.isEmpty: delegate?.callHalfClosed(call)
    case .grpc: refuse(call, GRPCStatus(.internal, "unexpected EOF"))
    }
  }

  func resumeReceiving(_ call: ServerCall) {
    guard reopen(call) else { return }
    if call.heldBytes != call.inbox.partial.count { noteHeld(call) }
    if call.hasRemoteEnded, !call.isReceivePaused { endRequest(call) }
  }
}

// MARK: - Answering

extension GRPCServerSession {
  func reply(_ call: ServerCall, _ message: [UInt8], _ rest: ArraySlice<[UInt8]>) {
    guard call.phase == .open else { return }
    if rest.isEmpty {
      enqueue(call, message)
    } else if call.encoding == .gzip {
      enqueue(call, message + rest.joined())
    } else {
      call.queue.append(message, rest)
    }
    call.phase = .finished
    call.status = .ok
    pump(call)
  }

  func send(_ call: ServerCall, _ bytes: [UInt8]) {
    guard call.phase == .open else { return }
    enqueue(call, bytes)
    noteQueued(call)
  }

  func send(_ call: ServerCall, _ messages: FramedMessages) {
    guard call.phase == .open, messages.count > 0 else { return }
    if call.encoding == .identity {
      for piece in messages.pieces { call.queue.append(framed: piece) }
    } else {
      for message in messages { enqueue(call, message) }
    }
    noteQueued(call)
  }

  private func noteQueued(_ call: ServerCall) {
    if call.queue.bytes > context.configuration.writableLowBytes { call.wantsWritable = true }
    pump(call)
  }

  private func enqueue(_ call: ServerCall, _ bytes: [UInt8]) {
    if call.encoding == .gzip, !bytes.isEmpty {
      call.queue.append(bytes.withUnsafeBytes { Gzip.compress($0) })
    } else {
      call.queue.append(bytes)
    }
  }

  func finish(_ call: ServerCall, _ status: GRPCStatus) {
    guard call.phase == .open else { return }
    call.phase = .finished
    call.status = status
    call.inbox.partial = []
    if call.heldBytes != 0 { noteHeld(call) }
    if call.kind == .grpc, !call.hasSubmittedHeaders {
      call.hasSubmittedHeaders = true
      refuse(call.id, httpStatus: 200, status)
    } else {
      pump(call)
    }
  }

  func abort(_ call: ServerCall) {
    guard call.phase == .open else { return }
    call.phase = .finished
    call.queue.removeAll()
    connection.reset(call.id, NGHTTP2_CANCEL)
  }

  func beginResponse(_ call: ServerCall, status: Int, headers: [HTTPField]) {
    guard call.phase == .open, call.kind == .http, !call.hasSubmittedHeaders else { return }
    // In HTTP/2 a name in capitals makes the whole answer malformed.
    let fields =
      [HTTPField(":status", "\(status)")]
      + headers.map { HTTPField($0.name.lowercased(), $0.value) }
    HTTP2Fields.withPacked(fields) { submitResponse(call, $0) }
  }

  /// Lets queued bytes go: sends the headers first, or wakes the stream.
  private func pump(_ call: ServerCall) {
    if !call.hasSubmittedHeaders {
      switch (call.kind, call.encoding) {
      case (.http, _):
        HTTP2Fields.withPacked([HTTPField(":status", "200")]) { submitResponse(call, $0) }
      case (.grpc, .identity):
        GRPCServerFields.response.withUnsafeBufferPointer { submitResponse(call, $0) }
      case (.grpc, .gzip):
        GRPCServerFields.gzipResponse.withUnsafeBufferPointer { submitResponse(call, $0) }
      }
    } else if call.isDeferred {
      call.isDeferred = false
      nghttp2_session_resume_data(connection.raw, call.id)
    }
  }

  private func submitResponse(_ call: ServerCall, _ fields: UnsafeBufferPointer<nghttp2_nv>) {
    call.hasSubmittedHeaders = true
    var provider = nghttp2_data_provider(
      source: nghttp2_data_source(ptr: Unmanaged.passUnretained(call).toOpaque()),
      read_callback: GRPCServerCallbacks.readData)
    nghttp2_submit_response(
      connection.raw, call.id, fields.baseAddress, fields.count, &provider)
  }

  func submitTrailers(_ call: ServerCall) {
    guard let status = call.status, !status.isOK else {
      GRPCServerFields.statusOK.withUnsafeBufferPointer {
        _ = nghttp2_submit_trailer(connection.raw, call.id, $0.baseAddress, $0.count)
      }
      return
    }
    HTTP2Fields.withPacked(Self.trailers(status)) {
      _ = nghttp2_submit_trailer(connection.raw, call.id, $0.baseAddress, $0.count)
    }
  }

  static func trailers(_ status: GRPCStatus) -> [HTTPField] {
    var fields = [HTTPField("grpc-status", "\(status.code.rawValue)")]
    if !status.message.isEmpty {
      let text = String(decoding: GRPCStatus.percentEncode(status.message), as: UTF8.self)
      fields.append(HTTPField("grpc-message", text))
    }
    return fields
  }

  /// Answers a request with trailers only.
  func refuse(_ stream: Int32, httpStatus: Int, _ status: GRPCStatus) {
    let fields =
      [HTTPField(":status", "\(httpStatus)"), HTTPField("content-type", "application/grpc")]
      + Self.trailers(status)
    HTTP2Fields.withPacked(fields) {
      _ = nghttp2_submit_response(connection.raw, stream, $0.baseAddress, $0.count, nil)
    }
  }
}
