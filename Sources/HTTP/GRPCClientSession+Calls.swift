import CNGHTTP2

// MARK: - Receiving

extension GRPCClientSession {
  /// A header block of a response is complete.
  func onHeaders(_ call: ClientCall) {
    if !call.response.hasHeaders, !(100..<200).contains(call.response.httpStatus) {
      call.response.hasHeaders = true
      acceptResponse(call)
    }
  }

  private func acceptResponse(_ call: ClientCall) {
    guard call.response.httpStatus == 200, call.response.isGRPC else {
      if !call.hasRemoteEnded { cancel(call, call.response.status) }
      return
    }
    switch call.response.encodingName {
    case "", "identity": call.encoding = .identity
    case "gzip": call.encoding = .gzip
    case let name:
      let text = "grpc: Decompressor is not installed for grpc-encoding \"\(name)\""
      return cancel(call, GRPCStatus(.unimplemented, text))
    }
    call.onHeaders?(call.response.fields)
  }

  /// A piece of a response's body.
  func onData(_ call: ClientCall, _ bytes: UnsafeRawBufferPointer) {
    if call.isReceivePaused {
      // Other calls must not starve: only the stream's own window stays shut.
      nghttp2_session_consume_connection(connection.raw, bytes.count)
      call.withheldBytes += bytes.count
      call.inbox.partial.append(contentsOf: bytes)
      return
    }
    nghttp2_session_consume(connection.raw, call.id, bytes.count)
    if call.inbox.partial.isEmpty {
      let used = deliver(call, bytes)
      if used < bytes.count { call.inbox.partial.append(contentsOf: bytes[used...]) }
      return
    }
    let isReady = call.inbox.completes(with: bytes.count)
    call.inbox.partial.append(contentsOf: bytes)
    if isReady { deliverPartial(call) }
  }

  private func deliverPartial(_ call: ClientCall) {
    var bytes: [UInt8] = []
    swap(&bytes, &call.inbox.partial)
    let used = bytes.withUnsafeBytes { deliver(call, $0) }
    if used < bytes.count {
      bytes.removeFirst(used)
      call.inbox.partial = bytes
    }
  }

  /// Delivers the whole messages at the head of `bytes`; returns how many bytes are done with.
  private func deliver(_ call: ClientCall, _ bytes: UnsafeRawBufferPointer) -> Int {
    var at = 0
    call.isDispatching = true
    defer { call.isDispatching = false }
    while at < bytes.count, call.phase == .open, !call.isReceivePaused {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
      switch MessageAssembler.next(
        rest, limit: configuration.receiveMessageBytesMax, encoding: call.encoding)
      {
      case .needMore: return at
      case .message(let payload, let isCompressed):
        at += payload.upperBound
        let message = UnsafeRawBufferPointer(rebasing: rest[payload])
        if isCompressed {
          deliverCompressed(call, message)
        } else {
          call.onMessage?(message)
        }
      case .failed(let status): cancel(call, status)
      }
    }
    return call.phase == .open ? at : bytes.count
  }

  private func deliverCompressed(_ call: ClientCall, _ payload: UnsafeRawBufferPointer) {
    do {
      let message = try MessageAssembler.inflate(
        payload, limit: configuration.receiveMessageBytesMax)
      message.withUnsafeBytes { call.onMessage?($0) }
    } catch {
      cancel(call, error)
    }
  }

  /// The server has ended its side of the stream.
  func onRemoteEnd(_ call: ClientCall) {
    call.hasRemoteEnded = true
    if !call.isReceivePaused { endResponse(call) }
  }

  private func endResponse(_ call: ClientCall) {
    guard call.phase == .open else { return }
    var status = call.response.status
    if status.isOK, !call.inbox.partial.isEmpty {
      status = GRPCStatus(.internal, "unexpected EOF")
    }
    // The answer is complete, so what we would still send is of no use to the server.
    if nghttp2_session_get_stream_local_close(connection.raw, call.id) == 0 {
      connection.reset(call.id, NGHTTP2_NO_ERROR)
    }
    end(call, status)
  }

  func onStreamClosed(_ call: ClientCall, code: UInt32) {
    // A paused call still has its messages and its end to deliver.
    if call.hasRemoteEnded, call.isReceivePaused { return }
    let mapped = GRPCStatus.code(forHTTP2Error: code)
    end(call, GRPCStatus(mapped, "stream terminated by RST_STREAM with error code: \(code)"))
  }

  func resumeReceiving(_ call: ClientCall) {
    guard call.isReceivePaused else { return }
    call.isReceivePaused = false
    // From inside a delivery its own loop goes on with the rest.
    guard !call.isDispatching, call.phase == .open else { return }
    if call.withheldBytes > 0 {
      nghttp2_session_consume_stream(connection.raw, call.id, call.withheldBytes)
      call.withheldBytes = 0
    }
    if !call.inbox.partial.isEmpty { deliverPartial(call) }
    if call.hasRemoteEnded, !call.isReceivePaused { endResponse(call) }
  }
}

// MARK: - Sending

extension GRPCClientSession {
  func send(_ call: ClientCall, _ message: [UInt8]) {
    guard call.phase == .open, !call.isHalfClosed else { return }
    if call.isCompressing, !message.isEmpty {
      call.queue.append(message.withUnsafeBytes { Gzip.compress($0) })
    } else {
      call.queue.append(message)
    }
    if call.queue.bytes > configuration.writableLowBytes { call.wantsWritable = true }
    wake(call)
  }

  func halfClose(_ call: ClientCall) {
    guard call.phase == .open, !call.isHalfClosed else { return }
    call.isHalfClosed = true
    wake(call)
  }

  private func wake(_ call: ClientCall) {
    guard call.isDeferred else { return }
    call.isDeferred = false
    nghttp2_session_resume_data(connection.raw, call.id)
  }

  func cancel(_ call: ClientCall, _ status: GRPCStatus) {
    guard call.phase == .open else { return }
    if call.id > 0 { connection.reset(call.id, NGHTTP2_CANCEL) }
    end(call, status)
  }
}
