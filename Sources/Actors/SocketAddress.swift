// Where streams listen and connect, and how addresses are read and printed.

import CLibUV
import Glibc

/// A place to listen on or connect to.
public enum StreamAddress: Sendable, Hashable, CustomStringConvertible {
  /// An IP address or a host name. To listen: `""`, `*`, `0.0.0.0` and `::` mean all addresses, and
  /// port 0 lets the system choose.
  case tcp(host: String, port: UInt16)
  /// The path of a Unix domain socket, at most 107 bytes.
  case unix(path: String)

  /// `host:port` with brackets around an IPv6 address, or the path.
  public var description: String {
    switch self {
    case .tcp(let host, let port): hostPort(host == "*" ? "" : host, port)
    case .unix(let path): path
    }
  }

  /// Go's name of the network.
  var network: String {
    switch self {
    case .tcp: "tcp"
    case .unix: "unix"
    }
  }
}

public typealias ListenAddress = StreamAddress
public typealias ConnectAddress = StreamAddress

private func hostPort(_ host: String, _ port: UInt16) -> String {
  host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
}

/// A socket address as the system calls take it.
struct SocketAddress {
  private var storage = sockaddr_storage()
  private(set) var length: socklen_t = 0

  var family: Int32 { Int32(storage.ss_family) }

  /// Parses a numeric IPv4 or IPv6 address (with or without a zone); nil for anything else.
  init?(ip: String, port: UInt16) {
    let isIPv6 = ip.utf8.contains(UInt8(ascii: ":"))
    let parsed = withUnsafeMutablePointer(to: &storage) { pointer in
      let raw = UnsafeMutableRawPointer(pointer)
      return isIPv6
        ? uv_ip6_addr(ip, Int32(port), raw.assumingMemoryBound(to: sockaddr_in6.self))
        : uv_ip4_addr(ip, Int32(port), raw.assumingMemoryBound(to: sockaddr_in.self))
    }
    guard parsed == 0 else { return nil }
    length = socklen_t(isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
  }

  /// The address of a Unix socket; nil if the path is empty or too long.
  init?(unixPath: String) {
    var address = sockaddr_un()
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    let bytes = Array(unixPath.utf8)
    guard !bytes.isEmpty, bytes.count < capacity, !bytes.contains(0) else { return nil }
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    withUnsafeMutableBytes(of: &storage) { target in
      withUnsafeBytes(of: &address) { target.copyMemory(from: $0) }
    }
    length = socklen_t(MemoryLayout<sockaddr_un>.size)
  }

  /// Copies an address that the system returned.
  init?(copying address: UnsafePointer<sockaddr>, length: Int, port: UInt16) {
    guard length <= MemoryLayout<sockaddr_storage>.size else { return nil }
    withUnsafeMutableBytes(of: &storage) { target in
      target.copyMemory(from: UnsafeRawBufferPointer(start: address, count: length))
    }
    self.length = socklen_t(length)
    guard family == AF_INET || family == AF_INET6 else { return nil }
    // Both families keep the port in the third and fourth byte.
    withUnsafeMutableBytes(of: &storage) {
      $0.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
    }
  }

  private init() {}

  /// The address of this end of a socket; nil if there is none.
  static func local(of descriptor: Int32) -> SocketAddress? {
    var address = SocketAddress()
    address.length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = address.withMutableSystemAddress { getsockname(descriptor, $0, $1) }
    return status == 0 ? address : nil
  }

  /// The address of the other end of a socket; nil if there is none.
  static func peer(of descriptor: Int32) -> SocketAddress? {
    var address = SocketAddress()
    address.length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = address.withMutableSystemAddress { getpeername(descriptor, $0, $1) }
    return status == 0 ? address : nil
  }

  func withSystemAddress<Result>(
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    withUnsafePointer(to: storage) { pointer in
      body(UnsafeRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), length)
    }
  }

  private mutating func withMutableSystemAddress<Result>(
    _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
  ) -> Result {
    withUnsafeMutablePointer(to: &storage) { pointer in
      body(
        UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self), &length)
    }
  }

  /// The port of an IP address, 0 for other families.
  var port: UInt16 {
    switch family {
    case AF_INET, AF_INET6:
      withUnsafeBytes(of: storage) {
        UInt16(bigEndian: $0.load(fromByteOffset: 2, as: UInt16.self))
      }
    default: 0
    }
  }

  /// `1.2.3.4:80`, `[::1]:80` or a path; an IPv4 address mapped into IPv6 is printed as IPv4.
  var text: String {
    switch family {
    case AF_INET, AF_INET6: hostPort(ipText, port)
    case AF_UNIX: unixPath
    default: ""
    }
  }

  /// The address without its port.
  var host: String { ipText }

  private var ipText: String {
    let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
      let status = withSystemAddress { address, _ in
        let raw = UnsafeRawPointer(address)
        return family == AF_INET6
          ? uv_ip6_name(raw.assumingMemoryBound(to: sockaddr_in6.self), buffer.baseAddress, 64)
          : uv_ip4_name(raw.assumingMemoryBound(to: sockaddr_in.self), buffer.baseAddress, 64)
      }
      guard status == 0, let base = buffer.baseAddress else { return "" }
      return String(cString: base)
    }
    return text.hasPrefix("::ffff:") && text.contains(".") ? String(text.dropFirst(7)) : text
  }

  private var unixPath: String {
    let offset = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2
    let count = Int(length) - offset
    if count <= 0 { return "@" }
    return withUnsafeBytes(of: storage) { bytes in
      let path = bytes[offset..<min(offset + count, bytes.count)]
      return path.first == 0 ? "@" : String(decoding: path.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}
