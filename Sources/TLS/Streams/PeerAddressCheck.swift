import Actors

/// Whether a certificate belongs to the address that its owner connects from, by etcd's rules.
enum PeerAddressCheck {
  /// - Parameters:
  ///   - address: `ip:port` of the other end.
  ///   - completion: called once on the loop, at once where no name has to be looked up: nil if it
  ///     does, or why not.
  static func run(
    _ certificate: TLSCertificate, from address: String, loop: EventLoop,
    completion: @escaping (TLSError?) -> Void
  ) {
    let ip = hostOfAddress(address)
    let names = certificate.dnsNames
    if names.isEmpty && certificate.ipAddresses.isEmpty { return completion(nil) }
    if certificate.ipAddresses.contains(ip) { return completion(nil) }
    if names.isEmpty {
      let valid = certificate.ipAddresses.joined(separator: ", ")
      return completion(TLSError("x509: certificate is valid for \(valid), not \(ip)"))
    }
    NameLookup.names(of: ip, loop: loop) { found in
      if found.contains(where: { name in names.contains { matches(name, $0) } }) {
        return completion(nil)
      }
      findAddress(ip, among: names[...], loop: loop) { isFound in
        let list = names.map { "\"\($0)\"" }.joined(separator: " ")
        completion(
          isFound ? nil : TLSError("tls: \"\(ip)\" does not match any of DNSNames [\(list)]"))
      }
    }
  }

  private static func matches(_ name: String, _ pattern: String) -> Bool {
    let name = (name.hasSuffix(".") ? String(name.dropLast()) : name).lowercased()
    let pattern = pattern.lowercased()
    guard pattern.hasPrefix("*.") else { return name == pattern }
    return name.drop { $0 != "." } == pattern.dropFirst()
  }

  /// Looks the names up, one after the other.
  private static func findAddress(
    _ ip: String, among names: ArraySlice<String>, loop: EventLoop,
    completion: @escaping (Bool) -> Void
  ) {
    guard let name = names.first else { return completion(false) }
    if name.hasPrefix("*.") {
      return findAddress(ip, among: names.dropFirst(), loop: loop, completion: completion)
    }
    NameLookup.addresses(of: name, loop: loop) { found in
      if found.contains(ip) { return completion(true) }
      findAddress(ip, among: names.dropFirst(), loop: loop, completion: completion)
    }
  }
}
