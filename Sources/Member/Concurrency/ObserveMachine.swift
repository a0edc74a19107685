import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf

/// Observe: tells who leads an election, every value the leader proclaims, and its successors.
struct ObserveMachine {
  private enum State {
    case idle
    case finding
    /// Nobody leads.
    case awaiting
    case following
    case finished
  }

  private let contest: Contest
  private var state = State.idle
  /// Key and revision of the value told last, which is not told twice.
  private var told: (key: Data, revision: Int64) = (Data(), 0)

  init(name: Data) { contest = Contest(name: name) }

  var isFinished: Bool { state == .finished }

  mutating func handle(_ event: ConcurrencyEvent) -> [ConcurrencyAction] {
    switch (state, event) {
    case (.idle, .started): return find()
    case (.finding, .answered(let response)): return found(response)
    case (.finding, .failed):
      state = .finished
      return [.fail(.observeClosed)]
    case (.awaiting, .changed(let response)): return appeared(response)
    case (.following, .changed(let response)): return followed(response)
    case (.awaiting, .historyLost), (.following, .historyLost): return [.unwatch] + find()
    case (.finished, _): return []
    case (.awaiting, .cancelled), (.following, .cancelled):
      state = .finished
      return [.unwatch]
    case (_, .cancelled):
      state = .finished
      return []
    default: return []
    }
  }

  private mutating func find() -> [ConcurrencyAction] {
    state = .finding
    return [.read(.always([contest.oldest]))]
  }

  private mutating func found(_ response: Etcdserverpb_TxnResponse) -> [ConcurrencyAction] {
    let revision = response.header.revision
    guard let leader = response.responses.first?.responseRange.kvs.first else {
      state = .awaiting
      return [.watch([contest.watchPuts(after: revision)])]
    }
    return tell(leader, response.header) + follow(leader.key, after: revision)
  }

  private mutating func appeared(_ response: Etcdserverpb_WatchResponse) -> [ConcurrencyAction] {
    guard let leader = response.events.first(where: { $0.type == .put })?.kv else { return [] }
    // What follows in the same response comes once more, from the watch of this key alone.
    return tell(leader, response.header, at: leader.modRevision) + [.unwatch]
      + follow(leader.key, after: leader.modRevision)
  }

  private mutating func follow(_ key: Data, after revision: Int64) -> [ConcurrencyAction] {
    state = .following
    return [.watch([WatchCreate(key: Bytes(key), startRevision: revision + 1)])]
  }

  private mutating func followed(_ response: Etcdserverpb_WatchResponse) -> [ConcurrencyAction] {
    var actions: [ConcurrencyAction] = []
    for event in response.events {
      guard event.type == .put else { return actions + [.unwatch] + find() }
      actions += tell(event.kv, response.header, at: event.kv.modRevision)
    }
    return actions
  }

  private mutating func tell(
    _ leader: Mvccpb_KeyValue, _ header: Etcdserverpb_ResponseHeader, at revision: Int64? = nil
  ) -> [ConcurrencyAction] {
    guard told != (leader.key, leader.modRevision) else { return [] }
    told = (leader.key, leader.modRevision)
    return [
      .send(
        .with {
          $0.header = header
          if let revision { $0.header.revision = revision }
          $0.kv = leader
        })
    ]
  }
}
