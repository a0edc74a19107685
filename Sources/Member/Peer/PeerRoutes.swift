import Base
import HTTP

/// What to do with a request on the peer port, by its head alone.
enum PeerRoute: Equatable {
  case stream(PeerStreamKind, from: MemberID)
  case message
  case snapshot
  case probing
  /// Not Raft's: for the rest of the member.
  case other
  case refuse(PeerRefusal)
}

/// An error answer in the form of Go's `http.Error`.
struct PeerRefusal: Equatable {
  let status: Int
  let text: String
  var allow: String?

  static func wrongVerb(allow: String) -> PeerRefusal {
    PeerRefusal(status: 405, text: "Method Not Allowed", allow: allow)
  }
  static let incompatibleVersion = PeerRefusal(status: 412, text: incompatibleVersionText)
  static let clusterMismatch = PeerRefusal(status: 412, text: clusterMismatchText)
  static let processing = PeerRefusal(status: 500, text: "error processing raft message")

  /// Peers compare these two texts.
  static let incompatibleVersionText = "incompatible version"
  static let clusterMismatchText = "cluster ID mismatch"

  var headers: [HTTPField] {
    var fields = [
      HTTPField("Content-Type", "text/plain; charset=utf-8"),
      HTTPField("X-Content-Type-Options", "nosniff"),
    ]
    if let allow { fields.append(HTTPField("Allow", allow)) }
    return fields
  }

  var body: Bytes { Bytes(text.utf8) + [UInt8(ascii: "\n")] }
}

/// Who sent a request, as far as it told.
struct PeerSender: Equatable {
  let id: MemberID
  let urls: [String]
}

struct PeerDecision: Equatable {
  let route: PeerRoute
  /// A sender that answers may have to reach although it is not a member yet.
  var remember: PeerSender?
}

/// The checks of etcd's peer handlers, in its order.
struct PeerRouter {
  enum Standing { case member, removed, unknown }

  let id: MemberID
  let clusterID: ClusterID
  let version: PeerVersion

  func decide(
    _ head: HTTP1RequestHead, standing: (MemberID) -> Standing
  ) -> PeerDecision {
    let path = head.path
    switch path {
    case "/raft": return decidePost(head, .message)
    case "/raft/snapshot": return decidePost(head, .snapshot)
    case "/raft/probing": return PeerDecision(route: .probing)
    default: break
    }
    guard path.hasPrefix("/raft/stream/") else { return PeerDecision(route: .other) }
    return decideStream(head, path, standing)
  }

  private func decidePost(_ head: HTTP1RequestHead, _ route: PeerRoute) -> PeerDecision {
    guard head.method == "POST" else {
      return PeerDecision(route: .refuse(.wrongVerb(allow: "POST")))
    }
    if let refusal = incompatibility(head.headers) { return PeerDecision(route: .refuse(refusal)) }
    let sender = head.headers.first("X-Server-From").flatMap(Self.memberID)
    return PeerDecision(route: route, remember: sender.flatMap { Self.sender($0, head.headers) })
  }

  private func decideStream(
    _ head: HTTP1RequestHead, _ path: String, _ standing: (MemberID) -> Standing
  ) -> PeerDecision {
    guard head.method == "GET" else {
      return PeerDecision(route: .refuse(.wrongVerb(allow: "GET")))
    }
    if let refusal = incompatibility(head.headers) { return PeerDecision(route: .refuse(refusal)) }
    func refuse(_ status: Int, _ text: String, remember: PeerSender? = nil) -> PeerDecision {
      PeerDecision(route: .refuse(PeerRefusal(status: status, text: text)), remember: remember)
    }
    guard let kind = PeerStreamKind.allCases.first(where: { path.hasPrefix($0.path) }) else {
      return refuse(404, "invalid path")
    }
    let last = path.dropFirst(kind.path.utf8.count)
    if last.contains("/") { return refuse(404, "invalid path") }
    guard let from = Self.memberID(String(last)) else { return refuse(404, "invalid from") }
    switch standing(from) {
    case .removed: return refuse(410, "removed member")
    case .unknown:
      return refuse(
        404, "error sender not found", remember: Self.sender(from, head.headers))
    case .member: break
    }
    guard head.headers.first("X-Raft-To") == id.hex else {
      return refuse(412, "to field mismatch")
    }
    return PeerDecision(route: .stream(kind, from: from))
  }

  private func incompatibility(_ headers: HTTP1Headers) -> PeerRefusal? {
    guard let server = Self.version(headers.first("X-Server-Version")),
      let minimum = Self.version(headers.first("X-Min-Cluster-Version")),
      !server.isOlderMinor(than: .minimumCluster), !version.isOlderMinor(than: minimum)
    else { return .incompatibleVersion }
    return headers.first("X-Etcd-Cluster-ID") == clusterID.hex ? nil : .clusterMismatch
  }

  private static func version(_ text: String?) -> PeerVersion? {
    guard let text, !text.isEmpty else { return .absent }
    return PeerVersion(text)
  }

  private static func sender(_ id: MemberID, _ headers: HTTP1Headers) -> PeerSender? {
    guard let urls = headers.first("X-PeerURLs"), !urls.isEmpty else { return nil }
    return PeerSender(id: id, urls: urls.split(separator: ",").map(String.init))
  }

  /// Go's `ParseUint(text, 16, 64)`, which takes no sign; nil for 0, which is nobody.
  private static func memberID(_ text: String) -> MemberID? {
    guard text.utf8.first != UInt8(ascii: "+"), let id = MemberID(text, radix: 16), id != 0 else {
      return nil
    }
    return id
  }
}
