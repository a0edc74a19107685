import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf

@testable import Member

/// Views of a list of actions that is expected to hold a single one.
extension [ConcurrencyAction] {
  private var only: ConcurrencyAction? { count == 1 ? self[0] : nil }

  var onlyWrite: Etcdserverpb_TxnRequest? {
    if case .write(let transaction)? = only { transaction } else { nil }
  }

  var onlyRead: Etcdserverpb_TxnRequest? {
    if case .read(let transaction)? = only { transaction } else { nil }
  }

  var onlyWatch: [WatchCreate]? {
    if case .watch(let requests)? = only { requests } else { nil }
  }

  var onlyReply: (any SwiftProtobuf.Message)? {
    if case .reply(let message)? = only { message } else { nil }
  }

  var onlyError: EtcdError? {
    if case .fail(let error)? = only { error } else { nil }
  }

  /// Value and header revision of each message sent.
  var told: [String] {
    compactMap { action in
      guard case .send(let message) = action else { return nil }
      return "\(String(decoding: message.kv.value, as: UTF8.self))@\(message.header.revision)"
    }
  }
}

extension ConcurrencyAction {
  var isUnwatch: Bool { if case .unwatch = self { true } else { false } }
  var isRead: Bool { if case .read = self { true } else { false } }
}

extension Etcdserverpb_TxnResponse {
  private static func range(
    _ found: (key: String, created: Int64)?, value: String = "", mod: Int64 = 0
  ) -> Etcdserverpb_ResponseOp {
    .with {
      $0.responseRange = .with {
        guard let found else { return }
        $0.kvs = [
          .with {
            $0.key = Data(found.key.utf8)
            $0.value = Data(value.utf8)
            $0.createRevision = found.created
            $0.modRevision = mod
          }
        ]
      }
    }
  }

  /// The key was put in line at `revision`.
  static func entered(at revision: Int64, oldest: (String, Int64)?) -> Self {
    .with {
      $0.header.revision = revision
      $0.succeeded = true
      $0.responses = [.with { $0.responsePut = .init() }, range(oldest)]
    }
  }

  /// The key stood in line already.
  static func existing(
    _ key: String, created: Int64, value: String, at revision: Int64, oldest: (String, Int64)?
  ) -> Self {
    .with {
      $0.header.revision = revision
      $0.responses = [range((key, created), value: value), range(oldest)]
    }
  }

  /// The line as read at `revision`.
  static func line(at revision: Int64, before: (String, Int64)?, own: (String, Int64)?) -> Self {
    .with {
      $0.header.revision = revision
      $0.succeeded = true
      $0.responses = [range(before), range(own)]
    }
  }

  static func oldest(
    _ found: (String, Int64)?, value: String, mod: Int64, at revision: Int64
  ) -> Self {
    .with {
      $0.header.revision = revision
      $0.succeeded = true
      $0.responses = [range(found, value: value, mod: mod)]
    }
  }
}

extension Etcdserverpb_WatchResponse {
  static func events(
    _ events: [(type: Mvccpb_Event.EventType, key: String, value: String, revision: Int64)]
  ) -> Self {
    .with {
      $0.header.revision = events.last?.revision ?? 0
      $0.events = events.map { event in
        .with {
          $0.type = event.type
          $0.kv.key = Data(event.key.utf8)
          $0.kv.value = Data(event.value.utf8)
          $0.kv.modRevision = event.revision
        }
      }
    }
  }
}
