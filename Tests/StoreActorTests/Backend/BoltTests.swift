import Base
import Testing

@testable import StoreActor

@Suite struct BoltTests {
  private typealias Entries = [(key: Bytes, value: Bytes)]

  private let scratch: ScratchDirectory

  init() throws { scratch = try ScratchDirectory() }

  @discardableResult
  private func write(_ buckets: [(name: String, entries: Entries)], _ path: String) throws -> Int {
    var writer = try BoltWriter(path: path)
    for bucket in buckets {
      writer.beginBucket(Bytes(text: bucket.name))
      for entry in bucket.entries { try writer.put(entry.key, entry.value) }
      try writer.endBucket()
    }
    return try writer.finish()
  }

  private func read(_ path: String) throws -> [(name: String, entries: Entries)] {
    let reader = try BoltReader(path: path)
    return try reader.buckets(in: reader.root).map { name, bucket in
      var entries: Entries = []
      try reader.scan(bucket) { key, value in
        entries.append((Bytes(key), Bytes(value)))
        return true
      }
      return (String(decoding: name, as: UTF8.self), entries)
    }
  }

  private func expectRoundTrip(
    _ buckets: [(name: String, entries: Entries)], _ comment: Comment? = nil
  ) throws {
    let path = scratch.file("file.db")
    let size = try write(buckets, path)
    #expect(size % 4_096 == 0, comment)
    #expect(size == (try TestFile.byteCount(path)), comment)
    let found = try read(path)
    #expect(found.map(\.name) == buckets.map(\.name), comment)
    for (left, right) in zip(found, buckets) {
      #expect(left.entries.map(\.key) == right.entries.map(\.key), comment)
      #expect(left.entries.map(\.value) == right.entries.map(\.value), comment)
    }
  }

  private func entries(
    _ count: Int, keyBytes: ClosedRange<Int>, valueBytes: ClosedRange<Int>,
    _ generator: inout SeededGenerator
  ) -> Entries {
    var keys: Set<Bytes> = []
    while keys.count < count {
      keys.insert(randomBytes(Int.random(in: keyBytes, using: &generator), &generator))
    }
    return keys.sorted { $0.precedes($1) }.map {
      ($0, randomBytes(Int.random(in: valueBytes, using: &generator), &generator))
    }
  }

  @Test func emptyBucketsRoundTrip() throws {
    try expectRoundTrip([])
    try expectRoundTrip(BackendBucket.allCases.map { ("\($0.name)", []) })
  }

  @Test(arguments: 1...3) func randomBucketsRoundTrip(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let shapes: [(Int, ClosedRange<Int>, ClosedRange<Int>)] = [
      (3, 1...20, 0...30), (40, 3...40, 0...5_000), (1_000, 8...18, 0...400),
      (100, 1_000...6_000, 0...10), (7, 4...9, 0...(2 << 20)), (1, 1...1, 5_000...5_000),
      (200, 4...2_500, 0...3_000),
    ]
    let buckets = shapes.shuffled(using: &generator).enumerated().map { index, shape in
      (
        name: "bucket\(index)",
        entries: entries(shape.0, keyBytes: shape.1, valueBytes: shape.2, &generator)
      )
    }
    try expectRoundTrip(buckets, "seed \(seed)")
  }

  @Test func hundredThousandKeysRoundTrip() throws {
    let entries: Entries = (0..<100_000).map { index in
      let revision = Revision(main: Int64(index / 3), sub: Int64(index % 3))
      return (RevisionKey.bytes(revision), [UInt8(index & 255)])
    }
    try expectRoundTrip([("key", entries)])
  }

  /// The sizes around the limits of one page and of an inline bucket.
  @Test func pageBoundariesRoundTrip() throws {
    for size in [958, 959, 960, 961, 4_045, 4_046, 4_047, 4_048, 4_049, 8_143, 8_144, 8_145] {
      try expectRoundTrip(
        [("a", [([1, 2], Bytes(repeating: 7, count: size))]), ("b", [([1], []), ([2], [3])])],
        "value of \(size) bytes")
    }
    // Few, long keys: branch pages hold two children each.
    let long: Entries = (0..<40).map { ([UInt8($0)] + Bytes(repeating: 1, count: 2_000), []) }
    try expectRoundTrip([("long", long)])
  }

  @Test func metasCarryTheFormatAndEitherOneSuffices() throws {
    let path = scratch.file("file.db")
    try write([("a", [([1], [2])])], path)
    let good = try TestFile.read(path)
    let start: Bytes = [0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0, 0, 16, 0, 0]
    #expect(Bytes(good[16..<28]) == start)
    for damaged in [20, 4_116] {
      var bytes: Bytes = good
      bytes[damaged] ^= 1
      try TestFile.write(bytes, path)
      #expect(try read(path).first?.entries.first?.value == [2])
    }
    var bytes = good
    bytes[20] ^= 1
    bytes[4_116] ^= 1
    try TestFile.write(bytes, path)
    #expect(throws: BackendError.badSnapshot(file: path, problem: .noValidMeta)) { try read(path) }
  }

  @Test func truncationIsNamed() throws {
    let path = scratch.file("file.db")
    let size = try write([("a", [([1], Bytes(repeating: 1, count: 9_000))])], path)
    try TestFile.write(Bytes(try TestFile.read(path).dropLast(100)), path)
    #expect(
      throws: BackendError.badSnapshot(
        file: path,
        problem: .truncated(expectedBytes: UInt64(size), actualBytes: UInt64(size - 100)))
    ) { try read(path) }
  }

  /// Any damage ends in an error or in other content, never in a crash or an endless loop.
  @Test(arguments: 1...4) func damagedBytesNeverCrash(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let path = scratch.file("file.db")
    try write(
      [
        ("big", entries(150, keyBytes: 4...60, valueBytes: 0...300, &generator)),
        ("inline", [([1], [2])]), ("long", [([1], Bytes(repeating: 1, count: 20_000))]),
      ], path)
    let good = try TestFile.read(path)
    var errors = 0
    for _ in 0..<250 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        // Mostly in page headers and element tables, where damage has consequences.
        let page = Int.random(in: 2..<(good.count / 4_096), using: &generator)
        let within = Int.random(
          in: 0..<(Bool.random(using: &generator) ? 64 : 4_096), using: &generator)
        bytes[page * 4_096 + within] =
          [0, 1, 2, 0xff, UInt8.random(in: 0...255, using: &generator)].randomElement(
            using: &generator) ?? 0
      }
      if Int.random(in: 0..<20, using: &generator) == 0 {
        bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator))
      }
      try TestFile.write(bytes, path)
      do {
        _ = try read(path)
      } catch BackendError.badSnapshot {
        errors += 1
      }
    }
    #expect(errors > 20, "damage goes unnoticed too often")
  }

  @Test func branchThatPointsToItselfEnds() throws {
    let path = scratch.file("file.db")
    var generator = SeededGenerator(seed: 3)
    try write([("a", entries(2_000, keyBytes: 8...8, valueBytes: 100...100, &generator))], path)
    var bytes = try TestFile.read(path)
    // The bucket's root is the last branch page before the page of the root bucket.
    let pages = bytes.count / 4_096
    let branch = try #require((2..<pages).last { bytes[$0 * 4_096 + 8] == 1 })
    for byte in 0..<8 {
      bytes[branch * 4_096 + 16 + 8 + byte] = UInt8(truncatingIfNeeded: branch >> (8 * byte))
    }
    try TestFile.write(bytes, path)
    #expect {
      try read(path)
    } throws: { error in
      guard case BackendError.badSnapshot(_, .cycle) = error else { return false }
      return true
    }
  }

  /// 1 KiB and 64 KiB pages, as other hosts write them, built by hand around one leaf.
  @Test(arguments: [1_024, 65_536]) func otherPageSizesAreRead(pageBytes: Int) throws {
    var file = Bytes(repeating: 0, count: 3 * pageBytes)
    func put(_ value: some FixedWidthInteger, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) {
        file.replaceSubrange(offset..<(offset + $0.count), with: $0)
      }
    }
    for meta in 0..<2 {
      let start = meta * pageBytes + 16
      put(UInt16(4), at: start - 8)
      put(UInt32(0xed0c_daed), at: start)
      put(UInt32(2), at: start + 4)
      put(UInt32(pageBytes), at: start + 8)
      put(UInt64(2), at: start + 16)
      put(UInt64.max, at: start + 32)
      put(UInt64(3), at: start + 40)
      put(UInt64(5 + meta), at: start + 48)
      let sum = file[start..<(start + 56)].reduce(UInt64(0xcbf2_9ce4_8422_2325)) {
        ($0 ^ UInt64($1)) &* 0x100_0000_01b3
      }
      put(sum, at: start + 56)
    }
    let leaf = 2 * pageBytes
    put(UInt64(2), at: leaf)
    put(UInt16(2), at: leaf + 8)
    put(UInt16(1), at: leaf + 10)
    put(UInt32(1), at: leaf + 16)
    put(UInt32(16), at: leaf + 20)
    put(UInt32(1), at: leaf + 24)
    put(UInt32(32), at: leaf + 28)
    file[leaf + 32] = UInt8(ascii: "b")
    put(UInt16(2), at: leaf + 33 + 16 + 8)
    let path = scratch.file("file.db")
    try TestFile.write(file, path)
    let found = try read(path)
    #expect(found.map(\.name) == ["b"])
    #expect(found.first?.entries.isEmpty == true)
    #expect(try BoltReader(path: path).pageBytes == pageBytes)
    put(UInt8(9), at: 16)
    try TestFile.write(file, path)
    #expect(try read(path).map(\.name) == ["b"], "the second meta is found without the first")
  }
}
