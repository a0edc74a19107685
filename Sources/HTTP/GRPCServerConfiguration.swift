/// What a server session allows and announces. Times are nanoseconds.
public struct GRPCServerConfiguration: Sendable {
  /// Largest message accepted, after decompression too.
  public var receiveMessageBytesMax = 2_097_152
  /// Announced limit of open streams; nil announces none.
  public var concurrentStreamsMax: Int?
  /// Streams beyond this are refused even when no limit is announced.
  public var openStreamsMax = 100_000
  /// Announced and enforced size of a request's header list (names + values + 32 each).
  public var headerListBytesMax = 65_536
  public var streamWindowBytes = 1 << 20
  public var connectionWindowBytes = 16 << 20
  /// Queued bytes of a call at which `callWritable` is due once they have been exceeded.
  public var writableLowBytes = 64 << 10
  /// Whether pings faster than the policy end the connection.
  public var enforcesPingPolicy = true
  public var pingIntervalMin: UInt64 = 5 * 1_000_000_000
  public var keepaliveInterval: UInt64 = 7200 * 1_000_000_000
  public var keepaliveTimeout: UInt64 = 20 * 1_000_000_000
  /// How long a graceful shutdown waits for the peer to have seen the first GOAWAY.
  public var drainNoticeTime: UInt64 = 5 * 1_000_000_000
  /// Resets of unfinished calls forgiven at once, and refilled per second.
  public var streamResetsBurst: UInt64 = 10_000
  public var streamResetsPerSecond: UInt64 = 2_000
  /// Shared with other sessions; nil = no bound on what calls hold of unfinished messages.
  public var receiveBudget: ReceiveBudget?
  /// Hand requests that are not gRPC to `httpRequest`; otherwise they get HTTP 415.
  public var acceptsHTTP = false
  /// Takes requests whose `:authority` is none, such as a path: Go's clients of Unix sockets send
  /// those. nghttp2 does without its other checks of headers, too.
  public var acceptsAnyAuthority = false
  /// Known method paths: ``ServerCall/route`` is the index here, and the path needs no memory.
  public var routes: [String] = []

  public init() {}
}

/// What a server session tells its owner. Every call comes from inside `receive`, `appendOutput`
/// or `close` of the session. Calls and the session may be used freely from here, except that
/// `receive` and `appendOutput` must not be entered again.
public protocol GRPCServerDelegate: AnyObject {
  /// A gRPC request's headers have arrived.
  func callStarted(_ call: ServerCall)
  /// One whole message, decompressed; the memory is valid only during this call.
  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer)
  /// The client has sent its last message.
  func callHalfClosed(_ call: ServerCall)
  /// The call is gone before it was finished: reset, connection lost, or refused by the session
  /// for a protocol fault. Exactly once, never after `reply` or `finish`.
  func callCancelled(_ call: ServerCall)
  /// The queue of a call has drained to the low mark after having been above it.
  func callWritable(_ call: ServerCall)
  /// The head of a request that is not gRPC (only with `acceptsHTTP`): answer with `respond` or
  /// `beginResponse`, at any time from here on. `callCancelled` follows if the peer goes away before.
  func httpRequest(_ request: ServerCall, method: String)
  /// A piece of such a request's body, unless it is answered already; valid only during this call.
  func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer)
  /// The end of such a request's body, unless it is answered already.
  func httpRequestEnded(_ request: ServerCall)
}
