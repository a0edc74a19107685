// What nghttp2 calls, and the header fields of requests.

import CNGHTTP2
import Glibc

enum LoadFields {
  private static let noCopy = UInt8(
    NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue)

  static func fixed(_ name: StaticString, _ value: StaticString) -> nghttp2_nv {
    nghttp2_nv(
      name: UnsafeMutablePointer(mutating: name.utf8Start),
      value: UnsafeMutablePointer(mutating: value.utf8Start),
      namelen: name.utf8CodeUnitCount, valuelen: value.utf8CodeUnitCount, flags: noCopy)
  }

  /// A field whose value has to stay where it is for as long as there is a session.
  static func field(_ name: StaticString, _ value: UnsafeMutableBufferPointer<UInt8>) -> nghttp2_nv
  {
    nghttp2_nv(
      name: UnsafeMutablePointer(mutating: name.utf8Start), value: value.baseAddress,
      namelen: name.utf8CodeUnitCount, valuelen: value.count, flags: noCopy)
  }

  /// The caller deallocates it.
  static func copy(_ text: String) -> UnsafeMutableBufferPointer<UInt8> {
    let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
    _ = copy.initialize(from: text.utf8)
    return copy
  }
}

/// All of it runs inside `receive` or `flush` of the connection that is the user data.
enum LoadCallbacks {
  private static let streamWindowBytes: Int32 = 16 << 20
  private static let connectionWindowBytes: Int32 = 256 << 20

  /// Precondition: memory is available.
  static func makeSession(for connection: LoadConnection) -> OpaquePointer {
    var callbacks: OpaquePointer?
    var option: OpaquePointer?
    nghttp2_session_callbacks_new(&callbacks)
    nghttp2_option_new(&option)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, dataReceived)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, streamClosed)
    nghttp2_option_set_no_closed_streams(option, 1)
    nghttp2_option_set_peer_max_concurrent_streams(option, 1 << 20)
    var session: OpaquePointer?
    nghttp2_session_client_new2(
      &session, callbacks, Unmanaged.passUnretained(connection).toOpaque(), option)
    nghttp2_option_del(option)
    nghttp2_session_callbacks_del(callbacks)
    guard let session else { preconditionFailure("out of memory for an HTTP/2 session") }
    let settings = [
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
        value: UInt32(streamWindowBytes)),
    ]
    nghttp2_submit_settings(session, 0, settings, settings.count)
    nghttp2_session_set_local_window_size(session, 0, 0, connectionWindowBytes)
    return session
  }

  private static func connection(_ context: UnsafeMutableRawPointer?) -> LoadConnection? {
    context.map { Unmanaged<LoadConnection>.fromOpaque($0).takeUnretainedValue() }
  }

  private static func tag(_ session: OpaquePointer?, _ stream: Int32) -> Int {
    Int(bitPattern: nghttp2_session_get_stream_user_data(session, stream))
  }

  private static let header: nghttp2_on_header_callback = {
    session, frame, name, nameCount, value, valueCount, _, context in
    // grpc-status or grpc-message, or an HTTP status other than 200; nothing else matters here.
    guard let frame, let name, let value, let connection = connection(context) else { return 0 }
    let isCode = nameCount == 11 && memcmp(name, "grpc-status", 11) == 0
    let isText = nameCount == 12 && memcmp(name, "grpc-message", 12) == 0
    let isHTTP = nameCount == 7 && memcmp(name, ":status", 7) == 0
    guard isCode || isText || isHTTP else { return 0 }
    let tag = tag(session, frame.pointee.hd.stream_id)
    if isCode, valueCount == 1, value[0] == UInt8(ascii: "0") {
      connection.note(tag, code: 0, text: nil)
      return 0
    }
    let text = String(
      decoding: UnsafeBufferPointer(start: value, count: valueCount), as: UTF8.self)
    if isCode { connection.note(tag, code: Int(text) ?? 2, text: nil) }
    if isText { connection.note(tag, code: nil, text: text) }
    if isHTTP, text != "200" { connection.note(tag, code: 2, text: "HTTP status \(text)") }
    return 0
  }

  private static let dataReceived: nghttp2_on_data_chunk_recv_callback = {
    session, _, stream, bytes, count, context in
    guard let connection = connection(context) else { return 0 }
    connection.receivedBytes += count
    let tag = tag(session, stream)
    guard tag >= LoadConnection.watchTag else { return 0 }
    let number = tag - LoadConnection.watchTag
    let chunk = UnsafeRawBufferPointer(start: bytes, count: count)
    connection.watches[number].cutter.feed(chunk) { message in
      connection.owner.watchReceived(connection, stream: number, message)
    }
    return 0
  }

  private static let streamClosed: nghttp2_on_stream_close_callback = {
    session, stream, code, context in
    let tag = tag(session, stream)
    guard tag > 0, let connection = connection(context) else { return 0 }
    connection.ended(tag, reset: code)
    return 0
  }

  static let readData: nghttp2_data_source_read_callback = {
    session, stream, target, length, flags, _, context in
    guard let connection = connection(context), let target, let flags else {
      return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
    }
    return connection.read(tag(session, stream), into: target, length, flags)
  }
}

extension LoadConnection {
  fileprivate func note(_ tag: Int, code: Int?, text: String?) {
    if tag >= Self.watchTag {
      if let code { watches[tag - Self.watchTag].code = code }
      if let text { watches[tag - Self.watchTag].message = text }
    } else if tag > 0 {
      if let code { slots[tag - 1].code = code }
      if let text { slots[tag - 1].message = text }
    }
  }

  fileprivate func ended(_ tag: Int, reset: UInt32) {
    if tag >= Self.watchTag {
      let number = tag - Self.watchTag
      owner.watchEnded(
        self, stream: number, code: watches[number].code, message: watches[number].message)
      return
    }
    let slot = tag - 1
    slots[slot].isBusy = false
    let code = slots[slot].code
    guard code != 0 else {
      return owner.callEnded(self, slot: slot, code: 0, message: "", now: now)
    }
    let text = slots[slot].message.isEmpty ? "stream reset (\(reset))" : slots[slot].message
    slots[slot].message = ""
    owner.callEnded(self, slot: slot, code: code, message: text, now: now)
  }

  fileprivate func read(
    _ tag: Int, into target: UnsafeMutablePointer<UInt8>, _ length: Int,
    _ flags: UnsafeMutablePointer<UInt32>
  ) -> Int {
    if tag >= Self.watchTag {
      let number = tag - Self.watchTag
      let sent = watches[number].sent
      let count = min(length, watches[number].body.count - sent)
      guard count > 0 else {
        watches[number].body = []
        watches[number].sent = 0
        return Int(NGHTTP2_ERR_DEFERRED.rawValue)
      }
      copy(watches[number].body, from: sent, count, to: target)
      watches[number].sent += count
      return count
    }
    let slot = tag - 1
    let sent = slots[slot].sent
    let total = slots[slot].writer.bytes.count
    let count = min(length, total - sent)
    copy(slots[slot].writer.bytes, from: sent, count, to: target)
    slots[slot].sent = sent + count
    if sent + count == total { flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
    return count
  }

  private func copy(
    _ bytes: [UInt8], from start: Int, _ count: Int, to target: UnsafeMutablePointer<UInt8>
  ) {
    bytes.withUnsafeBytes {
      if count > 0, let base = $0.baseAddress { memcpy(target, base + start, count) }
    }
  }
}
