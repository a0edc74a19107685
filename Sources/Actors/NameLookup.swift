// Names of addresses and addresses of names, from the system's resolver.

import CLibUV
import Glibc

/// One question to the system's resolver, asked on libuv's thread pool.
public final class NameLookup: LoopResource {
  private let completion: ([String]) -> Void
  private let loop: EventLoop
  private var resourceID: UInt64 = 0
  private var isCancelled = false
  private var byAddress: UnsafeMutablePointer<uv_getnameinfo_t>?
  private var byName: UnsafeMutablePointer<uv_getaddrinfo_t>?

  /// The name of a numeric address.
  ///
  /// - Parameter completion: called once on the loop, never from within this call; with nothing if
  ///   there is no answer. Not called once the loop stops.
  public static func names(
    of ip: String, loop: EventLoop, completion: @escaping ([String]) -> Void
  ) {
    let lookup = NameLookup(loop, completion)
    guard let address = SocketAddress(ip: ip, port: 0) else { return lookup.answerLater() }
    let request = UnsafeMutablePointer<uv_getnameinfo_t>.allocate(capacity: 1)
    request.pointee.data = Unmanaged.passUnretained(lookup).toOpaque()
    let status = address.withSystemAddress { system, _ in
      uv_getnameinfo(loop.uv, request, lookupNamed, system, NI_NAMEREQD)
    }
    guard status == 0 else {
      request.deallocate()
      return lookup.answerLater()
    }
    lookup.byAddress = request
  }

  /// The numeric addresses of a name; else as ``names(of:loop:completion:)``.
  public static func addresses(
    of name: String, loop: EventLoop, completion: @escaping ([String]) -> Void
  ) {
    let lookup = NameLookup(loop, completion)
    let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
    request.pointee.data = Unmanaged.passUnretained(lookup).toOpaque()
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    let status = uv_getaddrinfo(loop.uv, request, lookupResolved, name, nil, &hints)
    guard status == 0 else {
      request.deallocate()
      return lookup.answerLater()
    }
    lookup.byName = request
  }

  private init(_ loop: EventLoop, _ completion: @escaping ([String]) -> Void) {
    self.loop = loop
    self.completion = completion
    resourceID = loop.register(self)
  }

  func loopWillClose() {
    isCancelled = true
    if let byAddress {
      uv_cancel(UnsafeMutableRawPointer(byAddress).assumingMemoryBound(to: uv_req_t.self))
    }
    if let byName {
      uv_cancel(UnsafeMutableRawPointer(byName).assumingMemoryBound(to: uv_req_t.self))
    }
  }

  private func answerLater() {
    LoopTimer(loop: loop) { self.finish([]) }.schedule(afterMilliseconds: 0)
  }

  fileprivate func didName(_ name: String?) {
    byAddress?.deallocate()
    byAddress = nil
    finish(name.map { [$0] } ?? [])
  }

  fileprivate func didResolve(_ list: UnsafeMutablePointer<addrinfo>?) {
    byName?.deallocate()
    byName = nil
    var found: [String] = []
    var entry = list
    while let current = entry {
      let info = current.pointee
      if let system = info.ai_addr,
        let address = SocketAddress(copying: system, length: Int(info.ai_addrlen), port: 0)
      {
        found.append(address.host)
      }
      entry = info.ai_next
    }
    uv_freeaddrinfo(list)
    finish(found)
  }

  private func finish(_ found: [String]) {
    loop.unregister(resourceID)
    if !isCancelled { completion(found) }
  }
}

private func lookupNamed(
  _ request: UnsafeMutablePointer<uv_getnameinfo_t>?, _ status: Int32,
  _ host: UnsafePointer<CChar>?, _ service: UnsafePointer<CChar>?
) {
  guard let data = request?.pointee.data else { return }
  let name = status == 0 ? host.map { String(cString: $0) } : nil
  Unmanaged<NameLookup>.fromOpaque(data).takeUnretainedValue().didName(name)
}

private func lookupResolved(
  _ request: UnsafeMutablePointer<uv_getaddrinfo_t>?, _ status: Int32,
  _ list: UnsafeMutablePointer<addrinfo>?
) {
  guard let data = request?.pointee.data else { return }
  Unmanaged<NameLookup>.fromOpaque(data).takeUnretainedValue().didResolve(status == 0 ? list : nil)
}
