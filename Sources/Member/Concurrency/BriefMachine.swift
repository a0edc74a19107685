import Base
import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

/// The calls that wait for nobody: Proclaim, Resign, Leader and Unlock.
struct BriefMachine {
  enum Request {
    case proclaim(V3electionpb_ProclaimRequest)
    case resign(V3electionpb_ResignRequest)
    case leader(name: Data)
    case unlock(key: Data)
  }

  private enum State {
    case idle
    case granting
    case asking
    case finished
  }

  private let request: Request
  private var state = State.idle

  init(_ request: Request) { self.request = request }

  var isFinished: Bool { state == .finished }

  mutating func handle(_ event: ConcurrencyEvent) -> [ConcurrencyAction] {
    switch (state, event) {
    case (.idle, .started): return start()
    case (.granting, .granted(let lease)): return ask(lease: lease)
    case (.asking, .answered(let response)):
      state = .finished
      return [answer(response)]
    case (.granting, .failed(let error)), (.asking, .failed(let error)):
      state = .finished
      return [.fail(error)]
    case (_, .cancelled):
      state = .finished
      return []
    default: return []
    }
  }

  private mutating func start() -> [ConcurrencyAction] {
    switch request {
    case .proclaim(let request):
      guard request.hasLeader else { return missingLeader() }
      guard request.leader.lease == 0 else { return ask(lease: request.leader.lease) }
      state = .granting
      return [.grantLease]
    case .resign(let request): return request.hasLeader ? ask(lease: 0) : missingLeader()
    case .leader, .unlock: return ask(lease: 0)
    }
  }

  private mutating func missingLeader() -> [ConcurrencyAction] {
    state = .finished
    return [.fail(.missingLeaderField)]
  }

  private mutating func ask(lease: LeaseID) -> [ConcurrencyAction] {
    state = .asking
    switch request {
    case .proclaim(let request):
      let leader = request.leader
      let put = Etcdserverpb_RequestOp.put(leader.key, request.value, lease)
      return [.write(.ifCreated(leader.key, at: leader.rev, then: [put]))]
    case .resign(let request):
      let leader = request.leader
      return [.write(.ifCreated(leader.key, at: leader.rev, then: [.delete(leader.key)]))]
    case .leader(let name): return [.read(.always([Contest(name: name).oldest]))]
    case .unlock(let key): return [.write(.always([.delete(key)]))]
    }
  }

  private func answer(_ response: Etcdserverpb_TxnResponse) -> ConcurrencyAction {
    switch request {
    case .proclaim:
      guard response.succeeded else { return .fail(.electionNotLeader) }
      return .reply(V3electionpb_ProclaimResponse.with { $0.header = response.header })
    case .resign:
      return .reply(V3electionpb_ResignResponse.with { $0.header = response.header })
    case .leader:
      guard let leader = response.responses.first?.responseRange.kvs.first else {
        return .fail(.electionNoLeader)
      }
      return .reply(
        V3electionpb_LeaderResponse.with {
          $0.header = response.header
          $0.kv = leader
        })
    case .unlock:
      return .reply(V3lockpb_UnlockResponse.with { $0.header = response.header })
    }
  }
}
