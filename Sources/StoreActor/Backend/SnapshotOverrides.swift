public import Base

/// Entries that a snapshot shall contain instead of, or besides, what its source holds.
public struct SnapshotOverrides: Sendable {
  fileprivate struct Change: Sendable {
    let bucket: BackendBucket
    let key: Bytes
    /// Nil removes the entry.
    let value: Bytes?
  }

  private var changes: [Change] = []
  private var replaced: [BackendBucket] = []

  public init() {}

  public mutating func set(_ bucket: BackendBucket, _ key: Bytes, _ value: Bytes) {
    changes.append(Change(bucket: bucket, key: key, value: value))
  }

  public mutating func remove(_ bucket: BackendBucket, _ key: Bytes) {
    changes.append(Change(bucket: bucket, key: key, value: nil))
  }

  /// Drops everything the source has in `bucket`; entries given with `set` remain.
  public mutating func clear(_ bucket: BackendBucket) { replaced.append(bucket) }

  /// Index and term that the snapshot stands for.
  public mutating func setProgress(consistentIndex: LogIndex, term: Term) {
    set(.meta, BackendKey.consistentIndex, consistentIndex.bigEndianBytes)
    set(.meta, BackendKey.term, term.bigEndianBytes)
  }

  /// What merges these changes into the entries of `bucket`.
  func merger(_ bucket: BackendBucket) -> Merger {
    Merger(keepsSource: !replaced.contains(bucket), changes: sortedChanges(bucket))
  }

  /// Passes on a bucket's entries, given in byte order, with the changes made.
  struct Merger {
    typealias Emit =
      (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(BackendError) -> Void

    /// False when the source's entries shall not be passed at all.
    let keepsSource: Bool
    private let changes: [Change]
    private var next = 0

    fileprivate init(keepsSource: Bool, changes: [Change]) {
      self.keepsSource = keepsSource
      self.changes = changes
    }

    mutating func pass(
      _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ emit: Emit
    ) throws(BackendError) {
      while let change = pending {
        let order = change.key.withBuffer { $0.compare(key) }
        if order > 0 { break }
        next += 1
        try Self.emit(change, emit)
        // The change has taken the entry's place.
        if order == 0 { return }
      }
      try emit(key, value)
    }

    /// Emits the changes behind the last entry.
    mutating func finish(_ emit: Emit) throws(BackendError) {
      while let change = pending {
        next += 1
        try Self.emit(change, emit)
      }
    }

    private var pending: Change? { next < changes.count ? changes[next] : nil }

    private static func emit(_ change: Change, _ emit: Emit) throws(BackendError) {
      guard let value = change.value else { return }
      try change.key.withBuffer { (key) throws(BackendError) in
        try value.withBuffer { (value) throws(BackendError) in try emit(key, value) }
      }
    }
  }

  /// The last change of each key, in byte order.
  private func sortedChanges(_ bucket: BackendBucket) -> [Change] {
    var result: [Change] = []
    let sorted = changes.enumerated().filter { $0.element.bucket == bucket }.sorted {
      let order = $0.element.key.compare($1.element.key)
      return order != 0 ? order < 0 : $0.offset < $1.offset
    }
    for (_, change) in sorted {
      if result.last?.key == change.key { result.removeLast() }
      result.append(change)
    }
    return result
  }
}
