public import Base

extension WatchHub {
  /// Whether any watcher is behind, blocked ones included.
  public var hasUnsynced: Bool { laggingCount > 0 }

  /// The next slice of history to read, or nil if no watcher that is behind can take events now.
  ///
  /// Watchers take turns: the first in line sets the slice, others that need revisions from it ride
  /// along, and all of them go to the end of the line. So one that starts far back cannot hold up
  /// one that is nearly there.
  ///
  /// A pass costs up to watchers x changes; the arguments keep it short where others wait.
  /// - Parameters:
  ///   - limit: most watchers in one pass; at most `WatchLimits.watchersPerPassMax`.
  ///   - revisionLimit: most revisions; at most `WatchLimits.revisionsPerPassMax`.
  public mutating func nextCatchUp(
    limit: Int = .max, revisionLimit: Int64 = .max
  ) -> CatchUpRequest? {
    guard laggingCount > 0 else { return nil }
    let revisionsMax = max(1, min(revisionLimit, limits.revisionsPerPassMax))
    let watchersMax = max(1, min(limit, limits.watchersPerPassMax))
    var chosen: [WatcherReference] = []
    var others: [WatcherReference] = []
    others.reserveCapacity(lagging.count)
    var window: ClosedRange<Int64>?
    for reference in lagging where isLive(reference) {
      let watcher = reference.slot
      let next = watchers[watcher].next
      if chosen.count < watchersMax, window?.contains(next) ?? true,
        takesEvents(watchers[watcher].stream)
      {
        let last = min(next.addingClamped(revisionsMax - 1), currentRevision)
        window = window ?? next...max(next, last)
        chosen.append(reference)
      } else {
        others.append(reference)
      }
    }
    lagging = others + chosen
    guard let window else { return nil }
    return CatchUpRequest(from: window.lowerBound, through: window.upperBound, watchers: chosen)
  }

  /// Queues a slice of history for the watchers that asked for it. One that has everything up to
  /// `currentRevision` afterwards is synced again: the next `notify` continues without a gap.
  ///
  /// The slice may have been read some time ago: watchers that ended since are left out, and a
  /// compaction since has cancelled those that needed more than could be read.
  /// - Parameters:
  ///   - changes: every change of `request.from...through`, ordered by revision.
  ///   - through: last revision read, inclusive; at most `request.through`.
  ///   - storeRevision: the store's revision when the slice was read: the header of its batches.
  ///   - previous: as for `notify`.
  public mutating func catchUp(
    _ request: CatchUpRequest, changes: [Change], through: Int64, storeRevision: Int64,
    previous: (Change) -> Bytes?
  ) {
    precondition(through <= request.through, "history beyond the slice")
    var pass = WatcherIndex()
    var members: [Int] = []
    for reference in request.watchers
    where isLive(reference) && !watchers[reference.slot].isSynced {
      pass.insert(members.count, range: watchers[reference.slot].range)
      members.append(reference.slot)
    }
    guard !members.isEmpty else { return }
    var isStopped = [Bool](repeating: false, count: members.count)
    var stopped = 0
    var found: [Int] = []
    for change in changes where stopped < members.count {
      precondition(
        request.from <= change.revision.main && change.revision.main <= through,
        "change outside the slice")
      found.removeAll(keepingCapacity: true)
      pass.match(change.key, into: &found)
      guard !found.isEmpty else { continue }
      var prepared = PreparedChange(change)
      for member in found where !isStopped[member] && wants(change, members[member]) {
        let slot = members[member]
        if !offer(&prepared, to: slot, headerRevision: storeRevision, previous) {
          isStopped[member] = true
          stopped += 1
          watchers[slot].next = change.revision.main
        }
      }
    }
    finishPass(members.indices.filter { !isStopped[$0] }.map { members[$0] }, through: through)
  }

  /// Moves watchers that took the whole slice behind it.
  private mutating func finishPass(_ slots: [Int], through: Int64) {
    var someSynced = false
    for slot in slots {
      watchers[slot].next = max(watchers[slot].next, through + 1)
      if watchers[slot].next > currentRevision {
        markSynced(slot)
        someSynced = true
      }
    }
    if someSynced {
      lagging = lagging.filter { isLive($0) && !watchers[$0.slot].isSynced }
    }
  }
}

extension Int64 {
  /// `self + other`, at most `Int64.max`. `other` is not negative.
  fileprivate func addingClamped(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
