import Base
import Glibc
import Testing

@testable import StoreActor

/// Scans that want only the edges of long records.
@Suite struct EdgeReadAheadTests {
  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  private func open() throws -> Backend {
    try Backend.open(directory: scratch.file("store"), options: testOptions)
  }

  /// `count` records; every third is short.
  private func fill(_ count: Int, longBytes: Int) throws {
    let backend = try open()
    for first in stride(from: 0, to: count, by: 16) {
      var batch = WriteBatch()
      for number in first..<min(first + 16, count) {
        let length = number % 3 == 2 ? 10 : longBytes + number % 4096
        batch.putRecord(
          Revision(main: Int64(number + 2)), isTombstone: false,
          StoredKeyValue.encode(
            key: Bytes(text: "key \(number)"), modRevision: Int64(number + 2),
            value: Bytes(repeating: UInt8(truncatingIfNeeded: number), count: length),
            lease: Int64(number % 2)))
      }
      try backend.commit(batch, consistentIndex: UInt64(first + 16), term: 1)
    }
  }

  @Test func everyRecordIsVisitedOnceInOrder() throws {
    let count = 700
    try fill(count, longBytes: EdgeReadAhead.longBytes)
    let view = try open().makeReadView()
    for first in [0, 2, 650, 702] {
      var seen: [Int64] = []
      try view.scanRecords(from: Revision(main: Int64(first)), reading: .edges) {
        revision, _, record in
        let fields = StoredKeyValue(trusted: record)
        #expect(fields.modRevision == revision.main && fields.lease == revision.main % 2)
        seen.append(revision.main)
        return true
      }
      #expect(seen == Array(Int64(max(first, 2))..<Int64(count + 2)))
    }
  }

  @Test func theMiddleOfLongRecordsStaysOnDisk() throws {
    try fill(240, longBytes: 1 << 20)
    let path = scratch.file("store/store.lmdb")
    // A file system in memory keeps everything: nothing to see there.
    guard try FileResidency.dropped(path) else { return }
    let view = try open().makeReadView()
    // Opening reads the tables' roots, and around them as much as the disk's settings say.
    let before = try FileResidency.share(path)
    var visited = 0
    try view.scanRecords(from: Revision(main: 0), reading: .edges) { _, _, record in
      visited += StoredKeyValue(trusted: record).key.isEmpty ? 0 : 1
      return true
    }
    #expect(visited == 240)
    // Reading around every fault would fetch the rest of the file; around the first ones, 16 MiB.
    #expect(try FileResidency.share(path) - before < 0.2)
  }
}

/// How much of a file the kernel holds in memory.
private enum FileResidency {
  /// Asks the kernel to forget the file's pages; false if it did not.
  static func dropped(_ path: String) throws -> Bool {
    let descriptor = Glibc.open(path, O_RDONLY)
    defer { close(descriptor) }
    try #require(descriptor >= 0 && fsync(descriptor) == 0)
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    return try share(path) < 0.01
  }

  static func share(_ path: String) throws -> Double {
    let descriptor = Glibc.open(path, O_RDONLY)
    defer { close(descriptor) }
    let length = Int(lseek(descriptor, 0, SEEK_END))
    let map = mmap(nil, length, PROT_READ, MAP_SHARED, descriptor, 0)
    try #require(map != MAP_FAILED)
    defer { munmap(map, length) }
    var pages = [UInt8](repeating: 0, count: (length + 4095) / 4096)
    try #require(mincore(map, length, &pages) == 0)
    return Double(pages.filter { $0 & 1 == 1 }.count) / Double(pages.count)
  }
}
