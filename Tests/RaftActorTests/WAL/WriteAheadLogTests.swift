import Base
import Glibc
import Testing

@testable import RaftActor

@Suite struct WriteAheadLogTests {
  @Test func whatIsAppendedIsRecovered() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    let state = HardState(term: 3, vote: 7, commit: 4)
    log.append(
      hardState: HardState(term: 1, vote: 7, commit: 1), entries: LogFixture.entries(1...3))
    log.append(hardState: state, entries: LogFixture.entries(4...6, term: 3, bytes: 0))
    try log.flush(sync: true)
    try log.close()
    let (again, recovered) = try fixture.open()
    #expect(recovered.metadata == LogFixture.metadata)
    #expect(recovered.hardState == state)
    #expect(recovered.snapshot == SnapshotMetadata())
    let expected = LogFixture.entries(1...3) + LogFixture.entries(4...6, term: 3, bytes: 0)
    #expect(recovered.entries == expected)
    #expect(recovered.tornTail == nil)
    try again.close()
  }

  @Test func oneFlushIsOneWriteAndOneSync() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    let before = (fixture.disk.writeCount, fixture.disk.syncCount)
    for index in LogIndex(1)...20 {
      log.append(
        hardState: HardState(term: 1, vote: 1, commit: index), entries: [LogFixture.entry(index)])
    }
    try log.flush(sync: true)
    // The second write is the mark, which is not synced.
    #expect(fixture.disk.writeCount - before.0 == 2)
    #expect(fixture.disk.syncCount - before.1 == 1)
    log.append(hardState: HardState(term: 1, vote: 1, commit: 20), entries: [])
    try log.flush(sync: false)
    #expect(fixture.disk.syncCount - before.1 == 1)
  }

  @Test func laterEntriesReplaceConflictingOnes() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    log.append(hardState: nil, entries: LogFixture.entries(1...9))
    log.append(hardState: nil, entries: LogFixture.entries(4...5, term: 2))
    try log.close()
    #expect(
      try fixture.open().recovered.entries
        == LogFixture.entries(1...3) + LogFixture.entries(4...5, term: 2))
  }

  @Test func opensAtTheNewestCommittedSnapshot() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    let members = ConfState(voters: [3, 5], learners: [9])
    log.append(hardState: nil, entries: LogFixture.entries(1...8))
    log.append(snapshot: SnapshotMetadata(index: 4, term: 1, confState: members))
    log.append(hardState: HardState(term: 1, vote: 0, commit: 6), entries: [])
    // A received snapshot whose hard state did not reach the disk does not count.
    log.append(snapshot: SnapshotMetadata(index: 20, term: 1, confState: members))
    try log.close()
    let recovered = try fixture.open().recovered
    #expect(recovered.snapshot == SnapshotMetadata(index: 4, term: 1, confState: members))
    #expect(recovered.entries == LogFixture.entries(5...8))
  }

  @Test func severalSegmentsReadAsOneLog() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    var log = try fixture.create()
    var index: LogIndex = 0
    for round in 0..<30 {
      let batch = LogFixture.entries(index + 1...index + 7, bytes: 100)
      index += 7
      log.append(hardState: HardState(term: 1, vote: 1, commit: index), entries: batch)
      try log.flush(sync: true)
      if round % 4 == 3 {
        try log.close()
        log = try fixture.open().log
      }
    }
    #expect(log.segmentCount > 5)
    try log.close()
    let recovered = try fixture.open().recovered
    #expect(recovered.entries == LogFixture.entries(1...index, bytes: 100))
    #expect(recovered.hardState.commit == index)
  }

  @Test func purgedSegmentsAreRecycledAndStaleRecordsStayDead() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    var index: LogIndex = 0
    for _ in 0..<60 {
      log.append(
        hardState: HardState(term: 1, vote: 1, commit: index + 5),
        entries: LogFixture.entries(index + 1...index + 5, bytes: 120))
      index += 5
      try log.flush(sync: true)
      if index % 50 == 0 {
        log.append(snapshot: SnapshotMetadata(index: index - 5, term: 1))
        try log.flush(sync: true)
        log.release(through: index - 5)
        _ = try log.purge(keep: 2)
      }
      _ = try log.prepareNextSegment(sliceBytes: 2048)
    }
    #expect(log.segmentCount <= 5)
    #expect(!fixture.disk.exists(fixture.path()))
    let lastSnapshot = index - index % 50 - 5
    // The tail segment began in a recycled file: behind the position there are only zeros.
    let tail = try WALReader(directory: LogFixture.directory, fileSystem: fixture.disk)
      .segments().last
    let bytes = fixture.disk.content(LogFixture.directory + "/" + (try #require(tail)).name)
    #expect(bytes.count == fixture.options.fileBytes)
    #expect(bytes[log.position...].allSatisfy { $0 == 0 })
    fixture.disk.endProcess()
    let recovered = try fixture.open().recovered
    #expect(recovered.snapshot.index == lastSnapshot)
    #expect(recovered.entries.last?.index == index)
    #expect(recovered.tornTail == nil)
  }

  @Test func preparedSegmentsSpareTheCutItsZeroFill() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    #expect(!log.isNextSegmentReady)
    while try !log.prepareNextSegment(sliceBytes: 1000) {}
    #expect(log.isNextSegmentReady)
    let before = fixture.disk.syncCount
    log.append(hardState: nil, entries: LogFixture.entries(1...50, bytes: 100))
    try log.flush(sync: true)
    // Batch, seal, first records of the new segment.
    #expect(fixture.disk.syncCount - before == 3)
    #expect(log.segmentCount == 2)
    #expect(fixture.disk.content(fixture.path()).count < fixture.options.fileBytes)
    #expect(fixture.disk.exists(fixture.path(1, 51)))
  }

  @Test func aNewLogIsZeroedStepByStep() throws {
    var fixture = try LogFixture(segmentBytes: 8192)
    fixture.options.firstFillBytes = 1024
    let log = try fixture.create()
    #expect(fixture.disk.content(fixture.path()).count == 1024)
    var count: LogIndex = 0
    var isReady = false
    while !isReady {
      count += 1
      log.append(hardState: nil, entries: [LogFixture.entry(count, bytes: 200)])
      try log.flush(sync: false)
      isReady = try log.prepareNextSegment(sliceBytes: 1000)
    }
    #expect(fixture.disk.content(fixture.path()).count == fixture.options.fileBytes)
    #expect(log.segmentCount == 1)
    fixture.disk.endProcess()
    #expect(try fixture.open().recovered.entries == LogFixture.entries(1...count, bytes: 200))
  }

  @Test func shortWritesAndInterruptsAreRetried() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    fixture.disk.transferBytesMax = 37
    fixture.disk.interrupts = true
    let log = try fixture.create()
    log.append(hardState: HardState(term: 1, commit: 50), entries: LogFixture.entries(1...50))
    try log.flush(sync: true)
    try log.close()
    #expect(try fixture.open().recovered.entries == LogFixture.entries(1...50))
  }

  @Test(arguments: [MemoryFileSystem.Operation.write, .sync])
  func anErrorPoisonsTheLog(_ operation: MemoryFileSystem.Operation) throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    fixture.disk.faults[operation] = (1, EIO)
    log.append(hardState: nil, entries: [LogFixture.entry(1)])
    let first = walError { try log.flush(sync: true) }
    let name = operation == .write ? "write" : "sync"
    #expect(first == .io(operation: name, file: fixture.path(), errno: EIO))
    // The fault is gone, but what the disk holds is not known any more.
    let writes = fixture.disk.writeCount
    #expect(walError { try log.flush(sync: true) } == first)
    #expect(walError { _ = try log.prepareNextSegment(sliceBytes: 512) } == first)
    #expect(walError { _ = try log.purge(keep: 1) } == first)
    #expect(walError { try log.close() } == first)
    #expect(fixture.disk.writeCount == writes)
  }

  @Test func aFullDiskLetsTheTailGrow() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    fixture.disk.faults[.write] = (1, ENOSPC)
    #expect(
      walError { _ = try log.prepareNextSegment(sliceBytes: 512) }
        == .io(operation: "write", file: LogFixture.directory + "/1.tmp", errno: ENOSPC))
    log.append(hardState: nil, entries: LogFixture.entries(1...50, bytes: 100))
    fixture.disk.faults[.write] = (3, ENOSPC)
    try log.flush(sync: true)
    #expect(log.segmentCount == 1)
    log.append(hardState: nil, entries: [LogFixture.entry(51)])
    try log.flush(sync: true)
    #expect(log.segmentCount == 2)
    try log.close()
    #expect(try fixture.open().recovered.entries.count == 51)
  }

  @Test func aFailedSyncEndsTheLogEvenForLackOfSpace() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    fixture.disk.faults[.sync] = (1, ENOSPC)
    let error = walError { _ = try log.prepareNextSegment(sliceBytes: 512) }
    #expect(error?.isRefusalForSpace == false)
    log.append(hardState: nil, entries: LogFixture.entries(1...2))
    #expect(walError { try log.flush(sync: true) } == error)
  }

  @Test func aSecondUserIsRefused() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    let error = walError { _ = try fixture.open() }
    #expect(error == .inUse(directory: LogFixture.directory, process: getpid()))
    #expect(
      error?.description
        == "data directory \(LogFixture.directory) is in use by process \(getpid())")
    try log.close()
    _ = try fixture.open()
  }

  @Test func creationNeedsAFreeDirectoryAndOpeningALog() throws {
    let fixture = try LogFixture()
    #expect(!WriteAheadLog.exists(directory: LogFixture.directory, fileSystem: fixture.disk))
    #expect(
      walError { _ = try fixture.open() } == .notFound(directory: LogFixture.directory))
    try fixture.create().close()
    #expect(WriteAheadLog.exists(directory: LogFixture.directory, fileSystem: fixture.disk))
    #expect(
      walError { _ = try fixture.create() } == .alreadyExists(directory: LogFixture.directory))
  }

  /// The same on the machine's own file system.
  @Test func worksOnRealFiles() throws {
    var template = Array("/tmp/apus-wal-XXXXXX\0".utf8.map { CChar($0) })
    let root = try #require(mkdtemp(&template).map { String(cString: $0) })
    let directory = root + "/member/wal"
    defer {
      let files = PosixFileSystem()
      for name in (try? files.list(directory)) ?? [] { try? files.remove(directory + "/" + name) }
      for path in [directory, root + "/member", root] { try? files.remove(path) }
    }
    var options = WriteAheadLog.Options()
    options.segmentBytes = 8192
    options.slackBytes = 4096
    let log = try WriteAheadLog.create(
      directory: directory, metadata: LogFixture.metadata, options: options)
    for index in LogIndex(1)...300 {
      log.append(
        hardState: HardState(term: 1, vote: 1, commit: index), entries: [LogFixture.entry(index)])
      if index % 10 == 0 { try log.flush(sync: true) }
    }
    let busy = walError { _ = try WriteAheadLog.open(directory: directory, options: options) }
    #expect(busy == .inUse(directory: directory, process: getpid()))
    log.release(through: 290)
    #expect(try log.purge(keep: 2) > 0)
    try log.close()
    #expect(walError { _ = try WriteAheadLog.open(directory: directory, options: options) } != nil)
  }
}
