import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor

// What is told of calls that took long.

extension ClientGateway {
  /// Longer requests are not kept until they are answered.
  private static let rememberedBytesMax = 1024
  /// A client's snapshot that takes longer than this is worth a line. Nanoseconds.
  private static let slowSnapshot: UInt64 = 30_000_000_000

  /// Keeps a request that was decoded for the case that it turns out to be slow. Costs a reference.
  func remember(_ message: Bytes, of handle: CallHandle) {
    guard message.count <= Self.rememberedBytesMax else { return }
    (handle.call.userData as? CallBox)?.request = message
  }

  /// The same of a request that has become an entry, which the log holds anyway.
  func remember(entry: Bytes, of handle: CallHandle) {
    guard entry.count <= Self.rememberedBytesMax else { return }
    guard let box = handle.call.userData as? CallBox else { return }
    box.request = entry
    box.requestIsEntry = true
  }

  /// etcd's two lines about slow requests.
  func noteSlow(
    _ handle: CallHandle, took: UInt64, request box: CallBox?, responseBytes: Int, failure: String?
  ) {
    let isSlowRange =
      (handle.method == .range || handle.method == .rangeStream) && took > settings.slowApply
    guard isSlowRange || took > settings.slowRequest else { return }
    let duration = Duration.nanoseconds(Int64(took))
    let content = box?.request.flatMap { message in
      box?.requestIsEntry == true
        ? RequestText.request(inEntry: message)
        : handle.method.requestKind.map { RequestText.request($0, message) }
    }
    if isSlowRange {
      log.warn(
        "apply request took too long", ("took", duration),
        ("expected-duration", Duration.nanoseconds(Int64(settings.slowApply))),
        ("prefix", "read-only range "), ("request", content ?? ""),
        ("response", "size:\(responseBytes)"), ("error", failure))
    }
    guard took > settings.slowRequest else { return }
    log.warn(
      "request stats", ("start time", startTime(took)), ("time spent", duration),
      ("remote", handle.connection.stream.peerAddress), ("response type", handle.call.path),
      ("request count", box?.hasRequest == true ? 1 : 0), ("request size", box?.requestBytes ?? 0),
      ("response count", failure == nil ? 1 : 0), ("response size", responseBytes),
      ("request content", content ?? ""), ("error", failure))
  }

  private func startTime(_ took: UInt64) -> String {
    var time = LogTime.now()
    let nanoseconds = time.seconds * 1_000_000_000 + Int64(time.nanoseconds) - Int64(took)
    time.seconds = nanoseconds / 1_000_000_000
    time.nanoseconds = Int32(nanoseconds % 1_000_000_000)
    var encoder = LogLineEncoder(format: .console)
    encoder.timestamp(time)
    return String(decoding: encoder.bytes, as: UTF8.self)
  }

  func snapshotEnded(_ handle: CallHandle) {
    let took = executor.now - handle.startedAt
    metrics.disk.backendSnapshot.observe(Double(took) / 1e9)
    guard took >= Self.slowSnapshot else { return }
    log.warn(
      "snapshotting taking too long to transfer", ("taking", Duration.nanoseconds(Int64(took))),
      ("remote", handle.connection.stream.peerAddress))
  }
}

/// The histograms of request times, found without a lookup: of every method that goes through Raft or
/// reads.
struct RequestTimes {
  private let histograms: [Histogram?]

  init(_ metrics: ServerMetrics) {
    histograms = GatewayMethod.allCases.flatMap { method -> [Histogram?] in
      guard let name = method.requestName else { return [nil, nil] }
      return ["false", "true"].map { metrics.requestDuration.series(name, $0) }
    }
  }

  func observe(_ method: GatewayMethod, succeeded: Bool, nanoseconds: UInt64) {
    histograms[2 * method.rawValue + (succeeded ? 1 : 0)]?.observe(Double(nanoseconds) / 1e9)
  }
}

extension GatewayMethod {
  /// The label `type` of the request times; nil for calls that are not of this kind.
  fileprivate var requestName: String? {
    switch self {
    case .range: "Range"
    case .put: "Put"
    case .deleteRange: "DeleteRange"
    case .txn: "Txn"
    case .compact: "Compaction"
    case .leaseGrant: "LeaseGrant"
    case .leaseRevoke: "LeaseRevoke"
    default: nil
    }
  }

  /// How the message of a call is to be read for the log. Nothing is told of users and roles.
  fileprivate var requestKind: InternalRequestEnvelope.Kind? {
    switch self {
    case .range, .rangeStream: .range
    case .put: .put
    case .txn: .txn
    default: nil
    }
  }

  /// The label `API` of failed streams.
  var streamName: String? {
    switch self {
    case .watch: "watch"
    case .leaseKeepAlive: "lease-keepalive"
    default: nil
    }
  }
}
