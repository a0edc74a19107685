import Base
import RaftActor

extension KVStore {
  /// History read per catch-up pass. A stream with many watchers is full after few revisions, and what
  /// was read beyond them is read again.
  private static let catchUpRecords = 500
  private static let catchUpBytes = 1 << 20

  func handle(_ command: WatchCommand) {
    switch command {
    case .open(let stream): hub.openStream(id: stream)
    case .close(let stream): hub.closeStream(id: stream)
    case .create(let stream, let request, let caller):
      hub.create(stream: stream, request: request, refusal: refusal(of: request, caller))
    case .cancel(let stream, let watchID): hub.cancel(stream: stream, watchID: watchID)
    case .progress(let stream): hub.requestProgress(stream: stream)
    case .blocked(let stream): hub.streamBlocked(id: stream)
    case .ready(let stream): hub.streamReady(id: stream)
    }
    hubHasWork = true
  }

  /// Encodes on this thread what the gateway only has to send.
  func deliverWatchOutput() {
    let term = machine.appliedTerm
    var counts = WatchDeliveryCounts()
    let deliveries = hub.takeOutput().map { delivery in
      for output in delivery.outputs { counts.count(output) }
      let messages = watchEncoder.framed(delivery, term: term)
      counts.messages += messages.count
      return (delivery.stream, messages)
    }
    outlets.deliver(deliveries, counts)
    hubHasWork = true
  }

  /// One pass over history for watchers that are behind; they take turns.
  func catchUpWatchers() {
    guard hub.hasUnsynced else { return }
    guard let request = hub.nextCatchUp() else {
      hubHasWork = false
      return
    }
    var changes: [Change] = []
    let next: Int64
    do throws(KVError) {
      next = try machine.kv.changes(
        from: request.from, recordsMax: Self.catchUpRecords, bytesMax: Self.catchUpBytes,
        matching: { _ in true }, into: &changes)
    } catch {
      preconditionFailure("watchers behind the compaction were cancelled: \(error)")
    }
    let through = min(next - 1, request.through)
    if next - 1 > through { changes.removeAll { $0.revision.main > through } }
    // The closure reads the machine in place: a copy would be made for each event.
    hub.catchUp(
      request, changes: changes, through: through, storeRevision: machine.kv.currentRevision
    ) { change in
      machine.kv.previousKeyValue(of: change.key, before: change.revision.main)
    }
  }
}

extension WatchDeliveryCounts {
  fileprivate mutating func count(_ output: WatchOutput) {
    switch output {
    case .events(let batch): events += batch.events.count
    case .progress: progress += 1
    case .created, .refused, .canceled, .compacted: control += 1
    }
  }
}
