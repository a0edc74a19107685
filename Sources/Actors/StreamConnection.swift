// A connected TCP or Unix stream: bytes in by callback, bytes out with back-pressure.

import CLibUV
import Glibc

/// A connected byte stream on an event loop.
///
/// Everything but the constants is for the loop thread only, and traps elsewhere; hence the
/// unchecked conformance. The loop keeps an open connection alive: drop it with ``close()``.
/// Any callback may call any method, ``close()`` included; after ``close()`` only `onClose` is
/// still called, later, and exactly once.
public final class StreamConnection: LoopResource, @unchecked Sendable {
  public typealias BytesHandler = (UnsafeRawBufferPointer) -> Void
  public typealias EndHandler = (StreamError?) -> Void

  private enum Phase {
    case open
    /// The owner will write no more; what is queued is still sent.
    case finishing
    case closing
    case closed
  }

  public let loop: EventLoop
  /// `tcp` or `unix`, as Go names networks.
  public let network: String
  /// `1.2.3.4:80`, `[::1]:80`, or a path, `@` if it has none; empty for a plain pipe. Any thread.
  public let localAddress: String
  public let peerAddress: String

  /// Called once on the loop when the handle is closed, never from within ``close()``.
  public var onClose: (() -> Void)?
  /// Called when ``queuedBytes`` has fallen to `lowWatermark` after it had reached `highWatermark`.
  public var onWritable: (() -> Void)?
  public var lowWatermark = 64 * 1024
  public var highWatermark = 256 * 1024
  /// After ``closeWhenFlushed()``, a peer that takes nothing for so long is not waited for any more.
  public var lingerMilliseconds = 30_000

  /// What stands between the socket and the owner; nil for a plain connection.
  public private(set) var filter: (any StreamFilter)?

  private let stream: UnsafeMutablePointer<uv_stream_t>
  private let writeRequest: UnsafeMutablePointer<uv_write_t>
  private let shutdownRequest: UnsafeMutablePointer<uv_shutdown_t>
  private var resourceID: UInt64 = 0
  private var phase = Phase.open
  private var reading = false
  private var isPaused = false
  private var readEnded = false
  private var closesWhenFlushed = false
  private var linger: LoopTimer?
  private var finSent = false
  private var aboveHighWatermark = false
  private var onBytes: BytesHandler?
  private var onEnd: EndHandler?
  // At most one write is under way; what comes meanwhile is sent by the next one.
  private var inFlight = OutputBuffer()
  private var backlog = OutputBuffer()
  private var writing = false

  /// Takes over `stream`, an open and connected handle that nothing else refers to.
  init(loop: EventLoop, stream: UnsafeMutablePointer<uv_stream_t>) {
    self.loop = loop
    self.stream = stream
    let isTCP = stream.pointee.type == UV_TCP
    network = isTCP ? "tcp" : "unix"
    var descriptor: uv_os_fd_t = -1
    uv_fileno(asHandle(stream), &descriptor)
    localAddress = SocketAddress.local(of: descriptor)?.text ?? ""
    peerAddress = SocketAddress.peer(of: descriptor)?.text ?? ""
    writeRequest = .allocate(capacity: 1)
    shutdownRequest = .allocate(capacity: 1)
    if isTCP {
      let tcp = UnsafeMutableRawPointer(stream).assumingMemoryBound(to: uv_tcp_t.self)
      uv_tcp_nodelay(tcp, 1)
      uv_tcp_keepalive(tcp, 1, 30)
    }
    stream.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    resourceID = loop.register(self)
  }

  deinit {
    precondition(phase == .closed)
    writeRequest.deallocate()
    shutdownRequest.deallocate()
  }

  // MARK: Reading

  /// Starts to read. Call once.
  ///
  /// - Parameters:
  ///   - onBytes: the bytes are valid during the call only.
  ///   - onEnd: called once: nil when the peer has finished sending (the connection can still be
  ///     written to), or the error that broke it. The owner then calls ``close()`` when it is done.
  public func startReading(onBytes: @escaping BytesHandler, onEnd: @escaping EndHandler) {
    loop.preconditionOnLoop()
    precondition(self.onEnd == nil, "already reading")
    guard isUsable else { return }
    self.onBytes = onBytes
    self.onEnd = onEnd
    resumeReading()
  }

  /// Puts a filter in front of the owner, and reads from the socket for it. Before
  /// ``startReading(onBytes:onEnd:)``, and at most once.
  public func install(_ filter: any StreamFilter) {
    loop.preconditionOnLoop()
    precondition(self.filter == nil && onEnd == nil, "the connection is in use")
    guard isUsable else { return }
    self.filter = filter
    startSocket()
  }

  /// Leaves further bytes in the kernel, so that the peer is slowed down.
  public func pauseReading() {
    loop.preconditionOnLoop()
    isPaused = true
    stopSocket()
  }

  /// Leaves bytes in the kernel without a word of the owner. For filters.
  public func stopSocket() {
    guard isUsable, reading else { return }
    reading = false
    uv_read_stop(stream)
  }

  /// Goes on after ``pauseReading()``; no effect if the stream is being read or has ended.
  public func resumeReading() {
    loop.preconditionOnLoop()
    guard onBytes != nil else { return }
    isPaused = false
    startSocket()
    filter?.ownerReads()
  }

  /// Takes bytes from the kernel. For filters.
  public func startSocket() {
    guard isUsable, !reading, !readEnded else { return }
    let status = uv_read_start(stream, streamAllocates, streamReads)
    if status == 0 {
      reading = true
    } else {
      // Reported on the next turn: no callback runs inside a call of the owner.
      loop.execute { [self] in endSocket(StreamError(failed("read"), errno: -status)) }
    }
  }

  /// Whether the owner has begun to read and not paused. For filters.
  public var ownerTakesBytes: Bool { onBytes != nil && !isPaused && isUsable }

  /// Gives the owner bytes, valid during the call. For filters; only while ``ownerTakesBytes``.
  public func deliver(_ bytes: UnsafeRawBufferPointer) { onBytes?(bytes) }

  fileprivate func didRead(_ count: Int, _ buffer: UnsafePointer<uv_buf_t>?) {
    guard isUsable, count != 0 else { return }
    if count > 0 {
      guard let base = buffer?.pointee.base else { return }
      let bytes = UnsafeRawBufferPointer(start: base, count: count)
      if let filter { filter.socketDidRead(bytes) } else { onBytes?(bytes) }
    } else if count == Int(UV_EOF.rawValue) {
      endSocket(nil)
    } else {
      endSocket(StreamError(failed("read"), errno: Int32(-count)))
    }
  }

  private func endSocket(_ error: StreamError?) {
    stopSocket()
    if let filter { filter.socketDidEnd(error) } else { endReading(error) }
  }

  /// Ends the owner's reading side: nil for the regular end. For filters.
  public func endReading(_ error: StreamError?) {
    guard isUsable, !readEnded else { return }
    stopSocket()
    readEnded = true
    let onEnd = self.onEnd
    onBytes = nil
    if let onEnd { onEnd(error) } else if error != nil { close() }
  }

  // MARK: Writing

  /// Bytes accepted by ``write(_:)`` that the kernel has not taken yet.
  public var queuedBytes: Int {
    loop.preconditionOnLoop()
    return isUsable ? unsentBytes : 0
  }

  /// False from ``queuedBytes`` reaching `highWatermark` until `onWritable` is called.
  public var isWritable: Bool {
    loop.preconditionOnLoop()
    return phase == .open && !aboveHighWatermark
  }

  private var unsentBytes: Int { stream.pointee.write_queue_size + backlog.count }

  /// Sends `bytes` after all earlier ones: at once if the kernel takes them, else from a queue.
  ///
  /// The queue is not limited here: watch ``isWritable``. Errors end the reading side (`onEnd`) on a
  /// later turn, or close the connection if that has ended already. After ``shutdown()`` or
  /// ``close()`` the bytes are dropped.
  public func write(_ bytes: consuming [UInt8]) {
    bytes.withUnsafeBytes { write($0) }
  }

  /// Like ``write(_:)``; what cannot be sent at once is copied.
  public func write(_ bytes: UnsafeRawBufferPointer) {
    loop.preconditionOnLoop()
    guard phase == .open, !bytes.isEmpty else { return }
    if let filter { filter.ownerWrites(bytes) } else { send(bytes) }
  }

  /// Sends bytes as they are, past the filter. For filters.
  public func send(_ bytes: UnsafeRawBufferPointer) {
    guard phase == .open, !bytes.isEmpty else { return }
    var rest = bytes
    if !writing {
      var buffer = uvBuffer(bytes)
      let sent = uv_try_write(stream, &buffer, 1)
      if sent == bytes.count { return }
      // Any error is met again, and reported, by the queued write.
      rest = UnsafeRawBufferPointer(rebasing: bytes[max(0, Int(sent))...])
    }
    backlog.append(rest)
    if !writing { sendBacklog() }
    if unsentBytes >= highWatermark { aboveHighWatermark = true }
  }

  private func sendBacklog() {
    swap(&inFlight, &backlog)
    writing = true
    var buffer = uvBuffer(UnsafeRawBufferPointer(start: inFlight.base, count: inFlight.count))
    let status = uv_write(writeRequest, stream, &buffer, 1, streamWrote)
    if status != 0 {
      loop.execute { [self] in didWrite(status) }
    }
  }

  fileprivate func didWrite(_ status: Int32) {
    writing = false
    inFlight.removeAll()
    guard isUsable else { return }
    if status != 0 {
      backlog.removeAll()
      // The owner has left already and hears of nothing any more.
      if closesWhenFlushed { return close() }
      let error = StreamError(failed("write"), errno: -status)
      if onEnd != nil && !readEnded { endReading(error) } else { close() }
      return
    }
    if backlog.count > 0 { sendBacklog() }
    if aboveHighWatermark && unsentBytes <= lowWatermark {
      aboveHighWatermark = false
      onWritable?()
    }
    if isUsable { finishIfFlushed() }
  }

  // MARK: Ending

  /// Sends what is queued, then tells the peer that no more will come. Reading goes on.
  public func shutdown() {
    loop.preconditionOnLoop()
    guard phase == .open else { return }
    filter?.ownerFinishes()
    guard phase == .open else { return }
    phase = .finishing
    finishIfFlushed()
  }

  /// Sends what is queued, then closes; also if that fails, or the peer does not take it.
  public func closeWhenFlushed() {
    loop.preconditionOnLoop()
    guard isUsable, !closesWhenFlushed else { return }
    closesWhenFlushed = true
    if finSent { close() } else { shutdown() }
    if isUsable, writing { expectProgress() }
  }

  private func expectProgress() {
    let before = unsentBytes
    let timer = LoopTimer(loop: loop) { [self] in
      guard isUsable else { return }
      if unsentBytes < before { expectProgress() } else { close() }
    }
    timer.schedule(afterMilliseconds: lingerMilliseconds)
    linger = timer
  }

  private func finishIfFlushed() {
    guard phase == .finishing, !writing, !finSent else { return }
    finSent = true
    let status = uv_shutdown(shutdownRequest, stream, streamShutDown)
    if status != 0 { didShutDown() }
  }

  fileprivate func didShutDown() {
    if closesWhenFlushed { close() }
  }

  /// Closes at once; what is queued is lost. Idempotent.
  public func close() {
    loop.preconditionOnLoop()
    guard isUsable else { return }
    // The last words go out only if nothing is in front of them.
    if phase == .open, !writing { filter?.ownerFinishes() }
    phase = .closing
    reading = false
    linger?.cancel()
    linger = nil
    uv_close(asHandle(stream), streamClosed)
  }

  func loopWillClose() { close() }

  private var isUsable: Bool {
    switch phase {
    case .open, .finishing: true
    case .closing, .closed: false
    }
  }

  fileprivate func didClose() {
    phase = .closed
    let onClose = self.onClose
    self.onClose = nil
    onBytes = nil
    onEnd = nil
    onWritable = nil
    let filter = self.filter
    self.filter = nil
    stream.pointee.data = nil
    UnsafeMutableRawPointer(stream).deallocate()
    loop.unregister(resourceID)
    filter?.didClose()
    onClose?()
  }

  private func failed(_ operation: String) -> String {
    "\(operation) \(network) \(localAddress)->\(peerAddress): \(operation)"
  }
}

/// Memory for a stream handle of the given type, to be freed in its close callback.
func allocateStream<Handle>(_ type: Handle.Type) -> UnsafeMutablePointer<Handle> {
  UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<Handle>.size, alignment: 16)
    .bindMemory(to: type, capacity: 1)
}

func asStream<Handle>(_ pointer: UnsafeMutablePointer<Handle>) -> UnsafeMutablePointer<uv_stream_t>
{
  UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: uv_stream_t.self)
}

private func uvBuffer(_ bytes: UnsafeRawBufferPointer) -> uv_buf_t {
  // libuv only reads from the buffers that it writes to a socket.
  let base = UnsafeMutableRawPointer(mutating: bytes.baseAddress)
  return uv_buf_t(base: base?.assumingMemoryBound(to: CChar.self), len: bytes.count)
}

private func connection(_ data: UnsafeMutableRawPointer?) -> StreamConnection? {
  data.map { Unmanaged<StreamConnection>.fromOpaque($0).takeUnretainedValue() }
}

private func streamAllocates(
  _ handle: UnsafeMutablePointer<uv_handle_t>?, _ suggested: Int,
  _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
  guard let loop = connection(handle?.pointee.data)?.loop else { return }
  buffer?.pointee.base = loop.readBuffer.assumingMemoryBound(to: CChar.self)
  buffer?.pointee.len = EventLoop.readBufferBytes
}

private func streamReads(
  _ stream: UnsafeMutablePointer<uv_stream_t>?, _ count: Int, _ buffer: UnsafePointer<uv_buf_t>?
) {
  guard let connection = connection(stream?.pointee.data) else { return }
  connection.didRead(count, buffer)
  connection.loop.didReadSocket()
}

private func streamWrote(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: Int32) {
  connection(request?.pointee.handle.pointee.data)?.didWrite(status)
}

private func streamShutDown(_ request: UnsafeMutablePointer<uv_shutdown_t>?, _ status: Int32) {
  connection(request?.pointee.handle.pointee.data)?.didShutDown()
}

private func streamClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
  connection(handle?.pointee.data)?.didClose()
}
