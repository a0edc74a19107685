// Opening a connection: name lookup, one address after the other, a time limit.

import CLibUV
import Glibc

/// One attempt to connect. Loop thread only, checked; hence the unchecked conformance.
public final class Connector: LoopResource, @unchecked Sendable {
  public typealias Completion = (Result<StreamConnection, StreamError>) -> Void

  private let loop: EventLoop
  private let address: ConnectAddress
  private let security: (any StreamSecurity)?
  private var completion: Completion?
  /// Connected, but not secure yet.
  private var insecure: StreamConnection?
  private var resourceID: UInt64 = 0
  private var deadline: LoopTimer?
  private var candidates: ArraySlice<SocketAddress> = []
  private var firstError: StreamError?
  private var lookup: UnsafeMutablePointer<uv_getaddrinfo_t>?
  /// The socket of the current attempt.
  private var stream: UnsafeMutablePointer<uv_stream_t>?
  private var attemptTarget = ""
  /// Requests that libuv has not answered yet.
  private var outstanding = 0

  /// Starts to connect. Loop thread only.
  ///
  /// `localhost` means 127.0.0.1, then ::1; other names are looked up on libuv's thread pool and
  /// their addresses tried in the system's order.
  /// - Parameters:
  ///   - timeoutMilliseconds: for everything together; 0 leaves it to the system.
  ///   - security: what the connection goes through before it is handed over.
  ///   - completion: called once on the loop, never from within this call; not called after
  ///     ``cancel()`` or once the loop stops. A connection that it gets belongs to it.
  @discardableResult
  public static func connect(
    to address: ConnectAddress, timeoutMilliseconds: Int, loop: EventLoop,
    security: (any StreamSecurity)? = nil, completion: @escaping Completion
  ) -> Connector {
    let connector = Connector(loop, address, security, completion)
    if timeoutMilliseconds > 0 {
      let timer = LoopTimer(loop: loop) { connector.timeOut() }
      timer.schedule(afterMilliseconds: timeoutMilliseconds)
      connector.deadline = timer
    }
    loop.execute { connector.begin() }
    return connector
  }

  private init(
    _ loop: EventLoop, _ address: ConnectAddress, _ security: (any StreamSecurity)?,
    _ completion: @escaping Completion
  ) {
    self.loop = loop
    self.address = address
    self.security = security
    self.completion = completion
    resourceID = loop.register(self)
  }

  /// Gives up; the completion is not called. Idempotent, and harmless after completion.
  public func cancel() {
    loop.preconditionOnLoop()
    _ = settle()
  }

  func loopWillClose() { cancel() }

  // MARK: Addresses

  private func begin() {
    guard completion != nil else { return }
    switch address {
    case .unix(let path):
      if let target = SocketAddress(unixPath: path) {
        candidates = [target]
      } else {
        firstError = StreamError("dial unix \(path): connect", errno: EINVAL)
      }
    case .tcp("localhost", let port):
      candidates = ["127.0.0.1", "::1"].compactMap { SocketAddress(ip: $0, port: port) }[...]
    case .tcp(let host, let port):
      guard let target = SocketAddress(ip: host, port: port) else { return resolve(host) }
      candidates = [target]
    }
    tryNext()
  }

  private func resolve(_ host: String) {
    let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
    request.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_ADDRCONFIG
    let status = uv_getaddrinfo(loop.uv, request, connectorResolved, host, nil, &hints)
    guard status == 0 else {
      request.deallocate()
      return finish(.failure(StreamError(lookup: host, status: status)))
    }
    lookup = request
    outstanding += 1
  }

  fileprivate func didResolve(_ status: Int32, _ list: UnsafeMutablePointer<addrinfo>?) {
    lookup?.deallocate()
    lookup = nil
    outstanding -= 1
    defer { uv_freeaddrinfo(list) }
    guard completion != nil, case .tcp(let host, let port) = address else { return letGo() }
    guard status == 0 else {
      return finish(.failure(StreamError(lookup: host, status: status)))
    }
    var entry = list
    while let current = entry {
      let info = current.pointee
      if let system = info.ai_addr,
        let found = SocketAddress(copying: system, length: Int(info.ai_addrlen), port: port)
      {
        candidates.append(found)
      }
      entry = info.ai_next
    }
    tryNext()
  }

  // MARK: Attempts

  private func tryNext() {
    while let target = candidates.popFirst() {
      if attempt(target) { return }
    }
    finish(.failure(firstError ?? StreamError("dial \(address.network)", errno: EDESTADDRREQ)))
  }

  private func note(_ status: Int32, _ target: String) {
    if firstError == nil {
      firstError = StreamError("dial \(address.network) \(target): connect", errno: -status)
    }
  }

  /// Starts one attempt; false if it failed at once.
  private func attempt(_ target: SocketAddress) -> Bool {
    let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
    request.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    let opened: UnsafeMutablePointer<uv_stream_t>
    var status: Int32 = 0
    if case .unix(let path) = address {
      let pipe = allocateStream(uv_pipe_t.self)
      uv_pipe_init(loop.uv, pipe, 0)
      uv_pipe_connect(request, pipe, path, connectorConnected)
      opened = asStream(pipe)
    } else {
      let tcp = allocateStream(uv_tcp_t.self)
      uv_tcp_init(loop.uv, tcp)
      status = target.withSystemAddress { system, _ in
        uv_tcp_connect(request, tcp, system, connectorConnected)
      }
      opened = asStream(tcp)
    }
    attemptTarget = target.text
    guard status == 0 else {
      request.deallocate()
      uv_close(asHandle(opened), freeClosedHandle)
      note(status, attemptTarget)
      return false
    }
    stream = opened
    outstanding += 1
    return true
  }

  fileprivate func didConnect(_ status: Int32, _ request: UnsafeMutablePointer<uv_connect_t>) {
    request.deallocate()
    outstanding -= 1
    // Without a stream this attempt was given up, and its handle is closing already.
    guard let opened = stream else { return letGo() }
    stream = nil
    if status == 0 {
      didOpen(StreamConnection(loop: loop, stream: opened))
    } else {
      uv_close(asHandle(opened), freeClosedHandle)
      note(status, attemptTarget)
      tryNext()
    }
  }

  private func didOpen(_ connection: StreamConnection) {
    guard let security else { return finish(.success(connection)) }
    insecure = connection
    security.secure(connection) { [self] error in
      insecure = nil
      finish(error.map { .failure($0) } ?? .success(connection))
    }
  }

  private func timeOut() {
    let isShakingHands = insecure != nil
    finish(
      .failure(
        isShakingHands
          ? StreamError("net/http: TLS handshake timeout", isTimeout: true)
          : StreamError(timeout: "dial \(address.network) \(address)")))
  }

  // MARK: End

  private func finish(_ result: Result<StreamConnection, StreamError>) {
    if let completion = settle() { completion(result) }
  }

  /// Ends everything that is under way; returns the completion if it has not been called yet.
  private func settle() -> Completion? {
    guard let completion else { return nil }
    self.completion = nil
    candidates = []
    deadline?.cancel()
    deadline = nil
    if let insecure {
      self.insecure = nil
      insecure.close()
    }
    if let stream {
      self.stream = nil
      uv_close(asHandle(stream), freeClosedHandle)
    }
    if let lookup {
      uv_cancel(UnsafeMutableRawPointer(lookup).assumingMemoryBound(to: uv_req_t.self))
    }
    letGo()
    return completion
  }

  private func letGo() {
    if completion == nil && outstanding == 0 && resourceID != 0 {
      loop.unregister(resourceID)
      resourceID = 0
    }
  }
}

private func connectorResolved(
  _ request: UnsafeMutablePointer<uv_getaddrinfo_t>?, _ status: Int32,
  _ list: UnsafeMutablePointer<addrinfo>?
) {
  guard let data = request?.pointee.data else { return }
  Unmanaged<Connector>.fromOpaque(data).takeUnretainedValue().didResolve(status, list)
}

private func connectorConnected(_ request: UnsafeMutablePointer<uv_connect_t>?, _ status: Int32) {
  guard let request, let data = request.pointee.data else { return }
  Unmanaged<Connector>.fromOpaque(data).takeUnretainedValue().didConnect(status, request)
}
