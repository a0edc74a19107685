import CNGHTTP2

/// What a client session announces and allows. Times are nanoseconds.
public struct GRPCClientConfiguration: Sendable {
  /// The `:authority` of every call.
  public var authority: String
  /// `http` or `https`.
  public var scheme = "http"
  public var userAgent = "apus"
  /// Largest message accepted, after decompression too.
  public var receiveMessageBytesMax = Int(Int32.max)
  public var headerListBytesMax = 1 << 20
  public var streamWindowBytes = 4 << 20
  public var connectionWindowBytes = 16 << 20
  public var writableLowBytes = 64 << 10
  /// A quiet connection with open calls is pinged after this; `.max` for never. Servers end
  /// connections that ping more often than every 5 s.
  public var keepaliveInterval: UInt64 = .max
  public var keepaliveTimeout: UInt64 = 20 * 1_000_000_000

  public init(authority: String) {
    self.authority = authority
  }
}

/// The client side of one HTTP/2 connection that carries gRPC. Bytes in, bytes out.
///
/// Used by one thread, like ``GRPCServerSession``. The preface and settings are the first output.
public final class GRPCClientSession {
  public let configuration: GRPCClientConfiguration
  /// Why the session ended, for a log line; empty while it is healthy.
  public private(set) var endReason = ""
  /// The server has sent GOAWAY: start new calls on another connection.
  public internal(set) var isDraining = false

  // Unchecked exclusivity: run-time checks of these cost a tenth of a call. No access to one spans
  // a call to a closure or into nghttp2, so none can overlap another.
  let connection: HTTP2Connection
  @exclusivity(unchecked) var output: [UInt8] = []
  @exclusivity(unchecked) private(set) var outputBound = 0
  /// Calls that have not ended. Removal reorders them.
  @exclusivity(unchecked) private var calls: [ClientCall] = []
  @exclusivity(unchecked) private var keepalive: Keepalive?
  private var writable: [ClientCall] = []
  @exclusivity(unchecked) private(set) var isClosed = false
  @exclusivity(unchecked) private var hasFailed = false
  @exclusivity(unchecked) private var isInside = false
  private static let keepalivePing: [UInt8] = Array("areyouup".utf8)

  public init(configuration: GRPCClientConfiguration) {
    self.configuration = configuration
    connection = HTTP2Connection(role: .client, configure: GRPCClientCallbacks.install)
    nghttp2_session_set_user_data(connection.raw, Unmanaged.passUnretained(self).toOpaque())
    connection.open(
      settings: [
        (id: NGHTTP2_SETTINGS_ENABLE_PUSH, value: 0),
        (id: NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, value: configuration.streamWindowBytes),
        (id: NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, value: configuration.headerListBytesMax),
      ], connectionWindowBytes: configuration.connectionWindowBytes)
  }

  public var openCallCount: Int { calls.count }

  /// Whether a new call has a chance: not closed, not draining.
  public var acceptsCalls: Bool {
    !isFinished && !isDraining && nghttp2_session_check_request_allowed(connection.raw) != 0
  }

  /// Starts a call. If the session takes none, the call's `onEnd` comes with UNAVAILABLE from
  /// the next `tick` or `close`.
  ///
  /// - Parameters:
  ///   - metadata: names are lowered; `-bin` values must be base64 already.
  ///   - timeoutNanoseconds: told to the server, and enforced here by ``tick(now:)``.
  ///   - compresses: gzip the messages sent.
  public func startCall(
    path: String, metadata: [HTTPField] = [], timeoutNanoseconds: UInt64? = nil, now: UInt64,
    compresses: Bool = false
  ) -> ClientCall {
    let deadline = timeoutNanoseconds.map { now &+ $0 < now ? .max : now &+ $0 }
    let call = ClientCall(id: 0, path: path, deadline: deadline, session: self)
    call.isCompressing = compresses
    call.queue.isCompressed = compresses
    call.slot = calls.count
    calls.append(call)
    guard acceptsCalls else {
      call.pendingEnd = GRPCStatus(.unavailable, "transport is closing")
      return call
    }
    if calls.count == 1 { noteRead(now: now) }
    submit(call, metadata: metadata, timeoutNanoseconds: timeoutNanoseconds)
    return call
  }

  private func submit(_ call: ClientCall, metadata: [HTTPField], timeoutNanoseconds: UInt64?) {
    var fields = [HTTPField("user-agent", configuration.userAgent)]
    if let timeoutNanoseconds {
      fields.append(
        HTTPField("grpc-timeout", GRPCTimeout.format(nanoseconds: timeoutNanoseconds)))
    }
    if call.isCompressing { fields.append(HTTPField("grpc-encoding", "gzip")) }
    fields += metadata
    let pointer = Unmanaged.passUnretained(call).toOpaque()
    var provider = nghttp2_data_provider(
      source: nghttp2_data_source(ptr: pointer), read_callback: GRPCClientCallbacks.readData)
    let fixed =
      configuration.scheme == "https" ? GRPCClientFields.secure : GRPCClientFields.plain
    let pseudo = [
      HTTPField(":path", call.path), HTTPField(":authority", configuration.authority),
    ]
    let stream = HTTP2Fields.withPacked(pseudo, fixed: fixed, fields) {
      nghttp2_submit_request(
        connection.raw, nil, $0.baseAddress, $0.count, &provider, pointer)
    }
    if stream > 0 {
      call.id = stream
    } else {
      isDraining = true
      call.pendingEnd = GRPCStatus(.unavailable, "no stream id is left on this connection")
    }
  }

  /// Takes bytes from the server and runs the calls' closures that follow from them.
  ///
  /// - Returns: false if the connection is over: flush, close the socket, call ``close()``.
  public func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) -> Bool {
    guard !isFinished else { return false }
    precondition(!isInside, "receive entered from a closure of a call")
    noteRead(now: now)
    isInside = true
    let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let used = nghttp2_session_mem_recv(connection.raw, start, bytes.count)
    isInside = false
    if used < 0 { fail(String(cString: nghttp2_strerror(Int32(clamping: used)))) }
    return !isFinished
  }

  /// Appends what is to be sent, up to about `limitBytes`, to `target`, which the calls'
  /// closures (`onWritable`) must not touch.
  public func appendOutput(to target: inout [UInt8], limitBytes: Int = 1 << 20) {
    guard !isClosed, !hasFailed else { return }
    precondition(!isInside, "appendOutput entered from a closure of a call")
    isInside = true
    swap(&output, &target)
    outputBound = output.count + limitBytes
    repeat {
      produce()
      announceWritable()
    } while wantsWrite && output.count < outputBound
    swap(&output, &target)
    output = []
    isInside = false
  }

  /// As ``appendOutput(to:limitBytes:)``, into a new array.
  public func takeOutput(limitBytes: Int = 1 << 20) -> [UInt8] {
    var bytes: [UInt8] = []
    appendOutput(to: &bytes, limitBytes: limitBytes)
    return bytes
  }

  public var wantsWrite: Bool {
    !isClosed && !hasFailed && nghttp2_session_want_write(connection.raw) != 0
  }

  /// Nothing will be read or written any more: close the socket, then call ``close()``.
  public var isFinished: Bool {
    isClosed || hasFailed
      || (nghttp2_session_want_read(connection.raw) == 0
        && nghttp2_session_want_write(connection.raw) == 0)
  }

  /// Ends calls past their deadline and drives keepalive.
  ///
  /// - Returns: false if the connection is over, as with ``receive(_:now:)``.
  public func tick(now: UInt64) -> Bool {
    let due = calls.filter { call in
      call.pendingEnd != nil || call.deadline.map { $0 <= now } ?? false
    }
    for call in due.sorted(by: { $0.id < $1.id }) where call.phase == .open {
      cancel(
        call, call.pendingEnd ?? GRPCStatus(.deadlineExceeded, "context deadline exceeded"))
    }
    guard !isFinished else { return false }
    if keepalive == nil || calls.isEmpty { noteRead(now: now) }
    switch keepalive?.tick(now: now) {
    case .sendPing: connection.ping(Self.keepalivePing)
    case .dead: fail("keepalive timeout")
    case .nothing, nil: break
    }
    return !isFinished
  }

  /// The earliest deadline among open calls, for the owner's timer.
  public var nextDeadline: UInt64? {
    calls.lazy.compactMap { $0.pendingEnd == nil ? $0.deadline : 0 }.min()
  }

  /// Takes no new calls, and finishes once those open have ended.
  public func shutdown() {
    guard !isDraining, !isFinished else { return }
    isDraining = true
    connection.goAway(last: 0, NGHTTP2_NO_ERROR)
  }

  /// Ends everything: open calls end with `status`. Idempotent.
  public func close(
    _ status: GRPCStatus = GRPCStatus(.unavailable, "error reading from server: EOF")
  ) {
    guard !isClosed else { return }
    isClosed = true
    let open = calls.sorted { $0.id < $1.id }
    calls = []
    writable = []
    for call in open { report(call, call.pendingEnd ?? status) }
  }
}

// MARK: - Internals

extension GRPCClientSession {
  private func noteRead(now: UInt64) {
    if keepalive == nil {
      keepalive = Keepalive(
        interval: configuration.keepaliveInterval, timeout: configuration.keepaliveTimeout,
        now: now)
    }
    keepalive?.onRead(now: now)
  }

  private func fail(_ reason: String) {
    if endReason.isEmpty { endReason = reason }
    hasFailed = true
  }

  func onGoAway(code: UInt32, debug: String) {
    isDraining = true
    if endReason.isEmpty, code != UInt32(NGHTTP2_NO_ERROR.rawValue) {
      endReason = "GOAWAY \(code) \(debug)"
    }
  }

  private func produce() {
    while !isClosed, !hasFailed, output.count < outputBound {
      var piece: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(connection.raw, &piece)
      if count < 0 { fail(String(cString: nghttp2_strerror(Int32(clamping: count)))) }
      guard count > 0, let piece else { return }
      output.append(contentsOf: UnsafeBufferPointer(start: piece, count: count))
    }
  }

  private func announceWritable() {
    guard !writable.isEmpty else { return }
    let due = writable
    writable.removeAll(keepingCapacity: true)
    for call in due where call.phase == .open { call.onWritable?() }
  }

  func noteWritable(_ call: ClientCall) {
    writable.append(call)
  }

  /// Ends a call: takes it off the list and tells its owner.
  func end(_ call: ClientCall, _ status: GRPCStatus) {
    guard call.phase == .open else { return }
    let last = calls.count - 1
    precondition(calls[call.slot] === call, "a call's slot is its place")
    if call.slot != last {
      calls[call.slot] = calls[last]
      calls[call.slot].slot = call.slot
    }
    calls.removeLast()
    // nghttp2 keeps the plain pointer while the stream lives.
    if call.id > 0 { nghttp2_session_set_stream_user_data(connection.raw, call.id, nil) }
    report(call, status)
  }

  private func report(_ call: ClientCall, _ status: GRPCStatus) {
    guard call.phase == .open else { return }
    call.phase = .ended
    call.session = nil
    call.queue.removeAll()
    call.inbox.partial = []
    let onEnd = call.onEnd
    call.onHeaders = nil
    call.onMessage = nil
    call.onEnd = nil
    call.onWritable = nil
    onEnd?(status, call.response.fields)
  }
}
