import Base

@testable import RaftActor

/// A few cores with an instant disk and a network under the test's hand.
struct CoreGroup {
  var cores: [MemberID: RaftCore] = [:]
  var ids: [MemberID] = []
  /// Messages to be lost.
  var drops: (Message) -> Bool = { _ in false }
  /// Every message that was sent, dropped or not.
  var sent: [Message] = []
  var queue: [Message] = []
  var committed: [MemberID: [Entry]] = [:]
  var readStates: [MemberID: [RaftCore.ReadState]] = [:]
  var droppedReads: [MemberID: [Bytes]] = [:]
  var snapshotsWanted: [MemberID] = []

  init(_ ids: [MemberID], configure: (inout RaftCore.Configuration) -> Void = { _ in }) {
    for id in ids { add(id, members: ids, configure: configure) }
  }

  mutating func add(
    _ id: MemberID, members: [MemberID], learners: [MemberID] = [], term: Term = 0,
    entries: [Entry] = [], configure: (inout RaftCore.Configuration) -> Void = { _ in }
  ) {
    cores[id] = makeCore(
      id, members: members, learners: learners, hardState: HardState(term: term), entries: entries,
      configure: configure)
    ids = cores.keys.sorted()
  }

  /// Changes one core, then hands out what follows.
  mutating func with<R>(_ id: MemberID, _ body: (inout RaftCore) -> R) -> R? {
    guard cores[id] != nil else { return nil }
    return body(&cores[id]!)
  }

  /// Does all that is to be done, disks included, until nothing is left.
  mutating func settle() {
    repeat {
      for id in ids { drain(id) }
      let due = queue
      queue.removeAll()
      for message in due where !drops(message) {
        cores[message.to]?.step(message)
      }
    } while !queue.isEmpty || ids.contains { hasWork($0) }
  }

  private func hasWork(_ id: MemberID) -> Bool {
    var copy = cores[id]
    return copy?.takeEffects() != nil
  }

  mutating func drain(_ id: MemberID) {
    while let effects = cores[id]?.takeEffects() {
      sent += effects.sendNow
      queue += effects.sendNow
      cores[id]?.persisted(effects.sequence)
      if let snapshot = effects.snapshot {
        cores[id]?.snapshotInstalled(snapshot.metadata.index)
      }
      sent += effects.sendAfterSync
      queue += effects.sendAfterSync
      for entry in effects.committed {
        committed[id, default: []].append(entry)
        if entry.kind == .configurationChange {
          if let change = try? ConfChange(decoding: entry.data) {
            cores[id]?.applyConfChange(change)
          }
        }
        cores[id]?.applied(through: entry.index)
      }
      readStates[id, default: []] += effects.readStates
      droppedReads[id, default: []] += effects.droppedReads
      snapshotsWanted += effects.snapshotWanted
    }
  }

  mutating func elect(_ id: MemberID) {
    _ = with(id) { $0.campaign() }
    settle()
  }

  mutating func tick(_ id: MemberID, times: Int = 1) {
    for _ in 0..<times {
      _ = with(id) { $0.tick() }
      settle()
    }
  }

  func core(_ id: MemberID) -> RaftCore { cores[id]! }

  /// The non-empty payloads a member applied, each one byte.
  func applied(_ id: MemberID) -> [UInt8] {
    committed[id, default: []].filter { $0.kind == .normal }.compactMap(\.data.first)
  }
}

func makeCore(
  _ id: MemberID, members: [MemberID], learners: [MemberID] = [],
  hardState: HardState = HardState(), entries: [Entry] = [], base: SnapshotMetadata = .init(),
  applied: LogIndex? = nil, configure: (inout RaftCore.Configuration) -> Void = { _ in }
) -> RaftCore {
  var configuration = RaftCore.Configuration(id: id)
  configure(&configuration)
  return RaftCore(
    configuration: configuration, hardState: hardState, snapshot: base, entries: entries,
    applied: applied ?? base.index, confState: ConfState(voters: members, learners: learners),
    generator: SeededGenerator(seed: id))
}

/// Entries at positions 1... with the given terms.
func log(_ terms: Term...) -> [Entry] {
  terms.enumerated().map { Entry(term: $1, index: LogIndex($0) + 1, data: [UInt8($1)]) }
}

/// The next batch. A function, because the test macros cannot call a mutating method.
func take(_ core: inout RaftCore) -> RaftCore.Effects? { core.takeEffects() }
