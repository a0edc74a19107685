import EtcdAPI
import FoundationEssentials
import Testing

@testable import apusctl

private func header(_ revision: Int64) -> Etcdserverpb_ResponseHeader {
  var header = Etcdserverpb_ResponseHeader()
  header.clusterID = 13_455_796_455_940_752_355
  header.memberID = 443_629_905_751_424_238
  header.revision = revision
  header.raftTerm = 2
  return header
}

private func pair(_ key: String, _ value: String) -> Mvccpb_KeyValue {
  var pair = Mvccpb_KeyValue()
  pair.key = Data(key.utf8)
  pair.value = Data(value.utf8)
  pair.createRevision = 2
  pair.modRevision = 3
  pair.version = 2
  return pair
}

private func simple(_ body: (inout SimplePrinter) -> Void, isHex: Bool = false) -> String {
  var printer = SimplePrinter(isHex: isHex)
  body(&printer)
  return String(decoding: printer.bytes, as: UTF8.self)
}

private func fields(_ body: (inout FieldsPrinter) -> Void, hexIDs: Bool = false) -> String {
  var printer = FieldsPrinter(hexIDs: hexIDs)
  body(&printer)
  return String(decoding: printer.bytes, as: UTF8.self)
}

private let jsonHeader =
  #"{"cluster_id":13455796455940752355,"member_id":443629905751424238,"revision":3,"raft_term":2}"#
private let fieldHeader =
  "\"ClusterID\" : 13455796455940752355\n\"MemberID\" : 443629905751424238\n"
  + "\"Revision\" : 3\n\"RaftTerm\" : 2\n"

@Suite struct KeyPrinterTests {
  private var range: Etcdserverpb_RangeResponse {
    var response = Etcdserverpb_RangeResponse()
    response.header = header(3)
    response.kvs = [pair("foo", "bar2")]
    response.count = 1
    return response
  }

  @Test func ranges() {
    #expect(simple { $0.range(range) } == "foo\nbar2\n")
    #expect(
      simple({ $0.range(range) }, isHex: true) == "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\\x32\n")
    #expect(
      JSONPrinter.range(range) == #"{"header":\#(jsonHeader),"kvs":[{"key":"Zm9v","#
        + #""create_revision":2,"mod_revision":3,"version":2,"value":"YmFyMg=="}],"count":1}"#)
    var none = Etcdserverpb_RangeResponse()
    none.header = header(3)
    #expect(JSONPrinter.range(none) == #"{"header":\#(jsonHeader)}"#)
    #expect(
      fields { $0.range(range) } == fieldHeader
        + "\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 3\n\"Version\" : 2\n"
        + "\"Value\" : \"bar2\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n")
  }

  @Test func valuesOnly() {
    #expect(
      simple {
        $0.valuesOnly = true
        $0.range(range)
      } == "bar2\n")
  }

  @Test func putsAndDeletes() {
    var put = Etcdserverpb_PutResponse()
    put.header = header(3)
    put.prevKv = pair("foo", "z")
    #expect(simple { $0.put(put) } == "OK\nfoo\nz\n")
    #expect(
      fields { $0.put(put) } == fieldHeader
        + "\"PrevKey\" : \"foo\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 3\n"
        + "\"PrevVersion\" : 2\n\"PrevValue\" : \"z\"\n\"PrevLease\" : 0\n")
    var deletion = Etcdserverpb_DeleteRangeResponse()
    deletion.header = header(3)
    #expect(simple { $0.deleteRange(deletion) } == "0\n")
    deletion.deleted = 1
    deletion.prevKvs = [pair("b", "2")]
    #expect(simple { $0.deleteRange(deletion) } == "1\nb\n2\n")
    #expect(
      JSONPrinter.deleteRange(deletion) == #"{"header":\#(jsonHeader),"deleted":1,"prev_kvs":["#
        + #"{"key":"Yg==","create_revision":2,"mod_revision":3,"version":2,"value":"Mg=="}]}"#)
  }

  @Test func transactions() {
    var inner = Etcdserverpb_ResponseHeader()
    inner.revision = 36
    var put = Etcdserverpb_PutResponse()
    put.header = inner
    var deletion = Etcdserverpb_DeleteRangeResponse()
    deletion.header = inner
    var first = Etcdserverpb_ResponseOp()
    first.responsePut = put
    var second = Etcdserverpb_ResponseOp()
    second.responseDeleteRange = deletion
    var response = Etcdserverpb_TxnResponse()
    response.header = header(3)
    response.succeeded = true
    response.responses = [first, second]
    #expect(simple { $0.txn(response) } == "SUCCESS\n\nOK\n\n0\n")
    #expect(
      JSONPrinter.txn(response) == #"{"header":\#(jsonHeader),"succeeded":true,"responses":["#
        + #"{"Response":{"response_put":{"header":{"revision":36}}}},"#
        + #"{"Response":{"response_delete_range":{"header":{"revision":36}}}}]}"#)
    let innerFields = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 36\n\"RaftTerm\" : 0\n"
    #expect(
      fields { $0.txn(response) } == fieldHeader + "\"Succeeded\" : true\n" + innerFields
        + innerFields + "\"Deleted\" : 0\n")
  }

  @Test func watches() {
    var put = Mvccpb_Event()
    put.kv = pair("wk", "3")
    put.prevKv = pair("wk", "2")
    var deletion = Mvccpb_Event()
    deletion.type = .delete
    deletion.kv.key = Data("wk".utf8)
    deletion.kv.modRevision = 52
    var response = Etcdserverpb_WatchResponse()
    response.header = header(3)
    response.events = [put, deletion]
    #expect(simple { $0.watch(response) } == "PUT\nwk\n2\nwk\n3\nDELETE\nwk\n\n")
    #expect(
      JSONPrinter.watch(response).hasSuffix(
        #"{"type":1,"kv":{"key":"d2s=","mod_revision":52}}],"CompactRevision":0,"#
          + #""Canceled":false,"Created":false,"CancelReason":""}"#))
    #expect(fields { $0.watch(response) }.contains("\"Type\" : PUT\n\"PrevKey\" : \"wk\"\n"))
    #expect(
      WatchCommand.variables(put, revision: 9) == [
        "ETCD_WATCH_REVISION=9", "ETCD_WATCH_EVENT_TYPE=\"PUT\"", "ETCD_WATCH_KEY=\"wk\"",
        "ETCD_WATCH_VALUE=\"3\"",
      ])
    var cancelled = Etcdserverpb_WatchResponse()
    cancelled.canceled = true
    cancelled.compactRevision = 13
    #expect(
      JSONPrinter.watch(cancelled) == #"{"Header":{},"Events":null,"CompactRevision":13,"#
        + #""Canceled":true,"Created":false,"CancelReason":""}"#)
  }

  @Test func jsonEscapesAsGoDoes() {
    #expect(
      JSON.string("a<b>&\"\\\n\u{1}\u{2028}é") == #""a\u003cb\u003e\u0026\"\\\n\u0001\u2028é""#)
    #expect(JSON.base64([UInt8]()) == "\"\"")
    #expect(JSON.base64([255]) == "\"/w==\"")
    #expect(JSON.base64([1, 2, 3, 4, 5]) == "\"AQIDBAU=\"")
  }
}

@Suite struct ClusterPrinterTests {
  @Test func leases() {
    var grant = Etcdserverpb_LeaseGrantResponse()
    grant.header = header(3)
    grant.id = 0x3cee_a204_6011_569b
    grant.ttl = 60
    #expect(simple { $0.leaseGrant(grant) } == "lease 3ceea2046011569b granted with TTL(60s)\n")
    #expect(
      JSONPrinter.leaseGrant(grant) == jsonHeader.dropLast()
        + #","ID":\#(grant.id),"TTL":60,"Error":""}"#)
    #expect(
      fields { $0.lease(grant.header, id: grant.id, ttl: 60) } == fieldHeader
        + "\"ID\" : \(grant.id)\n\"TTL\" : 60\n")
    #expect(
      fields({ $0.lease(grant.header, id: 0x123, ttl: 60) }, hexIDs: true).hasSuffix(
        "\"ID\" : 0000000000000123\n\"TTL\" : 60\n"))
    var left = Etcdserverpb_LeaseTimeToLiveResponse()
    left.id = 0x123
    left.ttl = -1
    #expect(
      simple { $0.timeToLive(left, showsKeys: true) }
        == "lease 0000000000000123 already expired\n")
    #expect(
      JSONPrinter.timeToLive(left) == #"{"id":291,"ttl":-1,"granted-ttl":0,"keys":null}"#)
    left.ttl = 59
    left.grantedTtl = 60
    left.keys = [Data("lk".utf8), Data("lk2".utf8)]
    #expect(
      simple { $0.timeToLive(left, showsKeys: true) }
        == "lease 0000000000000123 granted with TTL(60s), remaining(59s), attached keys([lk lk2])\n"
    )
    #expect(
      simple { $0.leases(Etcdserverpb_LeaseLeasesResponse()) } == "found 0 leases\n")
    #expect(JSONPrinter.leases(Etcdserverpb_LeaseLeasesResponse()) == #"{"leases":[]}"#)
  }

  private var member: Etcdserverpb_Member {
    var member = Etcdserverpb_Member()
    member.id = 0x6_2817_0c80_0dbc_ee0 >> 4
    member.name = "default"
    member.peerUrls = ["http://127.0.0.1:32380"]
    member.clientUrls = ["http://127.0.0.1:32379"]
    return member
  }

  @Test func members() {
    var starting = Etcdserverpb_Member()
    starting.id = 0xfa68_e772_8304_756a
    starting.peerUrls = ["http://127.0.0.1:33380"]
    starting.isLearner = true
    #expect(
      simple { $0.rows(Table.members([member, starting])) }
        == "628170c800dbcee, started, default, http://127.0.0.1:32380, http://127.0.0.1:32379, "
        + "false\nfa68e7728304756a, unstarted, , http://127.0.0.1:33380, , true\n")
    #expect(
      JSONPrinter.members(header(0), [member], hexIDs: true)
        == #"{"header":{"cluster_id":"babc9795b64f03e3","member_id":"628170c800dbcee","#
        + #""raft_term":2},"members":[{"ID":"628170c800dbcee","name":"default","peerURLs":"#
        + #"["http://127.0.0.1:32380"],"clientURLs":["http://127.0.0.1:32379"]}]}"#)
    var list = Etcdserverpb_MemberListResponse()
    list.header = header(0)
    list.members = [member]
    // Since 3.6 a revision of zero is not shown.
    #expect(
      fields { $0.members(list) } == fieldHeader.replacing("\"Revision\" : 3\n", with: "")
        + "\"ID\" : \(member.id)\n\"Name\" : \"default\"\n\"PeerURL\" : "
        + "\"http://127.0.0.1:32380\"\n\"ClientURL\" : \"http://127.0.0.1:32379\"\n"
        + "\"IsLearner\" : false\n\n")
    #expect(
      simple { $0.memberChanged(member.id, "updated in", cluster: 0xbabc_9795_b64f_03e3) }
        == "Member  628170c800dbcee updated in cluster babc9795b64f03e3\n")
  }

  @Test func healthInAllForms() {
    let rows = [
      EndpointHealth(endpoint: "127.0.0.1:32379", isHealthy: true, took: "2.886672ms"),
      EndpointHealth(
        endpoint: "127.0.0.1:32999", isHealthy: false, took: "700.610495ms",
        error: "context deadline exceeded"),
    ]
    #expect(
      SimplePrinter.health(rows[0])
        == "127.0.0.1:32379 is healthy: successfully committed proposal: took = 2.886672ms")
    #expect(
      SimplePrinter.health(rows[1])
        == "127.0.0.1:32999 is unhealthy: failed to commit proposal: context deadline exceeded")
    #expect(
      JSONPrinter.health(rows)
        == #"[{"endpoint":"127.0.0.1:32379","health":true,"took":"2.886672ms"},"#
        + #"{"endpoint":"127.0.0.1:32999","health":false,"took":"700.610495ms","#
        + #""error":"context deadline exceeded"}]"#)
    #expect(
      fields { $0.health(rows[0]) }
        == "\"Endpoint\" : \"127.0.0.1:32379\"\n\"Health\" : true\n\"Took\" : 2.886672ms\n"
        + "\"Error\" : \n\n")
    #expect(
      String(decoding: Table.health([rows[0]]).drawn, as: UTF8.self) == """
        ┌─────────────────┬────────┬────────────┬───────┐
        │    ENDPOINT     │ HEALTH │    TOOK    │ ERROR │
        ├─────────────────┼────────┼────────────┼───────┤
        │ 127.0.0.1:32379 │   true │ 2.886672ms │       │
        └─────────────────┴────────┴────────────┴───────┘

        """)
  }

  @Test func statusInAllForms() {
    var response = Etcdserverpb_StatusResponse()
    response.header = header(3)
    response.version = "3.7.1"
    response.storageVersion = "3.7.0"
    response.dbSize = 24_576
    response.dbSizeInUse = 24_576
    response.dbSizeQuota = 2_147_483_648
    response.leader = response.header.memberID
    response.raftTerm = 2
    response.raftIndex = 8
    response.raftAppliedIndex = 8
    response.downgradeInfo = Etcdserverpb_DowngradeInfo()
    let row = EndpointStatus(endpoint: "127.0.0.1:2379", response: response)
    #expect(
      simple { $0.rows(Table.status([row])) }
        == "127.0.0.1:2379, 628170c800dbcee, 3.7.1, 3.7.0, 25 kB, 25 kB, 0%, 2.1 GB, true, false, "
        + "2, 8, 8, , , false\n")
    #expect(
      JSONPrinter.status([row]).hasSuffix(
        #""dbSizeInUse":24576,"storageVersion":"3.7.0","dbSizeQuota":2147483648,"#
          + #""downgradeInfo":{}}}]"#))
    #expect(JSONPrinter.status([]) == "null")
    #expect(
      fields { $0.status(row) }.hasSuffix(
        "\"Errors\" : []\n\"Endpoint\" : \"127.0.0.1:2379\"\n\"DowngradeTargetVersion\" : \"\"\n"
          + "\"DowngradeEnabled\" : false\n\n"))
  }

  @Test func hashes() {
    var response = Etcdserverpb_HashKVResponse()
    response.header = header(3)
    response.hash = 4_294_133_041
    response.compactRevision = -1
    response.hashRevision = 3
    let row = EndpointHash(endpoint: "e:1", response: response)
    #expect(simple { $0.rows(Table.hashKV([row])) } == "e:1, 4294133041, 3\n")
    #expect(
      JSONPrinter.hashKV([row])
        == #"[{"Endpoint":"e:1","HashKV":{"header":\#(jsonHeader),"hash":4294133041,"#
        + #""compact_revision":-1,"hash_revision":3}}]"#)
  }

  @Test func alarms() {
    var alarm = Etcdserverpb_AlarmMember()
    alarm.memberID = 3_982_666_145_420_501_407
    alarm.alarm = .nospace
    var response = Etcdserverpb_AlarmResponse()
    #expect(JSONPrinter.alarms(response) == "{}")
    response.alarms = [alarm]
    #expect(simple { $0.alarms(response) } == "memberID:3982666145420501407 alarm:NOSPACE\n")
    #expect(
      JSONPrinter.alarms(response)
        == #"{"alarms":[{"memberID":3982666145420501407,"alarm":1}]}"#)
  }

  @Test(arguments: [
    (0, "0 B"), (9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (20480, "20 kB"),
    (36864, "37 kB"), (9949, "9.9 kB"), (9999, "10 kB"), (2_147_483_648, "2.1 GB"),
  ])
  func sizes(_ bytes: Int64, _ text: String) { #expect(Shown.size(bytes) == text) }

  @Test func anEmptyDatabaseHasNoUnusedPart() {
    #expect(Shown.unusedPercent(inUse: 0, size: 0) == 0)
    #expect(Shown.unusedPercent(inUse: 16, size: 20) == 20)
  }
}
