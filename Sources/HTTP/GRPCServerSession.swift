import CNGHTTP2

/// The server side of one HTTP/2 connection that carries gRPC. Bytes in, bytes out.
///
/// Used by one thread. The owner passes what the socket gave to ``receive(_:now:)``, and once
/// per loop turn, while its socket accepts data, writes out ``appendOutput(to:limitBytes:)``.
/// Times are nanoseconds on one monotonic clock of the owner's choice.
public final class GRPCServerSession {
  let context: GRPCServerContext
  /// Why the session ended, for a log line; empty while it is healthy.
  public internal(set) var endReason = ""

  // Unchecked exclusivity: run-time checks of these cost a tenth of a call. No access to one spans
  // a call to the delegate or into nghttp2, so none can overlap another.
  let connection: HTTP2Connection
  /// Held until ``close()``.
  @exclusivity(unchecked) private(set) var delegate: (any GRPCServerDelegate)?
  @exclusivity(unchecked) var output: [UInt8] = []
  /// No further frame is started once `output` has grown to this.
  @exclusivity(unchecked) private(set) var outputBound = 0
  /// Calls whose stream is open. Removal reorders them.
  @exclusivity(unchecked) private var calls: [ServerCall] = []
  @exclusivity(unchecked) private(set) var now: UInt64 = 0
  /// The header block of which a part has arrived, from one ``receive(_:now:)`` to the next.
  private var incompleteHeaders: IncomingHeaders?
  @exclusivity(unchecked) var emptyFrames = 0
  @exclusivity(unchecked) private var lastRoute = 0
  @exclusivity(unchecked) private var lastFields = HeaderFields()
  @exclusivity(unchecked) private var pingPolicy: PingPolicy
  private var resets: TokenBucket
  @exclusivity(unchecked) private var keepalive: Keepalive?
  private var writable: [ServerCall] = []
  /// Streams of plain requests that were answered before they had ended, and when they are reset:
  /// clients that read nothing behind a reset, curl among them, would not see the answer.
  private var unread: [(stream: Int32, until: UInt64)] = []
  private var drain = Drain.none
  @exclusivity(unchecked) private(set) var isClosed = false
  @exclusivity(unchecked) private var hasFailed = false
  @exclusivity(unchecked) private var isTerminating = false
  @exclusivity(unchecked) private var isInside = false

  private enum Drain { case none, noticed(until: UInt64), announced }
  private static let unreadNanosecondsMax: UInt64 = 5_000_000_000
  private static let drainPing: [UInt8] = Array("draining".utf8)
  private static let keepalivePing: [UInt8] = Array("areyouup".utf8)

  /// A session that shares nothing with others.
  public convenience init(
    configuration: GRPCServerConfiguration, delegate: any GRPCServerDelegate
  ) {
    self.init(GRPCServerContext(configuration), delegate: delegate)
  }

  public init(_ context: GRPCServerContext, delegate: any GRPCServerDelegate) {
    let configuration = context.configuration
    self.context = context
    self.delegate = delegate
    pingPolicy = PingPolicy(intervalMin: configuration.pingIntervalMin)
    resets = TokenBucket(
      burst: configuration.streamResetsBurst, perSecond: configuration.streamResetsPerSecond)
    connection = HTTP2Connection(
      role: .server, checksHeaders: !configuration.acceptsAnyAuthority,
      configure: GRPCServerCallbacks.install)
    nghttp2_session_set_user_data(connection.raw, Unmanaged.passUnretained(self).toOpaque())
    var settings = [
      (id: NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, value: configuration.streamWindowBytes),
      (id: NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, value: configuration.headerListBytesMax),
    ]
    if let streams = configuration.concurrentStreamsMax {
      settings.append((id: NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, value: streams))
    }
    connection.open(
      settings: settings, connectionWindowBytes: configuration.connectionWindowBytes)
  }

  /// The number of requests that are open, plain HTTP ones included.
  public var openCallCount: Int { calls.count }

  /// Takes bytes from the peer and makes the delegate's calls that follow from them.
  ///
  /// - Returns: false if the connection is over: write out what ``appendOutput(to:limitBytes:)``
  ///   still has, then close the socket and call ``close()``.
  public func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) -> Bool {
    guard !isFinished, !isTerminating else { return false }
    precondition(!isInside, "receive entered from a delegate call")
    self.now = now
    noteRead()
    isInside = true
    if incompleteHeaders != nil { context.resume(&incompleteHeaders) }
    let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let used = nghttp2_session_mem_recv(connection.raw, start, bytes.count)
    if context.incoming.isIncomplete { incompleteHeaders = context.suspend() }
    isInside = false
    if used < 0 { fail(String(cString: nghttp2_strerror(Int32(clamping: used)))) }
    return !isFinished && !isTerminating
  }

  /// Appends what is to be sent, up to about `limitBytes`, to `target`.
  ///
  /// Look at ``isFinished`` afterwards: the last bytes may have been among these. Delegate calls
  /// (`callWritable`) may run inside: `target` must not be touched by them.
  public func appendOutput(to target: inout [UInt8], limitBytes: Int = 1 << 20) {
    guard !isClosed, !hasFailed else { return }
    precondition(!isInside, "appendOutput entered from a delegate call")
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
    if isTerminating { hasFailed = true }
  }

  /// As ``appendOutput(to:limitBytes:)``, into a new array.
  public func takeOutput(limitBytes: Int = 1 << 20) -> [UInt8] {
    var bytes: [UInt8] = []
    appendOutput(to: &bytes, limitBytes: limitBytes)
    return bytes
  }

  /// Whether ``appendOutput(to:limitBytes:)`` would produce something.
  public var wantsWrite: Bool {
    !isClosed && !hasFailed && nghttp2_session_want_write(connection.raw) != 0
  }

  /// Nothing will be read or written any more: close the socket, then call ``close()``.
  public var isFinished: Bool {
    isClosed || hasFailed
      || (nghttp2_session_want_read(connection.raw) == 0
        && nghttp2_session_want_write(connection.raw) == 0)
  }

  /// Time-driven work: keepalive and the second step of a shutdown. Once a second is enough.
  ///
  /// - Returns: false if the connection is over, as with ``receive(_:now:)``.
  public func tick(now: UInt64) -> Bool {
    guard !isFinished else { return false }
    self.now = now
    if case .noticed(let until) = drain, now >= until { announceDrain() }
    endUnread()
    if keepalive == nil { noteRead() }
    switch keepalive?.tick(now: now) {
    case .sendPing: connection.ping(Self.keepalivePing)
    case .dead: fail("keepalive timeout")
    case .nothing, nil: break
    }
    return !isFinished
  }

  /// Begins a graceful end: the peer is told to start no more calls, those open go on.
  /// ``isFinished`` turns true after the last one.
  public func shutdown(now: UInt64) {
    guard case .none = drain, !isFinished else { return }
    self.now = now
    // Two steps, so that calls which crossed the first GOAWAY on their way are still served.
    drain = .noticed(until: now &+ context.configuration.drainNoticeTime)
    nghttp2_submit_shutdown_notice(connection.raw)
    connection.ping(Self.drainPing)
  }

  /// Ends everything: unfinished calls are cancelled, the delegate is let go. Idempotent.
  public func close() {
    guard !isClosed else { return }
    isClosed = true
    let open = calls.sorted { $0.id < $1.id }
    calls = []
    writable = []
    for call in open { detach(call) }
    delegate = nil
  }
}

// MARK: - Connection events

extension GRPCServerSession {
  private func noteRead() {
    if keepalive == nil {
      keepalive = Keepalive(
        interval: context.configuration.keepaliveInterval,
        timeout: context.configuration.keepaliveTimeout,
        now: now)
    }
    keepalive?.onRead(now: now)
  }

  private func fail(_ reason: String) {
    if endReason.isEmpty { endReason = reason }
    hasFailed = true
  }

  private func announceDrain() {
    drain = .announced
    connection.goAway(
      last: nghttp2_session_get_last_proc_stream_id(connection.raw), NGHTTP2_NO_ERROR)
  }

  /// Ends the connection for a peer that misbehaves: GOAWAY, then nothing more is read.
  func terminate(debug: String) {
    guard !isTerminating else { return }
    isTerminating = true
    endReason = debug
    connection.goAway(
      last: nghttp2_session_get_last_proc_stream_id(connection.raw), NGHTTP2_ENHANCE_YOUR_CALM,
      debug: debug)
  }

  func onPing(isAck: Bool, opaque: [UInt8]) {
    if isAck {
      if case .noticed = drain, opaque == Self.drainPing { announceDrain() }
    } else if context.configuration.enforcesPingPolicy,
      !pingPolicy.onPing(now: now, hasOpenCalls: !calls.isEmpty)
    {
      terminate(debug: "too_many_pings")
    }
  }

  func onReset(_ call: ServerCall?) {
    guard call?.phase == .open else { return }
    if !resets.take(now: now) { terminate(debug: "too_many_resets") }
  }

  func onEmptyData() {
    emptyFrames += 1
    if emptyFrames > 1000 { terminate(debug: "too_many_empty_frames") }
  }

  func onFrameSent(stream: Int32, endsStream: Bool) {
    pingPolicy.onWrite()
    // A client that has not half-closed must not keep the stream half open for ever.
    guard endsStream, nghttp2_session_get_stream_remote_close(connection.raw, stream) == 0 else {
      return
    }
    if isPlainRequest(stream) {
      unread.append((stream, now + Self.unreadNanosecondsMax))
    } else {
      connection.reset(stream, NGHTTP2_NO_ERROR)
    }
  }

  private func isPlainRequest(_ stream: Int32) -> Bool {
    nghttp2_session_get_stream_user_data(connection.raw, stream).map {
      Unmanaged<ServerCall>.fromOpaque($0).takeUnretainedValue().kind == .http
    } ?? false
  }

  /// Resets streams whose clients were answered long ago and still send.
  private func endUnread() {
    while let first = unread.first, first.until <= now {
      unread.removeFirst()
      connection.reset(first.stream, NGHTTP2_NO_ERROR)
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
    for call in due where call.phase == .open && call.session != nil {
      delegate?.callWritable(call)
    }
  }

  func noteWritable(_ call: ServerCall) {
    writable.append(call)
  }
}

// MARK: - Streams

extension GRPCServerSession {
  /// A request's header block is complete.
  func onRequest(stream: Int32) {
    context.incoming.end()
    if context.incoming.isTooLarge {
      connection.reset(stream, NGHTTP2_ENHANCE_YOUR_CALM)
    } else if calls.count >= context.configuration.openStreamsMax {
      connection.reset(stream, NGHTTP2_REFUSED_STREAM)
    } else if !context.incoming.isGRPC, context.configuration.acceptsHTTP {
      context.incoming.keepTimeout()
      open(stream: stream, kind: .http, deadline: nil, encoding: .identity)
    } else {
      onGRPCRequest(stream: stream)
    }
  }

  private func onGRPCRequest(stream: Int32) {
    guard context.incoming.isGRPC else {
      let type = String(decoding: context.incoming.contentType, as: UTF8.self)
      return refuse(
        stream, httpStatus: 415,
        GRPCStatus(.invalidArgument, "invalid gRPC request content-type \"\(type)\""))
    }
    var deadline: UInt64?
    switch context.incoming.timeout {
    case .none: break
    case .nanoseconds(let timeout):
      let (sum, overflow) = now.addingReportingOverflow(timeout)
      deadline = overflow ? .max : sum
    case .malformed(let text):
      return refuse(
        stream, httpStatus: 400, GRPCStatus(.internal, "malformed grpc-timeout: \"\(text)\""))
    }
    guard context.incoming.isPOST else {
      let method = String(decoding: context.incoming.method, as: UTF8.self)
      return refuse(
        stream, httpStatus: 405,
        GRPCStatus(
          .internal, "Received a HEADERS frame with :method \"\(method)\" which should be POST"))
    }
    switch context.incoming.encoding {
    case .known(let encoding):
      open(stream: stream, kind: .grpc, deadline: deadline, encoding: encoding)
    case .unknown(let name):
      refuse(
        stream, httpStatus: 200,
        GRPCStatus(
          .unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"\(name)\""))
    }
  }

  private func open(
    stream: Int32, kind: ServerCall.Kind, deadline: UInt64?, encoding: MessageEncoding
  ) {
    if context.incoming.fields != lastFields { lastFields = context.sharedFields() }
    let route = findRoute()
    let call = ServerCall(
      id: stream, kind: kind,
      path: route >= 0
        ? context.configuration.routes[route]
        : String(decoding: context.incoming.path, as: UTF8.self),
      route: route, deadline: deadline, fields: lastFields, encoding: encoding, session: self)
    call.slot = calls.count
    calls.append(call)
    nghttp2_session_set_stream_user_data(
      connection.raw, stream, Unmanaged.passUnretained(call).toOpaque())
    call.wasAnnounced = true
    switch kind {
    case .grpc: delegate?.callStarted(call)
    case .http:
      delegate?.httpRequest(call, method: String(decoding: context.incoming.method, as: UTF8.self))
    }
  }

  private func findRoute() -> Int {
    if context.isRoute(lastRoute) { return lastRoute }
    guard let found = context.findRoute() else { return -1 }
    lastRoute = found
    return found
  }

  /// The stream is closed: nothing more will be read from it or written to it.
  func onStreamClosed(_ call: ServerCall) {
    let last = calls.count - 1
    precondition(calls[call.slot] === call, "a call's slot is its place")
    if call.slot != last {
      calls[call.slot] = calls[last]
      calls[call.slot].slot = call.slot
    }
    calls.removeLast()
    detach(call)
  }

  private func detach(_ call: ServerCall) {
    call.session = nil
    call.queue.removeAll()
    call.inbox.partial = []
    if call.heldBytes != 0 { noteHeld(call) }
    guard call.phase == .open else { return }
    call.phase = .finished
    call.isCancelled = true
    if call.wasAnnounced { delegate?.callCancelled(call) }
  }
}
