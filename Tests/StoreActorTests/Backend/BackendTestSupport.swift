import Base
import Foundation
import Testing

@testable import StoreActor

/// A directory that disappears with its owner.
final class ScratchDirectory {
  let path: String

  init() throws {
    let base = FileManager.default.temporaryDirectory
      .appendingPathComponent("apus-backend-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: base, withIntermediateDirectories: true)
    path = base.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
}

enum TestFile {
  static func read(_ path: String) throws -> Bytes {
    Bytes(try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  static func write(_ bytes: Bytes, _ path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  static func byteCount(_ path: String) throws -> Int { try read(path).count }
}

/// Options small enough for many stores at once.
let testOptions = BackendOptions(mapBytes: 1 << 32)

struct TestEntry: Equatable {
  let bucket: BackendBucket
  let key: Bytes
  let value: Bytes
}

/// Everything in the store, in order of tables and keys.
func contents(_ view: ReadView) throws -> [TestEntry] {
  var entries: [TestEntry] = []
  for bucket in BackendBucket.allCases {
    try view.scan(bucket) { key, value in
      entries.append(TestEntry(bucket: bucket, key: Bytes(key), value: Bytes(value)))
      return true
    }
  }
  return entries
}

func contents(_ backend: Backend) throws -> [TestEntry] {
  try contents(try backend.makeReadView())
}

/// Random as far as 1 KiB, which is then repeated.
func randomBytes(_ count: Int, _ generator: inout SeededGenerator) -> Bytes {
  var bytes: Bytes = []
  bytes.reserveCapacity(count + 8)
  while bytes.count < min(count, 1_024) {
    withUnsafeBytes(of: generator.next()) { bytes.append(contentsOf: $0) }
  }
  while bytes.count < count { bytes += bytes.prefix(count - bytes.count) }
  return Bytes(bytes.prefix(count))
}

/// `count` records of `byteCount` bytes from revision `first` on, each its own transaction.
func recordBatch(first: Int64, count: Int, byteCount: Int, seed: UInt64 = 1) -> WriteBatch {
  var generator = SeededGenerator(seed: seed)
  var batch = WriteBatch()
  for index in 0..<count {
    batch.putRecord(
      Revision(main: first + Int64(index)), isTombstone: false,
      randomBytes(byteCount, &generator))
  }
  return batch
}

extension Bytes {
  init(text: String) { self = Bytes(text.utf8) }
}
