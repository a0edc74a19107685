import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf

/// The keys of one election or lock: everything below `name/`, ordered by creation.
struct Contest: Equatable {
  let prefix: Data

  init(name: Data) { prefix = name + [UInt8(ascii: "/")] }

  /// The prefix's end: the byte after the slash.
  private var end: Data { prefix.dropLast() + [UInt8(ascii: "/") + 1] }

  /// The key of the contender that holds `lease`.
  func key(of lease: LeaseID) -> Data { prefix + Data(String(lease, radix: 16).utf8) }

  /// The contender that came first.
  var oldest: Etcdserverpb_RequestOp {
    .range {
      $0.key = prefix
      $0.rangeEnd = end
      $0.sortTarget = .create
      $0.sortOrder = .ascend
      $0.limit = 1
    }
  }

  /// The youngest contender that came before `revision`.
  func predecessor(of revision: Int64) -> Etcdserverpb_RequestOp {
    .range {
      $0.key = prefix
      $0.rangeEnd = end
      $0.sortTarget = .create
      $0.sortOrder = .descend
      $0.maxCreateRevision = revision - 1
      $0.limit = 1
      $0.keysOnly = true
    }
  }

  /// Watches for the first contender after `revision`.
  func watchPuts(after revision: Int64) -> WatchCreate {
    WatchCreate(
      key: Bytes(prefix), rangeEnd: Bytes(end), startRevision: revision + 1, noDelete: true)
  }
}

extension Etcdserverpb_RequestOp {
  static func range(_ fill: (inout Etcdserverpb_RangeRequest) -> Void) -> Self {
    .with { $0.requestRange = .with(fill) }
  }

  static func get(_ key: Data) -> Self { .range { $0.key = key } }

  static func put(_ key: Data, _ value: Data, _ lease: LeaseID) -> Self {
    .with {
      $0.requestPut = .with {
        $0.key = key
        $0.value = value
        $0.lease = lease
      }
    }
  }

  static func delete(_ key: Data) -> Self {
    .with { $0.requestDeleteRange = .with { $0.key = key } }
  }
}

extension Etcdserverpb_TxnRequest {
  /// `success` if `key` was created at `revision`, or does not exist when that is 0.
  static func ifCreated(
    _ key: Data, at revision: Int64, then success: [Etcdserverpb_RequestOp],
    otherwise failure: [Etcdserverpb_RequestOp] = []
  ) -> Self {
    .with {
      $0.compare = [
        .with {
          $0.result = .equal
          $0.target = .create
          $0.key = key
          $0.createRevision = revision
        }
      ]
      $0.success = success
      $0.failure = failure
    }
  }

  static func always(_ operations: [Etcdserverpb_RequestOp]) -> Self {
    .with { $0.success = operations }
  }
}
