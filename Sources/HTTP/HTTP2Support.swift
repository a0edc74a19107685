import CNGHTTP2
import Glibc

/// Header names and values that never change, handed to nghttp2 without a copy.
enum HTTP2Fields {
  /// Both parts live for ever, so nghttp2 may keep the pointers.
  static func fixed(_ name: StaticString, _ value: StaticString) -> nghttp2_nv {
    nghttp2_nv(
      name: UnsafeMutablePointer(mutating: name.utf8Start),
      value: UnsafeMutablePointer(mutating: value.utf8Start),
      namelen: name.utf8CodeUnitCount, valuelen: value.utf8CodeUnitCount,
      flags: UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue))
  }

  /// Calls `body` with all fields in order, laid out for nghttp2, which copies what is not
  /// fixed. Names are lowered.
  static func withPacked<Result>(
    _ leading: [HTTPField], fixed: [nghttp2_nv] = [], _ trailing: [HTTPField] = [],
    _ body: (UnsafeBufferPointer<nghttp2_nv>) -> Result
  ) -> Result {
    var bytes: [UInt8] = []
    func gather(_ field: HTTPField) {
      for byte in field.name.utf8 { bytes.append(lowered(byte)) }
      bytes.append(contentsOf: field.value.utf8)
    }
    bytes.reserveCapacity(256)
    leading.forEach(gather)
    trailing.forEach(gather)
    bytes.append(0)  // so that the base address exists
    return bytes.withUnsafeMutableBufferPointer { buffer in
      var packed: [nghttp2_nv] = []
      packed.reserveCapacity(leading.count + fixed.count + trailing.count)
      var at = 0
      func pack(_ field: HTTPField) {
        let nameCount = field.name.utf8.count
        let valueCount = field.value.utf8.count
        packed.append(
          nghttp2_nv(
            name: buffer.baseAddress?.advanced(by: at),
            value: buffer.baseAddress?.advanced(by: at + nameCount),
            namelen: nameCount, valuelen: valueCount, flags: 0))
        at += nameCount + valueCount
      }
      leading.forEach(pack)
      packed.append(contentsOf: fixed)
      trailing.forEach(pack)
      return packed.withUnsafeBufferPointer(body)
    }
  }

  private static func lowered(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}

extension UnsafeBufferPointer<UInt8> {
  /// Whether the bytes are those of `text`.
  func equals(_ text: StaticString) -> Bool {
    guard count == text.utf8CodeUnitCount else { return false }
    guard let baseAddress else { return true }
    return memcmp(baseAddress, text.utf8Start, count) == 0
  }

  func hasPrefix(_ text: StaticString) -> Bool {
    let length = text.utf8CodeUnitCount
    return count >= length
      && UnsafeBufferPointer(rebasing: self[..<length]).equals(text)
  }

  /// `application/grpc`, alone or followed by a subtype or parameters.
  var isGRPCContentType: Bool {
    let base: StaticString = "application/grpc"
    guard hasPrefix(base) else { return false }
    let length = base.utf8CodeUnitCount
    return count == length || self[length] == UInt8(ascii: "+") || self[length] == UInt8(ascii: ";")
  }
}

/// An nghttp2 session with what server and client sides share: creation, output, windows.
///
/// Not thread safe; the session that owns it is `context` of every callback.
struct HTTP2Connection: ~Copyable {
  let raw: OpaquePointer

  enum Role { case server, client }

  /// Sets up a session; `configure` names the callbacks. The caller sets the user data.
  ///
  /// - Parameter checksHeaders: whether requests with malformed headers are refused.
  ///
  /// Precondition: memory is available.
  init(role: Role, checksHeaders: Bool = true, configure: (OpaquePointer) -> Void) {
    var callbacks: OpaquePointer?
    var option: OpaquePointer?
    nghttp2_session_callbacks_new(&callbacks)
    nghttp2_option_new(&option)
    guard let callbacks, let option else {
      preconditionFailure("out of memory for an HTTP/2 session")
    }
    configure(callbacks)
    nghttp2_option_set_no_auto_window_update(option, 1)
    nghttp2_option_set_no_closed_streams(option, 1)
    nghttp2_option_set_max_outbound_ack(option, 1000)
    nghttp2_option_set_max_settings(option, 32)
    nghttp2_option_set_no_http_messaging(option, checksHeaders ? 0 : 1)
    // nghttp2's own reset limit reads the clock; ours takes time from the caller.
    nghttp2_option_set_stream_reset_rate_limit(option, UInt64(Int64.max), 1)
    var session: OpaquePointer?
    switch role {
    case .server: nghttp2_session_server_new2(&session, callbacks, nil, option)
    case .client: nghttp2_session_client_new2(&session, callbacks, nil, option)
    }
    nghttp2_option_del(option)
    nghttp2_session_callbacks_del(callbacks)
    guard let session else { preconditionFailure("out of memory for an HTTP/2 session") }
    raw = session
  }

  deinit {
    nghttp2_session_del(raw)
  }

  /// Announces settings and widens the connection window.
  func open(settings: [(id: nghttp2_settings_id, value: Int)], connectionWindowBytes: Int) {
    let entries = settings.map {
      nghttp2_settings_entry(
        settings_id: Int32($0.id.rawValue), value: UInt32(clamping: $0.value))
    }
    nghttp2_submit_settings(raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count)
    nghttp2_session_set_local_window_size(
      raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Int32(clamping: connectionWindowBytes))
  }

  func ping(_ opaque: [UInt8]) {
    precondition(opaque.count == 8, "a PING carries eight bytes")
    nghttp2_submit_ping(raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), opaque)
  }

  func reset(_ stream: Int32, _ code: nghttp2_error_code) {
    nghttp2_submit_rst_stream(
      raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream, UInt32(code.rawValue))
  }

  func goAway(last: Int32, _ code: nghttp2_error_code, debug: String = "") {
    let bytes = Array(debug.utf8)
    nghttp2_submit_goaway(
      raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, UInt32(code.rawValue), bytes, bytes.count)
  }
}
