public import Actors
import Base

/// Facts for the metrics. Times are nanoseconds.
public enum LogMeasure: Sendable {
  case wrote(bytes: Int, nanoseconds: UInt64)
  case synced(nanoseconds: UInt64)
  /// A snapshot's mark was encoded, and written durably.
  case marked(encoding: UInt64, saving: UInt64)
}

/// The actor that owns the write-ahead log: everything that queued up while it was syncing becomes
/// durable with one write and one sync.
///
/// Lives on the LOG thread and blocks it. An error ends the member: what the disk holds is unknown.
public actor LogWriter {
  public struct Outlets: Sendable {
    /// Everything up to this batch is durable.
    public var persisted: @Sendable (UInt64) -> Void
    /// The log can no longer be written; does not return.
    public var failed: @Sendable (WALError) -> Void
    public var measured: @Sendable (LogMeasure) -> Void

    public init(
      persisted: @escaping @Sendable (UInt64) -> Void,
      failed: @escaping @Sendable (WALError) -> Void,
      measured: @escaping @Sendable (LogMeasure) -> Void
    ) {
      self.persisted = persisted
      self.failed = failed
      self.measured = measured
    }
  }

  public static let inboxLimit = 1 << 20
  /// Zeros written to the next segment between two batches, when idle and when not.
  private static let idleSliceBytes = 1 << 20
  private static let busySliceBytes = 256 << 10
  /// Nanoseconds between two marks of how far the log is synced, while it is written all the time.
  private static let markInterval: UInt64 = 50_000_000

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<LogBatch>(name: "log", limit: inboxLimit)
  private let log: WriteAheadLog
  private let outlets: Outlets
  private let segmentsKept: Int
  /// False with `--unsafe-no-fsync`: a power cut may then lose what was acknowledged.
  private let syncs: Bool
  private var markedAt: UInt64 = 0
  private var isPreparing = false
  private var isClosed = false

  /// - Parameter segmentsKept: released segments beyond this number are removed; 0 keeps all.
  public init(
    log: sending WriteAheadLog, segmentsKept: Int, syncs: Bool = true,
    executor: any ActorExecutor, outlets: Outlets
  ) {
    self.log = log
    self.syncs = syncs
    self.segmentsKept = segmentsKept
    self.executor = executor
    self.outlets = outlets
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { $0.write(&batch) }
    }
  }

  private func write(_ batches: inout ContiguousArray<LogBatch>) {
    guard !isClosed else { return }
    do throws(WALError) {
      var mustSync = false
      var released: LogIndex?
      var markEncoding: UInt64?
      for batch in batches {
        if let snapshot = batch.snapshot {
          let start = monotonicNanoseconds()
          log.append(snapshot: snapshot)
          markEncoding = monotonicNanoseconds() - start
        }
        log.append(hardState: batch.hardState, entries: batch.entries)
        mustSync = mustSync || batch.mustSync
        released = batch.releaseThrough ?? released
      }
      try flush(sync: mustSync && syncs, markEncoding: markEncoding)
      // A state without entries is not waited for.
      if mustSync, let last = batches.last { outlets.persisted(last.sequence) }
      try markSynced(isIdle: !mustSync)
      if let released {
        log.release(through: released)
        if segmentsKept > 0 { _ = try log.purge(keep: segmentsKept) }
      }
    } catch {
      outlets.failed(error)
    }
    prepareNextSegment()
  }

  private func flush(sync: Bool, markEncoding: UInt64?) throws(WALError) {
    let bytes = log.pendingBytes
    let start = monotonicNanoseconds()
    var isOnDisk = false
    if sync { isOnDisk = try log.writeForSync() } else { try log.flush(sync: false, marks: false) }
    let written = monotonicNanoseconds()
    outlets.measured(.wrote(bytes: bytes, nanoseconds: written - start))
    guard sync else { return }
    try log.flush(sync: true, marks: false)
    let synced = monotonicNanoseconds()
    // The disk's time for the data counts as the sync's, wherever it was waited for.
    outlets.measured(.synced(nanoseconds: synced - (isOnDisk ? start : written)))
    if let markEncoding {
      outlets.measured(.marked(encoding: markEncoding, saving: synced - start))
    }
  }

  /// Marks how far the log was synced, after those who wait for the sync were told: now and then
  /// under load, and with the hard state that Raft has written when there is nothing else to write.
  private func markSynced(isIdle: Bool) throws(WALError) {
    let now = monotonicNanoseconds()
    guard isIdle || now - markedAt >= Self.markInterval else { return }
    markedAt = now
    try log.writeMark()
  }

  /// Zeroes the next segment bit by bit ahead of need, so that no batch has to wait for all of it.
  private func prepareNextSegment() {
    guard !isPreparing, !log.isNextSegmentReady else { return }
    isPreparing = true
    executor.execute { [weak self] in
      self?.assumeIsolated { $0.prepareSlice() }
    }
  }

  private func prepareSlice() {
    isPreparing = false
    guard !isClosed else { return }
    let isIdle = inbox.count == 0
    do throws(WALError) {
      let bytes = isIdle ? Self.idleSliceBytes : Self.busySliceBytes
      if try !log.prepareNextSegment(sliceBytes: bytes), isIdle { prepareNextSegment() }
    } catch {
      // A full disk is no end yet: the tail has room, and goes on to grow if it must.
      if error.isRefusalForSpace { return }
      outlets.failed(error)
    }
  }

  /// Flushes and closes the log; for an orderly end of the process.
  public nonisolated func close() {
    executor.execute { [self] in
      assumeIsolated { writer in
        writer.isClosed = true
        do throws(WALError) { try writer.log.close() } catch { writer.outlets.failed(error) }
      }
    }
  }
}
