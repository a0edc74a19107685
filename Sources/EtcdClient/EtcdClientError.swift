// The one error type of the client.

public import EtcdAPI
import HTTP

/// A call that did not succeed: a gRPC status, from the server or made here.
public struct EtcdClientError: Error, Sendable, Equatable, CustomStringConvertible {
  public let code: StatusCode
  public let message: String
  /// Why no connection could be used, where that is what the call waited for.
  public let connectionError: String?

  public init(_ code: StatusCode, _ message: String, connectionError: String? = nil) {
    self.code = code
    self.message = message
    self.connectionError = connectionError
  }

  init(_ error: EtcdError) {
    self.init(error.code, error.message)
  }

  init(_ status: GRPCStatus) {
    self.init(StatusCode(rawValue: status.code.rawValue) ?? .unknown, status.message)
  }

  static func deadlineExceeded(_ connectionError: String? = nil) -> EtcdClientError {
    EtcdClientError(
      .deadlineExceeded, "context deadline exceeded", connectionError: connectionError)
  }

  static let cancelled = EtcdClientError(.cancelled, "context canceled")
  static let closed = EtcdClientError(.cancelled, "the client is closed")
  static let noEndpoints = EtcdClientError(
    .invalidArgument, "etcdclient: no available endpoints")

  /// Whether this is `error`, told by its text as etcd's own clients do.
  public func matches(_ error: EtcdError) -> Bool { message == error.message }

  /// As etcd's command line prints it: its own errors by their text alone, the end of the time
  /// limit as Go words it, anything else with the gRPC code.
  public var description: String {
    switch code {
    case .deadlineExceeded: return "context deadline exceeded"
    case .cancelled where message == Self.cancelled.message: return message
    default: break
    }
    if message.hasPrefix("etcdserver: ") || message.hasPrefix("etcdclient: ") { return message }
    return statusDescription
  }

  /// The full gRPC form, `rpc error: code = X desc = Y`.
  public var statusDescription: String {
    let code = GRPCStatus.Code(rawValue: code.rawValue) ?? .unknown
    return GRPCStatus(code, message).description
  }
}
