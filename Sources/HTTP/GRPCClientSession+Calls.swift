import CNGHTTP2

// MARK: - Receiving

extension GRPCClientSession: MessageReceiving {
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
    if call.isReceivePaused { return withhold(call, bytes) }
    nghttp2_session_consume(connection.raw, call.id, bytes.count)
    collect(call, bytes)
  }

  var receiveMessageBytesMax: Int { configuration.receiveMessageBytesMax }

  func deliver(_ call: ClientCall, _ bytes: UnsafeRawBufferPointer) -> Int {
    deliverMessages(call, bytes)
  }

  func hand(_ message: UnsafeRawBufferPointer, to call: ClientCall) { call.onMessage?(message) }

  func refuse(_ call: ClientCall, _ status: GRPCStatus) { cancel(call, status) }

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
    guard reopen(call) else { return }
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
