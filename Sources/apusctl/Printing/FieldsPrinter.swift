// Responses as lines `"Name" : value`.

import EtcdAPI
import FoundationEssentials

struct FieldsPrinter {
  /// Cluster, member and lease ids in hexadecimal.
  var hexIDs = false
  private(set) var text = TextBuffer()

  init(hexIDs: Bool) {
    self.hexIDs = hexIDs
  }

  var bytes: [UInt8] { text.bytes }

  mutating func line(_ line: String) { text.line(line) }

  private mutating func field(_ name: String, _ value: some CustomStringConvertible) {
    text.line("\"\(name)\" : \(value)")
  }

  private mutating func quoted(_ name: String, _ value: some Sequence<UInt8>) {
    field(name, GoText.quote(value))
  }

  private mutating func id(_ name: String, _ value: UInt64) {
    field(name, hexIDs ? Shown.hex(value) : "\(value)")
  }

  private mutating func lease(_ name: String, _ value: Int64) {
    field(name, hexIDs ? Shown.lease(value) : "\(value)")
  }

  mutating func blank() { text.line("") }

  mutating func header(_ header: Etcdserverpb_ResponseHeader) {
    id("ClusterID", header.clusterID)
    id("MemberID", header.memberID)
    if header.revision != 0 { field("Revision", header.revision) }
    field("RaftTerm", header.raftTerm)
  }

  private mutating func keyValue(_ prefix: String, _ keyValue: Mvccpb_KeyValue) {
    quoted(prefix + "Key", keyValue.key)
    field(prefix + "CreateRevision", keyValue.createRevision)
    field(prefix + "ModRevision", keyValue.modRevision)
    field(prefix + "Version", keyValue.version)
    quoted(prefix + "Value", keyValue.value)
    lease(prefix + "Lease", keyValue.lease)
  }

  // MARK: Keys

  mutating func range(_ response: Etcdserverpb_RangeResponse) {
    header(response.header)
    for entry in response.kvs { keyValue("", entry) }
    field("More", response.more)
    field("Count", response.count)
  }

  mutating func put(_ response: Etcdserverpb_PutResponse) {
    header(response.header)
    if response.hasPrevKv { keyValue("Prev", response.prevKv) }
  }

  mutating func deleteRange(_ response: Etcdserverpb_DeleteRangeResponse) {
    header(response.header)
    field("Deleted", response.deleted)
    for entry in response.prevKvs { keyValue("Prev", entry) }
  }

  mutating func txn(_ response: Etcdserverpb_TxnResponse) {
    header(response.header)
    field("Succeeded", response.succeeded)
    for operation in response.responses {
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
    header(response.header)
    for event in response.events {
      field("Type", SimplePrinter.eventName(event.type))
      if event.hasPrevKv { keyValue("Prev", event.prevKv) }
      keyValue("", event.kv)
    }
  }

  // MARK: Leases

  mutating func lease(_ header: Etcdserverpb_ResponseHeader, id: Int64, ttl: Int64) {
    self.header(header)
    lease("ID", id)
    field("TTL", ttl)
  }

  mutating func timeToLive(_ response: Etcdserverpb_LeaseTimeToLiveResponse) {
    lease(response.header, id: response.id, ttl: response.ttl)
    field("GrantedTTL", response.grantedTtl)
    for key in response.keys { quoted("Key", key) }
  }

  mutating func leases(_ response: Etcdserverpb_LeaseLeasesResponse) {
    header(response.header)
    for entry in response.leases { lease("ID", entry.id) }
  }

  // MARK: Cluster

  mutating func members(_ response: Etcdserverpb_MemberListResponse) {
    header(response.header)
    for member in response.members {
      id("ID", member.id)
      quoted("Name", member.name.utf8)
      for url in member.peerUrls { quoted("PeerURL", url.utf8) }
      for url in member.clientUrls { quoted("ClientURL", url.utf8) }
      field("IsLearner", member.isLearner)
      blank()
    }
  }

  mutating func alarms(_ response: Etcdserverpb_AlarmResponse) {
    header(response.header)
    for alarm in response.alarms {
      id("MemberID", alarm.memberID)
      field("AlarmType", SimplePrinter.alarmName(alarm.alarm))
      blank()
    }
  }

  mutating func health(_ row: EndpointHealth) {
    quoted("Endpoint", row.endpoint.utf8)
    field("Health", row.isHealthy)
    field("Took", row.took)
    field("Error", row.error)
    blank()
  }

  mutating func status(_ row: EndpointStatus) {
    let response = row.response
    header(response.header)
    quoted("Version", response.version.utf8)
    quoted("StorageVersion", response.storageVersion.utf8)
    field("DBSize", response.dbSize)
    field("DBSizeInUse", response.dbSizeInUse)
    field("DBSizeQuota", response.dbSizeQuota)
    id("Leader", response.leader)
    field("IsLearner", response.isLearner)
    field("RaftIndex", response.raftIndex)
    field("RaftTerm", response.raftTerm)
    field("RaftAppliedIndex", response.raftAppliedIndex)
    field("Errors", "[" + response.errors.joined(separator: " ") + "]")
    quoted("Endpoint", row.endpoint.utf8)
    quoted("DowngradeTargetVersion", response.downgradeInfo.targetVersion.utf8)
    field("DowngradeEnabled", response.downgradeInfo.enabled)
    blank()
  }

  mutating func hashKV(_ row: EndpointHash) {
    header(row.response.header)
    quoted("Endpoint", row.endpoint.utf8)
    field("Hash", row.response.hash)
    field("HashRevision", row.response.hashRevision)
    blank()
  }
}
