import Base
import EtcdAPI
import FoundationEssentials
import SwiftProtobuf
import Testing

@testable import StoreActor

/// What is read by hand means what swift-protobuf reads.
@Suite struct RequestDecodingTests {
  static let putRequests: [Etcdserverpb_PutRequest] = [
    .init(), .with("key", "value"), .with("key", String(repeating: "v", count: 300), lease: -7),
    .with("key", prevKv: true),
    .with {
      $0.key = Data("key".utf8)
      $0.ignoreValue = true
    },
    .with {
      $0.key = Data("key".utf8)
      $0.ignoreLease = true
    },
  ]

  @Test(arguments: putRequests) func putsAreReadAsTheyAre(request: Etcdserverpb_PutRequest) throws {
    // In the middle of something else, as in an entry of the log.
    let bytes: Bytes = try [9, 9] + request.serializedBytes() + [9]
    let operation = try PutOperation(decoding: bytes[2..<bytes.count - 1])
    #expect(operation == PutOperation(request))
  }

  @Test func fieldsOfAPutAreCheckedInPlace() throws {
    // key "k", value "vv", lease 5, ignore_lease.
    let message: Bytes = [10, 1, 107, 18, 2, 118, 118, 24, 5, 48, 1]
    let fields = try message.withUnsafeBytes { try PutFields(parsing: $0) }
    #expect(QuotaCost.bytes(fields) == 256 + 3)
    #expect(throws: KVError.leaseProvided) { try fields.validate() }
  }

  @Test func damagedPutsAreRefused() {
    for damaged: Bytes in [[10], [10, 5, 1], [8, 1], [255, 255, 255, 255, 255, 255], [3]] {
      #expect(throws: ProtobufError.self) { try PutOperation(decoding: damaged[...]) }
    }
  }

  static let usual = Etcdserverpb_TxnRequest.with {
    $0.compare = [
      .with {
        $0.key = Data("a".utf8)
        $0.target = .mod
        $0.result = .greater
        $0.modRevision = 3
      },
      .with {
        $0.key = Data("b".utf8)
        $0.target = .value
        $0.result = .notEqual
        $0.value = Data("x".utf8)
      },
    ]
    $0.success = [.put("a", "value", lease: 4), .range("a", to: "z"), .delete("b")]
    $0.failure = [.put("c"), .empty]
  }

  @Test func usualTransactionsAreReadByHand() throws {
    let bytes: Bytes = try Self.usual.serializedBytes()
    #expect(try Etcdserverpb_TxnRequest(decoding: bytes) == Self.usual)
  }

  @Test func unusualTransactionsMeanTheSame() throws {
    let ranged = Etcdserverpb_TxnRequest.with {
      $0.compare = [.with { $0.rangeEnd = Data("z".utf8) }]
    }
    let strange = Etcdserverpb_TxnRequest.with {
      $0.compare = [.with { $0.result = .UNRECOGNIZED(-9) }]
      $0.success = [.txn(Self.usual)]
    }
    var messages: [Bytes] = try [ranged, strange].map { try $0.serializedBytes() }
    // A put whose key is given twice, an operation that is a put twice, a comparison with two contents,
    // a field that nobody knows, a number where messages should be.
    messages.append([18, 8, 18, 6, 10, 1, 97, 10, 1, 98])
    messages.append([18, 10, 18, 3, 10, 1, 97, 18, 3, 18, 1, 98])
    messages.append([10, 4, 32, 1, 40, 2])
    messages += [[80, 1], [8, 1]]
    for message in messages {
      #expect(
        try Etcdserverpb_TxnRequest(decoding: message)
          == Etcdserverpb_TxnRequest(serializedBytes: message), "\(message)")
    }
  }

  @Test func damagedTransactionsMeetTheSameError() {
    for damaged: Bytes in [[10], [18, 3, 18, 9, 1], [10, 2, 26, 4]] {
      #expect(throws: BinaryDecodingError.self) { try Etcdserverpb_TxnRequest(decoding: damaged) }
    }
  }

  /// Bits, lengths and cuts of good ones: both ways read the same, or neither reads anything.
  @Test func changedTransactionsAreReadTheSame() throws {
    let good: Bytes = try Self.usual.serializedBytes()
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<20_000 {
      var bytes = good
      for _ in 0...Int(generator.next() % 3) {
        bytes[Int(generator.next() % UInt64(bytes.count))] = UInt8(
          truncatingIfNeeded: generator.next())
      }
      if generator.next() % 4 == 0 { bytes.removeLast(Int(generator.next() % UInt64(bytes.count))) }
      let plain = try? Etcdserverpb_TxnRequest(serializedBytes: bytes)
      let read = try? Etcdserverpb_TxnRequest(decoding: bytes)
      #expect(plain == read, "\(bytes)")
    }
  }
}
