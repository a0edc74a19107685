import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import StoreActor
import SwiftProtobuf

/// What clients ask for.
struct Workload {
  let options: SimulationOptions

  /// A write, by the shares of the options.
  func makeCommand(
    _ random: inout SeededGenerator, _ model: Model, leases: inout [LeaseID]
  ) -> Command {
    let key = Int.random(in: 0..<options.keys, using: &random)
    var dice = Int.random(in: 1...100, using: &random)
    if dice <= options.deleteShare {
      return .delete(from: key, to: Int.random(in: key + 1...options.keys, using: &random))
    }
    dice -= options.deleteShare
    if dice <= options.txnShare { return makeTxn(&random, model, key) }
    dice -= options.txnShare
    if dice <= options.leaseShare { return makeLeaseCommand(&random, key, &leases) }
    dice -= options.leaseShare
    if dice <= options.compactionShare {
      return .compact(max(1, model.revision - Int64.random(in: -1...10, using: &random)))
    }
    return .put(key: key, value: random.next(), lease: 0)
  }

  private func makeTxn(_ random: inout SeededGenerator, _ model: Model, _ key: Int) -> Command {
    let known = model.rows(from: key, to: key + 1, at: model.revision)
    let mod = known.first.map(Self.modRevision) ?? 0
    // Every key is changed at most once: etcd refuses anything else.
    var keys = Array(0..<options.keys)
    var success: [Command.Step] = []
    for _ in 0..<Int.random(in: 0...3, using: &random) where !keys.isEmpty {
      let key = keys.remove(at: Int.random(in: 0..<keys.count, using: &random))
      switch Int.random(in: 0...2, using: &random) {
      case 0: success.append(.delete(key: key))
      case 1: success.append(.get(key: key))
      default: success.append(.put(key: key, value: random.next()))
      }
    }
    let isWrong = Int.random(in: 0..<4, using: &random) == 0
    let failure: Command.Step =
      Bool.random(using: &random) ? .get(key: key) : .put(key: key, value: random.next())
    return .txn(key: key, mod: isWrong ? mod + 1 : mod, success: success, failure: [failure])
  }

  private static func modRevision(_ row: Bytes) -> Int64 {
    row.withUnsafeBytes { (try? StoredKeyValue(parsing: $0))?.modRevision ?? 0 }
  }

  private func makeLeaseCommand(
    _ random: inout SeededGenerator, _ key: Int, _ leases: inout [LeaseID]
  ) -> Command {
    guard let lease = leases.last, Int.random(in: 0..<4, using: &random) > 0 else {
      return .grant(
        LeaseID.random(in: 1...1 << 30, using: &random),
        ttl: Int64.random(in: 1...5, using: &random))
    }
    if Int.random(in: 0..<6, using: &random) == 0 {
      leases.removeLast()
      return .revoke(lease)
    }
    return .put(key: key, value: random.next(), lease: lease)
  }

  // MARK: - On the wire

  static func encode(_ command: Command) -> (InternalRequestEnvelope.Kind, Bytes) {
    switch command {
    case .put(let key, let value, let lease):
      let request = Etcdserverpb_PutRequest.with {
        $0.key = .init(Model.name(key))
        $0.value = .init(Model.value(value))
        $0.lease = lease
      }
      return (.put, bytes(request))
    case .delete(let from, let to):
      let request = Etcdserverpb_DeleteRangeRequest.with {
        $0.key = .init(Model.name(from))
        $0.rangeEnd = .init(Model.name(to))
      }
      return (.deleteRange, bytes(request))
    case .txn(let key, let mod, let success, let failure):
      let request = Etcdserverpb_TxnRequest.with {
        $0.compare = [
          .with {
            $0.key = .init(Model.name(key))
            $0.target = .mod
            $0.result = .equal
            $0.modRevision = mod
          }
        ]
        $0.success = success.map(encode)
        $0.failure = failure.map(encode)
      }
      return (.txn, bytes(request))
    case .compact(let revision):
      return (.compaction, bytes(Etcdserverpb_CompactionRequest.with { $0.revision = revision }))
    case .grant(let id, let ttl):
      let request = Etcdserverpb_LeaseGrantRequest.with {
        $0.id = id
        $0.ttl = ttl
      }
      return (.leaseGrant, bytes(request))
    case .revoke(let id), .expire(let id):
      return (.leaseRevoke, bytes(Etcdserverpb_LeaseRevokeRequest.with { $0.id = id }))
    }
  }

  private static func encode(_ step: Command.Step) -> Etcdserverpb_RequestOp {
    .with { operation in
      switch step {
      case .put(let key, let value):
        operation.requestPut = .with {
          $0.key = .init(Model.name(key))
          $0.value = .init(Model.value(value))
        }
      case .delete(let key):
        operation.requestDeleteRange = .with { $0.key = .init(Model.name(key)) }
      case .get(let key): operation.requestRange = .with { $0.key = .init(Model.name(key)) }
      }
    }
  }

  private static func bytes(_ message: some SwiftProtobuf.Message) -> Bytes {
    do { return try message.serializedBytes() } catch {
      preconditionFailure("a request cannot be encoded: \(error)")
    }
  }

  // MARK: - Answers

  /// Revision and count that an answer carries.
  static func decode(_ message: Bytes, _ command: Command) -> (Int64, Int64?) {
    switch command {
    case .put:
      let response = try? Etcdserverpb_PutResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, nil)
    case .delete:
      let response = try? Etcdserverpb_DeleteRangeResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, response?.deleted)
    case .txn:
      let response = try? Etcdserverpb_TxnResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, response?.succeeded == true ? 1 : 0)
    case .compact:
      let response = try? Etcdserverpb_CompactionResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, nil)
    case .grant:
      let response = try? Etcdserverpb_LeaseGrantResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, nil)
    case .revoke, .expire:
      let response = try? Etcdserverpb_LeaseRevokeResponse(serializedBytes: message)
      return (response?.header.revision ?? -1, nil)
    }
  }
}
