import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import SwiftProtobuf

extension KVStore {
  /// Only the leader's leases count down, from the first entry of its term on.
  func roleChanged(_ state: RaftCore.SoftState) {
    role = state
    if state.role == .leader {
      promotesAtTerm = state.term
      if machine.appliedTerm == state.term { promoteLessor() }
    } else {
      promotesAtTerm = nil
      machine.lessor.demote()
      // Nobody here learns of the revocations that these callers wait for as a leader would.
      for waiting in expiring {
        replies.append(
          StoreReply(id: waiting.id, outcome: .failure(.notPrimaryLessor)))
      }
      expiring = []
    }
  }

  func promoteLessor() {
    promotesAtTerm = nil
    machine.lessor.promote(now: clock(), extend: settings.electionTimeout)
  }

  /// Puts the end of leases whose time is up into the log, under the term that saw them expire: a
  /// leader that was paused and deposed meanwhile cannot end a lease that its successor renewed.
  func proposeRevocations() {
    guard machine.lessor.isPrimary else { return }
    let expired = machine.lessor.expired(now: clock())
    guard !expired.isEmpty else { return }
    let requests = expired.map { id in
      var writer = ProtobufWriter()
      writer.field(1, signed: id)
      return (InternalRequestEnvelope.Kind.leaseRevoke, writer.bytes)
    }
    outlets.proposeAsLeader(role.term, requests)
  }

  func keepAlive(_ lease: LeaseID, id: UInt64) throws -> Bytes? {
    var response = Etcdserverpb_LeaseKeepAliveResponse.with {
      $0.header = machine.header()
      $0.id = lease
    }
    switch machine.lessor.renew(lease, now: clock()) {
    case .renewed(let ttl): response.ttl = ttl
    case .notFound: break
    case .expiredPendingRevoke:
      expiring.append((id, lease))
      return nil
    case .clearCheckpointFirst, .notPrimary: throw EtcdError.notPrimaryLessor
    }
    return try response.serializedBytes()
  }

  /// The revocation that callers waited for is applied: the lease is gone.
  func answerExpired(_ lease: LeaseID) {
    guard !expiring.isEmpty else { return }
    for waiting in expiring where waiting.lease == lease {
      let response = Etcdserverpb_LeaseKeepAliveResponse.with {
        $0.header = machine.header()
        $0.id = lease
      }
      if let message: Bytes = try? response.serializedBytes() {
        replies.append(StoreReply(id: waiting.id, outcome: .message(message)))
      }
    }
    expiring.removeAll { $0.lease == lease }
  }

  func timeToLive(_ lease: LeaseID, withKeys: Bool) throws -> Bytes {
    let remaining = try machine.lessor.timeToLive(lease, now: clock())
    return try Etcdserverpb_LeaseTimeToLiveResponse.with {
      $0.header = machine.header()
      $0.id = lease
      $0.ttl = remaining?.remaining ?? -1
      $0.grantedTtl = remaining?.granted ?? 0
      if withKeys, remaining != nil {
        $0.keys = (machine.lessor.keys(of: lease) ?? []).map { .init($0) }
      }
    }.serializedBytes()
  }
}
