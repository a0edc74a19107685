import Base
import Glibc
import Testing

@testable import StoreActor

@Suite struct BackendTests {
  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  private func open(_ options: BackendOptions = testOptions) throws -> Backend {
    try Backend.open(directory: scratch.file("store"), options: options)
  }

  @Test func emptyStoreHasNothingAndReopens() throws {
    for _ in 0..<2 {
      let backend = try open()
      #expect(try contents(backend).isEmpty)
      #expect(backend.progress == (0, 0))
      #expect(backend.sizeBytes >= backend.sizeInUseBytes && backend.sizeInUseBytes > 0)
    }
    #expect(!TestFile.exists(scratch.file("store/store.lmdb.tmp")))
  }

  @Test func commitSurvivesReopenWithIndexAndTerm() throws {
    do {
      let backend = try open()
      var batch = WriteBatch()
      batch.putRecord(Revision(main: 2), isTombstone: false, [1, 2, 3])
      batch.putRecord(Revision(main: 3, sub: 1), isTombstone: true, [])
      batch.put(.lease, [0, 0, 0, 0, 0, 0, 0, 7], Bytes(text: "lease"))
      batch.put(.auth, Bytes(text: "gone"), [1])
      batch.delete(.auth, Bytes(text: "gone"))
      try backend.commit(batch, consistentIndex: 17, term: 4)
    }
    let backend = try open()
    #expect(backend.progress == (17, 4))
    let view = try backend.makeReadView()
    #expect(try view.record(at: Revision(main: 2)).map { Bytes($0) } == [1, 2, 3])
    #expect(try view.record(at: Revision(main: 3, sub: 1)).map { Bytes($0) } == [])
    #expect(try view.record(at: Revision(main: 3)) == nil)
    #expect(try view.get(.auth, Bytes(text: "gone")) == nil)
    #expect(
      try contents(view) == [
        TestEntry(
          bucket: .key, key: [0, 0, 0, 0, 0, 0, 0, 2, 95, 0, 0, 0, 0, 0, 0, 0, 0],
          value: [1, 2, 3]),
        TestEntry(
          bucket: .key, key: [0, 0, 0, 0, 0, 0, 0, 3, 95, 0, 0, 0, 0, 0, 0, 0, 1, 116],
          value: []),
        TestEntry(
          bucket: .lease, key: [0, 0, 0, 0, 0, 0, 0, 7], value: Bytes(text: "lease")),
        TestEntry(
          bucket: .meta, key: Bytes(text: "consistent_index"), value: [0, 0, 0, 0, 0, 0, 0, 17]),
        TestEntry(bucket: .meta, key: Bytes(text: "term"), value: [0, 0, 0, 0, 0, 0, 0, 4]),
      ])
  }

  @Test func recordsMayComeOutOfOrderAndBeRewritten() throws {
    let backend = try open()
    var batch = WriteBatch()
    for main: Int64 in [9, 4, 7, 4] {
      batch.putRecord(Revision(main: main), isTombstone: false, [UInt8(main), UInt8(batch.count)])
    }
    batch.removeRecord(Revision(main: 7))
    try backend.commit(batch, consistentIndex: 1, term: 1)
    var seen: [Bytes] = []
    try backend.makeReadView().scanRecords(from: Revision(main: 0)) { _, _, record in
      seen.append(Bytes(record))
      return true
    }
    #expect(seen == [[4, 3], [9, 0]])
  }

  @Test func viewsSeeOneMomentUntilRenewed() throws {
    let backend = try open()
    let view = try backend.makeReadView()
    try backend.commit(
      recordBatch(first: 2, count: 1, byteCount: 10), consistentIndex: 1, term: 1)
    #expect(try view.record(at: Revision(main: 2)) == nil)
    try view.renew()
    #expect(try view.record(at: Revision(main: 2)) != nil)
    #expect(try view.lastRevision() == Revision(main: 2))
  }

  @Test func scanHonoursBoundsAndEarlyExit() throws {
    let backend = try open()
    var batch = WriteBatch()
    for letter in "abcdef".utf8 { batch.put(.authUsers, [letter], [letter]) }
    try backend.commit(batch, consistentIndex: 1, term: 1)
    let view = try backend.makeReadView()
    var seen = ""
    try view.scan(.authUsers, from: Bytes(text: "b"), to: Bytes(text: "e")) { key, _ in
      seen += String(decoding: key, as: UTF8.self)
      return true
    }
    #expect(seen == "bcd")
    try view.scan(.authUsers, from: Bytes(text: "bb")) { key, _ in
      seen += String(decoding: key, as: UTF8.self)
      return seen.count < 5
    }
    #expect(seen == "bcdcd")
  }

  /// User names longer than LMDB's keys, with common beginnings, keep content and byte order.
  @Test func longKeysBehaveLikeShortOnes() throws {
    var generator = SeededGenerator(seed: 7)
    let stem = Bytes(repeating: 0x61, count: 470)
    var model: [Bytes: Bytes] = [:]
    let backend = try open()
    var batch = WriteBatch()
    for index in 0..<300 {
      let tail = randomBytes(Int.random(in: 0..<120, using: &generator), &generator)
      let key = (index % 3 == 0 ? stem : stem + stem) + tail.map { $0 & 3 }
      model[key] = [UInt8(index & 255)]
      batch.put(.authUsers, key, [UInt8(index & 255)])
      if index % 10 == 9 {
        batch.delete(.authUsers, key)
        model[key] = nil
      }
    }
    try backend.commit(batch, consistentIndex: 1, term: 1)
    let view = try backend.makeReadView()
    let expected = model.keys.sorted { $0.precedes($1) }
    var seen: [Bytes] = []
    try view.scan(.authUsers) { key, value in
      seen.append(Bytes(key))
      #expect(model[Bytes(key)] == Bytes(value))
      return true
    }
    #expect(seen == expected)
    for key in expected { #expect(try view.get(.authUsers, key).map { Bytes($0) } == model[key]) }
    for from in [expected[40], expected[200]] {
      seen = []
      try view.scan(.authUsers, from: from, to: expected[250]) { key, _ in
        seen.append(Bytes(key))
        return true
      }
      #expect(seen == expected.filter { !$0.precedes(from) && $0.precedes(expected[250]) })
    }
  }

  @Test func impossibleKeysAreRefusedWithoutEffect() throws {
    let backend = try open()
    for key in [[], Bytes(repeating: 1, count: 32_769)] {
      var batch = WriteBatch()
      batch.put(.authRoles, [1], [1])
      batch.put(.authRoles, key, [1])
      #expect(throws: BackendError.badKey(bucket: .authRoles, byteCount: key.count)) {
        try backend.commit(batch, consistentIndex: 5, term: 1)
      }
    }
    #expect(backend.progress == (0, 0))
    #expect(try contents(backend).isEmpty)
    try backend.commit(WriteBatch(), consistentIndex: 5, term: 1)
    #expect(backend.progress == (5, 1))
  }

  @Test func secondOwnerIsToldThePID() throws {
    let first = try open()
    #expect(
      throws: BackendError.directoryInUse(
        directory: scratch.file("store"), ownerPID: getpid())
    ) { try open() }
    #expect("\(BackendError.directoryInUse(directory: "/d", ownerPID: 42))".contains("process 42"))
    withExtendedLifetime(first) {}
  }

  @Test func fullMapRefusesTheBatchAndKeepsServing() throws {
    let backend = try open(BackendOptions(mapBytes: 16 << 20))
    try backend.commit(
      recordBatch(first: 2, count: 10, byteCount: 1_000), consistentIndex: 1, term: 1)
    let big = recordBatch(first: 100, count: 20_000, byteCount: 1_000)
    #expect(
      throws: BackendError.mapFull(
        file: scratch.file("store/store.lmdb"), mapBytes: 16 << 20)
    ) { try backend.commit(big, consistentIndex: 2, term: 1) }
    #expect(backend.progress == (1, 1))
    #expect(try backend.makeReadView().lastRevision() == Revision(main: 11))
    try backend.commit(
      recordBatch(first: 12, count: 10, byteCount: 1_000), consistentIndex: 2, term: 1)
    #expect(try backend.makeReadView().lastRevision() == Revision(main: 21))
  }

  @Test func fileThatIsNoStoreIsRefused() throws {
    _ = try open()
    try TestFile.write(
      Bytes(repeating: 0x5a, count: 32_768), scratch.file("store/store.lmdb"))
    #expect {
      try open()
    } throws: { error in
      guard case BackendError.corrupted(let file, _) = error else { return false }
      return file == scratch.file("store/store.lmdb")
    }
  }

  /// A crash leaves some of the pages that were on their way: without the new meta page the store is
  /// at the old commit, with it (and then with all pages, as they are synced first) at the new one.
  @Test(arguments: 0..<8) func crashDuringCommitLeavesOldOrNew(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let file = scratch.file("store/store.lmdb")
    var before: [TestEntry] = []
    do {
      let backend = try open()
      try backend.commit(
        recordBatch(first: 2, count: 500, byteCount: 700), consistentIndex: 10, term: 2)
      var removals = WriteBatch()
      for main in 2..<200 { removals.removeRecord(Revision(main: Int64(main))) }
      try backend.commit(removals, consistentIndex: 11, term: 2)
      before = try contents(backend)
    }
    let old = try TestFile.read(file)
    var after: [TestEntry] = []
    do {
      let backend = try open()
      var batch = recordBatch(first: 600, count: 300, byteCount: 900)
      batch.put(.lease, [1], [2])
      try backend.commit(batch, consistentIndex: 12, term: 3)
      after = try contents(backend)
    }
    let new = try TestFile.read(file)
    let page = 4_096
    // Only part of the data pages has arrived; the metas (pages 0 and 1) have not.
    var image = old
    image.append(contentsOf: repeatElement(0, count: max(0, new.count - old.count)))
    for start in stride(from: 2 * page, to: new.count, by: page)
    where Bool.random(using: &generator) {
      let end = min(start + page, new.count)
      image.replaceSubrange(start..<end, with: new[start..<end])
    }
    if seed % 2 == 0 { image.removeLast(image.count - max(old.count, image.count / 2)) }
    try TestFile.write(image, file)
    do {
      let backend = try open()
      #expect(backend.progress == (11, 2))
      #expect(try contents(backend) == before)
      try backend.commit(
        recordBatch(first: 600, count: 50, byteCount: 100), consistentIndex: 12, term: 3)
    }
    try TestFile.write(new, file)
    let backend = try open()
    #expect(backend.progress == (12, 3))
    #expect(try contents(backend) == after)
  }
}
