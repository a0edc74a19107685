/// One call on a client session. Belongs to the session's thread.
///
/// Set the closures right after `startCall`; they run inside `receive`, `appendOutput`, `tick`,
/// `cancel`, `resumeReceiving` or `close`. ``onEnd`` comes exactly once and last; after it the
/// closures are released. Methods are no-ops then.
public final class ClientCall: ReceivingCall {
  enum Phase { case open, ended }

  /// The HTTP/2 stream id; 0 for a call that could not be started.
  public internal(set) var id: Int32
  public let path: String
  /// Absolute time at which the session ends the call itself.
  public let deadline: UInt64?
  /// Initial metadata of the server, once.
  public var onHeaders: ((HeaderFields) -> Void)?
  /// One whole message, decompressed; the memory is valid only during this call.
  public var onMessage: ((UnsafeRawBufferPointer) -> Void)?
  /// The outcome and the trailing metadata.
  public var onEnd: ((GRPCStatus, HeaderFields) -> Void)?
  /// The queue has drained to the low mark after having been above it.
  public var onWritable: (() -> Void)?

  // Unchecked exclusivity: run-time checks of these cost a tenth of a call. No access to one spans
  // a call to a closure or into nghttp2, so none can overlap another.
  @exclusivity(unchecked) var session: GRPCClientSession?
  @exclusivity(unchecked) var slot = 0
  @exclusivity(unchecked) var phase = Phase.open
  @exclusivity(unchecked) var inbox = MessageAssembler()
  @exclusivity(unchecked) var queue = MessageQueue()
  @exclusivity(unchecked) var encoding = MessageEncoding.identity
  @exclusivity(unchecked) var response = IncomingResponse()
  @exclusivity(unchecked) var withheldBytes = 0
  var isCompressing = false
  @exclusivity(unchecked) var isReceivePaused = false
  @exclusivity(unchecked) var isDispatching = false
  @exclusivity(unchecked) var hasRemoteEnded = false
  @exclusivity(unchecked) var isHalfClosed = false
  @exclusivity(unchecked) var isDeferred = false
  @exclusivity(unchecked) var wantsWritable = false
  /// Set when the session is to report an end it could not report yet.
  var pendingEnd: GRPCStatus?

  init(id: Int32, path: String, deadline: UInt64?, session: GRPCClientSession?) {
    self.id = id
    self.path = path
    self.deadline = deadline
    self.session = session
  }

  public var isEnded: Bool { phase == .ended }

  var isOpen: Bool { phase == .open }

  /// Bytes given to `send` that the peer's window has not let out yet.
  public var queuedBytes: Int { queue.bytes }

  /// Queues one message.
  public func send(message: [UInt8]) { session?.send(self, message) }

  /// Tells the server that no message follows. Queued messages go out first.
  public func halfClose() { session?.halfClose(self) }

  /// Resets the stream and ends the call with `status`.
  public func cancel(_ status: GRPCStatus = GRPCStatus(.cancelled, "context canceled")) {
    session?.cancel(self, status)
  }

  /// Stops delivery of messages and the refill of the stream's window.
  public func pauseReceiving() { isReceivePaused = true }

  /// Delivers what was withheld (before this returns) and opens the window again.
  public func resumeReceiving() { session?.resumeReceiving(self) }
}

/// What has been received of a response's header blocks.
struct IncomingResponse {
  private(set) var httpStatus = 0
  private(set) var isGRPC = false
  private(set) var grpcStatus: Int?
  private(set) var grpcMessage = ""
  private(set) var encodingName = ""
  private(set) var fields = HeaderFields()
  var hasHeaders = false
  private var listBytes = 0

  /// A header block begins: the first, an informational one before it, or the trailers.
  mutating func beginBlock() {
    fields.removeAll()
  }

  /// Returns false if the blocks together are larger than allowed.
  mutating func add(
    name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, listBytesMax: Int
  ) -> Bool {
    listBytes += name.count + value.count + 32
    guard listBytes <= listBytesMax else { return false }
    switch name.count {
    case 7 where name.equals(":status"): httpStatus = Self.number(value) ?? 0
    case 11 where name.equals("grpc-status"): grpcStatus = Self.number(value) ?? -1
    case 12 where name.equals("grpc-message"):
      grpcMessage = GRPCStatus.percentDecode(value)
    case 12 where name.equals("content-type"): isGRPC = value.isGRPCContentType
    case 13 where name.equals("grpc-encoding"):
      encodingName = String(decoding: value, as: UTF8.self)
    default: fields.append(name: name, value: value)
    }
    return true
  }

  /// The outcome the server stated, or the one its conduct amounts to.
  var status: GRPCStatus {
    if let grpcStatus {
      return GRPCStatus(GRPCStatus.Code(rawValue: grpcStatus) ?? .unknown, grpcMessage)
    }
    if hasHeaders, httpStatus != 200 || !isGRPC {
      return GRPCStatus(
        GRPCStatus.code(forHTTPStatus: httpStatus),
        "unexpected HTTP status code received from server: \(httpStatus)")
    }
    return GRPCStatus(.internal, "server closed the stream without sending trailers")
  }

  private static func number(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    Int(String(decoding: bytes, as: UTF8.self))
  }
}
