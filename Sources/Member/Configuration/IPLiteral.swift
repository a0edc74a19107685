#if canImport(Glibc)
  import Glibc
#endif

/// Whether a host is an address, without asking a resolver.
enum IPLiteral {
  static func isValid(_ host: String) -> Bool {
    var v4 = in_addr()
    var v6 = in6_addr()
    // A zone (`fe80::1%eth0`) is part of the text but not of the address.
    let address = host.prefix { $0 != "%" }
    return inet_pton(AF_INET, host, &v4) == 1
      || inet_pton(AF_INET6, String(address), &v6) == 1
  }
}
