// Asking a member what it is: one small GET /metrics.

import Actors
import TLS

/// What a member's metrics say about its place in the cluster.
enum MetricsAnswer {
  /// The role in an HTTP response with Prometheus text; nil if it is no such response.
  static func role(inResponse bytes: [UInt8]) -> MemberRole? {
    guard bytes.starts(with: "HTTP/1.1 200".utf8) || bytes.starts(with: "HTTP/1.0 200".utf8),
      let end = bytes.firstRange(of: Array("\r\n\r\n".utf8))
    else { return nil }
    let head = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).lowercased()
    let body = bytes[end.upperBound...]
    let isChunked = head.contains("\r\ntransfer-encoding: chunked")
    return role(inMetrics: isChunked ? dechunked(body) : Array(body))
  }

  /// The role in Prometheus text.
  static func role(inMetrics text: [UInt8]) -> MemberRole? {
    var values: [String: Bool] = [:]
    for line in text.split(separator: UInt8(ascii: "\n")) where line.starts(with: prefix) {
      let words = String(decoding: line, as: UTF8.self).split(separator: " ")
      if words.count == 2 { values[String(words[0])] = Double(words[1]) == 1 }
    }
    guard let leads = values["etcd_server_is_leader"] else { return nil }
    if leads { return .leader }
    if values["etcd_server_has_leader"] == false { return .leaderless }
    return values["etcd_server_is_learner"] == true ? .learner : .follower
  }

  private static let prefix = Array("etcd_server_".utf8)

  /// The content of a chunked body, as far as it is whole.
  private static func dechunked(_ body: ArraySlice<UInt8>) -> [UInt8] {
    var content: [UInt8] = []
    var rest = body
    while let lineEnd = rest.firstIndex(of: UInt8(ascii: "\r")) {
      let digits = rest[..<lineEnd].prefix { $0 != UInt8(ascii: ";") }
      guard let count = Int(String(decoding: digits, as: UTF8.self), radix: 16), count > 0,
        rest.endIndex - lineEnd >= count + 4
      else { break }
      content.append(contentsOf: rest[(lineEnd + 2)..<(lineEnd + 2 + count)])
      rest = rest[(lineEnd + 4 + count)...]
    }
    return content
  }
}

/// One request to one member. Loop thread only.
final class MetricsProbe {
  typealias Completion = (MemberRole?) -> Void

  private static let timeoutMilliseconds = 1000
  private static let responseBytesMax = 8 << 20

  private var completion: Completion?
  private var connection: StreamConnection?
  private var response: [UInt8] = []

  /// Asks a member.
  ///
  /// - Parameter completion: called once on the loop, with nil if no answer came in a second.
  static func ask(_ target: ProbeTarget, loop: EventLoop, completion: @escaping Completion) {
    let probe = MetricsProbe(completion)
    let url = target.url
    let host = url.host == "0.0.0.0" ? "127.0.0.1" : url.host == "::" ? "::1" : url.host
    // The callbacks keep the probe alive; the timer's is the last to let go.
    let timer = LoopTimer(loop: loop) { probe.finish(nil) }
    timer.schedule(afterMilliseconds: timeoutMilliseconds)
    Connector.connect(
      to: .tcp(host: host, port: url.port), timeoutMilliseconds: timeoutMilliseconds, loop: loop,
      security: target.certificates.map { TLSDialer(source: $0, serverName: host) }
    ) { result in
      guard case .success(let connection) = result else {
        timer.cancel()
        return probe.finish(nil)
      }
      probe.send(connection, host: url.address, timer)
    }
  }

  private init(_ completion: @escaping Completion) { self.completion = completion }

  private func send(_ connection: StreamConnection, host: String, _ timer: LoopTimer) {
    guard completion != nil else { return connection.close() }
    self.connection = connection
    connection.startReading(
      onBytes: { bytes in
        self.response.append(contentsOf: bytes)
        if self.response.count > Self.responseBytesMax { self.finish(nil) }
      },
      onEnd: { _ in
        timer.cancel()
        self.finish(MetricsAnswer.role(inResponse: self.response))
      })
    let request = "GET /metrics HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n"
    connection.write(Array(request.utf8))
  }

  private func finish(_ role: MemberRole?) {
    connection?.close()
    connection = nil
    guard let completion else { return }
    self.completion = nil
    completion(role)
  }
}
