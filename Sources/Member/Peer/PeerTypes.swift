public import Actors
public import Base
public import HTTP
public import RaftActor
public import TLS

/// What the rest of the member asks of its ``PeerTransport``.
public enum PeerCommand: Sendable {
  /// Raft messages for any members. Those to one member keep their order on each of its streams.
  /// A snapshot needs its file announced before it.
  case send([Message])
  /// The store file that goes with the next snapshot message to that member; it takes the place of
  /// one that no message has claimed. The transport removes the file when it has been sent, could
  /// not be, or is replaced.
  case snapshotFile(to: MemberID, path: String)
  /// The whole membership as it is now (the own id may be in it), and every id ever removed.
  case members([PeerMember], removed: [MemberID])
  /// A small request to a member's peer port; the answer comes by ``PeerOutlets/response``.
  case post(
    id: UInt64, to: MemberID, path: String, body: Bytes, contentType: String,
    headers: [HTTPField] = [])
  /// The same to any base URL, for example `http://10.0.0.7:2380`. A body is sent if there is one.
  case get(id: UInt64, url: String, path: String, body: Bytes = [], headers: [HTTPField] = [])
  /// Closes everything. Later commands are ignored.
  case stop
}

/// A member of the cluster and where it listens for its peers.
public struct PeerMember: Sendable, Equatable {
  public var id: MemberID
  /// Base URLs such as `http://10.0.0.7:2380`, tried in turn.
  public var urls: [String]

  public init(id: MemberID, urls: [String]) {
    self.id = id
    self.urls = urls
  }
}

/// A request on the peer port that is not Raft's, to be answered with
/// ``PeerTransport/respond(id:status:headers:body:)``.
public struct PeerRequest: Sendable {
  public let id: UInt64
  public let method: String
  /// The target up to the query, still percent-encoded.
  public let path: String
  public let query: String
  public let headers: HTTP1Headers
  public let body: Bytes
  /// `host:port` of the client.
  public let remote: String
}

/// The answer to a request to another member's peer port.
public struct PeerResponse: Sendable, Equatable {
  public let status: Int
  public let headers: HTTP1Headers
  public let body: Bytes
}

/// Why a request to another member has no answer.
public enum PeerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The member is not known here.
  case unknownMember(MemberID)
  case badURL(String)
  /// With Go's words, for example `dial tcp 127.0.0.1:1: connect: connection refused`.
  case connection(String)
  case timeout
  /// Too many requests wait for this member already.
  case overloaded
  case badResponse(String)
  case stopped

  public var description: String {
    switch self {
    case .unknownMember(let id): "member \(id.hex) not found"
    case .badURL(let url): "invalid peer URL \(url)"
    case .connection(let text): text
    case .timeout: "request timed out"
    case .overloaded: "too many requests to this peer"
    case .badResponse(let text): "bad response: \(text)"
    case .stopped: "peer transport stopped"
    }
  }
}

public enum PeerLogLevel: Sendable, Equatable { case debug, info, warn, error }

/// Counters of the transport. Called on the loop; each may do as little as it likes.
public struct PeerMetrics: Sendable {
  /// Raft bytes to and from a member, framing included.
  public var sentBytes: @Sendable (MemberID, Int) -> Void = { _, _ in }
  public var receivedBytes: @Sendable (MemberID, Int) -> Void = { _, _ in }
  /// Messages dropped instead of sent, and messages refused on receipt.
  public var sendFailed: @Sendable (MemberID) -> Void = { _ in }
  public var receiveFailed: @Sendable (MemberID) -> Void = { _ in }
  /// Seconds of one probe.
  public var roundTrip: @Sendable (MemberID, Double) -> Void = { _, _ in }
  /// A snapshot transfer has begun.
  public var snapshotSendBegan: @Sendable (MemberID) -> Void = { _ in }
  public var snapshotReceiveBegan: @Sendable (MemberID) -> Void = { _ in }
  /// It has ended: whether it succeeded, and its seconds.
  public var snapshotSendEnded: @Sendable (MemberID, Bool, Double) -> Void = { _, _, _ in }
  public var snapshotReceiveEnded: @Sendable (MemberID, Bool, Double) -> Void = { _, _, _ in }

  /// Seconds of the sync of a received snapshot's file. Called on the file's thread.
  public var snapshotSynced: @Sendable (Double) -> Void = { _ in }

  public init() {}
}

/// Where a transport's news go. All are called on the loop and must not block.
public struct PeerOutlets: Sendable {
  /// Messages for this member's Raft: at most one call per loop turn, link heartbeats left out.
  public var received: @Sendable ([Message]) -> Void
  /// Something for that member was lost. Said once, and again only after it was heard from.
  public var unreachable: @Sendable (MemberID) -> Void
  /// How sending a snapshot has ended: exactly one call per snapshot message.
  public var snapshotSent: @Sendable (MemberID, Bool) -> Void
  /// A snapshot message whose file is durable under the given path.
  public var snapshotReceived: @Sendable (Message, _ path: String) -> Void
  public var request: @Sendable (PeerRequest) -> Void
  /// The end of a ``PeerCommand/post(id:to:path:body:contentType:headers:)`` or get: exactly one
  /// call for each.
  public var response: @Sendable (_ id: UInt64, _ result: Result<PeerResponse, PeerError>) -> Void
  public var linkChanged: @Sendable (MemberID, _ active: Bool) -> Void
  /// A peer says that this member was removed from the cluster.
  public var removedFromCluster: @Sendable () -> Void
  /// Fields in order.
  public var log: @Sendable (PeerLogLevel, String, [(String, String)]) -> Void
  public var metrics: PeerMetrics

  public init(
    received: @escaping @Sendable ([Message]) -> Void,
    unreachable: @escaping @Sendable (MemberID) -> Void = { _ in },
    snapshotSent: @escaping @Sendable (MemberID, Bool) -> Void = { _, _ in },
    snapshotReceived: @escaping @Sendable (Message, String) -> Void = { _, _ in },
    request: @escaping @Sendable (PeerRequest) -> Void,
    response: @escaping @Sendable (UInt64, Result<PeerResponse, PeerError>) -> Void = { _, _ in },
    linkChanged: @escaping @Sendable (MemberID, Bool) -> Void = { _, _ in },
    removedFromCluster: @escaping @Sendable () -> Void = {},
    log: @escaping @Sendable (PeerLogLevel, String, [(String, String)]) -> Void = { _, _, _ in },
    metrics: PeerMetrics = PeerMetrics()
  ) {
    self.received = received
    self.unreachable = unreachable
    self.snapshotSent = snapshotSent
    self.snapshotReceived = snapshotReceived
    self.request = request
    self.response = response
    self.linkChanged = linkChanged
    self.removedFromCluster = removedFromCluster
    self.log = log
    self.metrics = metrics
  }
}

/// Who this member is and what it allows its peers.
public struct PeerConfiguration: Sendable {
  public var id: MemberID
  public var clusterID: ClusterID
  /// The peer URLs that this member tells others.
  public var advertisedURLs: [String]
  public var listen: [ListenAddress]
  /// The same addresses with what connections go through; nil for plain ones. Called on the loop.
  public var secureListeners: (@Sendable () -> [SecuredAddress])?
  /// The certificate and the roots for `https` URLs of other members.
  public var dialing: TLSContextSource
  /// An existing folder; received store files are put there.
  public var snapshotDirectory: String
  /// Strict `X.Y.Z`: etcd breaks off when it meets anything else.
  public var serverVersion = "3.7.1"
  public var electionTimeoutMilliseconds = 1000
  /// Largest body of a request that goes to ``PeerOutlets/request``.
  public var requestBodyBytesMax = 64 << 10
  /// Largest body of `POST /raft`: one message.
  public var messageBytesMax = 128 << 20
  /// Bytes of one outgoing stream that may wait for the socket; more is dropped.
  public var streamQueueBytesMax = 64 << 20
  /// Connections accepted at the same time.
  public var connectionsMax = 1024
  /// Silence after which a stream is given up; etcd's own limit.
  public var streamTimeoutMilliseconds = 5000

  public init(
    id: MemberID, clusterID: ClusterID, advertisedURLs: [String], listen: [ListenAddress],
    dialing: TLSContextSource = TLSContextSource(.client, TLSSettings()), snapshotDirectory: String
  ) {
    self.id = id
    self.clusterID = clusterID
    self.advertisedURLs = advertisedURLs
    self.listen = listen
    self.dialing = dialing
    self.snapshotDirectory = snapshotDirectory
  }

  var dialTimeoutMilliseconds: Int { 1000 + electionTimeoutMilliseconds }
  /// etcd's ReqTimeout.
  var requestTimeoutMilliseconds: Int { 5000 + 2 * electionTimeoutMilliseconds }
}

/// The two streams that a member opens to each other one and reads from.
enum PeerStreamKind: Sendable, CaseIterable {
  case message, msgapp

  var path: String {
    switch self {
    case .message: "/raft/stream/message/"
    case .msgapp: "/raft/stream/msgapp/"
    }
  }

  /// etcd's name in logs.
  var name: String {
    switch self {
    case .message: "stream Message"
    case .msgapp: "stream MsgApp v2"
    }
  }
}
