import Base

/// The member's memory across restarts: entries, hard state and snapshot marks in etcd's format.
///
/// Appends collect in memory; one `flush` writes all of them with one system call and makes them
/// durable with one more. Used by one thread at a time, which blocks for the disk in `flush`.
/// After an error, unless a method says otherwise, every call throws that error again: the owner
/// ends the process and the next start reads what the disk really holds.
public final class WriteAheadLog {
  public struct Options: Sendable {
    /// A segment is complete once this much of it is written (etcd's 64 MB, not MiB).
    public var segmentBytes = 64_000_000
    /// Zeroed room behind `segmentBytes`, so that the batch that crosses it extends no file.
    public var slackBytes = 1 << 20
    /// How much of the very first segment is zeroed before `create` returns;
    /// `prepareNextSegment` does the rest.
    public var firstFillBytes = 8 << 20
    /// At most this much is written without a sync. Damage wider than this cannot be a torn tail.
    public var unsyncedBytesMax = 16 << 20

    public init() {}

    var fileBytes: Int { segmentBytes + slackBytes }
  }

  struct Segment {
    let name: WALSegmentName
    /// Made once: every write and sync names it, in case it fails.
    let path: String
    /// Open and locked until the segment is released; nil afterwards.
    var file: Int32?

    init(_ name: WALSegmentName, in directory: String, file: Int32) {
      self.name = name
      path = directory + "/" + name.name
      self.file = file
    }
  }

  /// A zeroed file on its way to become the next segment.
  struct NextSegment {
    let path: String
    let file: Int32
    /// Zeros up to here are durable.
    var filled = 0
  }

  public let directory: String
  public let metadata: WALMetadata
  /// End of what is written in the tail segment.
  public internal(set) var position: Int
  public internal(set) var segmentCount = 0

  let storage: WALStorage
  let options: Options
  let owner: WALOwnerFile
  /// Oldest first; the last one is the tail.
  var segments: [Segment] { didSet { segmentCount = segments.count } }
  var next: NextSegment?
  /// The tail is zeroed up to here, as far as it is not written.
  var tailFilled: Int
  var hardState: HardState
  /// Index of the last entry or snapshot record: the next segment's name.
  var lastIndex: LogIndex

  var buffer: WALFrameBuffer
  var direct = DirectTail.untried
  var unsyncedBytes = 0
  /// How far the log was synced, as far as its owner file does not say so yet.
  private var unwrittenMark: SyncedMark?
  private var failure: WALError?
  private var isClosed = false

  init(
    directory: String, metadata: WALMetadata, storage: WALStorage, options: Options,
    owner: WALOwnerFile, segments: [Segment], position: Int, tailFilled: Int, crc: UInt32,
    hardState: HardState, lastIndex: LogIndex
  ) {
    self.directory = directory
    self.metadata = metadata
    self.storage = storage
    self.options = options
    self.owner = owner
    self.segments = segments
    self.position = position
    self.tailFilled = tailFilled
    self.hardState = hardState
    self.lastIndex = lastIndex
    buffer = WALFrameBuffer(crc: crc)
    segmentCount = segments.count
  }

  deinit { closeFiles() }

  /// Bytes that wait for `flush`.
  public var pendingBytes: Int { buffer.count }

  /// Queues entries, then the hard state if it is given and not empty. No input or output.
  /// - Parameter entries: contiguous; they replace what the log holds at their indexes and behind.
  public func append(hardState: HardState?, entries: [Entry]) {
    for entry in entries { buffer.append(entry) }
    if let last = entries.last { lastIndex = last.index }
    if let hardState, hardState != HardState() {
      buffer.append(.state, hardState.encoded())
      self.hardState = hardState
    }
  }

  /// Queues the mark of a snapshot that is durable elsewhere already; to be flushed with `sync`
  /// before entries and hard state of the same round.
  public func append(snapshot: SnapshotMetadata) {
    buffer.append(.snapshot, WALSnapshotRecord(snapshot).encoded())
    lastIndex = max(lastIndex, snapshot.index)
  }

  /// Writes what was appended, and everything unsynced becomes durable if `sync` is set.
  ///
  /// Begins a new segment when the tail is full; that takes three syncs, and the time of
  /// zero-filling if `prepareNextSegment` has not finished before.
  /// - Parameter marks: false leaves the mark of the sync to a later call of `writeMark`, so that
  ///   those who wait for the sync need not wait for it.
  /// - Throws: `WALError.io`; nothing appended since the last good flush may count as durable.
  public func flush(sync: Bool, marks: Bool = true) throws(WALError) {
    try guarded { () throws(WALError) in
      try writePending(syncFollows: sync)
      if sync { try syncTail() }
      if marks { try writeDueMark() }
      if position >= options.segmentBytes { try cut() }
    }
  }

  /// Writes what was appended, for a `flush` with `sync` that follows at once.
  /// - Returns: whether it went past the page cache, so that this has waited for the disk to take it.
  public func writeForSync() throws(WALError) -> Bool {
    try guarded { () throws(WALError) in try writePending(syncFollows: true) }
  }

  /// Notes in the owner file how far the log was synced, if that is not done yet.
  public func writeMark() throws(WALError) {
    try guarded { () throws(WALError) in try writeDueMark() }
  }

  func writeDueMark() throws(WALError) {
    guard let mark = unwrittenMark else { return }
    unwrittenMark = nil
    try owner.write(mark)
  }

  /// Flushes, and gives the files back. The log is of no use afterwards.
  public func close() throws(WALError) {
    try guarded { () throws(WALError) in
      try writePending()
      try syncTail()
      try writeDueMark()
      try owner.sync()
    }
    closeFiles()
  }

  /// Runs `body` unless the log has failed; remembers its error.
  func guarded<Value>(
    _ body: () throws(WALError) -> Value
  ) throws(WALError) -> Value {
    if let failure { throw failure }
    precondition(!isClosed, "the log is closed")
    do throws(WALError) { return try body() } catch {
      failure = error
      throw error
    }
  }

  var tail: (file: Int32, path: String, name: WALSegmentName) {
    guard let last = segments.last, let file = last.file else {
      preconditionFailure("the tail segment is always open")
    }
    return (file, last.path, last.name)
  }

  func syncTail() throws(WALError) {
    let tail = tail
    try storage.sync(tail.file, tail.path)
    unsyncedBytes = 0
    unwrittenMark = SyncedMark(sequence: tail.name.sequence, offset: position)
  }

  /// Writes the records that open a segment to a zeroed file and makes them durable.
  /// - Returns: the count of bytes.
  func writeSegmentStart(to file: Int32, _ path: String) throws(WALError) -> Int {
    buffer.startFile()
    buffer.appendSegmentStart()
    buffer.append(.metadata, metadata.encoded())
    if hardState != HardState() { buffer.append(.state, hardState.encoded()) }
    let count = buffer.count
    try storage.writeAll(file, path, buffer.bytes, at: 0)
    buffer.didWrite()
    try storage.sync(file, path)
    return count
  }

  /// - Returns: whether all went past the page cache.
  @discardableResult
  func writePending(syncFollows: Bool = false) throws(WALError) -> Bool {
    if syncFollows, try writePendingDirectly() { return true }
    let tail = tail
    var done = 0
    while done < buffer.count {
      let count = min(buffer.count - done, options.unsyncedBytesMax - unsyncedBytes)
      let part = UnsafeRawBufferPointer(rebasing: buffer.bytes[done..<done + count])
      try storage.writeAll(tail.file, tail.path, part, at: position)
      position += count
      unsyncedBytes += count
      done += count
      if unsyncedBytes >= options.unsyncedBytesMax { try syncTail() }
    }
    buffer.didWrite()
    return false
  }

  private func closeFiles() {
    if isClosed { return }
    isClosed = true
    for segment in segments { if let file = segment.file { storage.files.close(file) } }
    closeDirectTail()
    if let next { storage.files.close(next.file) }
    storage.files.close(owner.file)
  }
}
