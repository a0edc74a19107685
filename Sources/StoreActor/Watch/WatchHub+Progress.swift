import Base

extension WatchHub {
  /// Answers a WatchProgressRequest: one report for the whole stream if all its watchers are
  /// synced and have reached their start revisions; otherwise nothing, also later.
  public mutating func requestProgress(stream id: StreamID) {
    guard let position = streamPosition(id), isCaughtUp(position) else { return }
    report(.progress(watchID: -1, revision: currentRevision), on: position)
  }

  /// A tick of every stream's progress timer: see `progressTick(stream:)`.
  public mutating func progressTick() {
    for position in streams.indices where streams[position].isOpen { tick(position) }
  }

  /// A tick of one stream's progress timer. Each watcher that opted in and had no events since the
  /// last tick is told the current revision, if it is synced and has reached its start. A stream
  /// that takes no events gets no reports either.
  public mutating func progressTick(stream id: StreamID) {
    if let position = streamPosition(id) { tick(position) }
  }

  private mutating func tick(_ position: Int) {
    let reporting = streams[position].watchers
      .filter { $0.value >= 0 && watchers[$0.value].wantsProgress }
      .sorted { $0.key < $1.key }
    for (id, slot) in reporting {
      let isDue =
        watchers[slot].isQuiet && watchers[slot].isSynced
        && watchers[slot].start <= currentRevision && !streams[position].isBlocked
      watchers[slot].isQuiet = true
      if isDue { report(.progress(watchID: id, revision: currentRevision), on: position) }
    }
  }

  private func isCaughtUp(_ position: Int) -> Bool {
    let stream = streams[position]
    guard stream.watcherCount > 0, stream.laggingCount == 0 else { return false }
    if stream.highestStart <= currentRevision { return true }
    return stream.watchers.allSatisfy { _, slot in
      slot < 0 || watchers[slot].start <= currentRevision
    }
  }

  /// Queues a progress report behind everything queued so far. No later event may join a batch in
  /// front of it: the report would then claim less than what was sent before it.
  private mutating func report(_ progress: WatchOutput, on position: Int) {
    queue(progress, on: position)
    streams[position].mergeFrom = streams[position].queue.count
  }
}
