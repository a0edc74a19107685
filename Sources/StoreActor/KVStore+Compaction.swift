import Actors
import Base
import RaftActor

// Removing what compaction has made superfluous, in slices between batches.

extension KVStore {
  /// Slices look at this many keys for every record that they may remove: looking is cheap.
  private static let keysPerRemoval = 4
  private static let hashedPerSlice = 1000
  /// Compaction hashes that are remembered, as in etcd.
  private static let hashesKept = 10

  /// Sees to what an accepted compaction leaves to do.
  func compactionAccepted(_ compaction: AcceptedCompaction) {
    hub.compacted(to: compaction.revision)
    if !compactionUnderWay {
      compactionBegan = (monotonicNanoseconds(), machine.kv.removedRecords)
    }
    compactionUnderWay = true
    if settings.hashesCompactions, let previous = compaction.completedBefore {
      compactionHash = machine.kv.beginCompactionHash(after: previous)
    }
  }

  /// Holds the caller's reply back until nothing superfluous is left, here and in the file.
  func replyAfterCompaction(_ reply: StoreReply) {
    compactionWaiters.append((machine.kv.compactRevision, reply))
    compactionUnderWay = true
  }

  var hasCompactionWork: Bool { compactionUnderWay && !compactionPauses }

  /// One slice. In between come a pause, so that requests and the file's thread keep their share, and
  /// whatever has arrived; without the pause only if a defragmentation waits for the end.
  func compactSlice() {
    guard hasCompactionWork else { return }
    let isBehind = machine.kv.store.buffers.pendingBytes > 2 * Self.commitBytes
    let start = monotonicNanoseconds()
    let isDone = !isBehind && advanceCompaction()
    if !isBehind {
      outlets.measured(.compactionStep(nanoseconds: monotonicNanoseconds() - start))
    }
    if isDone {
      compactionFinished()
    } else if isBehind || waitingDefragments.isEmpty {
      compactionPauses = true
      outlets.pause(.compaction)
    }
  }

  private func advanceCompaction() -> Bool {
    if var cursor = compactionHash {
      hash(&cursor)
      return false
    }
    let limit = max(1, settings.compactionBatch)
    return machine.kv.compactionStep(keys: Self.keysPerRemoval * limit, drops: limit)
  }

  private func hash(_ cursor: inout HashCursor) {
    do throws(KVError) {
      _ = try machine.kv.advance(&cursor, records: Self.hashedPerSlice)
    } catch {
      preconditionFailure("the hash of a compaction cannot fall behind one: \(error)")
    }
    compactionHash = cursor
    guard let result = cursor.result else { return }
    compactionHash = nil
    compactionHashes.append(result)
    if compactionHashes.count > Self.hashesKept { compactionHashes.removeFirst() }
  }

  private func compactionFinished() {
    compactionUnderWay = false
    let finished = machine.kv.finishedCompactRevision
    if finished > reportedCompactRevision {
      reportedCompactRevision = finished
      machine.kv.store.buffers.put(
        .meta, BackendKey.finishedCompactRevision, RevisionKey.bytes(Revision(main: finished)))
      outlets.compactionFinished(
        FinishedCompaction(
          revision: finished, hash: compactionHashes.last { $0.revision == finished }?.hash,
          nanoseconds: monotonicNanoseconds() - compactionBegan.at,
          records: machine.kv.removedRecords - compactionBegan.removed,
          sizeBytes: Int64(backend.sizeBytes), sizeInUseBytes: Int64(backend.sizeInUseBytes)))
    }
    let waiters = compactionWaiters.filter { $0.revision <= finished }
    if !waiters.isEmpty {
      compactionWaiters.removeAll { $0.revision <= finished }
      // Whoever asked for a physical compaction is answered when the file says so too.
      seal()
      if let id = committing.last?.id {
        uncommittedReplies += waiters.map { (id, $0.reply) }
      } else {
        replies += waiters.map(\.reply)
      }
    }
    let defragments = waitingDefragments
    waitingDefragments = []
    for id in defragments { defragment(id) }
  }

  /// A buffer is in the file: answers those who waited for it.
  func answerCommitted(through id: UInt64) {
    guard !uncommittedReplies.isEmpty else { return }
    replies += uncommittedReplies.filter { $0.buffer <= id }.map(\.reply)
    uncommittedReplies.removeAll { $0.buffer <= id }
  }

  /// Has the file rewritten without what is free in it. What a compaction under way is about to remove
  /// shall not be carried over: its end is waited for, and hastened.
  func defragment(_ id: UInt64) {
    guard !compactionUnderWay else {
      waitingDefragments.append(id)
      compactionPauses = false
      return
    }
    seal()
    backendInbox.send(.defragment(id: id))
  }

  /// Everything about compaction starts over with another store.
  func resetCompaction() {
    compactionHash = nil
    compactionHashes = []
    compactionBegan = (monotonicNanoseconds(), machine.kv.removedRecords)
    reportedCompactRevision = machine.kv.finishedCompactRevision
    compactionUnderWay =
      machine.kv.finishedCompactRevision < machine.kv.compactRevision
      || !compactionWaiters.isEmpty || !waitingDefragments.isEmpty
  }
}
