import Base
import EtcdAPI
import Foundation
import HTTP
import SwiftProtobuf
import Testing

@testable import Member

@Suite struct JSONMappingTests {
  private func decoded<Request: Message>(
    _ path: String, _ json: String, as type: Request.Type
  ) throws -> Request {
    let route = try #require(JSONRoute.find(path))
    return try Request(serializedBytes: try route.decode(Bytes(json.utf8)))
  }

  private func encoded(_ path: String, _ message: some Message) throws -> String {
    let route = try #require(JSONRoute.find(path))
    let bytes: Bytes = try message.serializedBytes()
    return String(decoding: try route.encode(bytes), as: UTF8.self)
  }

  private func range(_ json: String) throws -> Etcdserverpb_RangeRequest {
    try decoded("/v3/kv/range", json, as: Etcdserverpb_RangeRequest.self)
  }

  @Test(arguments: [
    #"{"key":"Zm9v","range_end":"AA==","limit":"5","sort_order":"DESCEND","keys_only":true}"#,
    #"{"key":"Zm9v","rangeEnd":"AA==","limit":5,"sortOrder":2,"keysOnly":true}"#,
    #"{ "key" : "Zm9v" , "rangeEnd":"AA","limit":5e0,"sort_order":2,"keys_only":true,"x":[{}]}"#,
  ])
  func formsOfInput(json: String) throws {
    let request = try range(json)
    #expect(request.key == Data("foo".utf8))
    #expect(request.rangeEnd == Data([0]))
    #expect(request.limit == 5)
    #expect(request.sortOrder == .descend)
    #expect(request.keysOnly)
  }

  @Test(arguments: ["-_-_", "+/+/"])
  func bothAlphabets(base64: String) throws {
    #expect(try range(#"{"key":"\#(base64)"}"#).key == Data([0xfb, 0xff, 0xbf]))
  }

  @Test(arguments: [
    #""\/w==""#, #""\u002fw==""#, #""\/w\n==\r\n""#, #""\n\/w==""#, #""/\u0077==""#,
  ])
  func escapesInBytes(text: String) throws {
    #expect(try range(#"{"key":\#(text),"limit":"1"}"#).key == Data([0xff]))
  }

  @Test func escapesInStrings() throws {
    let user = try decoded(
      "/v3/auth/user/add", #"{"name":"a\/b\u00e9\n\"\u0022\\","password":"p\nq"}"#,
      as: Etcdserverpb_AuthUserAddRequest.self)
    #expect(user.name == "a/b\u{e9}\n\"\"\\")
    #expect(user.password == "p\nq")
  }

  @Test func nothingIsTheDefault() throws {
    for json in ["{}", "null", " null", #"{"key":null,"limit":null,"sort_order":null}"#, ""] {
      #expect(try range(json) == Etcdserverpb_RangeRequest())
    }
  }

  @Test(arguments: [
    "[]", "5", #""x""#, "true", #"{"key":5}"#, #"{"key":"!"}"#, #"{"limit":"a"}"#,
    #"{"limit":1.5}"#,
    #"{"limit":9223372036854775808}"#, #"{"keys_only":"true"}"#, #"{"sort_order":true}"#,
  ])
  func refused(json: String) {
    #expect(throws: JSONFailure.self) { try range(json) }
  }

  @Test func unionsAndTheirZeros() throws {
    let txn = try decoded(
      "/v3/kv/txn",
      #"{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"0"}],"#
        + #""success":[{"request_put":{"key":"Zm9v"}},{"requestTxn":{}}]}"#,
      as: Etcdserverpb_TxnRequest.self)
    #expect(txn.compare.first?.targetUnion == .createRevision(0))
    #expect(txn.compare.first?.target == .create)
    #expect(txn.success.first?.requestPut.key == Data("foo".utf8))
    #expect(txn.success.last?.requestTxn == Etcdserverpb_TxnRequest())
  }

  @Test func answersLeaveOutDefaults() throws {
    let answer = Etcdserverpb_RangeResponse.with {
      $0.header.clusterID = .max
      $0.header.revision = 2
      $0.kvs = [
        .with {
          $0.key = Data("foo".utf8)
          $0.createRevision = 2
          $0.lease = -1
        }
      ]
    }
    #expect(
      try encoded("/v3/kv/range", answer)
        == #"{"header":{"cluster_id":"18446744073709551615","revision":"2"},"#
        + #""kvs":[{"key":"Zm9v","create_revision":"2","lease":"-1"}]}"#)
    #expect(try encoded("/v3/kv/txn", Etcdserverpb_TxnResponse()) == "{}")
  }

  @Test func namesAreThoseOfTheProtocol() throws {
    let member = Etcdserverpb_MemberListResponse.with {
      $0.members = [
        .with {
          $0.id = 7
          $0.peerUrls = ["http://a:1"]
          $0.isLearner = true
        }
      ]
    }
    #expect(
      try encoded("/v3/cluster/member/list", member)
        == #"{"members":[{"ID":"7","peerURLs":["http://a:1"],"isLearner":true}]}"#)
    let watch = Etcdserverpb_WatchResponse.with {
      $0.events = [
        .with {
          $0.type = .delete
          $0.kv.modRevision = 3
        }
      ]
      $0.compactRevision = 4
    }
    #expect(
      try encoded("/v3/watch", watch)
        == #"{"compact_revision":"4","events":[{"type":"DELETE","kv":{"mod_revision":"3"}}]}"#)
    #expect(
      try encoded("/v3/maintenance/hashkv", Etcdserverpb_HashKVResponse.with { $0.hash = 5 })
        == #"{"hash":5}"#)
  }

  /// Every method of the API has its path, but for the one that has none and health.
  @Test func everyMethodHasARoute() {
    let reached = Set(JSONRoute.paths.compactMap { JSONRoute.find($0)?.method })
    let without = GatewayMethod.allCases.filter { !reached.contains($0) }
    #expect(without == [.rangeStream, .healthCheck, .healthWatch, .healthList])
    #expect(JSONRoute.paths.count == 51)
  }

  @Test(arguments: [
    (GRPCStatus.Code.invalidArgument, 400), (.failedPrecondition, 400), (.outOfRange, 400),
    (.unauthenticated, 401), (.permissionDenied, 403), (.notFound, 404), (.alreadyExists, 409),
    (.resourceExhausted, 429), (.cancelled, 499), (.unknown, 500), (.dataLoss, 500),
    (.unimplemented, 501), (.unavailable, 503), (.deadlineExceeded, 504),
  ])
  func statuses(code: GRPCStatus.Code, status: Int) {
    let response = JSONStatus.response(GRPCStatus(code, "a \"b\""))
    #expect(response.status == status)
    #expect(
      String(decoding: response.body, as: UTF8.self)
        == #"{"error":"a \"b\"","code":\#(code.rawValue),"message":"a \"b\""}"#)
  }

  @Test func metadata() {
    let fields = ClientGateway.metadata(
      of: HTTP1Headers([
        HTTPField("AUTHORIZATION", "Bearer t"), HTTPField("Grpc-Metadata-HasLeader", "true"),
        HTTPField("Host", "x"), HTTPField("grpc-metadata-", "y"), HTTPField("token", "z"),
      ]))
    #expect(fields.first("authorization") == "Bearer t")
    #expect(fields.first("hasleader") == "true")
    #expect(fields.first("grpcgateway-accept") == "")
    #expect(fields.first("token") == nil)
    #expect(fields.first("host") == nil)
  }
}
