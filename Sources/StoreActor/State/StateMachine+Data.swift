import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf

extension StateMachine {
  /// More of them in one range of a transaction that writes are read after it was applied.
  private static var keysReadAtOnceMax: Int { 1000 }

  /// Requests on key-values and leases, in etcd's order of checks: alarms, rights, the request itself.
  /// One that exceeds this member's own quota runs all the same: members must stay equal.
  mutating func applyData(
    _ kind: InternalRequestEnvelope.Kind, _ payload: ArraySlice<UInt8>, _ caller: AuthCaller,
    isOwn: Bool, hasSpace: (Int64) -> Bool, output: inout ApplyOutput
  ) throws -> Bytes {
    if kind == .put {
      return try applyPut(
        try PutOperation(decoding: payload), caller, isOwn: isOwn, hasSpace: hasSpace,
        output: &output)
    }
    var body: Bytes { Bytes(payload) }
    switch kind {
    case .deleteRange:
      counts.deletes += 1
      let request = try Etcdserverpb_DeleteRangeRequest(serializedBytes: body)
      if auth.isEnabled { try auth.checkDelete(caller, request) }
      let result = kv.deleteRange(request, effects: &output.effects)
      bindLeases(output.effects)
      return responseEncoder.encode(result)
    case .txn:
      let request = try payload.withUnsafeBytes { try Etcdserverpb_TxnRequest(decoding: $0) }
      return try spending(Int64(QuotaCost.bytes(request)), hasSpace, &output) { machine, output in
        if machine.auth.isEnabled {
          try machine.auth.checkTxn(
            caller, request, machine.lessor, rules: machine.membership.authRules)
        }
        let (result, deferred) = try machine.kv.txn(
          request, reads: isOwn ? .later(keys: Self.keysReadAtOnceMax) : .skipped,
          leaseExists: { machine.lessor.contains($0) }, effects: &output.effects)
        machine.counts.count(request, result)
        machine.bindLeases(output.effects)
        guard isOwn else { return [] }
        let encoder = machine.responseEncoder
        output.deferred = deferred.map { DeferredReply(txn: $0, encoder: encoder) }
        return deferred == nil ? encoder.encode(result) : []
      }
    case .range:
      // Apus never proposes one; old members may. It has no effect, only an answer.
      let request = try Etcdserverpb_RangeRequest(serializedBytes: body)
      try auth.checkRange(caller, request)
      return responseEncoder.encode(try kv.range(request))
    case .compaction: return try applyCompaction(body, isOwn: isOwn, output: &output)
    case .leaseGrant:
      let request = try Etcdserverpb_LeaseGrantRequest(serializedBytes: body)
      return try spending(Int64(QuotaCost.leaseGrantBytes), hasSpace, &output) { machine, output in
        try machine.applyGrant(request, output: &output)
      }
    case .leaseRevoke:
      counts.revokes += 1
      return try applyRevoke(body, caller, output: &output)
    default: preconditionFailure("\(kind) is no data request")
    }
  }

  private mutating func applyPut(
    _ put: PutOperation, _ caller: AuthCaller, isOwn: Bool, hasSpace: (Int64) -> Bool,
    output: inout ApplyOutput
  ) throws -> Bytes {
    counts.countPut(key: put.key.count, value: put.value.count)
    return try spending(Int64(QuotaCost.bytes(put)), hasSpace, &output) { machine, output in
      if machine.auth.isEnabled {
        try machine.auth.checkPut(
          caller, key: put.key, lease: put.lease, prevKv: put.prevKv, machine.lessor)
      }
      let result = try machine.kv.put(
        put, leaseExists: { machine.lessor.contains($0) }, effects: &output.effects)
      machine.bindLeases(output.effects)
      return isOwn ? machine.responseEncoder.encode(result) : []
    }
  }

  /// Runs what costs space: refused by everybody under an alarm, reported when only this member's
  /// own quota is exceeded.
  private mutating func spending(
    _ cost: Int64, _ hasSpace: (Int64) -> Bool, _ output: inout ApplyOutput,
    _ body: (inout Self, inout ApplyOutput) throws -> Bytes
  ) throws -> Bytes {
    guard cost > 0 else { return try body(&self, &output) }
    guard !alarms.contains(.nospace) else { throw EtcdError.noSpace }
    let fits = hasSpace(cost)
    let response = try body(&self, &output)
    guard fits else {
      output.exceedsQuota = true
      throw EtcdError.noSpace
    }
    return response
  }

  private mutating func bindLeases(_ effects: ApplyEffects) {
    for effect in effects.leases {
      switch effect {
      case .attach(let lease, let key):
        do {
          try lessor.attach(key, to: lease)
        } catch {
          preconditionFailure("the lease was checked to exist: \(error)")
        }
      case .detach(let lease, let key): lessor.detach(key, from: lease)
      }
    }
  }

  private mutating func applyCompaction(
    _ body: Bytes, isOwn: Bool, output: inout ApplyOutput
  ) throws -> Bytes {
    let request = try Etcdserverpb_CompactionRequest(serializedBytes: body)
    let limit = kv.compactRevision
    let waits = request.physical && isOwn
    do throws(KVError) {
      try kv.compact(at: request.revision)
    } catch {
      output.waitsForCompaction = waits && error == .compacted
      throw error
    }
    output.waitsForCompaction = waits
    output.compacted = AcceptedCompaction(
      revision: request.revision,
      completedBefore: kv.finishedCompactRevision == limit ? limit : nil)
    output.writes.append(
      TableWrite(
        bucket: .meta, key: BackendKey.scheduledCompactRevision,
        value: RevisionKey.bytes(Revision(main: request.revision))))
    return try Etcdserverpb_CompactionResponse.with { $0.header = header() }.serializedBytes()
  }

  private mutating func applyGrant(
    _ request: Etcdserverpb_LeaseGrantRequest, output: inout ApplyOutput
  ) throws -> Bytes {
    let record = try lessor.grant(request.id, ttl: request.ttl, now: clock)
    counts.grantedTTLs.append(record.ttl)
    store(.put(record), output: &output)
    return try Etcdserverpb_LeaseGrantResponse.with {
      $0.header = header()
      $0.id = record.id
      $0.ttl = record.ttl
    }.serializedBytes()
  }

  private mutating func applyRevoke(
    _ body: Bytes, _ caller: AuthCaller, output: inout ApplyOutput
  ) throws -> Bytes {
    let request = try Etcdserverpb_LeaseRevokeRequest(serializedBytes: body)
    try auth.checkLease(caller, .write, request.id, lessor)
    let revocation = try lessor.revoke(request.id)
    kv.revokeKeys(revocation.keys, effects: &output.effects)
    store(revocation.effect, output: &output)
    output.revokedLease = request.id
    return try Etcdserverpb_LeaseRevokeResponse.with { $0.header = header() }.serializedBytes()
  }

  mutating func applyCheckpoint(_ body: Bytes, output: inout ApplyOutput) throws -> Bytes {
    let request = try Etcdserverpb_LeaseCheckpointRequest(serializedBytes: body)
    for checkpoint in request.checkpoints {
      if let effect = lessor.checkpoint(checkpoint.id, remainingTTL: checkpoint.remainingTtl) {
        store(effect, output: &output)
        if checkpoint.remainingTtl <= 0 { output.uncheckedLeases.append(checkpoint.id) }
      }
    }
    return try Etcdserverpb_LeaseCheckpointResponse.with { $0.header = header() }.serializedBytes()
  }

  private func store(_ effect: LeaseEffect, output: inout ApplyOutput) {
    switch effect {
    case .put(let record):
      output.writes.append(
        TableWrite(bucket: .lease, key: Self.leaseKey(record.id), value: record.encoded))
    case .delete(let id):
      output.writes.append(TableWrite(bucket: .lease, key: Self.leaseKey(id), value: nil))
    }
  }

  private static func leaseKey(_ id: LeaseID) -> Bytes { UInt64(bitPattern: id).bigEndianBytes }

  mutating func applyAlarm(_ body: Bytes, output: inout ApplyOutput) throws -> Bytes {
    let request = try Etcdserverpb_AlarmRequest(serializedBytes: body)
    let alarm = AlarmSet.Alarm(member: request.memberID, kind: request.alarm)
    var listed: [AlarmSet.Alarm] = []
    switch request.action {
    case .get: listed = alarms.list(request.alarm)
    case .activate where request.alarm != .none:
      listed = [alarm]
      if alarms.raise(alarm) {
        output.alarmsChanged = true
        output.writes.append(TableWrite(bucket: .alarm, key: alarm.encoded, value: []))
      }
    case .deactivate where request.alarm != .none:
      if alarms.clear(alarm) {
        listed = [alarm]
        output.alarmsChanged = true
        output.writes.append(TableWrite(bucket: .alarm, key: alarm.encoded, value: nil))
      }
    default: break
    }
    return try Etcdserverpb_AlarmResponse.with {
      $0.header = header()
      $0.alarms = listed.map { alarm in
        .with {
          $0.memberID = alarm.member
          $0.alarm = alarm.kind
        }
      }
    }.serializedBytes()
  }
}
