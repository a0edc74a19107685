// A listening TCP or Unix socket.

import CLibUV
import Glibc

/// Accepts connections on the loop thread.
///
/// The loop keeps an open listener alive: end it with ``close()``. Methods are for the loop thread
/// only and trap elsewhere; hence the unchecked conformance.
public final class Listener: LoopResource, @unchecked Sendable {
  public struct Options: Sendable {
    /// Lets several sockets, of this process or others, listen on one TCP port.
    public var reusePort = false
    public var backlog: Int32 = 1024

    public init(reusePort: Bool = false, backlog: Int32 = 1024) {
      self.reusePort = reusePort
      self.backlog = backlog
    }
  }

  /// Connections accepted in one callback, so that one busy port does not starve the rest.
  private static let acceptsPerTurnMax = 64
  /// Pause after the process has run out of descriptors; clients wait in the kernel's queue.
  private static let retryMilliseconds = 100

  public let loop: EventLoop
  /// The port in use, also if 0 was asked for; 0 for a Unix socket. Any thread.
  public let boundPort: UInt16
  /// `127.0.0.1:2379`, `[::]:2379` or the path. Any thread.
  public let localAddress: String

  private let descriptor: Int32
  private let isTCP: Bool
  private let unlinkPath: String?
  private let poll: UnsafeMutablePointer<uv_poll_t>
  private var security: (any StreamSecurity)?
  /// Nil once closed, so that a closure that refers to the listener keeps nothing alive.
  private var onAccept: ((StreamConnection) -> Void)?
  private var resourceID: UInt64 = 0
  private var isOpen = true
  private var retry: LoopTimer?

  /// Binds, listens and starts to accept. Loop thread only; blocks for a few system calls.
  ///
  /// A socket file that nobody listens on is replaced; the file is removed by ``close()``.
  /// - Parameters:
  ///   - security: what connections go through before they are handed over.
  ///   - onAccept: called on the loop with each connection, which it then owns.
  /// - Throws: ``ListenError`` in Go's words; nothing is left open.
  public static func listen(
    on address: ListenAddress, loop: EventLoop, options: Options = Options(),
    security: (any StreamSecurity)? = nil, onAccept: @escaping (StreamConnection) -> Void
  ) throws(ListenError) -> Listener {
    loop.preconditionOnLoop()
    let listener: Listener
    switch address {
    case .tcp(let host, let port):
      let descriptor = try openTCP(host, port, address, options)
      listener = try Listener(loop, descriptor, address, unlinkPath: nil, onAccept)
    case .unix(let path):
      let descriptor = try openUnix(path, address, options)
      listener = try Listener(loop, descriptor, address, unlinkPath: path, onAccept)
    }
    listener.security = security
    return listener
  }

  private init(
    _ loop: EventLoop, _ descriptor: Int32, _ address: ListenAddress, unlinkPath: String?,
    _ onAccept: @escaping (StreamConnection) -> Void
  ) throws(ListenError) {
    let handle = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
    let status = uv_poll_init(loop.uv, handle, descriptor)
    guard status == 0 else {
      handle.deallocate()
      Glibc.close(descriptor)
      throw Self.failure(address, "listen", -status)
    }
    let local = SocketAddress.local(of: descriptor)
    self.loop = loop
    self.descriptor = descriptor
    self.unlinkPath = unlinkPath
    self.onAccept = onAccept
    poll = handle
    isTCP = unlinkPath == nil
    boundPort = local?.port ?? 0
    localAddress = local?.text ?? ""
    poll.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    resourceID = loop.register(self)
    startPolling()
  }

  /// Stops accepting. Connections that were accepted stay open. Idempotent.
  public func close() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    isOpen = false
    retry?.cancel()
    retry = nil
    uv_poll_stop(poll)
    if let unlinkPath { unlink(unlinkPath) }
    Glibc.close(descriptor)
    uv_close(asHandle(poll), listenerClosed)
  }

  func loopWillClose() { close() }

  fileprivate func didClose() {
    poll.deallocate()
    onAccept = nil
    loop.unregister(resourceID)
  }

  private func startPolling() {
    uv_poll_start(poll, Int32(UV_READABLE.rawValue), listenerReadable)
  }

  // MARK: Accepting

  fileprivate func accept() {
    for _ in 0..<Self.acceptsPerTurnMax {
      guard isOpen else { return }
      let accepted = Glibc.accept(descriptor, nil, nil)
      if accepted >= 0 {
        // Children are started on this thread too, so none can inherit it in between.
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        adopt(accepted)
        continue
      }
      switch errno {
      case EINTR, ECONNABORTED: continue
      case EMFILE, ENFILE, ENOBUFS, ENOMEM:
        pauseAccepting()
        return
      default: return
      }
    }
  }

  private func adopt(_ accepted: Int32) {
    guard let stream = openStream(accepted, isTCP: isTCP, loop: loop) else { return }
    let connection = StreamConnection(loop: loop, stream: stream)
    guard let security else {
      onAccept?(connection)
      return
    }
    security.secure(connection) { [weak self] error in
      guard error == nil else { return }
      guard let onAccept = self?.onAccept else { return connection.close() }
      onAccept(connection)
    }
  }

  /// The socket stays readable, so polling on would spin until a descriptor is free.
  private func pauseAccepting() {
    uv_poll_stop(poll)
    let timer = LoopTimer(loop: loop) { [weak self] in
      guard let self, isOpen else { return }
      startPolling()
    }
    timer.schedule(afterMilliseconds: Self.retryMilliseconds)
    retry = timer
  }

  // MARK: Opening

  private static func failure(
    _ address: ListenAddress, _ call: String, _ number: Int32
  ) -> ListenError {
    ListenError(
      description: "listen \(address.network) \(address): \(call): \(errnoText(number))",
      errno: number)
  }

  private static func openTCP(
    _ host: String, _ port: UInt16, _ address: ListenAddress, _ options: Options
  ) throws(ListenError) -> Int32 {
    let isWildcard = host == "" || host == "*" || host == "0.0.0.0" || host == "::"
    if isWildcard, let any = SocketAddress(ip: "::", port: port) {
      // One socket for both families, as Go does it, unless the system has no IPv6.
      do {
        return try openTCP(any, address, options)
      } catch  where error.errno == EAFNOSUPPORT || error.errno == EADDRNOTAVAIL {
      }
    }
    let ip = isWildcard ? "0.0.0.0" : host == "localhost" ? "127.0.0.1" : host
    guard let socketAddress = SocketAddress(ip: ip, port: port) else {
      throw ListenError(description: "listen tcp: lookup \(host): no such host", errno: 0)
    }
    let shown = host == "localhost" ? ListenAddress.tcp(host: ip, port: port) : address
    return try openTCP(socketAddress, shown, options)
  }

  private static func openTCP(
    _ socketAddress: SocketAddress, _ address: ListenAddress, _ options: Options
  ) throws(ListenError) -> Int32 {
    let descriptor = try openSocket(socketAddress.family, address)
    setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
    if options.reusePort { setOption(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) }
    if socketAddress.family == AF_INET6 {
      setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0)
    }
    return try bindAndListen(descriptor, socketAddress, address, options)
  }

  private static func openUnix(
    _ path: String, _ address: ListenAddress, _ options: Options
  ) throws(ListenError) -> Int32 {
    guard let socketAddress = SocketAddress(unixPath: path) else {
      throw failure(address, "bind", EINVAL)
    }
    removeStaleSocket(path, socketAddress)
    let descriptor = try openSocket(AF_UNIX, address)
    return try bindAndListen(descriptor, socketAddress, address, options)
  }

  /// Removes a socket file that a dead process has left: only if a connect is refused.
  private static func removeStaleSocket(_ path: String, _ address: SocketAddress) {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else { return }
    let probe = socket(
      AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard probe >= 0 else { return }
    defer { Glibc.close(probe) }
    let connected = address.withSystemAddress { connect(probe, $0, $1) }
    if connected != 0 && errno == ECONNREFUSED { unlink(path) }
  }

  private static func openSocket(
    _ family: Int32, _ address: ListenAddress
  ) throws(ListenError) -> Int32 {
    let type = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
    let descriptor = socket(family, Int32(type), 0)
    if descriptor < 0 { throw failure(address, "socket", errno) }
    return descriptor
  }

  private static func bindAndListen(
    _ descriptor: Int32, _ socketAddress: SocketAddress, _ address: ListenAddress,
    _ options: Options
  ) throws(ListenError) -> Int32 {
    var call = "bind"
    var status = socketAddress.withSystemAddress { bind(descriptor, $0, $1) }
    if status == 0 {
      call = "listen"
      status = Glibc.listen(descriptor, options.backlog)
    }
    if status != 0 {
      let number = errno
      Glibc.close(descriptor)
      // Linux may find out that a port is taken as late as here; users know one text for it.
      throw failure(address, number == EADDRINUSE ? "bind" : call, number)
    }
    return descriptor
  }

  private static func setOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32)
  {
    var value = value
    setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
  }
}

/// Wraps a connected socket or a pipe, which becomes non-blocking; closes it and returns nil if libuv refuses.
func openStream(
  _ descriptor: Int32, isTCP: Bool, loop: EventLoop
) -> UnsafeMutablePointer<uv_stream_t>? {
  let stream: UnsafeMutablePointer<uv_stream_t>
  let status: Int32
  if isTCP {
    let tcp = allocateStream(uv_tcp_t.self)
    uv_tcp_init(loop.uv, tcp)
    status = uv_tcp_open(tcp, descriptor)
    stream = asStream(tcp)
  } else {
    let pipe = allocateStream(uv_pipe_t.self)
    uv_pipe_init(loop.uv, pipe, 0)
    status = uv_pipe_open(pipe, descriptor)
    stream = asStream(pipe)
  }
  if status == 0 { return stream }
  Glibc.close(descriptor)
  uv_close(asHandle(stream), freeClosedHandle)
  return nil
}

private func listenerReadable(
  _ handle: UnsafeMutablePointer<uv_poll_t>?, _ status: Int32, _ events: Int32
) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<Listener>.fromOpaque(data).takeUnretainedValue().accept()
}

private func listenerClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<Listener>.fromOpaque(data).takeUnretainedValue().didClose()
}
