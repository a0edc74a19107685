import Base
import Glibc
import Testing

@testable import StoreActor

@Suite struct SnapshotFileTests {
  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  /// Some of everything, with a name too long for LMDB's keys.
  private func fill(_ backend: Backend, index: UInt64 = 700) throws {
    var batch = recordBatch(first: 2, count: 600, byteCount: 300)
    batch.putRecord(Revision(main: 602), isTombstone: true, [10, 1, 97])
    batch.putRecord(Revision(main: 603), isTombstone: false, Bytes(repeating: 9, count: 100_000))
    batch.put(.members, Bytes(text: "8e9e05c52164694d"), Bytes(text: #"{"name":"a"}"#))
    batch.put(.members, Bytes(text: "91bc3c398fb3c146"), Bytes(text: #"{"name":"b"}"#))
    batch.put(.membersRemoved, Bytes(text: "fd422379fda50e48"), Bytes(text: "removed"))
    batch.put(.cluster, BackendKey.clusterVersion, Bytes(text: "3.5.0"))
    batch.put(.meta, BackendKey.confState, Bytes(text: #"{"voters":[1,2],"auto_leave":false}"#))
    batch.put(.meta, BackendKey.storageVersion, Bytes(text: "3.7.0"))
    batch.put(.authUsers, Bytes(repeating: 0x75, count: 3_000), Bytes(text: "user"))
    for id in 0..<300 { batch.put(.lease, UInt64(id).bigEndianBytes, [UInt8(id & 255)]) }
    try backend.commit(batch, consistentIndex: index, term: 6)
  }

  private func store(_ name: String) throws -> Backend {
    try Backend.open(directory: scratch.file(name), options: testOptions)
  }

  @Test func exportAndImportKeepEverything() throws {
    let source = try store("a")
    try fill(source)
    let path = scratch.file("snapshot.db")
    let size = try SnapshotFile.export(from: try source.makeReadView(), to: path)
    #expect(size % 4_096 == 0)
    #expect(size == (try TestFile.byteCount(path)))
    let found = try Backend.importSnapshot(
      path: path, into: scratch.file("b"), options: testOptions)
    #expect(found.consistentIndex == 700 && found.term == 6)
    #expect(found.confState == Bytes(text: #"{"voters":[1,2],"auto_leave":false}"#))
    let ids = ["8e9e05c52164694d", "91bc3c398fb3c146"].map(Bytes.init(text:))
    #expect(found.members.map(\.key) == ids)
    #expect(found.removedMembers == [Bytes(text: "fd422379fda50e48")])
    #expect(found.clusterVersion == Bytes(text: "3.5.0"))
    #expect(found.storageVersion == Bytes(text: "3.7.0"))
    #expect(found.lastRevision == Revision(main: 603) && found.recordCount == 602)
    #expect(!found.hadHash)
    #expect(try SnapshotFile.inspect(path) == found)
    let copy = try store("b")
    #expect(copy.progress == (700, 6))
    #expect(try contents(copy) == contents(source))
  }

  @Test func overridesReplaceAddAndRemove() throws {
    let source = try store("a")
    try fill(source)
    var overrides = SnapshotOverrides()
    overrides.setProgress(consistentIndex: 650, term: 5)
    overrides.remove(.meta, BackendKey.storageVersion)
    overrides.set(.meta, Bytes(text: "zzz"), [1])
    overrides.set(.meta, Bytes(text: "aaa"), [0])
    overrides.set(.meta, Bytes(text: "aaa"), [2])
    overrides.clear(.members)
    overrides.set(.members, Bytes(text: "1"), Bytes(text: "one"))
    overrides.clear(.cluster)
    let path = scratch.file("snapshot.db")
    _ = try SnapshotFile.export(
      from: try source.makeReadView(), to: path, overrides: overrides)
    _ = try Backend.importSnapshot(path: path, into: scratch.file("b"), options: testOptions)
    let copy = try store("b")
    #expect(copy.progress == (650, 5))
    let view = try copy.makeReadView()
    #expect(try view.get(.meta, BackendKey.storageVersion) == nil)
    #expect(try view.get(.meta, Bytes(text: "aaa")).map { Bytes($0) } == [2])
    #expect(try view.get(.meta, Bytes(text: "zzz")).map { Bytes($0) } == [1])
    #expect(try view.get(.meta, BackendKey.confState) != nil)
    let changed = try contents(view)
    #expect(changed.filter { $0.bucket == .members }.map(\.value) == [Bytes(text: "one")])
    #expect(changed.filter { $0.bucket == .cluster }.isEmpty)
    let records = try contents(source).filter { $0.bucket == .key }
    #expect(changed.filter { $0.bucket == .key } == records)
    // The same overrides while importing give the same store.
    let plain = scratch.file("plain.db")
    _ = try SnapshotFile.export(from: try source.makeReadView(), to: plain)
    _ = try Backend.importSnapshot(
      path: plain, into: scratch.file("c"), options: testOptions, overrides: overrides)
    #expect(try contents(try store("c")) == changed)
  }

  @Test func clientHashIsStreamedAndChecked() throws {
    let source = try store("a")
    try fill(source)
    let path = scratch.file("snapshot.db")
    let size = try SnapshotFile.export(from: try source.makeReadView(), to: path)
    let chunks = try SnapshotChunks(path: path)
    var streamed: Bytes = []
    while let chunk = try chunks.next() {
      #expect(chunk.blob.count <= 32_768)
      streamed += chunk.blob
      #expect(chunk.remaining == UInt64(size - streamed.count))
    }
    #expect(streamed == (try TestFile.read(path)))
    let hash = chunks.finishHash()
    try SnapshotFile.appendHash(to: path)
    var saved = try TestFile.read(path)
    #expect(saved == streamed + hash)
    #expect(try SnapshotFile.inspect(path).hadHash)
    saved[size / 2] ^= 1
    try TestFile.write(saved, path)
    #expect(throws: BackendError.snapshotHashMismatch(file: path)) {
      try SnapshotFile.inspect(path)
    }
  }

  @Test func knownDigest() {
    var stream = SHA256Stream()
    stream.update(Bytes(text: "ab"))
    stream.update([])
    stream.update(Bytes(text: "c"))
    #expect(
      stream.finish().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  }

  @Test func installReplacesARunningStore() throws {
    let source = try store("a")
    try fill(source)
    let path = scratch.file("snapshot.db")
    _ = try SnapshotFile.export(from: try source.makeReadView(), to: path)
    let follower = try store("b")
    try follower.commit(
      recordBatch(first: 5_000, count: 20, byteCount: 10), consistentIndex: 40, term: 3)
    let view = try follower.makeReadView()
    let before = try contents(view)
    try follower.beginDefragment()
    let found = try follower.installSnapshot(path: path)
    #expect(found.consistentIndex == 700 && follower.progress == (700, 6))
    #expect(try contents(view) == before && view.isStale)
    try view.renew()
    #expect(try contents(view) == contents(source))
    try follower.commit(
      recordBatch(first: 9_000, count: 1, byteCount: 10), consistentIndex: 701, term: 6)
    #expect(
      throws: BackendError.snapshotTooOld(file: path, index: 700, current: 701)
    ) { try follower.installSnapshot(path: path) }
    #expect(try follower.makeReadView().lastRevision() == Revision(main: 9_000))
  }

  @Test func badSnapshotLeavesTheStoreAlone() throws {
    let source = try store("a")
    try fill(source)
    let path = scratch.file("snapshot.db")
    _ = try SnapshotFile.export(from: try source.makeReadView(), to: path)
    var bytes = try TestFile.read(path)
    bytes.replaceSubrange((3 * 4_096)..<(3 * 4_096 + 40), with: repeatElement(0xff, count: 40))
    try TestFile.write(bytes, path)
    let follower = try store("b")
    try follower.commit(
      recordBatch(first: 2, count: 20, byteCount: 10), consistentIndex: 40, term: 3)
    let before = try contents(follower)
    #expect(throws: BackendError.self) { try follower.installSnapshot(path: path) }
    #expect(try contents(follower) == before && follower.generation == 1)
    #expect(!TestFile.exists(scratch.file("b/store.lmdb.tmp")))
    #expect(throws: BackendError.directoryInUse(directory: scratch.file("b"), ownerPID: getpid())) {
      try Backend.importSnapshot(path: path, into: scratch.file("b"))
    }
    try follower.commit(WriteBatch(), consistentIndex: 41, term: 3)
  }

  @Test func exportFailureLeavesNoFile() throws {
    let source = try store("a")
    #expect(throws: BackendError.self) {
      try SnapshotFile.export(from: try source.makeReadView(), to: scratch.file("no/such/dir.db"))
    }
  }

  @Test func backendHashIgnoresProgressOnly() throws {
    let left = try store("a")
    let right = try store("b")
    try fill(left, index: 700)
    try fill(right, index: 900)
    let hash = try left.makeReadView().hashBackend()
    #expect(hash == (try right.makeReadView().hashBackend()))
    try left.defragment()
    #expect(hash == (try left.makeReadView().hashBackend()))
    var batch = WriteBatch()
    batch.put(.alarm, [1], [])
    try right.commit(batch, consistentIndex: 901, term: 6)
    #expect(hash != (try right.makeReadView().hashBackend()))
  }
}
