import Actors
import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import StoreActor
import SwiftProtobuf

/// What the pages of the peer port hear.
enum PeerServiceInput: Sendable {
  case request(PeerRequest)
  case answer(UInt64, StoreReply.Outcome)
}

/// The actor behind the peer port's pages: what members ask each other beside Raft's messages.
actor PeerServices {
  struct Outlets: Sendable {
    var respond: @Sendable (_ id: UInt64, _ status: Int, _ contentType: String, Bytes) -> Void
    var read: @Sendable (ForwardedRead) -> Void
    var promote: @Sendable (_ id: UInt64, MemberID) -> Void
    var status: @Sendable () -> StoreStatus
  }

  enum Pending { case renewal, timeToLive, hash, promotion, downgrade }

  private nonisolated let executor: any ActorExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  nonisolated let inbox: Inbox<PeerServiceInput>
  let outlets: Outlets
  private var pending: [UInt64: Pending] = [:]

  init(
    inbox: Inbox<PeerServiceInput>, executor: any ActorExecutor, outlets: Outlets
  ) {
    self.inbox = inbox
    self.executor = executor
    self.outlets = outlets
  }

  nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { services in
        for input in batch { services.handle(input) }
      }
    }
  }

  private func handle(_ input: PeerServiceInput) {
    switch input {
    case .request(let request): serve(request)
    case .answer(let id, let outcome): answer(id, outcome)
    }
  }

  private func serve(_ request: PeerRequest) {
    switch (request.path, request.method) {
    case ("/members", "GET"):
      respond(request.id, json: membersPage)
    case ("/version", "GET"):
      respond(request.id, json: VersionPage.body(outlets.status().membership))
    case ("/downgrade/enabled", "GET"):
      pending[request.id] = .downgrade
      outlets.read(
        ForwardedRead(request: request.id, read: .nothing, demand: .linearizability))
    case ("/leases", "POST"): renew(request)
    case ("/leases/internal", "POST"): timeToLive(request)
    case ("/members/hashkv", "GET"): hash(request)
    case ("/members", _), ("/version", _), ("/downgrade/enabled", _), ("/leases", _),
      ("/leases/internal", _), ("/members/hashkv", _):
      respond(request.id, 405, "Method Not Allowed\n")
    case (let path, let method) where path.hasPrefix(Self.promotionPath):
      if method == "POST" {
        promote(request)
      } else {
        respond(request.id, 405, "Method Not Allowed\n")
      }
    default: respond(request.id, 404, "404 page not found\n")
    }
  }

  var membersPage: String {
    let members = outlets.status().membership.members.map {
      String(decoding: $0.encodedJSON(), as: UTF8.self)
    }
    return "[\(members.joined(separator: ","))]\n"
  }

  func expect(_ kind: Pending, for id: UInt64) { pending[id] = kind }

  func respond(_ id: UInt64, _ status: Int, _ text: String) {
    outlets.respond(id, status, "text/plain; charset=utf-8", Bytes(text.utf8))
  }

  func respond(_ id: UInt64, json: String) {
    outlets.respond(id, 200, "application/json", Bytes(json.utf8))
  }

  // MARK: - Leases

  private func renew(_ request: PeerRequest) {
    guard let renewal = try? Etcdserverpb_LeaseKeepAliveRequest(serializedBytes: request.body)
    else {
      return respond(request.id, 400, "error unmarshalling request\n")
    }
    pending[request.id] = .renewal
    outlets.read(
      ForwardedRead(
        request: request.id, read: .leaseKeepAlive(renewal.id), demand: .leadership))
  }

  private func timeToLive(_ request: PeerRequest) {
    guard let asked = try? Etcdserverpb_LeaseInternalRequest(serializedBytes: request.body) else {
      return respond(request.id, 400, "error unmarshalling request\n")
    }
    let lease = asked.leaseTimeToLiveRequest
    pending[request.id] = .timeToLive
    outlets.read(
      ForwardedRead(
        request: request.id, read: .leaseTimeToLive(lease.id, keys: lease.keys),
        demand: .leadership))
  }

  private func hash(_ request: PeerRequest) {
    struct Question: Decodable { var revision: Int64? }
    guard let asked = try? JSONDecoder().decode(Question.self, from: Data(request.body)) else {
      return respond(request.id, 400, "error unmarshalling request\n")
    }
    pending[request.id] = .hash
    outlets.read(
      ForwardedRead(
        request: request.id, read: .hashKV(revision: asked.revision ?? 0), demand: .nothing))
  }

  private func answer(_ id: UInt64, _ outcome: StoreReply.Outcome) {
    guard let kind = pending.removeValue(forKey: id) else { return }
    do {
      switch outcome {
      case .failure(let error) where kind == .promotion: refusePromotion(id, error)
      case .failure(let error) where kind == .downgrade:
        respond(id, 500, "failed linearized read: \(error.message)\n")
      case .failure(let error): refuse(id, error)
      case .message(let message): try answer(id, kind, message)
      }
    } catch {
      respond(id, 500, "\(error)\n")
    }
  }

  private func answer(_ id: UInt64, _ kind: Pending, _ message: Bytes) throws {
    switch kind {
    case .promotion: promoted(id)
    case .downgrade:
      respond(id, 200, "\(outlets.status().membership.downgrade?.isEnabled ?? false)")
    case .renewal:
      var response = try Etcdserverpb_LeaseKeepAliveResponse(serializedBytes: message)
      guard response.ttl > 0 else { return respond(id, 404, "lease not found\n") }
      response.header = .init()
      outlets.respond(id, 200, "application/protobuf", try response.serializedBytes())
    case .timeToLive:
      var inner = try Etcdserverpb_LeaseTimeToLiveResponse(serializedBytes: message)
      guard inner.ttl >= 0 || inner.grantedTtl > 0 else {
        return respond(id, 404, "lease not found\n")
      }
      inner.header = .init()
      let response = Etcdserverpb_LeaseInternalResponse.with {
        $0.leaseTimeToLiveResponse = inner
      }
      outlets.respond(id, 200, "application/protobuf", try response.serializedBytes())
    case .hash:
      let hash = try Etcdserverpb_HashKVResponse(serializedBytes: message)
      respond(
        id,
        json: "{\"header\":{\"cluster_id\":\(hash.header.clusterID),"
          + "\"member_id\":\(hash.header.memberID),\"revision\":\(hash.header.revision),"
          + "\"raft_term\":\(hash.header.raftTerm)},\"hash\":\(hash.hash),"
          + "\"compact_revision\":\(hash.compactRevision),\"hash_revision\":\(hash.hashRevision)}")
    }
  }

  private func refuse(_ id: UInt64, _ error: EtcdError) {
    switch error {
    case .leaseNotFound: respond(id, 404, "lease not found\n")
    case .timeoutWaitingForApply, .timeout:
      respond(id, 408, "waiting for node to catch up its applied index has timed out\n")
    case .compacted: respond(id, 400, "mvcc: required revision has been compacted\n")
    case .futureRevision: respond(id, 400, "mvcc: required revision is a future revision\n")
    default: respond(id, 400, "\(error.message)\n")
    }
  }
}
