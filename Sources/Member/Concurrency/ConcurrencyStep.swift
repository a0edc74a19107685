import Base
import EtcdAPI
import StoreActor
import SwiftProtobuf

/// What a call of the Election or Lock service learns. A call has one request under way at a time.
enum ConcurrencyEvent {
  case started
  case granted(LeaseID)
  case revoked
  /// The answer to `write` or `read`.
  case answered(Etcdserverpb_TxnResponse)
  /// Events of the watch.
  case changed(Etcdserverpb_WatchResponse)
  /// The watch was cancelled: the history that it needs is compacted.
  case historyLost
  /// The request under way failed.
  case failed(EtcdError)
  /// Nobody waits for the call's answer any more.
  case cancelled
  /// Follows `retryLater`.
  case retry
}

/// What a call asks for next, in this order.
enum ConcurrencyAction {
  case grantLease
  case revoke(LeaseID)
  /// A transaction through the log.
  case write(Etcdserverpb_TxnRequest)
  /// A linearizable transaction that only reads.
  case read(Etcdserverpb_TxnRequest)
  /// Opens the call's watch; it had none.
  case watch([WatchCreate])
  case unwatch
  /// One message of a streaming answer.
  case send(V3electionpb_LeaderResponse)
  /// The answer: the call is over.
  case reply(any SwiftProtobuf.Message)
  /// The call is over.
  case fail(EtcdError)
  /// What failed shall be tried again a little later.
  case retryLater
}

/// One call of the Election or Lock service: a value that is told events and says what to do.
enum ConcurrencyMachine {
  case acquire(AcquireMachine)
  case observe(ObserveMachine)
  case brief(BriefMachine)

  mutating func handle(_ event: ConcurrencyEvent) -> [ConcurrencyAction] {
    switch self {
    case .acquire(var machine):
      defer { self = .acquire(machine) }
      return machine.handle(event)
    case .observe(var machine):
      defer { self = .observe(machine) }
      return machine.handle(event)
    case .brief(var machine):
      defer { self = .brief(machine) }
      return machine.handle(event)
    }
  }

  /// Nothing is under way and nothing more will be asked for.
  var isFinished: Bool {
    switch self {
    case .acquire(let machine): machine.isFinished
    case .observe(let machine): machine.isFinished
    case .brief(let machine): machine.isFinished
    }
  }

  /// The call may take as long as it likes: it waits for others.
  var isWaiting: Bool {
    switch self {
    case .acquire(let machine): machine.isWaiting
    case .observe: true
    case .brief: false
    }
  }
}

extension EtcdError {
  static let electionNotLeader = EtcdError(.unknown, "election: not leader")
  static let electionNoLeader = EtcdError(.unknown, "election: no leader")
  static let observeClosed = EtcdError(.unknown, "election: observe closed early")
  static let missingLeaderField = EtcdError(.unknown, "\"leader\" field must be provided")
  static let sessionExpired = EtcdError(.unknown, "mutex: session is expired")
  /// The store answered in a form that no request of ours has.
  static let unexpectedAnswer = EtcdError(.internal, "unexpected answer of the store")
}
