// Responses in the default form.

import EtcdAPI
import FoundationEssentials

struct SimplePrinter {
  /// Keys and values as `\x..` escapes.
  var isHex = false
  /// No key lines.
  var valuesOnly = false
  private(set) var text = TextBuffer()

  init(isHex: Bool, valuesOnly: Bool = false) {
    self.isHex = isHex
    self.valuesOnly = valuesOnly
  }

  var bytes: [UInt8] { text.bytes }

  mutating func line(_ bytes: [UInt8]) { text.line(bytes) }

  private mutating func data(_ data: Data) {
    if isHex { text.line(Shown.escaped(data)) } else { text.line(data) }
  }

  private mutating func keyValue(_ keyValue: Mvccpb_KeyValue) {
    if !valuesOnly { data(keyValue.key) }
    data(keyValue.value)
  }

  static func eventName(_ type: Mvccpb_Event.EventType) -> String {
    switch type {
    case .put: "PUT"
    case .delete: "DELETE"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }

  static func alarmName(_ type: Etcdserverpb_AlarmType) -> String {
    switch type {
    case .none: "NONE"
    case .nospace: "NOSPACE"
    case .corrupt: "CORRUPT"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }

  // MARK: Keys

  mutating func range(_ response: Etcdserverpb_RangeResponse) {
    for entry in response.kvs { keyValue(entry) }
  }

  mutating func put(_ response: Etcdserverpb_PutResponse) {
    text.line("OK")
    if response.hasPrevKv { keyValue(response.prevKv) }
  }

  mutating func deleteRange(_ response: Etcdserverpb_DeleteRangeResponse) {
    text.line("\(response.deleted)")
    for entry in response.prevKvs { keyValue(entry) }
  }

  mutating func txn(_ response: Etcdserverpb_TxnResponse) {
    text.line(response.succeeded ? "SUCCESS" : "FAILURE")
    for operation in response.responses {
      text.line("")
      switch operation.response {
      case .responseRange(let response): range(response)
      case .responsePut(let response): put(response)
      case .responseDeleteRange(let response): deleteRange(response)
      case .responseTxn(let response): txn(response)
      case nil: break
      }
    }
  }

  mutating func watch(_ response: Etcdserverpb_WatchResponse) {
    for event in response.events {
      text.line(Self.eventName(event.type))
      if event.hasPrevKv { keyValue(event.prevKv) }
      keyValue(event.kv)
    }
  }

  // MARK: Leases

  mutating func leaseGrant(_ response: Etcdserverpb_LeaseGrantResponse) {
    text.line("lease \(Shown.lease(response.id)) granted with TTL(\(response.ttl)s)")
  }

  mutating func leaseRevoke(id: Int64) { text.line("lease \(Shown.lease(id)) revoked") }

  mutating func keepAlive(_ response: Etcdserverpb_LeaseKeepAliveResponse) {
    text.line("lease \(Shown.lease(response.id)) keepalived with TTL(\(response.ttl))")
  }

  mutating func timeToLive(_ response: Etcdserverpb_LeaseTimeToLiveResponse, showsKeys: Bool) {
    let lease = "lease \(Shown.lease(response.id))"
    if response.grantedTtl == 0, response.ttl == -1 {
      return text.line(lease + " already expired")
    }
    let shown = "\(lease) granted with TTL(\(response.grantedTtl)s), remaining(\(response.ttl)s)"
    guard showsKeys else { return text.line(shown) }
    let keys = Array(response.keys.map { Array($0) }.joined(separator: [32]))
    text.line(Array("\(shown), attached keys([".utf8) + keys + Array("])".utf8))
  }

  mutating func leases(_ response: Etcdserverpb_LeaseLeasesResponse) {
    text.line("found \(response.leases.count) leases")
    for entry in response.leases { text.line(Shown.lease(entry.id)) }
  }

  // MARK: Cluster

  mutating func alarms(_ response: Etcdserverpb_AlarmResponse) {
    for alarm in response.alarms {
      var parts: [String] = []
      if alarm.memberID != 0 { parts.append("memberID:\(alarm.memberID)") }
      if alarm.alarm != .none { parts.append("alarm:\(Self.alarmName(alarm.alarm))") }
      text.line(parts.joined(separator: " "))
    }
  }

  /// Rows of cells, one row a line.
  mutating func rows(_ table: Table) {
    for row in table.rows { text.line(row.joined(separator: ", ")) }
  }

  static func health(_ row: EndpointHealth) -> String {
    row.error.isEmpty
      ? "\(row.endpoint) is healthy: successfully committed proposal: took = \(row.took)"
      : "\(row.endpoint) is unhealthy: failed to commit proposal: \(row.error)"
  }

  mutating func memberAdded(
    _ response: Etcdserverpb_MemberAddResponse, name: String, isLearner: Bool
  ) {
    let added = response.member.id
    text.line(
      "Member \(Shown.paddedMember(added)) added \(isLearner ? "as learner " : "")to cluster "
        + Shown.paddedMember(response.header.clusterID))
    text.line("")
    let cluster = response.members.flatMap { member in
      member.peerUrls.map { "\(member.id == added ? name : member.name)=\($0)" }
    }
    text.line("ETCD_NAME=\(GoText.quote(name))")
    text.line("ETCD_INITIAL_CLUSTER=\(GoText.quote(cluster.joined(separator: ",")))")
    let urls = response.member.peerUrls.joined(separator: ",")
    text.line("ETCD_INITIAL_ADVERTISE_PEER_URLS=\(GoText.quote(urls))")
    text.line("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
  }

  /// - Parameter change: `removed from`, `updated in`, `promoted in`.
  mutating func memberChanged(_ id: UInt64, _ change: String, cluster: UInt64) {
    text.line(
      "Member \(Shown.paddedMember(id)) \(change) cluster \(Shown.paddedMember(cluster))")
  }
}
