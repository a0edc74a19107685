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
      // Nobody here learns of what these callers wait for as a leader would.
      for waiting in expiring + unchecking {
        replies.append(
          StoreReply(id: waiting.id, outcome: .failure(.notPrimaryLessor)))
      }
      expiring = []
      unchecking = []
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
    outlets.measured(.expired(leases: requests.count))
    // Under root's name: the keys of an expired lease go, whoever may write them.
    let caller =
      machine.auth.isEnabled
      ? AuthCaller(username: "root", revision: machine.auth.revision) : .anonymous
    outlets.proposeAsLeader(role.term, caller, requests)
  }

  /// Puts the remaining time of long leases into the log now and then, so that a change of leader does
  /// not give them all of it again.
  ///
  /// Also asks once more for the checkpoints that keepalives want to be taken back: the first request
  /// may have been dropped.
  func proposeCheckpoints() {
    guard machine.lessor.isPrimary else { return }
    let due = machine.lessor.dueCheckpoints(now: clock())
    let unchecked = Set(unchecking.map(\.lease)).sorted().map {
      LeaseCheckpoint(id: $0, remainingTTL: 0)
    }
    propose(due + unchecked)
  }

  private func propose(_ checkpoints: [LeaseCheckpoint]) {
    guard !checkpoints.isEmpty else { return }
    var request = ProtobufWriter()
    for checkpoint in checkpoints {
      var item = ProtobufWriter()
      item.field(1, signed: checkpoint.id)
      item.field(2, signed: checkpoint.remainingTTL)
      request.field(1, always: item.bytes)
    }
    outlets.proposeAsLeader(role.term, .anonymous, [(.leaseCheckpoint, request.bytes)])
  }

  func keepAlive(_ lease: LeaseID, id: UInt64) throws -> Bytes? {
    var response = Etcdserverpb_LeaseKeepAliveResponse.with {
      $0.header = machine.header()
      $0.id = lease
    }
    switch machine.lessor.renew(lease, now: clock()) {
    case .renewed(let ttl):
      response.ttl = ttl
      machine.counts.renewals += 1
    case .notFound: break
    case .expiredPendingRevoke:
      expiring.append((id, lease))
      return nil
    case .clearCheckpointFirst:
      // A leader that comes after this one would count from the checkpoint, and end the lease early.
      if !unchecking.contains(where: { $0.lease == lease }) {
        propose([LeaseCheckpoint(id: lease, remainingTTL: 0)])
      }
      unchecking.append((id, lease))
      return nil
    case .notPrimary: throw EtcdError.notPrimaryLessor
    }
    return try response.serializedBytes()
  }

  /// Renews the leases whose keepalives waited for this.
  func renewUnchecked(_ leases: [LeaseID]) {
    guard !unchecking.isEmpty else { return }
    let isUnchecked = Set(leases)
    let waiting = unchecking.filter { isUnchecked.contains($0.lease) }
    unchecking.removeAll { isUnchecked.contains($0.lease) }
    for (id, lease) in waiting {
      do {
        guard let message = try keepAlive(lease, id: id) else { continue }
        replies.append(StoreReply(id: id, outcome: .message(message)))
      } catch {
        fail(id, error as? EtcdError ?? .notPrimaryLessor)
      }
    }
  }

  /// The revocation that callers waited for is applied: the lease is gone.
  func answerExpired(_ lease: LeaseID) {
    if !unchecking.isEmpty { renewUnchecked([lease]) }
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
