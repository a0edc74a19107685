// Responses as JSON: the member names and orders of etcd's Go structs.

import EtcdAPI
import FoundationEssentials

/// All functions give one JSON value without a line end.
enum JSONPrinter {
  static func header(_ header: Etcdserverpb_ResponseHeader, hexIDs: Bool = false) -> String {
    var object = JSONObject()
    addHeader(header, to: &object, hexIDs: hexIDs)
    return object.closed
  }

  private static func addHeader(
    _ header: Etcdserverpb_ResponseHeader, to object: inout JSONObject, hexIDs: Bool = false
  ) {
    if hexIDs {
      object.string("cluster_id", Shown.hex(header.clusterID))
      object.string("member_id", Shown.hex(header.memberID))
    } else {
      object.nonZero("cluster_id", header.clusterID)
      object.nonZero("member_id", header.memberID)
    }
    object.nonZero("revision", header.revision)
    object.nonZero("raft_term", header.raftTerm)
  }

  static func keyValue(_ keyValue: Mvccpb_KeyValue) -> String {
    var object = JSONObject()
    object.nonZero("key", bytes: keyValue.key)
    object.nonZero("create_revision", keyValue.createRevision)
    object.nonZero("mod_revision", keyValue.modRevision)
    object.nonZero("version", keyValue.version)
    object.nonZero("value", bytes: keyValue.value)
    object.nonZero("lease", keyValue.lease)
    return object.closed
  }

  // MARK: Keys

  static func range(_ response: Etcdserverpb_RangeResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    object.nonZero("kvs", array: response.kvs.map(keyValue))
    object.nonZero("more", response.more)
    object.nonZero("count", response.count)
    return object.closed
  }

  static func put(_ response: Etcdserverpb_PutResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    if response.hasPrevKv { object.raw("prev_kv", keyValue(response.prevKv)) }
    return object.closed
  }

  static func deleteRange(_ response: Etcdserverpb_DeleteRangeResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    object.nonZero("deleted", response.deleted)
    object.nonZero("prev_kvs", array: response.prevKvs.map(keyValue))
    return object.closed
  }

  static func txn(_ response: Etcdserverpb_TxnResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    object.nonZero("succeeded", response.succeeded)
    object.nonZero("responses", array: response.responses.map(operation))
    return object.closed
  }

  private static func operation(_ operation: Etcdserverpb_ResponseOp) -> String {
    var inner = JSONObject()
    switch operation.response {
    case .responseRange(let response): inner.raw("response_range", range(response))
    case .responsePut(let response): inner.raw("response_put", put(response))
    case .responseDeleteRange(let response):
      inner.raw("response_delete_range", deleteRange(response))
    case .responseTxn(let response): inner.raw("response_txn", txn(response))
    case nil: return "{\"Response\":null}"
    }
    return "{\"Response\":\(inner.closed)}"
  }

  static func watch(_ response: Etcdserverpb_WatchResponse) -> String {
    var object = JSONObject()
    object.raw("Header", header(response.header))
    // Go's nil slice, as a cancelled watch has it.
    object.raw(
      "Events",
      response.events.isEmpty && response.canceled
        ? "null" : JSON.array(response.events.map(event)))
    object.number("CompactRevision", response.compactRevision)
    object.bool("Canceled", response.canceled)
    object.bool("Created", response.created)
    object.string("CancelReason", response.cancelReason)
    return object.closed
  }

  private static func event(_ event: Mvccpb_Event) -> String {
    var object = JSONObject()
    object.nonZero("type", event.type.rawValue)
    if event.hasKv { object.raw("kv", keyValue(event.kv)) }
    if event.hasPrevKv { object.raw("prev_kv", keyValue(event.prevKv)) }
    return object.closed
  }

  /// For responses that have nothing but a header.
  static func headerOnly(_ header: Etcdserverpb_ResponseHeader, isPresent: Bool) -> String {
    var object = JSONObject()
    if isPresent { object.raw("header", Self.header(header)) }
    return object.closed
  }

  // MARK: Leases

  static func leaseGrant(_ response: Etcdserverpb_LeaseGrantResponse) -> String {
    var object = JSONObject()
    addHeader(response.header, to: &object)
    object.number("ID", response.id)
    object.number("TTL", response.ttl)
    object.string("Error", response.error)
    return object.closed
  }

  static func keepAlive(_ response: Etcdserverpb_LeaseKeepAliveResponse) -> String {
    var object = JSONObject()
    addHeader(response.header, to: &object)
    object.number("ID", response.id)
    object.number("TTL", response.ttl)
    return object.closed
  }

  static func timeToLive(_ response: Etcdserverpb_LeaseTimeToLiveResponse) -> String {
    var object = JSONObject()
    addHeader(response.header, to: &object)
    object.number("id", response.id)
    object.number("ttl", response.ttl)
    object.number("granted-ttl", response.grantedTtl)
    object.raw(
      "keys", response.keys.isEmpty ? "null" : JSON.array(response.keys.map { JSON.base64($0) }))
    return object.closed
  }

  static func leases(_ response: Etcdserverpb_LeaseLeasesResponse) -> String {
    var object = JSONObject()
    addHeader(response.header, to: &object)
    object.raw("leases", JSON.array(response.leases.map { "{\"id\":\($0.id)}" }))
    return object.closed
  }

  // MARK: Members

  private static func member(_ member: Etcdserverpb_Member, hexIDs: Bool) -> String {
    var object = JSONObject()
    if hexIDs {
      object.string("ID", Shown.hex(member.id))
    } else {
      object.nonZero("ID", member.id)
    }
    object.nonZero("name", member.name)
    object.nonZero("peerURLs", array: member.peerUrls.map(JSON.string))
    object.nonZero("clientURLs", array: member.clientUrls.map(JSON.string))
    object.nonZero("isLearner", member.isLearner)
    return object.closed
  }

  /// - Parameter added: the new member, in the answer to `member add`.
  static func members(
    _ header: Etcdserverpb_ResponseHeader, added: Etcdserverpb_Member? = nil,
    _ members: [Etcdserverpb_Member], hexIDs: Bool
  ) -> String {
    var object = JSONObject()
    object.raw("header", Self.header(header, hexIDs: hexIDs))
    if let added { object.raw("member", member(added, hexIDs: hexIDs)) }
    object.nonZero("members", array: members.map { member($0, hexIDs: hexIDs) })
    return object.closed
  }

  // MARK: Maintenance

  static func alarms(_ response: Etcdserverpb_AlarmResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    object.nonZero(
      "alarms",
      array: response.alarms.map { alarm in
        var object = JSONObject()
        object.nonZero("memberID", alarm.memberID)
        object.nonZero("alarm", alarm.alarm.rawValue)
        return object.closed
      })
    return object.closed
  }

  static func health(_ rows: [EndpointHealth]) -> String {
    JSON.array(
      rows.map { row in
        var object = JSONObject()
        object.string("endpoint", row.endpoint)
        object.bool("health", row.isHealthy)
        object.string("took", row.took)
        object.nonZero("error", row.error)
        return object.closed
      })
  }

  static func status(_ rows: [EndpointStatus]) -> String {
    rows.isEmpty
      ? "null"
      : JSON.array(
        rows.map {
          "{\"Endpoint\":\(JSON.string($0.endpoint)),\"Status\":\(status($0.response))}"
        })
  }

  private static func status(_ response: Etcdserverpb_StatusResponse) -> String {
    var object = JSONObject()
    if response.hasHeader { object.raw("header", header(response.header)) }
    object.nonZero("version", response.version)
    object.nonZero("dbSize", response.dbSize)
    object.nonZero("leader", response.leader)
    object.nonZero("raftIndex", response.raftIndex)
    object.nonZero("raftTerm", response.raftTerm)
    object.nonZero("raftAppliedIndex", response.raftAppliedIndex)
    object.nonZero("errors", array: response.errors.map(JSON.string))
    object.nonZero("dbSizeInUse", response.dbSizeInUse)
    object.nonZero("isLearner", response.isLearner)
    object.nonZero("storageVersion", response.storageVersion)
    object.nonZero("dbSizeQuota", response.dbSizeQuota)
    if response.hasDowngradeInfo {
      var info = JSONObject()
      info.nonZero("enabled", response.downgradeInfo.enabled)
      info.nonZero("targetVersion", response.downgradeInfo.targetVersion)
      object.raw("downgradeInfo", info.closed)
    }
    return object.closed
  }

  static func hashKV(_ rows: [EndpointHash]) -> String {
    rows.isEmpty
      ? "null"
      : JSON.array(
        rows.map { row in
          var object = JSONObject()
          if row.response.hasHeader { object.raw("header", header(row.response.header)) }
          object.nonZero("hash", row.response.hash)
          object.nonZero("compact_revision", row.response.compactRevision)
          object.nonZero("hash_revision", row.response.hashRevision)
          return "{\"Endpoint\":\(JSON.string(row.endpoint)),\"HashKV\":\(object.closed)}"
        })
  }
}
