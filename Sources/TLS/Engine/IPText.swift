import Glibc

/// The text of an IPv4 or IPv6 address; empty if the bytes are none.
func ipText(_ bytes: UnsafeBufferPointer<UInt8>) -> String {
  let family = bytes.count == 4 ? AF_INET : AF_INET6
  guard bytes.count == 4 || bytes.count == 16, let base = bytes.baseAddress else { return "" }
  return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { text in
    guard let start = text.baseAddress,
      inet_ntop(family, base, start, socklen_t(text.count)) != nil
    else { return "" }
    return String(cString: start)
  }
}

/// The host of `host:port` or `[v6]:port`; the text itself if it has no port.
public func hostOfAddress(_ address: String) -> String {
  guard let colon = address.lastIndex(of: ":") else { return address }
  let host = address[..<colon]
  return String(host.hasPrefix("[") ? host.dropFirst().dropLast() : host)
}
