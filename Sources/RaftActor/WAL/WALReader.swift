import Base

/// Reads a log without changing, locking or repairing it: for dumps, tests, and opening.
public struct WALReader {
  public let directory: String
  private let storage: WALStorage
  private let unsyncedBytesMax: Int

  public init(
    directory: String, fileSystem: any WALFileSystem = PosixFileSystem(),
    unsyncedBytesMax: Int = WriteAheadLog.Options().unsyncedBytesMax
  ) {
    self.directory = directory
    storage = WALStorage(files: fileSystem)
    self.unsyncedBytesMax = unsyncedBytesMax
  }

  /// All segments, oldest first.
  public func segments() throws(WALError) -> [WALSegmentName] {
    try storage.list(directory).compactMap { WALSegmentName($0) }.sorted()
  }

  /// Calls `body` for every readable record of one segment, in order.
  /// - Returns: where reading stopped, and why.
  public func forEachRecord(
    in segment: WALSegmentName, _ body: (WALRecord) throws(WALError) -> Void
  ) throws(WALError) -> (offset: Int, step: WALRecordStep) {
    try storage.withContent(of: path(segment)) { (bytes) throws(WALError) in
      var scanner = WALRecordScanner(bytes, crc: nil)
      let step = try scan(&scanner, body)
      return (scanner.offset, step)
    }
  }

  /// Everything from the newest snapshot record at or below the commit index.
  public func recover() throws(WALError) -> WALRecovered {
    let mark = WALOwnerFile.readMark(directory: directory, storage: storage)
    return try recover(mark: mark).recovered
  }

  func recover(
    mark: SyncedMark?
  ) throws(WALError) -> (recovered: WALRecovered, tail: WALTail, start: WALSegmentName) {
    let names = try contiguous(try segments())
    guard let last = names.last else { throw .notFound(directory: directory) }
    let survey = try survey(names, mark: mark)
    guard let start = names.lastIndex(where: { $0.firstIndex <= survey.snapshot.index }) else {
      throw .segmentMissing(
        directory: directory,
        reason: "no segment reaches back to snapshot index \(survey.snapshot.index)")
    }
    var collector = EntryCollector(after: survey.snapshot)
    var crc: UInt32?
    for name in names[start...] {
      crc = try collect(
        name, crc: crc, limit: name == last ? survey.tail.offset : nil, into: &collector)
    }
    let commit = survey.hardState.commit
    guard commit <= collector.lastIndex else {
      throw .corrupt(
        file: path(last), offset: survey.tail.offset,
        reason: "commit index \(commit) lies behind the last entry \(collector.lastIndex)")
    }
    var recovered = WALRecovered(
      metadata: survey.metadata, hardState: survey.hardState, snapshot: survey.snapshot,
      entries: collector.entries)
    if let reason = survey.tail.tornReason {
      recovered.tornTail = WALTornTail(
        file: path(last), offset: survey.tail.offset,
        bytes: survey.tail.dirtyEnd - survey.tail.offset, reason: reason)
    }
    return (recovered, survey.tail, names[start])
  }

  func path(_ segment: WALSegmentName) -> String { directory + "/" + segment.name }

  /// The longest run of sequence numbers without a hole up to the last segment.
  private func contiguous(_ names: [WALSegmentName]) throws(WALError) -> ArraySlice<WALSegmentName>
  {
    var start = names.count
    while start > 0,
      start == names.count || names[start - 1].sequence &+ 1 == names[start].sequence
    {
      start -= 1
    }
    return names[start...]
  }

  private func scan(
    _ scanner: inout WALRecordScanner, _ body: (WALRecord) throws(WALError) -> Void
  ) throws(WALError) -> WALRecordStep {
    while true {
      let step = scanner.next()
      guard case .record(let record) = step else { return step }
      try body(record)
    }
  }

  private func decode<Value: WireMessage>(
    _ record: WALRecord, in segment: WALSegmentName
  ) throws(WALError) -> Value {
    do throws(WireError) { return try Value(decoding: record.data) } catch {
      throw .corrupt(file: path(segment), offset: record.offset, reason: "\(error)")
    }
  }
}

// Where to begin: decided from the newest segment backwards, so that old segments are not read.
extension WALReader {
  private struct Survey {
    var metadata: WALMetadata
    var hardState: HardState
    var snapshot: SnapshotMetadata
    var tail: WALTail
  }

  private func survey(
    _ names: ArraySlice<WALSegmentName>, mark: SyncedMark?
  ) throws(WALError) -> Survey {
    var metadata: WALMetadata?
    var hardState: HardState?
    var snapshots: [SnapshotMetadata] = []
    var tail: WALTail?
    for name in names.reversed() {
      let found = try storage.withContent(of: path(name)) { (bytes) throws(WALError) in
        var found = SegmentSummary()
        var scanner = WALRecordScanner(bytes, crc: nil)
        let step = try scan(&scanner) { (record) throws(WALError) in
          try summarise(record, name, into: &found)
        }
        if tail == nil {
          tail = try WALTail.judge(
            step, in: bytes, offset: scanner.offset, crc: scanner.crc, segment: name,
            directory: directory, mark: mark, unsyncedBytesMax: unsyncedBytesMax)
        } else {
          try requireComplete(step, name, bytes, scanner.offset)
        }
        return found
      }
      guard let owner = found.metadata, owner == metadata ?? owner else {
        throw .corrupt(
          file: path(name), offset: 0,
          reason: found.metadata == nil ? "no metadata record" : "conflicting metadata")
      }
      metadata = owner
      hardState = hardState ?? found.hardState
      snapshots += found.snapshots
      let commit = hardState?.commit ?? 0
      let newest = snapshots.filter { $0.index <= commit }.max { $0.index < $1.index }
      if let newest, let tail, hardState != nil || name == names.first {
        return Survey(
          metadata: owner, hardState: hardState ?? HardState(), snapshot: newest, tail: tail)
      }
    }
    throw .snapshotMissing(directory: directory, commit: hardState?.commit ?? 0)
  }

  private struct SegmentSummary {
    var metadata: WALMetadata?
    var hardState: HardState?
    var snapshots: [SnapshotMetadata] = []
  }

  private func summarise(
    _ record: WALRecord, _ name: WALSegmentName, into summary: inout SegmentSummary
  ) throws(WALError) {
    switch record.kind {
    case .metadata:
      let metadata: WALMetadata = try decode(record, in: name)
      if let earlier = summary.metadata, earlier != metadata {
        throw .corrupt(file: path(name), offset: record.offset, reason: "conflicting metadata")
      }
      summary.metadata = metadata
    case .state: summary.hardState = try decode(record, in: name) as HardState
    case .snapshot:
      summary.snapshots.append((try decode(record, in: name) as WALSnapshotRecord).metadata)
    case .entry, .crc: break
    }
  }

  /// Only the last segment may end in anything but zeros.
  private func requireComplete(
    _ step: WALRecordStep, _ name: WALSegmentName, _ bytes: UnsafeRawBufferPointer, _ offset: Int
  ) throws(WALError) {
    let reason: String
    switch step {
    case .record: return
    case .end:
      if WALTail.endOfContent(bytes) <= offset { return }
      reason = "bytes behind a zero length"
    case .invalid(let text, _), .beyondFile(let text): reason = text
    }
    throw .corrupt(file: path(name), offset: offset, reason: reason)
  }
}

// Entries: a later record replaces what is at its index and behind.
extension WALReader {
  private struct EntryCollector {
    let start: LogIndex
    var entries: [Entry] = []

    var lastIndex: LogIndex { start + LogIndex(entries.count) }

    init(after snapshot: SnapshotMetadata) { start = snapshot.index }

    /// False if the entry leaves a hole.
    mutating func add(_ entry: Entry) -> Bool {
      guard entry.index > start else { return true }
      let place = entry.index - start - 1
      guard place <= LogIndex(entries.count) else { return false }
      entries.removeLast(entries.count - Int(place))
      entries.append(entry)
      return true
    }
  }

  private func collect(
    _ name: WALSegmentName, crc: UInt32?, limit: Int?, into collector: inout EntryCollector
  ) throws(WALError) -> UInt32 {
    try storage.withContent(of: path(name)) { (content) throws(WALError) in
      let bytes = UnsafeRawBufferPointer(rebasing: content[..<(limit ?? content.count)])
      var scanner = WALRecordScanner(bytes, crc: crc)
      let step = try scan(&scanner) { (record) throws(WALError) in
        guard record.kind == .entry else { return }
        let entry: Entry = try decode(record, in: name)
        if !collector.add(entry) {
          throw .corrupt(
            file: path(name), offset: record.offset,
            reason: "entry \(entry.index) leaves a hole behind \(collector.lastIndex)")
        }
      }
      try requireComplete(step, name, bytes, scanner.offset)
      return scanner.crc
    }
  }
}
