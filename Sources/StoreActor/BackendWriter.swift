package import Actors
package import Base

/// What the thread that owns the store's file is asked to do, in order.
package enum BackendInput: Sendable {
  case commit(SealedBuffer)
  /// Gives the space of removed records back to the file system.
  case defragment(id: UInt64)
  /// Writes the store as of the last commit to a file.
  case export(id: UInt64, path: String, overrides: SnapshotOverrides)
  /// Replaces the store by a received file.
  case install(path: String)
  case hash(id: UInt64)
}

/// What that thread reports.
package enum BackendReport: Sendable {
  case committed(id: UInt64, index: LogIndex, nanoseconds: UInt64)
  case defragmented(id: UInt64, BackendError?)
  case exported(id: UInt64, path: String, Result<Int, BackendError>)
  case installed(Result<SnapshotContents, BackendError>)
  case hashed(id: UInt64, Result<UInt32, BackendError>)
  /// A commit failed. With `canRetry`, nothing was written and the buffer is kept.
  case failed(BackendError)
}

/// The actor that writes the store's file: lazy commits, defragmentation, snapshot files.
///
/// Lives on the BACKEND thread and blocks it; nobody waits for it but callers of these operations.
package actor BackendWriter {
  package static let inboxLimit = 1 << 16

  private nonisolated let executor: any ActorExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  package nonisolated let inbox = Inbox<BackendInput>(name: "backend", limit: inboxLimit)
  private let backend: Backend
  private let report: @Sendable (BackendReport) -> Void

  package init(
    backend: Backend, executor: any ActorExecutor,
    report: @escaping @Sendable (BackendReport) -> Void
  ) {
    self.backend = backend
    self.executor = executor
    self.report = report
  }

  package nonisolated func start() {
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
      do throws(BackendError) {
        try backend.defragment()
        report(.defragmented(id: id, nil))
      } catch {
        report(.defragmented(id: id, error))
      }
    case .export(let id, let path, let overrides):
      report(.exported(id: id, path: path, Result { () throws(BackendError) in
        try SnapshotFile.export(from: try backend.makeReadView(), to: path, overrides: overrides)
      }))
    case .install(let path):
      report(.installed(Result { () throws(BackendError) in
        try backend.installSnapshot(path: path)
      }))
    case .hash(let id):
      report(.hashed(id: id, Result { () throws(BackendError) in try backend.hashBackend() }))
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
    } catch {
      report(.failed(error))
    }
  }
}
