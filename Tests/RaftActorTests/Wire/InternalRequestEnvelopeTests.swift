import Base
import Testing

@testable import RaftActor

@Suite struct InternalRequestEnvelopeTests {
  private let put = hex("0a026b31 12027631")
  private let id: UInt64 = 0xa9d1_d182_b950_4083

  private func envelope(_ data: Bytes) throws -> InternalRequestEnvelope? {
    guard case .request(let envelope) = try EntryPayload(data) else { return nil }
    return envelope
  }

  @Test func aPutAsEtcdWritesIt() throws {
    let data = hex("22 08 0a026b31 12027631 a2060b 08 83ac81cdcac0e8a8a901")
    let parsed = try #require(try envelope(data))
    #expect(parsed.kind == .put)
    #expect(Array(data[parsed.payload]) == put)
    #expect(
      InternalRequestEnvelope.wrap(.put, payload: put, requestID: parsed.requestID) == data)
  }

  @Test(arguments: InternalRequestEnvelope.Kind.allCases)
  func everyRequestRoundTrips(kind: InternalRequestEnvelope.Kind) throws {
    let data = InternalRequestEnvelope.wrap(
      kind, payload: put, requestID: id, username: "root", authRevision: 9)
    let parsed = try #require(try envelope(data))
    #expect(parsed.kind == kind)
    #expect(parsed.requestID == id)
    #expect(parsed.username == "root")
    #expect(parsed.authRevision == 9)
    #expect(Array(data[parsed.payload]) == put)
    // The header is field 100: requests with higher numbers come behind it.
    #expect(data.starts(with: hex("a206")) == (kind.rawValue > 100))
  }

  @Test func emptyPayloadsPlainIdsAndDispatchOrder() throws {
    let empty = InternalRequestEnvelope.wrap(.authEnable, payload: [], requestID: 1)
    #expect(try envelope(empty)?.payload.isEmpty == true)
    #expect(try envelope(hex("0807 2200 a20602 0805"))?.requestID == 7)
    // 1300 goes before put, wherever it stands.
    #expect(try envelope(hex("2200 a25100"))?.kind == .clusterVersionSet)
    #expect(try envelope(hex("2a00 2200"))?.kind == .put)
    let unknown = try envelope(hex("a21f00"))
    #expect(unknown?.kind == nil)
    #expect(unknown?.field == 500)
  }

  @Test func legacyRequestsBareAndWrapped() throws {
    let request = LegacyRequest.memberAttributes(id: 5, member: 0xabc, attributes: #"{"name":"n"}"#)
    #expect(request.target == .memberAttributes(0xabc))
    // Old writers add the zeros of the other fields.
    let bare = request.encoded() + hex("2800 3200 3800 4800 5000 5800")
    #expect(try EntryPayload(bare) == .legacy(request))
    let wrapped = hex("12") + [UInt8(bare.count)] + bare
    #expect(try EntryPayload(wrapped) == .legacy(request))
    let version = LegacyRequest.clusterVersion(id: 6, version: "3.5.0")
    #expect(version.target == .clusterVersion)
    #expect(try EntryPayload(version.encoded()) == .legacy(version))
    for method in ["POST", "DELETE", "QGET", "SYNC", "GET"] {
      let other = LegacyRequest(id: 1, method: method, path: "/1/x", value: "")
      #expect(try EntryPayload(other.encoded()) == .legacy(other))
      #expect(other.target == nil)
    }
  }

  @Test func otherDataIsAnError() throws {
    #expect(try EntryPayload([]) == .empty)
    for text in ["ff", "22ff", "a2060208", "0801"] {
      #expect(throws: WireError.self) { try EntryPayload(hex(text)) }
    }
  }
}
