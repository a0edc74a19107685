public import Base

/// One change on its way to its watchers: each wire form is made on first use, then shared.
struct PreparedChange {
  let change: Change
  private var plain: [WatchEvent]?
  private var withPrevious: [WatchEvent]?

  init(_ change: Change) { self.change = change }

  /// The event in an array of its own, which new batches share until they grow.
  mutating func event(
    withPrevious wanted: Bool, _ previous: (Change) -> Bytes?
  ) -> [WatchEvent] {
    if wanted {
      if let withPrevious { return withPrevious }
      let made =
        if let value = previous(change) {
          [WatchEvent(change: change, previous: value)]
        } else {
          event(withPrevious: false, previous)
        }
      withPrevious = made
      return made
    }
    if let plain { return plain }
    let made = [WatchEvent(change: change, previous: nil)]
    plain = made
    return made
  }
}

extension WatchHub {
  /// Announces one revision, in the step that makes it readable.
  ///
  /// Synced watchers get its changes as one batch, or behind a batch that is still queued. Watchers
  /// of a stream that takes no more fall behind at this revision. If revisions were left out
  /// since the last call, nothing is lost: every watcher goes back to history from its own next one.
  /// - Parameters:
  ///   - changes: all changes of the revision, in order of execution.
  ///   - revision: greater than `currentRevision`.
  ///   - previous: the encoded key-value before a change, nil if there was none or it is compacted.
  ///     Asked at most once per change, and only if a watcher that takes the change wants it.
  public mutating func notify(
    _ changes: [Change], revision: Int64, previous: (Change) -> Bytes?
  ) {
    precondition(revision > currentRevision, "revision announced twice")
    if revision > currentRevision + 1 {
      return storeRestored(currentRevision: revision, compactRevision: compactRevision)
    }
    currentRevision = revision
    guard index.count > 0 else { return }
    // Taken out so that the loop may change the hub.
    var found: [Int] = []
    swap(&found, &matched)
    for change in changes {
      assert(change.revision.main == revision)
      found.removeAll(keepingCapacity: true)
      index.match(change.key, into: &found)
      guard !found.isEmpty else { continue }
      var prepared = PreparedChange(change)
      for slot in found where watchers[slot].isSynced && wants(change, slot) {
        if !offer(&prepared, to: slot, headerRevision: revision, previous) {
          markLagging(slot, next: revision)
        }
      }
    }
    swap(&found, &matched)
  }

  /// The whole store was replaced (snapshot from the leader): every watcher continues from history
  /// at its own next revision. Nothing is replayed, nothing skipped.
  public mutating func storeRestored(currentRevision new: Int64, compactRevision: Int64) {
    let last = currentRevision
    currentRevision = new
    for slot in watchers.indices where watchers[slot].isLive && watchers[slot].isSynced {
      let next = max(watchers[slot].next, last + 1)
      watchers[slot].next = next
      if next <= new { markLagging(slot, next: next) }
    }
    compacted(to: compactRevision)
  }

  /// Whether a watcher's start and filters admit a change of a key in its range.
  func wants(_ change: Change, _ slot: Int) -> Bool {
    guard change.revision.main >= watchers[slot].next else { return false }
    return switch change.kind {
    case .put: watchers[slot].wantsPuts
    case .delete: watchers[slot].wantsDeletes
    }
  }

  /// Queues a change for a watcher. All changes of one revision that a watcher wants go into one
  /// batch: the stream decides at the first of them.
  /// - Returns: false if the stream takes no more events now; nothing was queued.
  mutating func offer(
    _ prepared: inout PreparedChange, to slot: Int, headerRevision: Int64,
    _ previous: (Change) -> Bytes?
  ) -> Bool {
    let revision = prepared.change.revision.main
    let stream = watchers[slot].stream
    let continues = watchers[slot].acceptedRevision == revision
    guard continues || takesEvents(stream) else { return false }
    let event = prepared.event(withPrevious: watchers[slot].wantsPrevious, previous)
    let bytes = event[0].encoded.count
    if continues || canMerge(slot, bytes: bytes) {
      append(
        event[0], to: slot, headerRevision: headerRevision, isNewRevision: !continues)
    } else {
      watchers[slot].batchEpoch = streams[stream].epoch
      watchers[slot].batchPosition = streams[stream].queue.count
      queue(
        .events(
          WatchBatch(
            watchID: watchers[slot].id, headerRevision: headerRevision, events: event,
            revisionCount: 1, bytes: bytes, fragment: watchers[slot].fragment)),
        on: stream)
      streams[stream].queuedBatches += 1
    }
    streams[stream].queuedBytes += bytes
    watchers[slot].acceptedRevision = revision
    watchers[slot].isQuiet = false
    pendingEvents += 1
    eventsDelivered += 1
    return true
  }

  /// Whether events of one more revision may be queued on the stream.
  func takesEvents(_ stream: Int) -> Bool {
    !streams[stream].isBlocked && streams[stream].queuedBatches < limits.batchesPerStreamMax
      && streams[stream].queuedBytes < limits.bytesPerStreamMax
  }

  /// Whether the watcher's last batch is still queued, open and small enough.
  private func canMerge(_ slot: Int, bytes: Int) -> Bool {
    let stream = watchers[slot].stream
    let position = watchers[slot].batchPosition
    guard watchers[slot].batchEpoch == streams[stream].epoch,
      position >= streams[stream].mergeFrom,
      case .events(let batch) = streams[stream].queue[position]
    else { return false }
    return batch.revisionCount < limits.revisionsPerBatchMax
      && batch.bytes + bytes <= limits.bytesPerBatchMax
  }

  private mutating func append(
    _ event: WatchEvent, to slot: Int, headerRevision: Int64, isNewRevision: Bool
  ) {
    let stream = watchers[slot].stream
    let position = watchers[slot].batchPosition
    precondition(watchers[slot].batchEpoch == streams[stream].epoch, "revision delivered twice")
    guard case .events(var batch) = streams[stream].queue[position] else {
      preconditionFailure("a watcher's last batch moved")
    }
    // The queue must not share the array while it grows, or each append would copy it.
    streams[stream].queue[position] = .progress(watchID: batch.watchID, revision: 0)
    batch.events.append(event)
    batch.bytes += event.encoded.count
    batch.headerRevision = max(batch.headerRevision, headerRevision)
    if isNewRevision { batch.revisionCount += 1 }
    streams[stream].queue[position] = .events(batch)
  }
}
