public import Actors
public import Base
import Synchronization

/// What the thread that owns the store's file is asked to do, in order.
public enum BackendInput: Sendable {
  case commit(SealedBuffer)
  /// Gives the space of removed records back to the file system.
  case defragment(id: UInt64)
  /// The next slice of it.
  case continueDefragment
  /// Writes the store as of the last commit to a file.
  case export(id: UInt64, path: String, overrides: SnapshotOverrides)
  /// Replaces the store by a received file.
  case install(path: String)
  case hash(id: UInt64)
  /// Gives back a slice of the space of a file that was replaced.
  case reclaim
}

/// What that thread reports.
public enum BackendReport: Sendable {
  case committed(id: UInt64, index: LogIndex, nanoseconds: UInt64)
  case defragmented(id: UInt64, BackendError?)
  case defragmentationBegan
  case defragmentationEnded(nanoseconds: UInt64, BackendError?)
  /// The file holds the store as of this entry.
  case exported(id: UInt64, path: String, Result<LogIndex, BackendError>)
  case installed(Result<SnapshotContents, BackendError>)
  case hashed(id: UInt64, Result<UInt32, BackendError>, nanoseconds: UInt64)
  /// A commit failed. Of a full disk or map nothing was written: it may be tried again.
  case failed(BackendError)
}

/// The actor that writes the store's file: lazy commits, defragmentation, snapshot files.
///
/// Lives on the BACKEND thread and blocks it; nobody waits for it but callers of these operations.
public actor BackendWriter {
  public static let inboxLimit = 1 << 16
  private static let restMillisecondsMax: UInt64 = 50
  private static let reclaimSliceBytes = 64 << 20
  /// Commits beyond this that the copy has yet to repeat are reason to hurry.
  private static let journalBytesAtRest = 128 << 20

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<BackendInput>(name: "backend", limit: inboxLimit)
  private let backend: Backend
  private let exporter: any ActorExecutor
  /// Callers of the defragmentation under way, and of the one after it.
  private var defragmenting: [UInt64] = []
  private var defragmentNext: [UInt64] = []
  private var defragmentationStart: UInt64 = 0
  /// Space of replaced files is left to give back.
  private var reclaims = false
  private let later: @Sendable (_ milliseconds: Int, BackendInput) -> Void
  private let report: @Sendable (BackendReport) -> Void

  /// - Parameters:
  ///   - exporter: where snapshot files are written, which takes long for large stores.
  ///   - later: sends an input to the inbox after a time.
  public init(
    backend: Backend, executor: any ActorExecutor, exporter: any ActorExecutor,
    later: @escaping @Sendable (_ milliseconds: Int, BackendInput) -> Void,
    report: @escaping @Sendable (BackendReport) -> Void
  ) {
    self.backend = backend
    self.executor = executor
    self.exporter = exporter
    self.later = later
    self.report = report
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { writer in
        for input in batch { writer.perform(input) }
      }
    }
  }

  private func perform(_ input: BackendInput) {
    switch input {
    case .commit(let sealed): commit(sealed)
    case .defragment(let id):
      if defragmenting.isEmpty { beginDefragment([id]) } else { defragmentNext.append(id) }
    case .continueDefragment: continueDefragment()
    case .export(let id, let path, let overrides):
      export(id, path, overrides)
    case .install(let path):
      // It leaves a file without free space, which is what was asked for.
      for id in defragmenting + defragmentNext { report(.defragmented(id: id, nil)) }
      if !defragmenting.isEmpty { reportEnd(nil) }
      defragmenting = []
      defragmentNext = []
      report(
        .installed(
          Result { () throws(BackendError) in
            try ReceivedStore.install(path, into: backend)
          }))
    case .reclaim: reclaim()
    case .hash(let id):
      let start = monotonicNanoseconds()
      let result = Result { () throws(BackendError) in try backend.hashBackend() }
      report(.hashed(id: id, result, nanoseconds: monotonicNanoseconds() - start))
    }
  }

  /// Pins what is committed now; the file is written on a thread of its own, so that commits go on.
  private func export(_ id: UInt64, _ path: String, _ overrides: SnapshotOverrides) {
    let report = report
    do throws(BackendError) {
      let index = backend.progress.consistentIndex
      let view = PinnedView(try backend.makeReadView())
      exporter.execute {
        report(
          .exported(
            id: id, path: path,
            Result { () throws(BackendError) in
              _ = try SnapshotFile.export(from: view.take(), to: path, overrides: overrides)
              return index
            }))
      }
    } catch {
      report(.exported(id: id, path: path, .failure(error)))
    }
  }

  // MARK: - Defragmentation, in slices between commits

  private func beginDefragment(_ ids: [UInt64]) {
    defragmenting = ids
    defragmentationStart = monotonicNanoseconds()
    report(.defragmentationBegan)
    do throws(BackendError) {
      try backend.beginDefragment()
      inbox.send(.continueDefragment)
    } catch {
      endDefragment(error)
    }
  }

  private func continueDefragment() {
    guard !defragmenting.isEmpty else { return }
    let started = monotonicNanoseconds()
    do throws(BackendError) {
      guard try backend.continueDefragment(maxBytes: Backend.gentleSliceBytes) else {
        return rest(since: started, then: .continueDefragment)
      }
      try backend.finishDefragment()
      endDefragment(nil)
    } catch {
      endDefragment(error)
    }
  }

  private func endDefragment(_ error: BackendError?) {
    for id in defragmenting { report(.defragmented(id: id, error)) }
    reportEnd(error)
    defragmenting = []
    guard !defragmentNext.isEmpty else { return }
    let ids = defragmentNext
    defragmentNext = []
    beginDefragment(ids)
  }

  private func reportEnd(_ error: BackendError?) {
    let took = monotonicNanoseconds() - defragmentationStart
    report(.defragmentationEnded(nanoseconds: took, error))
  }

  /// Leaves the disk to others for as long as the slice before took, unless memory fills meanwhile.
  private func rest(since started: UInt64, then next: BackendInput) {
    let took = (monotonicNanoseconds() - started) / 1_000_000
    let isPressed = backend.journalBytes > Self.journalBytesAtRest
    later(isPressed ? 0 : Int(min(took + 1, Self.restMillisecondsMax)), next)
  }

  private func reclaim() {
    let started = monotonicNanoseconds()
    switch backend.reclaim(maxBytes: Self.reclaimSliceBytes) {
    case .done: reclaims = false
    case .goesOn:
      reclaims = false
      rest(since: started, then: .reclaim)
    // Tried again with each commit: there is always another one.
    case .waitsForReaders: reclaims = true
    }
  }

  private func commit(_ sealed: SealedBuffer) {
    let start = monotonicNanoseconds()
    do throws(BackendError) {
      try backend.commit(sealed)
      report(
        .committed(
          id: sealed.id, index: sealed.consistentIndex,
          nanoseconds: monotonicNanoseconds() - start))
      if reclaims { reclaim() }
    } catch {
      report(.failed(error))
    }
  }
}

/// Carries a read view to the thread that will use it. LMDB's read transactions may change threads
/// between uses (they are opened without thread-local slots).
private final class PinnedView: Sendable {
  private let slot: Mutex<ReadView?>

  init(_ view: sending ReadView) { slot = Mutex(view) }

  func take() -> sending ReadView {
    let view = slot.withLock { slot in
      let view = slot
      slot = nil
      return view
    }
    guard let view else { preconditionFailure("a view is taken once") }
    return view
  }
}
