// What a client and a single call may choose.

public import TLS

/// Settings of a client.
public struct EtcdClientOptions: Sendable {
  /// Time limit of a unary call that names none; nil waits for ever.
  public var requestTimeout: Duration? = .seconds(5)
  /// Time limit of one attempt to connect, the HTTP/2 handshake included.
  public var connectTimeout: Duration = .seconds(5)
  /// A quiet connection with open calls is pinged after this; nil for never. Less than 10 s counts
  /// as 10 s, because servers end connections that ping too often.
  public var keepaliveInterval: Duration? = .seconds(10)
  /// A connection that does not answer a ping for so long is given up.
  public var keepaliveTimeout: Duration = .seconds(6)
  /// Members without a leader refuse every call with `etcdserver: no leader`.
  public var requireLeader = false
  public var sendMessageBytesMax = 2 << 20
  public var receiveMessageBytesMax = Int(Int32.max)
  /// Certificates for TLS; nil for plain connections, except to endpoints that ask for TLS: those are
  /// verified with the roots of the system.
  public var tls: TLSContextSource?
  /// For clusters with authentication; nil = nobody.
  public var identity: ClientIdentity?
  public var userAgent = "apus-client"
  /// Responses of a stream that wait for the reader before the server is slowed down.
  public var streamBufferMax = 64

  public init() {}

  /// What TLS settings start from: gRPC servers want to hear of HTTP/2.
  public static var tlsDefaults: TLSSettings {
    var settings = TLSSettings()
    settings.protocols = ["h2"]
    return settings
  }
}

/// Settings of one call.
public struct CallOptions: Sendable {
  public enum Timeout: Sendable, Equatable {
    /// The client's `requestTimeout`.
    case standard
    case never
    case after(Duration)
  }

  public var timeout = Timeout.standard
  /// Call this member only, whether or not it is among the client's endpoints; nil picks any.
  public var endpoint: Endpoint?
  /// As in ``EtcdClientOptions``; either of the two suffices.
  public var requireLeader = false

  public init(
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
