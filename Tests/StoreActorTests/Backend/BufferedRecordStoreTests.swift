import Base
import Testing

@testable import StoreActor

@Suite struct BufferedRecordStoreTests {
  private struct Record: Equatable {
    let revision: Revision
    let isTombstone: Bool
    let bytes: Bytes
  }

  private func scanAll(
    _ store: BufferedRecordStore, from first: Revision = Revision(main: 0)
  ) throws -> [Record] {
    var records: [Record] = []
    try store.scan(from: first) { revision, isTombstone, bytes in
      records.append(Record(revision: revision, isTombstone: isTombstone, bytes: Bytes(bytes)))
      return true
    }
    return records
  }

  /// Random appends, removals, seals, commits and defragmentations against a sorted array.
  @Test(arguments: 1...6) func agreesWithModel(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let store = try BufferedRecordStore(backend: backend)
    var model: [Record] = []
    var next = Revision(main: 2)
    var waiting: [SealedBuffer] = []
    var committed: UInt64 = 0
    var index: UInt64 = 0
    for step in 0..<3_000 {
      switch Int.random(in: 0..<100, using: &generator) {
      case 0..<70:
        let isTombstone = Int.random(in: 0..<5, using: &generator) == 0
        let record = Record(
          revision: next, isTombstone: isTombstone,
          bytes: randomBytes(Int.random(in: 0..<60, using: &generator), &generator))
        store.append(next, isTombstone: isTombstone, record.bytes)
        model.append(record)
        switch Int.random(in: 0..<40, using: &generator) {
        case 0..<15: next.sub += 1
        case 15: next = Revision(main: next.main + 50)
        case 16: next = Revision(main: next.main + 5_000, sub: 3)
        default: next = Revision(main: next.main + 1)
        }
      case 70..<85:
        guard !model.isEmpty else { continue }
        let victim = model.remove(at: Int.random(in: 0..<model.count, using: &generator))
        store.remove(victim.revision)
        #expect(try store.record(at: victim.revision) == nil)
      case 85..<90:
        index += 1
        waiting.append(store.seal(consistentIndex: index, term: 1))
      case 90..<94:
        guard !waiting.isEmpty else { continue }
        let sealed = waiting.removeFirst()
        try backend.commit(sealed)
        committed = sealed.id
        // At times the view moves before the store hears of the commit.
        if Bool.random(using: &generator) {
          try store.renew()
        } else {
          try store.didCommit(through: committed)
        }
      case 94: try store.didCommit(through: committed)
      case 95 where step % 4 == 0: try backend.defragment()
      default:
        guard let record = model.randomElement(using: &generator) else { continue }
        #expect(try store.record(at: record.revision) == record.bytes)
        #expect(try store.record(at: Revision(main: record.revision.main, sub: 9_999)) == nil)
      }
      if step % 250 == 0 {
        #expect(try scanAll(store) == model)
        guard let from = model.randomElement(using: &generator)?.revision else { continue }
        #expect(try scanAll(store, from: from) == model.filter { $0.revision >= from })
      }
    }
    for sealed in waiting + [store.seal(consistentIndex: index + 1, term: 1)] {
      try backend.commit(sealed)
      try store.didCommit(through: sealed.id)
    }
    #expect(store.pendingBytes == 0)
    #expect(try scanAll(store) == model)
    for record in model { #expect(try store.record(at: record.revision) == record.bytes) }
  }

  @Test func removalHidesCommittedRecordAndReachesTheFile() throws {
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let store = try BufferedRecordStore(backend: backend)
    for main in 2...5 { store.append(Revision(main: Int64(main)), isTombstone: main == 3, [9]) }
    let first = store.seal(consistentIndex: 5, term: 1)
    try backend.commit(first)
    try store.didCommit(through: first.id)
    store.remove(Revision(main: 3))
    store.remove(Revision(main: 4))
    #expect(try scanAll(store).map(\.revision.main) == [2, 5])
    let second = store.seal(consistentIndex: 6, term: 1)
    #expect(try scanAll(store).map(\.revision.main) == [2, 5])
    try backend.commit(second)
    #expect(try contents(backend).filter { $0.bucket == .key }.count == 2)
    try store.didCommit(through: second.id)
    #expect(try scanAll(store).map(\.revision.main) == [2, 5])
    #expect(try store.lastRevision() == Revision(main: 5))
  }

  @Test func scanStopsInFileAndInBuffers() throws {
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let store = try BufferedRecordStore(backend: backend)
    for main in 2...4 { store.append(Revision(main: Int64(main)), isTombstone: false, []) }
    let sealed = store.seal(consistentIndex: 1, term: 1)
    try backend.commit(sealed)
    try store.didCommit(through: sealed.id)
    for main in 5...7 { store.append(Revision(main: Int64(main)), isTombstone: false, []) }
    for stop in 2...7 {
      var seen: [Int64] = []
      try store.scan { revision, _, _ in
        seen.append(revision.main)
        return revision.main < Int64(stop)
      }
      #expect(seen == Array(2...Int64(stop)))
    }
  }

  @Test func otherTablesTravelInTheSameCommit() throws {
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let store = try BufferedRecordStore(backend: backend)
    store.put(.lease, [1], [2])
    store.put(.alarm, [3], [])
    store.delete(.lease, [1])
    store.append(Revision(main: 2), isTombstone: false, [7])
    #expect(store.pendingBytes > 17)
    try backend.commit(store.seal(consistentIndex: 3, term: 2))
    let view = try backend.makeReadView()
    #expect(try view.get(.lease, [1]) == nil)
    #expect(try view.get(.alarm, [3]) != nil)
    #expect(backend.progress == (3, 2))
  }

  /// A buffer that found no space must not be left out below its successor's index.
  @Test func laterBuffersWaitForTheOneThatFoundNoSpace() throws {
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(
      directory: scratch.file("store"), options: BackendOptions(mapBytes: 16 << 20))
    let store = try BufferedRecordStore(backend: backend)
    let record = Bytes(repeating: 1, count: 1 << 20)
    for main in 2..<30 { store.append(Revision(main: Int64(main)), isTombstone: false, record) }
    let large = store.seal(consistentIndex: 1, term: 1)
    store.append(Revision(main: 30), isTombstone: false, [1])
    let small = store.seal(consistentIndex: 2, term: 1)
    let full = BackendError.mapFull(
      file: scratch.file("store/store.lmdb"), mapBytes: 16 << 20)
    #expect(throws: full) { try backend.commit(large) }
    #expect(throws: full) { try backend.commit(small) }
    #expect(throws: full) { try backend.commit(large) }
    #expect(backend.progress == (0, 0))
    #expect(try store.record(at: Revision(main: 29)) == record)
  }

  /// A buffer sent twice, or overtaken by an installed snapshot, changes nothing.
  @Test func repeatedAndOvertakenBuffersArePassedOver() throws {
    let scratch = try ScratchDirectory()
    let backend = try Backend.open(directory: scratch.file("store"), options: testOptions)
    let store = try BufferedRecordStore(backend: backend)
    store.put(.auth, [1], [1])
    let first = store.seal(consistentIndex: 1, term: 1)
    store.put(.auth, [1], [2])
    let second = store.seal(consistentIndex: 2, term: 1)
    for sealed in [first, second, first, second] { try backend.commit(sealed) }
    #expect(backend.progress == (2, 1))
    #expect(try backend.makeReadView().get(.auth, [1]).map { Bytes($0) } == [2])
    let path = scratch.file("snapshot.db")
    var overrides = SnapshotOverrides()
    overrides.setProgress(consistentIndex: 9, term: 2)
    _ = try SnapshotFile.export(
      from: try backend.makeReadView(), to: path, overrides: overrides)
    store.put(.auth, [1], [3])
    let third = store.seal(consistentIndex: 3, term: 1)
    _ = try backend.installSnapshot(path: path)
    try backend.commit(third)
    #expect(backend.progress == (9, 2))
    #expect(try backend.makeReadView().get(.auth, [1]).map { Bytes($0) } == [2])
    let fresh = try BufferedRecordStore(backend: backend)
    fresh.put(.auth, [1], [4])
    try backend.commit(fresh.seal(consistentIndex: 10, term: 2))
    #expect(try backend.makeReadView().get(.auth, [1]).map { Bytes($0) } == [4])
  }
}
