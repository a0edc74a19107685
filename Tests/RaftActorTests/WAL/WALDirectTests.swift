import Base
import Glibc
import Testing

@testable import RaftActor

/// Writes past the page cache.
@Suite struct WALDirectTests {
  /// Batches of all sizes, synced and not, over many segments, with the log opened again now and then.
  ///
  /// - Returns: the log's files without the zeros at their ends.
  private func files(
    seed: UInt64, _ prepare: (MemoryFileSystem) -> Void
  ) throws -> (files: [String: Bytes], directWrites: Int) {
    let fixture = try LogFixture()
    prepare(fixture.disk)
    var random = SeededGenerator(seed: seed)
    var log = try fixture.create()
    var index: LogIndex = 0
    for _ in 0..<300 {
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        index += 1
        let most = [10, 500, 5_000][Int.random(in: 0..<3, using: &random)]
        let bytes = Int.random(in: 0...most, using: &random)
        log.append(
          hardState: HardState(term: 1, vote: 1, commit: index),
          entries: [LogFixture.entry(index, bytes: bytes)])
      }
      try log.flush(sync: Int.random(in: 0..<4, using: &random) > 0)
      if Int.random(in: 0..<40, using: &random) == 0 {
        try log.close()
        let (again, recovered) = try fixture.open()
        #expect(recovered.tornTail == nil)
        #expect(recovered.entries.last?.index == index)
        log = again
      }
    }
    try log.close()
    let recovered = try fixture.open().recovered
    #expect(recovered.entries.map(\.index) == Array(1...index))
    var files: [String: Bytes] = [:]
    for name in try fixture.disk.list(LogFixture.directory) where name.hasSuffix(".wal") {
      let bytes = fixture.disk.content(LogFixture.directory + "/" + name)
      files[name] = Array(bytes.prefix((bytes.lastIndex { $0 != 0 } ?? -1) + 1))
    }
    return (files, fixture.disk.directWriteCount)
  }

  @Test(arguments: UInt64(1)...8)
  func filesAreTheSameWithAndWithoutThePageCache(_ seed: UInt64) throws {
    let direct = try files(seed: seed) { _ in }
    let cached = try files(seed: seed) { $0.refusesDirect = true }
    #expect(direct.files.count > 3)
    #expect(direct.files == cached.files)
    #expect(direct.directWrites > 100)
    #expect(cached.directWrites == 0)
  }

  @Test func whatIsRefusedGoesThroughThePageCache() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    log.append(hardState: nil, entries: LogFixture.entries(1...3))
    try log.flush(sync: true)
    #expect(fixture.disk.directWriteCount == 1)
    fixture.disk.faults[.write] = (call: 1, code: EINVAL)
    log.append(hardState: nil, entries: LogFixture.entries(4...6))
    try log.flush(sync: true)
    log.append(hardState: nil, entries: LogFixture.entries(7...9))
    try log.flush(sync: true)
    #expect(fixture.disk.directWriteCount == 1)
    try log.close()
    #expect(try fixture.open().recovered.entries == LogFixture.entries(1...9))
  }

  @Test func aWriteThatEndsEarlyIsDoneAgain() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    fixture.disk.transferBytesMax = 700
    log.append(hardState: nil, entries: LogFixture.entries(1...30))
    try log.flush(sync: true)
    try log.close()
    #expect(try fixture.open().recovered.entries == LogFixture.entries(1...30))
  }

  @Test(arguments: [EIO, ENOSPC])
  func anErrorOfTheDiskEndsTheLog(_ code: Int32) throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    fixture.disk.faults[.write] = (call: 1, code: code)
    log.append(hardState: nil, entries: LogFixture.entries(1...3))
    #expect(walError { try log.flush(sync: true) } != nil)
  }

  @Test func whatIsNotSyncedOrLargeGoesThroughThePageCache() throws {
    let fixture = try LogFixture()
    let log = try fixture.create()
    log.append(hardState: nil, entries: LogFixture.entries(1...3))
    try log.flush(sync: false)
    log.append(hardState: nil, entries: [LogFixture.entry(4, bytes: WriteAheadLog.directBytesMax)])
    try log.flush(sync: true)
    #expect(fixture.disk.directWriteCount == 0)
    #expect(try !log.writeForSync())
    log.append(hardState: nil, entries: [LogFixture.entry(5)])
    #expect(try log.writeForSync())
  }
}
