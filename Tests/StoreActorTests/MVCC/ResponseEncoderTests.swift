import Base
import EtcdAPI
import Foundation
import SwiftProtobuf
import Testing

@testable import StoreActor

/// Every response must be, byte for byte, what swift-protobuf makes of the same content.
struct ResponseEncoderTests {
  private let encoder = ResponseEncoder(
    clusterID: 0xcdf8_1818_e322_27cc, memberID: 0x8e9e_05c5_2164_694d, raftTerm: 300)

  @Test(arguments: [UInt64(11), 12, 13, 14])
  func equalsSwiftProtobuf(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      let range = randomRange(&random)
      var expectedRange = message(range)
      expectedRange.header = header(range.revision)
      try check(expectedRange, encoder.encode(range))

      let put = randomPut(&random)
      var expectedPut = message(put)
      expectedPut.header = header(put.revision)
      try check(expectedPut, encoder.encode(put))

      let delete = randomDelete(&random)
      var expectedDelete = message(delete)
      expectedDelete.header = header(delete.revision)
      try check(expectedDelete, encoder.encode(delete))

      let txn = randomTxn(&random, depth: 0)
      var expectedTxn = message(txn)
      expectedTxn.header = header(txn.revision)
      try check(expectedTxn, encoder.encode(txn))
    }
  }

  /// Long answers consist of the pieces that their rows were read into.
  @Test func piecesAreTheSameBytes() {
    var random = SeededGenerator(seed: 21)
    for rows in [0, 1, 1000, 4000] {
      var result = RangeResult(revision: 9)
      result.rows = EncodedRows((0..<rows).map { _ in randomRecord(&random) })
      result.count = Int64(rows)
      result.more = rows == 1000
      let pieces = encoder.pieces(result)
      #expect(Bytes(pieces.joined()) == encoder.encode(result))
      #expect(pieces.allSatisfy { $0.count <= EncodedRows.pieceBytes + 64 })
      #expect((pieces.count > 1) == (rows >= 1000))
      let txn = TxnResult(
        revision: 9, succeeded: true,
        responses: [.range(result), .put(PutResult(revision: 9, previous: nil)), .range(result)])
      #expect(Bytes(encoder.pieces(txn).joined()) == encoder.encode(txn))
    }
  }

  @Test func appendsBehindWhatIsThere() {
    var output: Bytes = [1, 2, 3]
    let result = PutResult(revision: 5, previous: nil)
    encoder.append(result, to: &output)
    #expect(output == [1, 2, 3] + encoder.encode(result))
  }

  @Test func nestedHeadersArePresent() throws {
    let nested = TxnResult(revision: 0, succeeded: false, responses: [.empty])
    let put = PutResult(revision: 7, previous: nil)
    let result = TxnResult(revision: 7, succeeded: true, responses: [.txn(nested), .put(put)])
    let decoded = try Etcdserverpb_TxnResponse(serializedBytes: encoder.encode(result))
    #expect(decoded.header.memberID == encoder.memberID && decoded.header.revision == 7)
    let inner = decoded.responses[0].responseTxn
    #expect(inner.hasHeader && inner.header == Etcdserverpb_ResponseHeader())
    #expect(inner.responses == [Etcdserverpb_ResponseOp()])
    let innerPut = decoded.responses[1].responsePut
    #expect(innerPut.header.revision == 7 && innerPut.header.memberID == 0)
    #expect(!innerPut.hasPrevKv)
  }

  private func check<Message: SwiftProtobuf.Message & Equatable>(
    _ expected: Message, _ bytes: Bytes
  ) throws {
    let serialized: Bytes = try expected.serializedBytes()
    #expect(serialized == bytes)
    #expect(try Message(serializedBytes: bytes) == expected)
  }

  // MARK: - Expected messages

  private func header(_ revision: Int64) -> Etcdserverpb_ResponseHeader {
    var header = Etcdserverpb_ResponseHeader()
    header.clusterID = encoder.clusterID
    header.memberID = encoder.memberID
    header.revision = revision
    header.raftTerm = encoder.raftTerm
    return header
  }

  private func nestedHeader(_ revision: Int64) -> Etcdserverpb_ResponseHeader {
    var header = Etcdserverpb_ResponseHeader()
    header.revision = revision
    return header
  }

  private func keyValue(_ record: Bytes) -> Mvccpb_KeyValue {
    (try? Mvccpb_KeyValue(serializedBytes: record)) ?? Mvccpb_KeyValue()
  }

  private func message(_ result: RangeResult) -> Etcdserverpb_RangeResponse {
    var message = Etcdserverpb_RangeResponse()
    message.header = nestedHeader(result.revision)
    message.kvs = result.rows.records.map(keyValue)
    message.more = result.more
    message.count = result.count
    return message
  }

  private func message(_ result: PutResult) -> Etcdserverpb_PutResponse {
    var message = Etcdserverpb_PutResponse()
    message.header = nestedHeader(result.revision)
    if let previous = result.previous { message.prevKv = keyValue(previous) }
    return message
  }

  private func message(_ result: DeleteRangeResult) -> Etcdserverpb_DeleteRangeResponse {
    var message = Etcdserverpb_DeleteRangeResponse()
    message.header = nestedHeader(result.revision)
    message.deleted = result.deleted
    message.prevKvs = result.previous.map(keyValue)
    return message
  }

  private func message(_ result: TxnResult) -> Etcdserverpb_TxnResponse {
    var message = Etcdserverpb_TxnResponse()
    message.header = Etcdserverpb_ResponseHeader()
    message.succeeded = result.succeeded
    message.responses = result.responses.map { response in
      var operation = Etcdserverpb_ResponseOp()
      switch response {
      case .range(let result): operation.responseRange = self.message(result)
      case .put(let result): operation.responsePut = self.message(result)
      case .deleteRange(let result): operation.responseDeleteRange = self.message(result)
      case .txn(let result): operation.responseTxn = self.message(result)
      case .empty: break
      }
      return operation
    }
    return message
  }

  // MARK: - Random results

  private func randomNumber(_ random: inout SeededGenerator) -> Int64 {
    let shift = random.next() % 64
    return random.next() % 5 == 0 ? 0 : Int64(bitPattern: random.next() >> shift)
  }

  private func randomRecord(_ random: inout SeededGenerator) -> Bytes {
    StoredKeyValue.encode(
      key: Bytes(repeating: 7, count: Int(random.next() % 200)),
      createRevision: randomNumber(&random), modRevision: randomNumber(&random),
      version: randomNumber(&random),
      value: Bytes(repeating: 9, count: Int(random.next() % 300)), lease: randomNumber(&random))
  }

  private func randomRecords(_ random: inout SeededGenerator) -> [Bytes] {
    (0..<random.next() % 4).map { _ in randomRecord(&random) }
  }

  private func randomRange(_ random: inout SeededGenerator) -> RangeResult {
    var result = RangeResult(revision: randomNumber(&random))
    result.rows = EncodedRows(randomRecords(&random))
    result.more = random.next() % 2 == 0
    result.count = randomNumber(&random)
    return result
  }

  private func randomPut(_ random: inout SeededGenerator) -> PutResult {
    PutResult(
      revision: randomNumber(&random),
      previous: random.next() % 2 == 0 ? nil : randomRecord(&random))
  }

  private func randomDelete(_ random: inout SeededGenerator) -> DeleteRangeResult {
    DeleteRangeResult(
      revision: randomNumber(&random), deleted: randomNumber(&random),
      previous: randomRecords(&random))
  }

  private func randomTxn(_ random: inout SeededGenerator, depth: Int) -> TxnResult {
    var responses: [OperationResult] = []
    for _ in 0..<random.next() % 4 {
      switch random.next() % (depth < 3 ? 5 : 4) {
      case 0: responses.append(.range(randomRange(&random)))
      case 1: responses.append(.put(randomPut(&random)))
      case 2: responses.append(.deleteRange(randomDelete(&random)))
      case 3: responses.append(.empty)
      default: responses.append(.txn(randomTxn(&random, depth: depth + 1)))
      }
    }
    return TxnResult(
      revision: depth == 0 ? randomNumber(&random) : 0, succeeded: random.next() % 2 == 0,
      responses: responses)
  }
}
