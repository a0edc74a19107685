import CHTTPParser

/// http_parser with its callbacks turned into events. Server and client codec wrap it.
final class HTTP1Parser {
  enum Event {
    case head
    case body(UnsafeRawBufferPointer)
    case end
  }
  enum Role { case server, client }

  /// The head last completed.
  private(set) var url: [UInt8] = []
  private(set) var reason: [UInt8] = []
  private(set) var headers: [HTTPField] = []
  private(set) var keepAlive = true
  /// Set by the owner: the next response has no body whatever its headers say.
  var skipsBody = false
  private(set) var isInMessage = false

  private let parser: UnsafeMutablePointer<http_parser>
  private var settings: http_parser_settings
  private let headBytesMax: Int
  private let isServer: Bool
  private var headBytes = 0
  private var name: [UInt8] = []
  private var value: [UInt8] = []
  private var isReadingValue = false
  private var isInTrailers = false
  private var isInformational = false
  /// The last message of the connection is complete: what follows is not looked at.
  private var isOver = false
  private var failure: HTTP1Error?
  private var handler: ((Event) -> Void)?

  init(role: Role, headBytesMax: Int) {
    self.headBytesMax = headBytesMax
    isServer = role == .server
    parser = .allocate(capacity: 1)
    settings = HTTP1Callbacks.settings()
    http_parser_init(parser, role == .server ? HTTP_REQUEST : HTTP_RESPONSE)
    parser.pointee.data = Unmanaged.passUnretained(self).toOpaque()
  }

  deinit {
    parser.deallocate()
  }

  var method: String {
    String(cString: http_method_str(http_method(UInt32(parser.pointee.method))))
  }
  var status: Int { Int(parser.pointee.status_code) }
  var minorVersion: Int { Int(parser.pointee.http_minor) }

  /// Parses `bytes`, or the end of the connection if they are empty.
  func execute(
    _ bytes: UnsafeRawBufferPointer, _ handler: (Event) -> Void
  ) throws(HTTP1Error) {
    precondition(self.handler == nil, "the codec was entered from its own event")
    if let failure { throw failure }
    if isOver { return }
    let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
    let used = withoutActuallyEscaping(handler) { handler in
      self.handler = handler
      defer { self.handler = nil }
      // An address is asked for even when nothing is there to read.
      return http_parser_execute(parser, &settings, start ?? Self.nothing, bytes.count)
    }
    if isOver { return }
    let code = http_errno(UInt32(parser.pointee.http_errno))
    if failure == nil, code != HPE_OK {
      failure =
        code == HPE_INVALID_EOF_STATE
        ? .unexpectedEnd : .malformed(String(cString: http_errno_description(code)))
    } else if failure == nil, used != bytes.count {
      failure = .malformed("bytes after the last message of the connection")
    }
    if let failure { throw failure }
  }

  nonisolated(unsafe) private static let nothing = UnsafePointer<CChar>(
    OpaquePointer(("" as StaticString).utf8Start))

  // MARK: Callbacks; false stops the parser.

  func onBegin() {
    isInMessage = true
    isInTrailers = false
    isReadingValue = false
    headBytes = 0
    url.removeAll(keepingCapacity: true)
    reason.removeAll(keepingCapacity: true)
    name.removeAll(keepingCapacity: true)
    value.removeAll(keepingCapacity: true)
    headers = []
  }

  private func count(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    headBytes += bytes.count
    if headBytes > headBytesMax { failure = .headTooLarge }
    return failure == nil
  }

  func onURL(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    url.append(contentsOf: bytes)
    return count(bytes)
  }

  func onReason(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    reason.append(contentsOf: bytes)
    return count(bytes)
  }

  func onName(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    if isReadingValue { completeField() }
    name.append(contentsOf: bytes)
    return count(bytes)
  }

  func onValue(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    isReadingValue = true
    value.append(contentsOf: bytes)
    return count(bytes)
  }

  private func completeField() {
    // Fields after a chunked body are checked for size and dropped.
    if !isInTrailers, !name.isEmpty {
      // The parser takes blanks off the front only.
      while let last = value.last, last == 32 || last == 9 { value.removeLast() }
      headers.append(
        HTTPField(
          String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
    }
    name.removeAll(keepingCapacity: true)
    value.removeAll(keepingCapacity: true)
    isReadingValue = false
  }

  /// Returns what http_parser wants to know: 0 = go on, 1 = there is no body whatever the headers say,
  /// -1 = stop.
  func onHeadersComplete() -> Int32 {
    guard parser.pointee.http_major == 1 else {
      failure = .malformed("unsupported protocol version")
      return -1
    }
    completeField()
    isInTrailers = true
    headBytes = 0
    // A request to switch protocols is treated as the plain request it also is.
    parser.pointee.upgrade = 0
    keepAlive = http_should_keep_alive(parser) != 0
    isInformational = !isServer && (100..<200).contains(status)
    if isInformational { return 0 }
    handler?(.head)
    defer { skipsBody = false }
    return !isServer && skipsBody ? 1 : 0
  }

  func onBody(_ bytes: UnsafeRawBufferPointer) {
    handler?(.body(bytes))
  }

  /// Returns whether another message may follow.
  func onComplete() -> Bool {
    isInMessage = false
    guard !isInformational else { return true }
    isOver = !keepAlive
    handler?(.end)
    return !isOver
  }
}

/// What http_parser calls, inside `execute` of the parser that is its data.
private enum HTTP1Callbacks {
  static func settings() -> http_parser_settings {
    var settings = http_parser_settings()
    http_parser_settings_init(&settings)
    settings.on_message_begin = { raw in
      HTTP1Callbacks.owner(raw)?.onBegin()
      return 0
    }
    settings.on_url = { raw, at, count in
      HTTP1Callbacks.result(HTTP1Callbacks.owner(raw)?.onURL(HTTP1Callbacks.bytes(at, count)))
    }
    settings.on_status = { raw, at, count in
      HTTP1Callbacks.result(HTTP1Callbacks.owner(raw)?.onReason(HTTP1Callbacks.bytes(at, count)))
    }
    settings.on_header_field = { raw, at, count in
      HTTP1Callbacks.result(HTTP1Callbacks.owner(raw)?.onName(HTTP1Callbacks.bytes(at, count)))
    }
    settings.on_header_value = { raw, at, count in
      HTTP1Callbacks.result(HTTP1Callbacks.owner(raw)?.onValue(HTTP1Callbacks.bytes(at, count)))
    }
    settings.on_headers_complete = { raw in
      HTTP1Callbacks.owner(raw)?.onHeadersComplete() ?? -1
    }
    settings.on_body = { raw, at, count in
      HTTP1Callbacks.owner(raw)?.onBody(UnsafeRawBufferPointer(start: at, count: count))
      return 0
    }
    settings.on_message_complete = { raw in
      HTTP1Callbacks.result(HTTP1Callbacks.owner(raw)?.onComplete())
    }
    return settings
  }

  private static func owner(_ raw: UnsafeMutablePointer<http_parser>?) -> HTTP1Parser? {
    guard let data = raw?.pointee.data else { return nil }
    return Unmanaged<HTTP1Parser>.fromOpaque(data).takeUnretainedValue()
  }

  private static func bytes(
    _ start: UnsafePointer<CChar>?, _ count: Int
  ) -> UnsafeBufferPointer<UInt8> {
    UnsafeRawBufferPointer(start: start, count: count).bindMemory(to: UInt8.self)
  }

  private static func result(_ isFine: Bool?) -> Int32 {
    isFine ?? false ? 0 : 1
  }
}
