import Base
import Glibc
import Testing

@testable import RaftActor

/// What may be cut off at the end of a log, and what may not.
@Suite struct WALRepairTests {
  private static let synced = LogIndex(6)

  /// Entries 1 to 6 synced, 7 to 10 written but not synced when the process ended.
  private func unsynced(bytes: Int = 300) throws -> (LogFixture, Range<Int>) {
    let fixture = try LogFixture(segmentBytes: 4096, slackBytes: 512)
    let log = try fixture.create()
    log.append(
      hardState: HardState(term: 1, vote: 1, commit: 5),
      entries: LogFixture.entries(1...Self.synced, bytes: bytes))
    try log.flush(sync: true)
    let start = log.position
    log.append(hardState: nil, entries: LogFixture.entries(7...10, bytes: bytes))
    try log.flush(sync: false)
    fixture.disk.endProcess()
    return (fixture, start..<log.position)
  }

  /// Opens, expects all synced entries and a clean second start; returns the first diagnostics.
  private func recover(
    _ fixture: LogFixture, bytes: Int = 300, _ note: Comment
  ) throws -> WALTornTail? {
    let (log, recovered) = try fixture.open()
    #expect(recovered.entries.count >= Int(Self.synced), note)
    #expect(
      recovered.entries == LogFixture.entries(1...LogIndex(recovered.entries.count), bytes: bytes),
      note)
    let next = LogIndex(recovered.entries.count) + 1
    log.append(hardState: nil, entries: [LogFixture.entry(next, bytes: bytes)])
    try log.close()
    let second = try fixture.open()
    #expect(second.recovered.tornTail == nil, note)
    #expect(second.recovered.entries.count == Int(next), note)
    try second.log.close()
    return recovered.tornTail
  }

  @Test func theLastBatchMayEndAtAnyByte() throws {
    let (fixture, batch) = try unsynced(bytes: 110)
    let original = fixture.disk.content(fixture.path())
    let mark = fixture.disk.content(LogFixture.directory + "/" + WALOwnerFile.name)
    for cut in batch {
      for isShort in [true, false] where isShort == (cut % 3 != 0) || cut % 8 == 0 {
        var bytes = Bytes(original[..<cut])
        if !isShort { bytes += Bytes(repeating: 0, count: original.count - cut) }
        fixture.disk.setContent(fixture.path(), bytes)
        fixture.disk.setContent(LogFixture.directory + "/" + WALOwnerFile.name, mark)
        _ = try recover(fixture, bytes: 110, "cut at \(cut), short \(isShort)")
      }
    }
  }

  @Test func theTornTailIsKeptAsACopy() throws {
    let (fixture, batch) = try unsynced()
    let cut = batch.lowerBound + 100
    fixture.disk.edit(fixture.path()) { $0.removeLast($0.count - cut) }
    let torn = try #require(try recover(fixture, "cut"))
    #expect(torn.file == fixture.path())
    #expect(torn.offset == batch.lowerBound)
    #expect(torn.bytes == 100)
    #expect(torn.copy == fixture.path() + ".broken")
    #expect(fixture.disk.content(fixture.path() + ".broken").count == cut)
  }

  @Test func missingSectorsOfTheLastBatchAreATornTail() throws {
    let (fixture, batch) = try unsynced()
    let original = fixture.disk.content(fixture.path())
    for sector in batch.lowerBound / 512 + 1..<batch.upperBound / 512 {
      fixture.disk.setContent(fixture.path(), original)
      fixture.disk.edit(fixture.path()) { bytes in
        for offset in sector * 512..<sector * 512 + 512 { bytes[offset] = 0 }
      }
      // Good records behind the hole belong to the same unsynced batch.
      #expect(try recover(fixture, "sector \(sector)") != nil)
    }
  }

  @Test func flippedBytesAreRefused() throws {
    let (fixture, batch) = try unsynced()
    let original = fixture.disk.content(fixture.path())
    let mark = fixture.disk.content(LogFixture.directory + "/" + WALOwnerFile.name)
    for offset in stride(from: 24, to: batch.lowerBound, by: 3) {
      fixture.disk.setContent(fixture.path(), original)
      fixture.disk.setContent(LogFixture.directory + "/" + WALOwnerFile.name, mark)
      fixture.disk.edit(fixture.path()) { $0[offset] ^= 0x10 }
      let error = walError { try fixture.open().log.close() }
      guard case .corrupt(let file, let found, _) = error else {
        Issue.record("flip at \(offset): \(String(describing: error))")
        continue
      }
      #expect(file == fixture.path())
      #expect(found <= offset && offset < found + 400)
      // Nothing was changed.
      #expect(!fixture.disk.exists(fixture.path() + ".broken"))
    }
  }

  /// The worst kind: what is missing looks exactly like a clean end or a torn tail.
  @Test func syncedRecordsNeverVanishSilently() throws {
    let (fixture, batch) = try unsynced()
    let original = fixture.disk.content(fixture.path())
    for cut in [batch.lowerBound - 1, batch.lowerBound - 344, 1024] {
      fixture.disk.setContent(fixture.path(), original)
      fixture.disk.edit(fixture.path()) { bytes in
        for offset in cut..<bytes.count { bytes[offset] = 0 }
      }
      let error = walError { _ = try fixture.open() }
      guard case .corrupt(_, let offset, let reason) = error else {
        Issue.record("cut at \(cut): \(String(describing: error))")
        continue
      }
      #expect(offset <= cut)
      #expect(reason.contains("synced up to \(batch.lowerBound)"))
    }
    // A zeroed sector in the middle, with good records behind it.
    fixture.disk.setContent(fixture.path(), original)
    fixture.disk.edit(fixture.path()) { for offset in 512..<1024 { $0[offset] = 0 } }
    #expect(walError { _ = try fixture.open() } != nil)
  }

  @Test func withoutAMarkRecordsBehindTheDamageDecide() throws {
    let (fixture, _) = try unsynced()
    try fixture.disk.remove(LogFixture.directory + "/" + WALOwnerFile.name)
    fixture.disk.edit(fixture.path()) { for offset in 512..<1024 { $0[offset] = 0 } }
    guard case .corrupt(_, _, let reason) = walError({ _ = try fixture.open() }) else {
      Issue.record("not refused")
      return
    }
    #expect(reason.contains("valid records follow"))
  }

  @Test func damageInAnEarlierSegmentIsRefused() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    for index in LogIndex(1)...40 {
      log.append(hardState: nil, entries: [LogFixture.entry(index, bytes: 300)])
      try log.flush(sync: true)
    }
    try log.close()
    fixture.disk.edit(fixture.path()) { bytes in
      for offset in 2048..<2560 { bytes[offset] = 0 }
    }
    guard case .corrupt(let file, _, _) = walError({ _ = try fixture.open() }) else {
      Issue.record("not refused")
      return
    }
    #expect(file == fixture.path())
  }

  @Test func missingSegmentsAreNamed() throws {
    let fixture = try LogFixture(segmentBytes: 4096)
    let log = try fixture.create()
    for index in LogIndex(1)...40 {
      log.append(hardState: nil, entries: [LogFixture.entry(index, bytes: 300)])
      try log.flush(sync: true)
    }
    try log.close()
    let segments = try WALReader(directory: LogFixture.directory, fileSystem: fixture.disk)
      .segments()
    #expect(segments.count >= 3)
    let last = LogFixture.directory + "/" + (try #require(segments.last)).name
    let kept = fixture.disk.content(last)
    try fixture.disk.remove(last)
    guard case .segmentMissing = walError({ _ = try fixture.open() }) else {
      Issue.record("a missing last segment was not noticed")
      return
    }
    fixture.disk.addFile(last, kept)
    try fixture.disk.remove(LogFixture.directory + "/" + segments[1].name)
    let error = walError { _ = try fixture.open() }
    #expect(
      error == .snapshotMissing(directory: LogFixture.directory, commit: 0), "\(error as Any)")
  }

  /// A process ends between giving a name and making it durable; the next one must not build on it.
  @Test(arguments: [false, true])
  func namesOfAnEndedProcessBecomeDurable(inCut: Bool) throws {
    var random = SeededGenerator(seed: 1)
    let fixture = try LogFixture(segmentBytes: 4096)
    if inCut {
      let log = try fixture.create()
      log.append(hardState: nil, entries: LogFixture.entries(1...40, bytes: 200))
      fixture.disk.faults[.syncDirectory] = (1, EIO)
      #expect(walError { try log.flush(sync: true) } != nil)
    } else {
      fixture.disk.faults[.syncDirectory] = (2, EIO)
      #expect(walError { _ = try fixture.create() } != nil)
    }
    fixture.disk.endProcess()
    let (log, recovered) = try fixture.open()
    let first = LogIndex(recovered.entries.count) + 1
    #expect(first == (inCut ? 41 : 1))
    log.append(hardState: nil, entries: LogFixture.entries(first...first + 4))
    try log.flush(sync: true)
    fixture.disk.cutPower(&random)
    #expect(try fixture.open().recovered.entries.count == Int(first) + 4)
  }

  /// After a power cut at any moment everything acknowledged is there, and nothing else but a
  /// prefix of what was written behind it.
  @Test(arguments: 0..<60)
  func powerCuts(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let fixture = try LogFixture(segmentBytes: 4096)
    var log = try fixture.create()
    var written: [Entry] = []
    var synced = 0
    for _ in 0..<12 {
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        let batch = (0..<Int.random(in: 1...4, using: &random)).map { step in
          LogFixture.entry(
            LogIndex(written.count + step + 1), bytes: Int.random(in: 0...700, using: &random))
        }
        written += batch
        log.append(hardState: nil, entries: batch)
        let isSynced = Bool.random(using: &random)
        try log.flush(sync: isSynced)
        if isSynced { synced = written.count }
        if Bool.random(using: &random) { _ = try log.prepareNextSegment(sliceBytes: 3000) }
      }
      fixture.disk.cutPower(&random)
      let (again, recovered) = try fixture.open()
      #expect(recovered.entries.count >= synced)
      #expect(recovered.entries == Array(written.prefix(recovered.entries.count)))
      written = recovered.entries
      synced = written.count
      log = again
    }
  }
}
