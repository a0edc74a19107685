// What DNS knows of services and hosts, asked for before a loop runs.

import CLibUV
import CResolver
import Glibc

/// A host that offers a service, from a DNS record of type SRV.
public struct ServiceRecord: Equatable, Sendable {
  /// Fully qualified, with the dot at its end.
  public var host: String
  public var port: UInt16
  public var priority: UInt16
  public var weight: UInt16

  public init(host: String, port: UInt16, priority: UInt16 = 0, weight: UInt16 = 0) {
    self.host = host
    self.port = port
    self.priority = priority
    self.weight = weight
  }
}

/// Why a name has no answer, in Go's words.
public struct NameError: Error, Equatable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

/// Questions to the system's resolver that block their thread. How long, says `/etc/resolv.conf`:
/// ten seconds for each server unless it says otherwise.
public enum BlockingResolver {
  /// The records of `_service._tcp.domain`, ordered by priority, then as the server gave them.
  public static func services(_ name: String) throws(NameError) -> [ServiceRecord] {
    var state = cresolver_state()
    guard cresolver_init(&state) == 0 else {
      throw NameError("lookup \(name): the resolver cannot be set up")
    }
    defer { cresolver_close(&state) }
    // The largest message there is: answers that do not fit a datagram come over a connection.
    var answer = [UInt8](repeating: 0, count: 1 << 16)
    errno = 0
    let length = cresolver_search(
      &state, name, Int32(ns_t_srv.rawValue), &answer, Int32(answer.count))
    guard length > 0 else {
      let number = errno
      // A server that says no more than that it failed counts as one that is silent, but its message
      // is there.
      let isAnswered = answer[2] & 0x80 != 0
      throw failure(name, state.res_h_errno, isAnswered ? 0 : number, server(of: &state))
    }
    let records = Self.records(in: answer[..<min(Int(length), answer.count)])
    guard !records.isEmpty else {
      throw failure(name, NO_DATA, 0, server(of: &state))
    }
    // Go shuffles equal priorities; a stable order serves as well here and can be told in a log.
    return records.enumerated()
      .sorted { ($0.element.priority, $0.offset) < ($1.element.priority, $1.offset) }
      .map(\.element)
  }

  /// One numeric address of a host, IPv4 if there is one. Addresses are their own.
  public static func address(of host: String) throws(NameError) -> String {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, nil, &hints, &found)
    guard status == 0 else {
      var state = cresolver_state()
      let server = cresolver_init(&state) == 0 ? server(of: &state) : nil
      defer { cresolver_close(&state) }
      let code = status == EAI_AGAIN ? TRY_AGAIN : HOST_NOT_FOUND
      throw failure(host, code, 0, server)
    }
    defer { freeaddrinfo(found) }
    var addresses: [UnsafeMutablePointer<addrinfo>] = []
    var next = found
    while let info = next {
      addresses.append(info)
      next = info.pointee.ai_next
    }
    guard
      let chosen = addresses.first(where: { $0.pointee.ai_family == AF_INET }) ?? addresses.first,
      let text = numeric(chosen.pointee.ai_addr, chosen.pointee.ai_addrlen)
    else { throw NameError("lookup \(host): no such host") }
    return text
  }

  /// The records of type SRV among the answers of a message; none if it is broken.
  static func records(in message: ArraySlice<UInt8>) -> [ServiceRecord] {
    message.withUnsafeBufferPointer { bytes in
      var parsed = ns_msg()
      guard ns_initparse(bytes.baseAddress, Int32(bytes.count), &parsed) == 0 else { return [] }
      var records: [ServiceRecord] = []
      for position in 0..<Int32(parsed._counts.1) {
        var record = ns_rr()
        guard ns_parserr(&parsed, ns_s_an, position, &record) == 0 else { return [] }
        guard UInt32(record.type) == ns_t_srv.rawValue, record.rdlength > 6,
          let data = record.rdata
        else { continue }
        func number(_ offset: Int) -> UInt16 {
          UInt16(data[offset]) << 8 | UInt16(data[offset + 1])
        }
        var host = [CChar](repeating: 0, count: Int(NS_MAXDNAME))
        guard ns_name_uncompress(parsed._msg, parsed._eom, data + 6, &host, host.count) >= 0 else {
          return []
        }
        let name = text(host)
        records.append(
          ServiceRecord(
            host: name.hasSuffix(".") ? name : name + ".", port: number(4), priority: number(0),
            weight: number(2)))
      }
      return records
    }
  }

  private static func failure(
    _ name: String, _ code: Int32, _ number: Int32, _ server: String?
  ) -> NameError {
    let reason: String
    switch code {
    case HOST_NOT_FOUND, NO_DATA: reason = "no such host"
    case TRY_AGAIN where number == ETIMEDOUT: reason = "i/o timeout"
    case TRY_AGAIN where number == ECONNREFUSED: reason = "connection refused"
    default: reason = "server misbehaving"
    }
    return NameError("lookup \(name)\(server.map { " on \($0)" } ?? ""): \(reason)")
  }

  private static func server(of state: inout cresolver_state) -> String? {
    guard let address = cresolver_server(&state) else { return nil }
    let isIPv6 = Int32(address.pointee.sa_family) == AF_INET6
    let size = isIPv6 ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
    guard let text = numeric(address, socklen_t(size)) else { return nil }
    return isIPv6 ? "[\(text)]:53" : "\(text):53"
  }

  private static func numeric(_ address: UnsafePointer<sockaddr>?, _ size: socklen_t) -> String? {
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    guard let address,
      getnameinfo(address, size, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
    else { return nil }
    return Self.text(text)
  }

  private static func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
