import CNGHTTP2

/// Header lists that every answer shares. They live as long as the process.
enum GRPCServerFields {
  nonisolated(unsafe) static let response = [
    HTTP2Fields.fixed(":status", "200"), HTTP2Fields.fixed("content-type", "application/grpc"),
  ]
  nonisolated(unsafe) static let gzipResponse =
    response + [HTTP2Fields.fixed("grpc-encoding", "gzip")]
  nonisolated(unsafe) static let statusOK = [HTTP2Fields.fixed("grpc-status", "0")]
}

/// What nghttp2 calls. All of it runs inside `receive` or `appendOutput` of the session that is
/// the user data, so the unretained pointers are alive.
enum GRPCServerCallbacks {
  static func install(_ callbacks: OpaquePointer) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, beginHeaders)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frameReceived)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, dataReceived)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, streamClosed)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frameSent)
    nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
  }

  private static let failure = Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)

  /// Nil once the session is closed: every callback then makes nghttp2 stop.
  private static func session(_ context: UnsafeMutableRawPointer?) -> GRPCServerSession? {
    guard let context else { return nil }
    let session = Unmanaged<GRPCServerSession>.fromOpaque(context).takeUnretainedValue()
    return session.isClosed ? nil : session
  }

  private static func call(_ raw: OpaquePointer?, _ stream: Int32) -> ServerCall? {
    nghttp2_session_get_stream_user_data(raw, stream).map {
      Unmanaged<ServerCall>.fromOpaque($0).takeUnretainedValue()
    }
  }

  private static let beginHeaders: nghttp2_on_begin_headers_callback = { _, frame, context in
    guard let session = session(context), let frame else { return failure }
    if frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST { session.context.incoming.begin() }
    return 0
  }

  private static let header: nghttp2_on_header_callback = {
    _, frame, name, nameCount, value, valueCount, _, context in
    guard let session = session(context), let frame else { return failure }
    // Trailers of a request mean nothing to gRPC.
    guard frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST else { return 0 }
    session.context.incoming.add(
      name: UnsafeBufferPointer(start: name, count: nameCount),
      value: UnsafeBufferPointer(start: value, count: valueCount),
      listBytesMax: session.context.configuration.headerListBytesMax)
    return 0
  }

  private static let frameReceived: nghttp2_on_frame_recv_callback = { raw, frame, context in
    guard let session = session(context), let frame else { return failure }
    let head = frame.pointee.hd
    let endsStream = head.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
    switch UInt32(head.type) {
    case NGHTTP2_HEADERS.rawValue:
      if frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
        session.onRequest(stream: head.stream_id)
      }
      if endsStream, !session.isClosed, let call = call(raw, head.stream_id) {
        session.onRemoteEnd(call)
      }
    case NGHTTP2_DATA.rawValue:
      if endsStream {
        if let call = call(raw, head.stream_id) { session.onRemoteEnd(call) }
      } else if head.length == frame.pointee.data.padlen {
        session.onEmptyData()
      }
    case NGHTTP2_PING.rawValue:
      let isAck = head.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
      let opaque = withUnsafeBytes(of: frame.pointee.ping.opaque_data) { Array($0) }
      session.onPing(isAck: isAck, opaque: opaque)
    case NGHTTP2_RST_STREAM.rawValue:
      session.onReset(call(raw, head.stream_id))
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

  private static let streamClosed: nghttp2_on_stream_close_callback = { raw, stream, _, context in
    guard let session = session(context) else { return failure }
    if let call = call(raw, stream) { session.onStreamClosed(call) }
    return session.isClosed ? failure : 0
  }

  private static let frameSent: nghttp2_on_frame_send_callback = { _, frame, context in
    guard let session = session(context), let frame else { return failure }
    let head = frame.pointee.hd
    if UInt32(head.type) <= NGHTTP2_HEADERS.rawValue {
      session.onFrameSent(
        stream: head.stream_id,
        endsStream: head.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0)
    }
    return 0
  }

  /// Says how much of a call's queue goes into the next DATA frame.
  static let readData: nghttp2_data_source_read_callback = {
    _, _, _, length, flags, source, context in
    guard let session = session(context), let source, let flags, let pointer = source.pointee.ptr
    else { return Int(failure) }
    let call = Unmanaged<ServerCall>.fromOpaque(pointer).takeUnretainedValue()
    let count = min(length, call.queue.bytes)
    if count == 0, call.phase == .open {
      call.isDeferred = true
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
    if count == call.queue.bytes, call.phase == .finished {
      flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
      if call.kind == .grpc {
        flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
        session.submitTrailers(call)
      }
    }
    return count
  }

  /// Writes a DATA frame straight to the output.
  private static let sendData: nghttp2_send_data_callback = {
    _, _, head, length, source, context in
    guard let session = session(context), let head, let pointer = source?.pointee.ptr else {
      return failure
    }
    // Full for this turn: nghttp2 comes back with the same frame.
    guard session.output.count < session.outputBound else {
      return Int32(NGHTTP2_ERR_WOULDBLOCK.rawValue)
    }
    let call = Unmanaged<ServerCall>.fromOpaque(pointer).takeUnretainedValue()
    // The owner may have aborted the call since the frame was prepared.
    guard call.queue.bytes >= length else {
      return Int32(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    session.output.append(contentsOf: UnsafeBufferPointer(start: head, count: 9))
    call.queue.write(length, to: &session.output)
    if call.wantsWritable, call.queue.bytes <= session.context.configuration.writableLowBytes {
      call.wantsWritable = false
      session.noteWritable(call)
    }
    return 0
  }
}
