// What a client and a single call may choose.

package import TLS

/// Settings of a client.
package struct EtcdClientOptions: Sendable {
  /// Time limit of a unary call that names none; nil waits for ever.
  package var requestTimeout: Duration? = .seconds(5)
  /// Time limit of one attempt to connect, the HTTP/2 handshake included.
  package var connectTimeout: Duration = .seconds(5)
  /// A quiet connection with open calls is pinged after this; nil for never. Less than 10 s counts
  /// as 10 s, because servers end connections that ping too often.
  package var keepaliveInterval: Duration? = .seconds(10)
  /// A connection that does not answer a ping for so long is given up.
  package var keepaliveTimeout: Duration = .seconds(6)
  /// Members without a leader refuse every call with `etcdserver: no leader`.
  package var requireLeader = false
  package var sendMessageBytesMax = 2 << 20
  package var receiveMessageBytesMax = Int(Int32.max)
  /// Certificates for TLS; nil for plain connections, except to endpoints that ask for TLS: those are
  /// verified with the roots of the system.
  package var tls: TLSContextSource?
  /// For clusters with authentication; nil = nobody.
  package var identity: ClientIdentity?
  package var userAgent = "apus-client"
  /// Responses of a stream that wait for the reader before the server is slowed down.
  package var streamBufferMax = 64

  package init() {}

  /// What TLS settings start from: gRPC servers want to hear of HTTP/2.
  package static var tlsDefaults: TLSSettings {
    var settings = TLSSettings()
    settings.protocols = ["h2"]
    return settings
  }
}

/// Settings of one call.
package struct CallOptions: Sendable {
  package enum Timeout: Sendable, Equatable {
    /// The client's `requestTimeout`.
    case standard
    case never
    case after(Duration)
  }

  package var timeout = Timeout.standard
  /// Call this member only, whether or not it is among the client's endpoints; nil picks any.
  package var endpoint: Endpoint?
  /// As in ``EtcdClientOptions``; either of the two suffices.
  package var requireLeader = false

  package init(
    timeout: Timeout = .standard, endpoint: Endpoint? = nil, requireLeader: Bool = false
  ) {
    self.timeout = timeout
    self.endpoint = endpoint
    self.requireLeader = requireLeader
  }
}

extension Duration {
  /// Not negative; saturates.
  var clampedNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let scaled = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    let sum = scaled.partialValue.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
    return scaled.overflow || sum.overflow ? .max : sum.partialValue
  }

  /// Rounded up, so that a timer does not fire before the time is over.
  var clampedMilliseconds: Int {
    let milliseconds = clampedNanoseconds / 1_000_000
    return Int(min(milliseconds, UInt64(Int32.max)) + 1)
  }
}
