// One HTTP/2 connection with a fixed number of calls in flight, at as little cost as possible.

import Actors
import CNGHTTP2
import EtcdClient

/// What a connection tells its owner. Called on the loop.
protocol LoadConnectionOwner: AnyObject {
  /// A unary call is over. `code` is its gRPC status; -1 if the connection broke.
  func callEnded(
    _ connection: LoadConnection, slot: Int, code: Int, message: String, now: UInt64)
  func watchReceived(_ connection: LoadConnection, stream: Int, _ message: UnsafeRawBufferPointer)
  func watchEnded(_ connection: LoadConnection, stream: Int, code: Int, message: String)
  /// The connection is usable, or is gone for the reason given.
  func connectionReady(_ connection: LoadConnection)
  func connectionLost(_ connection: LoadConnection, reason: String)
}

/// A connection of the generator. Loop thread only, as its loop checks; hence the unchecked
/// conformance.
///
/// Calls have no objects: a slot is reused when its call has ended, and its number is all that
/// nghttp2 keeps. Everything that a turn produces leaves with one write.
final class LoadConnection: @unchecked Sendable {
  struct Slot {
    var writer = MessageWriter()
    var sent = 0
    var method = Method.put
    /// When the call was due.
    var start: UInt64 = 0
    var isBusy = false
    var code = -1
    var message = ""
  }

  struct WatchStream {
    var body: [UInt8] = []
    var sent = 0
    var cutter = FrameCutter()
    var code = -1
    var message = ""
  }

  static let watchTag = 1 << 40

  let server: LoadServer
  let index: Int
  var slots: [Slot]
  var watches: [WatchStream] = []
  private(set) var isOpen = false
  var now: UInt64 = 0
  /// Bytes of messages so far.
  var receivedBytes = 0
  unowned let owner: any LoadConnectionOwner
  private let loop: EventLoop
  private var session: OpaquePointer?
  private var stream: StreamConnection?
  private var isFlushing = false
  private let onDirty: (LoadConnection) -> Void
  private var isDirty = false

  /// - Parameter onDirty: called once when there is something to flush.
  init(
    server: LoadServer, index: Int, slots: Int, loop: EventLoop, owner: any LoadConnectionOwner,
    onDirty: @escaping (LoadConnection) -> Void
  ) {
    self.server = server
    self.index = index
    self.slots = Array(repeating: Slot(), count: slots)
    self.loop = loop
    self.owner = owner
    self.onDirty = onDirty
  }

  deinit {
    if let session { nghttp2_session_del(session) }
  }

  // MARK: Life

  func connect(timeoutMilliseconds: Int) {
    loop.preconditionOnLoop()
    Connector.connect(
      to: server.endpoint.address, timeoutMilliseconds: timeoutMilliseconds, loop: loop,
      security: server.security
    ) { [self] result in
      switch result {
      case .success(let stream): begin(stream)
      case .failure(let error): owner.connectionLost(self, reason: "\(error)")
      }
    }
  }

  private func begin(_ stream: StreamConnection) {
    if let session { nghttp2_session_del(session) }
    session = LoadCallbacks.makeSession(for: self)
    self.stream = stream
    isOpen = true
    stream.onWritable = { [unowned self] in flush() }
    stream.startReading(
      onBytes: { [unowned self] in receive($0) },
      onEnd: { [unowned self] in lose(Self.reason($0)) })
    markDirty()
    owner.connectionReady(self)
  }

  /// Without the addresses in front, so that what happened to many connections is counted as one.
  private static func reason(_ error: StreamError?) -> String {
    guard let error else { return "the server closed the connection" }
    return error.description.split(separator: ": ", maxSplits: 1).last.map(String.init) ?? ""
  }

  func close() {
    loop.preconditionOnLoop()
    isOpen = false
    stream?.close()
    stream = nil
  }

  private func lose(_ reason: String) {
    guard isOpen else { return }
    close()
    let now = monotonicNanoseconds()
    for slot in slots.indices where slots[slot].isBusy {
      slots[slot].isBusy = false
      owner.callEnded(self, slot: slot, code: -1, message: reason, now: now)
    }
    owner.connectionLost(self, reason: reason)
  }

  // MARK: Calls

  /// Sends what the slot's writer holds. The slot must be free and the connection open.
  func start(slot: Int, method: Method, due: UInt64) {
    precondition(!slots[slot].isBusy, "a slot carries one call at a time")
    slots[slot].sent = 0
    slots[slot].method = method
    slots[slot].start = due
    slots[slot].isBusy = true
    slots[slot].code = -1
    submit(path: method.path, tag: slot + 1)
  }

  /// Opens a watch stream that sends `body`, a series of framed requests, and stays open.
  func openWatch(body: [UInt8]) {
    watches.append(WatchStream(body: body))
    submit(path: Method.watchPath, tag: Self.watchTag + watches.count - 1)
  }

  private func submit(path: StaticString, tag: Int) {
    var provider = nghttp2_data_provider(
      source: nghttp2_data_source(fd: 0), read_callback: LoadCallbacks.readData)
    let result = server.withFields(path: path) {
      nghttp2_submit_request(
        session, nil, $0.baseAddress, $0.count, &provider, UnsafeMutableRawPointer(bitPattern: tag))
    }
    if result < 0 { failLater("no stream id is left on this connection") }
    markDirty()
  }

  private func failLater(_ reason: String) {
    loop.execute { [self] in lose(reason) }
  }

  // MARK: Bytes

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    guard isOpen else { return }
    now = monotonicNanoseconds()
    let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    let used = nghttp2_session_mem_recv(session, start, bytes.count)
    if used < 0 { return lose(String(cString: nghttp2_strerror(Int32(clamping: used)))) }
    markDirty()
  }

  private func markDirty() {
    guard !isDirty else { return }
    isDirty = true
    onDirty(self)
  }

  /// Bytes that are put together for one write, about.
  private static let writeBytes = 1 << 20

  /// Writes out what the session has. Called at the end of a turn.
  func flush() {
    loop.preconditionOnLoop()
    isDirty = false
    guard isOpen, let stream, stream.isWritable else { return }
    var output: [UInt8] = []
    swap(&output, &server.output)
    defer { swap(&output, &server.output) }
    repeat {
      guard takeOutput(&output) else { return }
      if !output.isEmpty { output.withUnsafeBytes { stream.write($0) } }
      // A stream that is full asks for the rest itself.
    } while output.count >= Self.writeBytes && stream.isWritable
    if nghttp2_session_want_read(session) == 0, nghttp2_session_want_write(session) == 0 {
      lose("the server ended the connection")
    }
  }

  /// Fills `output`; false if the connection is lost.
  private func takeOutput(_ output: inout [UInt8]) -> Bool {
    output.removeAll(keepingCapacity: true)
    while output.count < Self.writeBytes {
      var piece: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(session, &piece)
      if count < 0 {
        lose(String(cString: nghttp2_strerror(Int32(clamping: count))))
        return false
      }
      guard count > 0, let piece else { break }
      output.append(contentsOf: UnsafeBufferPointer(start: piece, count: count))
    }
    return true
  }
}
