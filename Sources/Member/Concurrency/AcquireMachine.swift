import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf

/// Lock and Campaign: puts a key in line and waits until every older one is gone.
///
/// Whoever waits watches the key right before its own, so a key that goes wakes one waiter; and its
/// own key, which goes with its lease. Before the call succeeds, a single linearizable read has to
/// show both that no older key is left and that the own key is still there.
struct AcquireMachine {
  enum Purpose: Equatable {
    case lock
    case candidacy(value: Data)
  }

  private enum State: Equatable {
    case idle
    case granting
    case entering
    /// An older call of the same lease stands in line; its value is replaced.
    case proclaiming(isOldest: Bool)
    case checking
    case waiting
    /// Takes back what the call did; then tells the error, if there is anybody left to tell.
    case leaving(EtcdError?)
    case finished
  }

  private let name: Data
  private let contest: Contest
  private let purpose: Purpose
  private var state = State.idle
  private var lease: LeaseID
  /// The lease was granted for this call, and ends with it if it fails.
  private var ownsLease = false
  private var key = Data()
  /// The revision that created `key`; 0 = not known.
  private var revision: Int64 = 0
  private var header = Etcdserverpb_ResponseHeader()
  private var isAbandoned = false

  init(name: Data, lease: LeaseID, purpose: Purpose) {
    self.name = name
    self.lease = lease
    self.purpose = purpose
    contest = Contest(name: name)
  }

  var isFinished: Bool { state == .finished }

  var isWaiting: Bool { state == .waiting || state == .checking }

  /// The call is over for its client, but not yet taken back.
  func isLeaving(_ key: Data) -> Bool { state == .leaving(nil) && self.key == key }

  /// The key that the call puts in line, unless its lease is yet to be granted.
  var contestedKey: Data? { lease == 0 ? nil : contest.key(of: lease) }

  mutating func handle(_ event: ConcurrencyEvent) -> [ConcurrencyAction] {
    switch (state, event) {
    case (.idle, .started):
      guard lease == 0 else { return enter() }
      state = .granting
      return [.grantLease]
    case (.granting, .granted(let granted)):
      lease = granted
      ownsLease = true
      return isAbandoned ? leave(nil) : enter()
    case (.entering, .answered(let response)): return entered(response)
    case (.proclaiming(let isOldest), .answered(let response)):
      guard response.succeeded else { return end(.electionNotLeader) }
      return isOldest ? win() : check()
    case (.checking, .answered(let response)): return checked(response)
    case (.waiting, .changed(let response)):
      return response.events.isEmpty ? [] : [.unwatch] + check()
    case (.waiting, .historyLost): return [.unwatch] + check()
    case (.leaving(let error), .answered), (.leaving(let error), .revoked): return end(error)
    case (.leaving, .retry): return [release]
    case (_, .failed(let error)): return failed(error)
    case (_, .cancelled): return cancelled()
    default: return []
    }
  }

  // MARK: - In

  private mutating func enter() -> [ConcurrencyAction] {
    state = .entering
    key = contest.key(of: lease)
    var value = Data()
    if case .candidacy(let proclaimed) = purpose { value = proclaimed }
    return [
      .write(
        .ifCreated(
          key, at: 0, then: [.put(key, value, lease), contest.oldest],
          otherwise: [.get(key), contest.oldest]))
    ]
  }

  private mutating func entered(_ response: Etcdserverpb_TxnResponse) -> [ConcurrencyAction] {
    guard response.responses.count == 2 else { return leave(.unexpectedAnswer) }
    header = response.header
    var isOutdated = false
    if response.succeeded {
      revision = header.revision
    } else {
      // This lease stands in line already, by a call that may be alive: what it holds is not undone.
      guard !isAbandoned else { return end(nil) }
      guard let existing = response.responses[0].responseRange.kvs.first else {
        return end(.unexpectedAnswer)
      }
      revision = existing.createRevision
      if case .candidacy(let value) = purpose { isOutdated = existing.value != value }
    }
    guard !isAbandoned else { return leave(nil) }
    let oldest = response.responses[1].responseRange.kvs.first
    let isOldest = oldest == nil || oldest?.createRevision == revision
    if isOutdated, case .candidacy(let value) = purpose {
      state = .proclaiming(isOldest: isOldest)
      return [.write(.ifCreated(key, at: revision, then: [.put(key, value, lease)]))]
    }
    return isOldest ? win() : check()
  }

  private mutating func check() -> [ConcurrencyAction] {
    state = .checking
    return [.read(.always([contest.predecessor(of: revision), .get(key)]))]
  }

  private mutating func checked(_ response: Etcdserverpb_TxnResponse) -> [ConcurrencyAction] {
    guard response.responses.count == 2 else { return leave(.unexpectedAnswer) }
    // A key of the same name but of another creation belongs to somebody else's call.
    guard response.responses[1].responseRange.kvs.first?.createRevision == revision else {
      return end(purpose == .lock ? .sessionExpired : .electionNotLeader)
    }
    guard let predecessor = response.responses[0].responseRange.kvs.first else {
      if purpose == .lock { header = response.header }
      return win()
    }
    state = .waiting
    let next = response.header.revision + 1
    return [
      .watch(
        [predecessor.key, key].map {
          WatchCreate(key: Bytes($0), startRevision: next, noPut: true)
        })
    ]
  }

  private mutating func win() -> [ConcurrencyAction] {
    state = .finished
    switch purpose {
    case .lock:
      return [
        .reply(
          V3lockpb_LockResponse.with {
            $0.header = header
            $0.key = key
          })
      ]
    case .candidacy:
      return [
        .reply(
          V3electionpb_CampaignResponse.with {
            $0.header = header
            $0.leader = .with {
              $0.name = name
              $0.key = key
              $0.rev = revision
              $0.lease = lease
            }
          })
      ]
    }
  }

  // MARK: - Out

  private mutating func failed(_ error: EtcdError) -> [ConcurrencyAction] {
    switch state {
    case .idle, .waiting, .finished: return []
    case .granting: return end(error)
    case .entering, .checking, .proclaiming: return leave(error)
    case .leaving(let cause):
      // Whoever still waits has waited long enough, and a lease that is gone took its key along.
      guard cause == nil, error != .leaseNotFound else { return end(cause) }
      return [.retryLater]
    }
  }

  private mutating func cancelled() -> [ConcurrencyAction] {
    switch state {
    case .idle: return end(nil)
    case .granting, .entering:
      // Whether there is something to take back is not known yet.
      isAbandoned = true
      return []
    case .proclaiming: return end(nil)
    case .checking: return leave(nil)
    case .waiting: return [.unwatch] + leave(nil)
    case .leaving:
      state = .leaving(nil)
      return []
    case .finished: return []
    }
  }

  private mutating func leave(_ error: EtcdError?) -> [ConcurrencyAction] {
    guard ownsLease || revision != 0 else { return end(error) }
    state = .leaving(isAbandoned ? nil : error)
    return [release]
  }

  private var release: ConcurrencyAction {
    ownsLease ? .revoke(lease) : .write(.ifCreated(key, at: revision, then: [.delete(key)]))
  }

  private mutating func end(_ error: EtcdError?) -> [ConcurrencyAction] {
    state = .finished
    return error.map { [.fail($0)] } ?? []
  }
}
