import Base
import Testing

@testable import StoreActor

@Suite struct DefragmentTests {
  private let scratch: ScratchDirectory
  private let backend: Backend

  init() throws {
    scratch = try ScratchDirectory()
    backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
  }

  private func fillAndThinOut() throws {
    try backend.commit(
      recordBatch(first: 2, count: 4_000, byteCount: 500), consistentIndex: 1, term: 1)
    var batch = WriteBatch()
    for main in 2..<3_900 where main % 10 != 0 { batch.removeRecord(Revision(main: Int64(main))) }
    batch.put(.members, Bytes(text: "8e9e05c52164694d"), Bytes(text: "{}"))
    batch.put(.authUsers, Bytes(repeating: 0x75, count: 900), [1])
    try backend.commit(batch, consistentIndex: 2, term: 1)
  }

  @Test func keepsContentAndShrinks() throws {
    try fillAndThinOut()
    let full = backend.sizeBytes
    #expect(backend.sizeInUseBytes < full / 2, "deletes must show in the size in use")
    let before = try contents(backend)
    let generation = backend.generation
    try backend.defragment()
    #expect(backend.generation == generation + 1)
    #expect(try contents(backend) == before)
    #expect(backend.sizeBytes < full / 3)
    #expect(try TestFile.byteCount(scratch.file("store/store.lmdb")) == backend.sizeBytes)
    #expect(!TestFile.exists(scratch.file("store/store.lmdb.tmp")))
  }

  @Test func commitsGoToTheNewFile() throws {
    try fillAndThinOut()
    try backend.defragment()
    var batch = WriteBatch()
    batch.putRecord(Revision(main: 9_000), isTombstone: false, [42])
    try backend.commit(batch, consistentIndex: 3, term: 1)
    try backend.defragment()
    #expect(backend.progress == (3, 1))
    #expect(try backend.makeReadView().record(at: Revision(main: 9_000)).map { Bytes($0) } == [42])
  }

  @Test func oldViewsStayValidUntilRenewed() throws {
    try fillAndThinOut()
    let view = try backend.makeReadView()
    let before = try contents(view)
    let held = try #require(try view.record(at: Revision(main: 3_950)))
    let copy = Bytes(held)
    try backend.defragment()
    try backend.commit(
      recordBatch(first: 9_000, count: 500, byteCount: 500), consistentIndex: 3, term: 1)
    #expect(view.isStale)
    #expect(try contents(view) == before)
    #expect(Bytes(held) == copy)
    try view.renew()
    #expect(!view.isStale)
    #expect(try view.lastRevision() == Revision(main: 9_499))
  }

  /// The old file goes bit by bit, and not while somebody reads it.
  @Test func replacedFilesAreGivenBackInSlices() throws {
    try fillAndThinOut()
    let full = backend.sizeBytes
    #expect(backend.reclaim(maxBytes: 1 << 20) == .done)
    do {
      let view = try backend.makeReadView()
      try backend.defragment()
      #expect(backend.reclaim(maxBytes: 1 << 20) == .waitsForReaders)
      #expect(view.isStale)
    }
    var slices = 0
    while backend.reclaim(maxBytes: full / 8) == .goesOn { slices += 1 }
    #expect(slices >= 6)
    #expect(backend.reclaim(maxBytes: 1) == .done)
    #expect(try contents(backend).count > 100)
  }

  /// Commits between the slices reach the copy: new records, removals, other tables.
  @Test func slicesLetCommitsThrough() throws {
    try fillAndThinOut()
    try backend.beginDefragment()
    var index: UInt64 = 2
    while try !backend.continueDefragment(maxBytes: 20_000) {
      index += 1
      var batch = WriteBatch()
      batch.putRecord(Revision(main: 10_000 + Int64(index)), isTombstone: true, [1])
      batch.removeRecord(Revision(main: Int64(index) * 10))
      batch.put(.lease, [UInt8(truncatingIfNeeded: index)], [2])
      try backend.commit(batch, consistentIndex: index, term: 1)
    }
    #expect(index > 5, "the copy took too few slices to prove anything")
    let before = try contents(backend)
    try backend.finishDefragment()
    #expect(try contents(backend) == before)
    #expect(backend.progress == (index, 1))
  }

  @Test func cancelLeavesTheStoreAlone() throws {
    try fillAndThinOut()
    let before = try contents(backend)
    try backend.beginDefragment()
    _ = try backend.continueDefragment(maxBytes: 10_000)
    try backend.cancelDefragment()
    #expect(try contents(backend) == before)
    #expect(!TestFile.exists(scratch.file("store/store.lmdb.tmp")))
    try backend.defragment()
    #expect(try contents(backend) == before)
  }

  /// What a crash can leave at each step: a half-written copy, a complete copy not yet renamed,
  /// the lock file renamed alone.
  @Test func leftoversOfACrashAreRemoved() throws {
    let other = try ScratchDirectory()
    let directory = other.file("store")
    let before: [TestEntry]
    do {
      let store = try Backend.open(directory: directory, options: testOptions)
      try store.commit(
        recordBatch(first: 2, count: 100, byteCount: 100), consistentIndex: 1, term: 1)
      before = try contents(store)
    }
    let data = try TestFile.read(directory + "/store.lmdb")
    let lock = try TestFile.read(directory + "/store.lmdb-lock")
    for (copy, lockName) in [
      (Bytes(data.prefix(5_000)), "/store.lmdb.tmp-lock"), (data, "/store.lmdb.tmp-lock"),
      (data, "/store.lmdb-lock"),
    ] {
      try TestFile.write(copy, directory + "/store.lmdb.tmp")
      try TestFile.write(lock, directory + lockName)
      let store = try Backend.open(directory: directory, options: testOptions)
      #expect(try contents(store) == before)
      #expect(!TestFile.exists(directory + "/store.lmdb.tmp"))
      #expect(!TestFile.exists(directory + "/store.lmdb.tmp-lock"))
    }
  }
}
