/// The outcome of a call: what the `grpc-status` and `grpc-message` trailers say.
public struct GRPCStatus: Error, Equatable, Sendable, CustomStringConvertible {
  /// The status codes of gRPC with their numbers on the wire.
  public enum Code: Int, Sendable, CaseIterable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case `internal` = 13
    case unavailable = 14
    case dataLoss = 15
    case unauthenticated = 16

    /// The name as Go's `codes` package prints it, for example `DeadlineExceeded`.
    public var name: String { Self.names[rawValue] }

    private static let names = [
      "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
      "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
      "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
    ]
  }

  public var code: Code
  public var message: String

  public init(_ code: Code, _ message: String = "") {
    self.code = code
    self.message = message
  }

  public static let ok = GRPCStatus(.ok)
  public var isOK: Bool { code == .ok }

  public var description: String {
    "rpc error: code = \(code.name) desc = \(message)"
  }
}

extension GRPCStatus {
  /// Encodes a message for the `grpc-message` trailer: printable ASCII except `%` stands for
  /// itself, every other byte becomes `%XX`.
  public static func percentEncode(_ message: String) -> [UInt8] {
    let digits: StaticString = "0123456789ABCDEF"
    var result: [UInt8] = []
    result.reserveCapacity(message.utf8.count)
    for byte in message.utf8 {
      if byte >= 0x20, byte <= 0x7e, byte != UInt8(ascii: "%") {
        result.append(byte)
      } else {
        result.append(UInt8(ascii: "%"))
        result.append(digits.utf8Start[Int(byte >> 4)])
        result.append(digits.utf8Start[Int(byte & 15)])
      }
    }
    return result
  }

  /// Reverses ``percentEncode(_:)``. A broken escape is kept as it stands, as gRPC asks.
  public static func percentDecode(_ bytes: some Collection<UInt8>) -> String {
    let source = Array(bytes)
    var result: [UInt8] = []
    result.reserveCapacity(source.count)
    var index = 0
    while index < source.count {
      if source[index] == UInt8(ascii: "%"), index + 2 < source.count,
        let high = hexDigit(source[index + 1]), let low = hexDigit(source[index + 2])
      {
        result.append(high << 4 | low)
        index += 3
      } else {
        result.append(source[index])
        index += 1
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  private static func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  /// The code a client reports for a response that is not gRPC, by its HTTP status.
  public static func code(forHTTPStatus status: Int) -> Code {
    switch status {
    case 400: .internal
    case 401: .unauthenticated
    case 403: .permissionDenied
    case 404: .unimplemented
    case 429, 502, 503, 504: .unavailable
    default: .unknown
    }
  }

  /// The code a client reports for a stream that the peer reset with an HTTP/2 error code.
  public static func code(forHTTP2Error error: UInt32) -> Code {
    switch error {
    case 0x7: .unavailable  // REFUSED_STREAM
    case 0x8: .cancelled  // CANCEL
    case 0xb: .resourceExhausted  // ENHANCE_YOUR_CALM
    case 0xc: .permissionDenied  // INADEQUATE_SECURITY
    default: .internal
    }
  }
}
