public import Base

/// The production ``RecordStore``: LMDB under the buffers that are on their way into it.
///
/// A file that cannot be read ends the process: an answer made up without it would be a lie.
public struct DiskRecords: RecordStore {
  public let buffers: BufferedRecordStore
  private let failed: @Sendable (BackendError) -> Never

  public init(buffers: BufferedRecordStore, failed: @escaping @Sendable (BackendError) -> Never) {
    self.buffers = buffers
    self.failed = failed
  }

  public mutating func append(_ revision: Revision, isTombstone: Bool, record: Bytes) {
    buffers.append(revision, isTombstone: isTombstone, record)
  }

  public func record(at revision: Revision) -> Bytes { withRecord(at: revision) { Bytes($0) } }

  public func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    do throws(BackendError) {
      if let result = try buffers.withRecord(at: revision, body) { return result }
    } catch {
      failed(error)
    }
    preconditionFailure("the index knows \(revision), the store does not")
  }

  public func forEachRecord(
    from first: Revision, through last: Revision, reading part: RecordPart,
    _ body: (Revision, Bool, UnsafeRawBufferPointer) -> Bool
  ) {
    do throws(BackendError) {
      try buffers.scan(from: first, reading: part) { revision, isTombstone, record in
        revision <= last && body(revision, isTombstone, record)
      }
    } catch {
      failed(error)
    }
  }

  public mutating func remove(_ revision: Revision, isTombstone: Bool) {
    buffers.remove(revision)
  }
}
