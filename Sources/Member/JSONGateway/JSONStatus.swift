import Base
import HTTP
import StoreActor

/// The status of a call in HTTP and JSON, as grpc-gateway tells it.
///
/// The bodies hold what its first version wrote (etcd up to 3.5) and what its second writes (since 3.6),
/// since clients of both are about.
enum JSONStatus {
  /// Of an answer. The second one is the call's own content type.
  static let answerHeaders = [
    HTTPField("Content-Type", "application/json"),
    HTTPField("Grpc-Metadata-Content-Type", "application/grpc"),
  ]

  static func errorHeaders(_ status: GRPCStatus) -> [HTTPField] {
    var headers = [HTTPField("Content-Type", "application/json")]
    if status.code == .unauthenticated {
      headers.append(HTTPField("WWW-Authenticate", status.message))
    }
    return headers
  }

  static func response(_ status: GRPCStatus) -> PageResponse {
    let text = JSONText.string(status.message)
    let body = "{\"error\":\(text),\"code\":\(status.code.rawValue),\"message\":\(text)}"
    return PageResponse(status: http(status.code), headers: errorHeaders(status), body: body)
  }

  /// An error in a stream: its last line.
  static func streamBody(_ status: GRPCStatus) -> Bytes {
    let code = http(status.code)
    return Bytes(
      ("{\"error\":{\"grpc_code\":\(status.code.rawValue),\"http_code\":\(code),"
        + "\"message\":\(JSONText.string(status.message)),"
        + "\"http_status\":\(JSONText.string(reason(code))),"
        + "\"code\":\(status.code.rawValue)}}\n").utf8)
  }

  static func http(_ code: GRPCStatus.Code) -> Int {
    switch code {
    case .ok: 200
    case .cancelled: 499
    case .invalidArgument, .failedPrecondition, .outOfRange: 400
    case .unauthenticated: 401
    case .permissionDenied: 403
    case .notFound: 404
    case .alreadyExists, .aborted: 409
    case .resourceExhausted: 429
    case .unknown, .internal, .dataLoss: 500
    case .unimplemented: 501
    case .unavailable: 503
    case .deadlineExceeded: 504
    }
  }

  /// Go's words for the statuses above.
  private static func reason(_ code: Int) -> String {
    switch code {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 409: "Conflict"
    case 429: "Too Many Requests"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    default: ""
    }
  }
}
