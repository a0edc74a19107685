import Base
import RaftActor
import StoreActor

/// A client that watches a range of keys, and comes back at another member when one is lost.
struct Watcher {
  let number: Int
  let from: Int
  let to: Int
  let wantsPrevious: Bool
  let wantsProgress: Bool
  /// The next revision it wants; 0 = what happens from now on.
  var next: Int64 = 0
  /// Where it is connected.
  var node: Int?
  var stream: UInt64 = 0
  var isBlocked = false
  /// Events and progress seen up to here.
  var seen: Int64 = 0
}

extension World {
  func makeWatcher(_ number: Int) -> Watcher {
    let from = draw(0...options.keys - 1)
    return Watcher(
      number: number, from: from, to: draw(from + 1...options.keys),
      wantsPrevious: chance(1, of: 2), wantsProgress: chance(1, of: 2))
  }

  /// Connects if it is not, else now and then stops reading, or goes elsewhere.
  func act(watcher number: Int) throws(Violation) {
    queue.add(.watcher(number), at: now + UInt64(draw(100...1000)) * Self.millisecond)
    if let slot = watchers[number].node {
      let node = nodes[slot]
      guard node.pausedUntil <= now else { return }
      if isHealing, node.machine.membership[id: node.id] == nil {
        node.hub.closeStream(id: watchers[number].stream)
        watchers[number].node = nil
      } else if isHealing || chance(1, of: 3) {
        setBlocked(number, !isHealing && !watchers[number].isBlocked, on: node)
      } else if chance(1, of: 4) {
        node.hub.closeStream(id: watchers[number].stream)
        watchers[number].node = nil
      } else if chance(1, of: 3) {
        node.hub.requestProgress(stream: watchers[number].stream)
      }
      try deliverWatchOutput(node)
      scheduleCatchUp(node)
      return
    }
    let slot = draw(0...nodes.count - 1)
    guard nodes[slot].isRunning, nodes[slot].pausedUntil <= now,
      nodes[slot].machine.membership[id: nodes[slot].id] != nil
    else { return }
    connect(number, to: nodes[slot])
    try deliverWatchOutput(nodes[slot])
    scheduleCatchUp(nodes[slot])
  }

  private func setBlocked(_ number: Int, _ isBlocked: Bool, on node: Node) {
    watchers[number].isBlocked = isBlocked
    if isBlocked {
      node.hub.streamBlocked(id: watchers[number].stream)
    } else {
      node.hub.streamReady(id: watchers[number].stream)
    }
  }

  func connect(_ number: Int, to node: Node) {
    watchers[number].node = node.slot
    watchers[number].stream = random.next()
    watchers[number].isBlocked = false
    let watcher = watchers[number]
    node.hub.openStream(id: watcher.stream)
    node.hub.create(
      stream: watcher.stream,
      request: WatchCreate(
        key: Model.name(watcher.from), rangeEnd: Model.name(watcher.to),
        startRevision: watcher.next, progressNotify: watcher.wantsProgress,
        prevKV: watcher.wantsPrevious, watchID: 1))
    trace.note(now, "watcher \(number) starts at \(watcher.next) on \(node.id)")
  }

  /// Hands over what the hub has queued, and checks it.
  func deliverWatchOutput(_ node: Node) throws(Violation) {
    // Now and then the gateway is late: then the next turn takes more.
    guard node.hub.hasOutput, isHealing || !chance(1, of: 4) else { return }
    for delivery in node.hub.takeOutput() {
      guard
        let number = watchers.firstIndex(where: {
          $0.node == node.slot && $0.stream == delivery.stream
        })
      else { continue }
      for output in plantedOutputs(delivery.outputs) { try take(output, watcher: number, on: node) }
    }
  }

  private func take(
    _ output: WatchOutput, watcher number: Int, on node: Node
  ) throws(Violation) {
    switch output {
    case .created(_, let revision):
      if watchers[number].next == 0 { watchers[number].next = revision + 1 }
    case .events(let batch): try takeEvents(batch, watcher: number, on: node)
    case .progress(_, let revision):
      try expectEvents([], through: revision, watcher: number, on: node)
    case .compacted(_, let revision):
      try require(
        revision > watchers[number].next, .watch,
        "watcher \(number) was cancelled for \(revision), its next is \(watchers[number].next)")
      // The client knows from a range what it missed.
      node.hub.closeStream(id: watchers[number].stream)
      watchers[number].node = nil
      watchers[number].next = revision
    case .refused(let reason, _):
      throw Violation(.watch, "watcher \(number) was refused: \(reason)")
    case .canceled: break
    }
  }

  private func takeEvents(
    _ batch: WatchBatch, watcher number: Int, on node: Node
  ) throws(Violation) {
    guard let last = batch.events.last?.change.revision.main else {
      throw Violation(.watch, "watcher \(number) got an empty batch")
    }
    try expectEvents(batch.events, through: last, watcher: number, on: node)
    oracle.counts.events += batch.events.count
  }

  /// What was delivered is what the model has, from the watcher's next revision up to `last`.
  private func expectEvents(
    _ events: [WatchEvent], through last: Int64, watcher number: Int, on node: Node
  ) throws(Violation) {
    let watcher = watchers[number]
    try require(
      last <= node.machine.kv.currentRevision, .watch,
      "watcher \(number) is told revision \(last), \(node.id) is at "
        + "\(node.machine.kv.currentRevision)")
    let due = oracle.model.events(
      from: watcher.from, to: watcher.to, first: watcher.next, last: last)
    try require(
      events.count == due.count, .watch,
      "watcher \(number) on \(node.id) got revisions \(events.map(\.change.revision.main)), the "
        + "model has \(due.map(\.revision.main)) in \(watcher.next)...\(last)")
    for (event, expected) in zip(events, due) {
      try require(
        event.change.revision == expected.revision && event.change.keyValue == expected.keyValue
          && (event.change.kind == .delete) == expected.isDelete, .watch,
        "watcher \(number) got \(event.change), the model has \(expected)")
    }
    watchers[number].next = max(watcher.next, last + 1)
    watchers[number].seen = max(watcher.seen, last)
  }

  // MARK: - Catching up

  func scheduleCatchUp(_ node: Node) {
    guard node.isRunning, node.hub.hasUnsynced, !node.catchUpIsDue else { return }
    node.catchUpIsDue = true
    queue.add(
      .catchUp(node.slot, incarnation: node.incarnation), at: now + 1_000_000 + delay(20_000))
  }

  func catchUpWatchers(_ node: Node) throws(Violation) {
    node.catchUpIsDue = false
    // Small slices while there are faults; afterwards watchers have to catch up with any load.
    let most = isHealing ? 2000 : draw(1...20)
    guard let request = node.hub.nextCatchUp(revisionLimit: Int64(most)) else { return }
    let kv = node.machine.kv
    var changes: [Change] = []
    let next: Int64
    do {
      next = try kv.changes(
        from: request.from, recordsMax: most, matching: { _ in true }, into: &changes)
    } catch {
      throw Violation(.watch, "a watcher behind the compaction was not cancelled: \(error)")
    }
    let through = min(next - 1, request.through)
    changes.removeAll { $0.revision.main > through }
    node.hub.catchUp(
      request, changes: changes, through: through, storeRevision: kv.currentRevision
    ) { change in
      kv.previousKeyValue(of: change.key, before: change.revision.main)
    }
    try deliverWatchOutput(node)
    scheduleCatchUp(node)
  }

  /// After a snapshot every watcher goes on from its own next revision.
  func restoreHub(_ node: Node) {
    let kv = node.machine.kv
    guard plant != .watchGapAfterSnapshot else { return plantHub(node) }
    node.hub.storeRestored(
      currentRevision: kv.currentRevision, compactRevision: kv.compactRevision)
  }
}
