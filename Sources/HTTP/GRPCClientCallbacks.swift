import CNGHTTP2

/// Header fields that every request shares. They live as long as the process.
enum GRPCClientFields {
  nonisolated(unsafe) static let plain = list(scheme: HTTP2Fields.fixed(":scheme", "http"))
  nonisolated(unsafe) static let secure = list(scheme: HTTP2Fields.fixed(":scheme", "https"))

  private static func list(scheme: nghttp2_nv) -> [nghttp2_nv] {
    [
      HTTP2Fields.fixed(":method", "POST"), scheme,
      HTTP2Fields.fixed("content-type", "application/grpc"),
      HTTP2Fields.fixed("te", "trailers"),
    ]
  }
}

/// What nghttp2 calls. All of it runs inside `receive` or `appendOutput` of the session that is
/// the user data. Calls are found by stream id, because a call may end before its stream does.
enum GRPCClientCallbacks {
  static func install(_ callbacks: OpaquePointer) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, beginHeaders)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frameReceived)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, dataReceived)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, streamClosed)
    nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
  }

  private static let failure = Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)

  /// Nil once the session is closed: every callback then makes nghttp2 stop.
  private static func session(_ context: UnsafeMutableRawPointer?) -> GRPCClientSession? {
    guard let context else { return nil }
    let session = Unmanaged<GRPCClientSession>.fromOpaque(context).takeUnretainedValue()
    return session.isClosed ? nil : session
  }

  /// Nil if the call has ended on our side.
  private static func call(_ raw: OpaquePointer?, _ stream: Int32) -> ClientCall? {
    nghttp2_session_get_stream_user_data(raw, stream).map {
      Unmanaged<ClientCall>.fromOpaque($0).takeUnretainedValue()
    }
  }

  private static let beginHeaders: nghttp2_on_begin_headers_callback = { raw, frame, context in
    guard session(context) != nil, let frame else { return failure }
    call(raw, frame.pointee.hd.stream_id)?.response.beginBlock()
    return 0
  }

  private static let header: nghttp2_on_header_callback = {
    raw, frame, name, nameCount, value, valueCount, _, context in
    guard let session = session(context), let frame else { return failure }
    guard let call = call(raw, frame.pointee.hd.stream_id) else { return 0 }
    let fits = call.response.add(
      name: UnsafeBufferPointer(start: name, count: nameCount),
      value: UnsafeBufferPointer(start: value, count: valueCount),
      listBytesMax: session.configuration.headerListBytesMax)
    if !fits {
      session.cancel(call, GRPCStatus(.internal, "peer header list size exceeded limit"))
    }
    return session.isClosed ? failure : 0
  }

  private static let frameReceived: nghttp2_on_frame_recv_callback = { raw, frame, context in
    guard let session = session(context), let frame else { return failure }
    let head = frame.pointee.hd
    let endsStream = head.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
    switch UInt32(head.type) {
    case NGHTTP2_HEADERS.rawValue:
      guard let call = call(raw, head.stream_id) else { break }
      if endsStream { call.hasRemoteEnded = true }
      session.onHeaders(call)
      if endsStream, !session.isClosed { session.onRemoteEnd(call) }
    case NGHTTP2_DATA.rawValue:
      if endsStream, let call = call(raw, head.stream_id) { session.onRemoteEnd(call) }
    case NGHTTP2_GOAWAY.rawValue:
      let goAway = frame.pointee.goaway
      let debug = UnsafeBufferPointer(start: goAway.opaque_data, count: goAway.opaque_data_len)
      session.onGoAway(
        code: goAway.error_code, debug: String(decoding: debug, as: UTF8.self))
    default: break
    }
    return session.isClosed ? failure : 0
  }

  private static let dataReceived: nghttp2_on_data_chunk_recv_callback = {
    raw, _, stream, bytes, count, context in
    guard let session = session(context) else { return failure }
    if let call = call(raw, stream) {
      session.onData(call, UnsafeRawBufferPointer(start: bytes, count: count))
    } else {
      nghttp2_session_consume(raw, stream, count)
    }
    return session.isClosed ? failure : 0
  }

  private static let streamClosed: nghttp2_on_stream_close_callback = {
    raw, stream, code, context in
    guard let session = session(context) else { return failure }
    if let call = call(raw, stream) { session.onStreamClosed(call, code: code) }
    return session.isClosed ? failure : 0
  }

  /// Says how much of a call's queue goes into the next DATA frame.
  static let readData: nghttp2_data_source_read_callback = {
    raw, stream, _, length, flags, _, context in
    guard session(context) != nil, let flags else { return Int(failure) }
    guard let call = call(raw, stream) else {
      return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    let count = min(length, call.queue.bytes)
    if count == 0, !call.isHalfClosed {
      call.isDeferred = true
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
    if count == call.queue.bytes, call.isHalfClosed {
      flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
    }
    return count
  }

  /// Writes a DATA frame straight to the output.
  private static let sendData: nghttp2_send_data_callback = {
    raw, frame, head, length, _, context in
    guard let session = session(context), let frame, let head else { return failure }
    // Full for this turn: nghttp2 comes back with the same frame.
    guard session.output.count < session.outputBound else {
      return Int32(NGHTTP2_ERR_WOULDBLOCK.rawValue)
    }
    guard let call = call(raw, frame.pointee.hd.stream_id), call.queue.bytes >= length else {
      return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    session.output.append(contentsOf: UnsafeBufferPointer(start: head, count: 9))
    call.queue.write(length, to: &session.output)
    if call.wantsWritable, call.queue.bytes <= session.configuration.writableLowBytes {
      call.wantsWritable = false
      session.noteWritable(call)
    }
    return 0
  }
}
