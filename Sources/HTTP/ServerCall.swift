public import Base

/// Takes the answers of a call that did not come over gRPC. See ``ServerCall/init(path:route:deadline:fields:owner:)``.
public protocol LocalCallOwner: AnyObject {
  /// Messages given to `reply` and `send`, in order.
  func call(_ call: ServerCall, sent message: [UInt8])
  /// The call has ended, exactly once; with `reply` after the message.
  func call(_ call: ServerCall, finished status: GRPCStatus)
  /// The call takes messages again after `pauseReceiving`.
  func callResumed(_ call: ServerCall)
  /// Bytes of answers that wait for the client.
  var queuedBytes: Int { get }
}

/// One request on a server session: a gRPC call, or a plain HTTP/2 request. Or a call that somebody
/// else in this process makes on a client's behalf, with no session at all.
///
/// Belongs to the session's thread. After the stream or the session is gone every method is a
/// no-op, so an owner may answer late.
public final class ServerCall: ReceivingCall {
  enum Kind { case grpc, http }
  enum Phase { case open, finished }

  /// The HTTP/2 stream id, unique within the session.
  public let id: Int32
  /// The `:path`, for example `/etcdserverpb.KV/Range`.
  public let path: String
  /// Index of ``path`` in the configuration's routes, -1 if it is not there.
  public let route: Int
  /// Absolute time by which the client wants its answer, on the clock given to `receive`.
  public let deadline: UInt64?
  /// All metadata the peer sent, without the fields the protocol itself uses.
  public let fields: HeaderFields
  /// The peer reset the call or the connection is lost, before it was finished.
  @exclusivity(unchecked) public internal(set) var isCancelled = false
  /// The client has sent its last message.
  @exclusivity(unchecked) public internal(set) var isHalfClosed = false
  /// Free for the owner.
  public var userData: AnyObject?
  /// Free for the owner.
  public var tag = 0

  // Unchecked exclusivity: run-time checks of these cost a tenth of a call. No access to one spans
  // a call to the delegate or into nghttp2, so none can overlap another.
  let kind: Kind
  let encoding: MessageEncoding
  @exclusivity(unchecked) var session: GRPCServerSession?
  @exclusivity(unchecked) var slot = 0
  @exclusivity(unchecked) var phase = Phase.open
  @exclusivity(unchecked) var inbox = MessageAssembler()
  @exclusivity(unchecked) var queue = MessageQueue()
  @exclusivity(unchecked) var status: GRPCStatus?
  /// Of a local call, until it ends. It holds the call, and the call it.
  private var owner: (any LocalCallOwner)?
  @exclusivity(unchecked) var withheldBytes = 0
  /// What the budget knows of this call's unfinished messages.
  @exclusivity(unchecked) var heldBytes = 0
  @exclusivity(unchecked) var isReceivePaused = false
  @exclusivity(unchecked) var isDispatching = false
  @exclusivity(unchecked) var hasRemoteEnded = false
  @exclusivity(unchecked) var hasSubmittedHeaders = false
  @exclusivity(unchecked) var isDeferred = false
  @exclusivity(unchecked) var wantsWritable = false
  @exclusivity(unchecked) var wasAnnounced = false

  init(
    id: Int32, kind: Kind, path: String, route: Int, deadline: UInt64?, fields: HeaderFields,
    encoding: MessageEncoding, session: GRPCServerSession
  ) {
    self.id = id
    self.kind = kind
    self.path = path
    self.route = route
    self.deadline = deadline
    self.fields = fields
    self.encoding = encoding
    self.session = session
    queue.isFramed = kind == .grpc
    queue.isCompressed = encoding == .gzip
  }

  /// A call without a session: `owner` hears its answers. What a session's delegate is told of a call
  /// its owner tells the handler itself.
  public init(
    path: String, route: Int, deadline: UInt64?, fields: HeaderFields, owner: any LocalCallOwner
  ) {
    id = 0
    kind = .grpc
    self.path = path
    self.route = route
    self.deadline = deadline
    self.fields = fields
    encoding = .identity
    self.owner = owner
  }

  /// The first value of a metadata key (lower case).
  public func metadata(_ name: String) -> String? { fields.first(name) }

  /// The first value of a `-bin` key, decoded; nil if absent or not base64.
  public func binaryMetadata(_ name: String) -> [UInt8]? {
    fields.firstBytes(name).flatMap {
      Base64.decode($0.prefix { $0 != UInt8(ascii: ",") })
    }
  }

  /// Whether the owner has finished the call (the bytes may still be queued).
  public var isFinished: Bool { phase == .finished }

  var isOpen: Bool { phase == .open }

  /// Bytes given to `send` that the peer's window has not let out yet.
  public var queuedBytes: Int { owner?.queuedBytes ?? queue.bytes }

  /// Answers a unary call: the message and status OK.
  ///
  /// - Parameter rest: further pieces of the message, which are sent as they are.
  public func reply(message: [UInt8], rest: ArraySlice<[UInt8]> = []) {
    if let session { return session.reply(self, message, rest) }
    owner?.call(self, sent: rest.isEmpty ? message : message + rest.joined())
    finishLocally(.ok)
  }

  /// Queues one message of a streaming answer.
  public func send(message: [UInt8]) {
    if let session { return session.send(self, message) }
    owner?.call(self, sent: message)
  }

  /// Queues messages of a streaming answer.
  public func send(_ messages: FramedMessages) {
    if let session { return session.send(self, messages) }
    for message in messages { owner?.call(self, sent: message) }
  }

  /// Ends the call. Queued messages go out first.
  public func finish(_ status: GRPCStatus) {
    if let session { return session.finish(self, status) }
    finishLocally(status)
  }

  /// Stops delivery of messages and the refill of the stream's window.
  public func pauseReceiving() { isReceivePaused = true }

  /// Delivers what was withheld (before this returns) and opens the window again.
  public func resumeReceiving() {
    if let session { return session.resumeReceiving(self) }
    guard isReceivePaused, phase == .open else { return }
    isReceivePaused = false
    owner?.callResumed(self)
  }

  /// Ends the call at once with RST_STREAM; queued messages are dropped. `callCancelled` does
  /// not follow.
  public func abort() { session?.abort(self) }

  private func finishLocally(_ status: GRPCStatus) {
    guard let owner, phase == .open else { return }
    phase = .finished
    self.owner = nil
    owner.call(self, finished: status)
  }

  /// Whether a local call's owner has to keep messages back.
  public var isPaused: Bool { isReceivePaused }

  /// A local call's client has gone: nothing it is told from here on goes anywhere. Returns whether
  /// it was open, in which case the owner has to tell the handler.
  public func cancelLocally() -> Bool {
    guard owner != nil, phase == .open else { return false }
    phase = .finished
    isCancelled = true
    owner = nil
    return true
  }

  /// Answers a plain HTTP request in one piece.
  public func respond(status: Int, headers: [HTTPField], body: [UInt8]) {
    beginResponse(status: status, headers: headers)
    if !body.isEmpty { send(body: body) }
    endResponse()
  }

  /// Starts a streaming answer to a plain HTTP request.
  public func beginResponse(status: Int, headers: [HTTPField]) {
    session?.beginResponse(self, status: status, headers: headers)
  }

  /// Queues bytes of a streaming HTTP answer.
  public func send(body: [UInt8]) { session?.send(self, body) }

  /// Ends a streaming HTTP answer.
  public func endResponse() { session?.finish(self, .ok) }
}
