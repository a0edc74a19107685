public import Base
import Glibc

/// Reads a bbolt file of any page size, whoever wrote it.
///
/// Bytes are not trusted: every offset is checked, key order and page counts are enforced, and the
/// file is read with `pread`, so damage and truncation end in a `BoltProblem`, never in a crash.
public final class BoltReader {
  /// A bucket found in the file.
  public struct Bucket: Sendable {
    fileprivate let root: UInt64
    fileprivate let inline: Bytes
  }

  private let file: OwnedFile
  public let fileBytes: Int
  public private(set) var pageBytes = 0
  /// The file's top level, which contains only buckets.
  public private(set) var root = Bucket(root: 0, inline: [])
  private var highWater: UInt64 = 0

  private static let depthMax = 64
  private static let nodeBytesMax = 1 << 31

  public init(path: String) throws(BackendError) {
    file = try OwnedFile(path: path, flags: O_RDONLY)
    fileBytes = try file.byteCount()
    do throws(BoltProblem) {
      try readMetas()
    } catch {
      throw .badSnapshot(file: path, problem: error)
    }
  }

  public var path: String { file.path }

  // MARK: Metas

  private struct Meta {
    let pageBytes: Int
    let root: UInt64
    let highWater: UInt64
    let transaction: UInt64
  }

  /// The second meta lies at the page size, which only the first one tells: if that one is damaged,
  /// every page size is tried.
  private func readMetas() throws(BoltProblem) {
    var found: [Meta] = []
    if let first = try readMeta(at: 0) {
      found.append(first)
      if let second = try readMeta(at: first.pageBytes) { found.append(second) }
    } else {
      var offset = BoltFormat.pageBytesRange.lowerBound
      while found.isEmpty, offset <= BoltFormat.pageBytesRange.upperBound {
        if let second = try readMeta(at: offset), second.pageBytes == offset {
          found.append(second)
        }
        offset *= 2
      }
    }
    guard let meta = found.max(by: { $0.transaction < $1.transaction }) else {
      throw .noValidMeta
    }
    let (expected, overflows) = meta.highWater.multipliedReportingOverflow(
      by: UInt64(meta.pageBytes))
    guard !overflows, expected <= UInt64(fileBytes) else {
      throw .truncated(
        expectedBytes: overflows ? .max : expected, actualBytes: UInt64(fileBytes))
    }
    pageBytes = meta.pageBytes
    highWater = meta.highWater
    root = Bucket(root: meta.root, inline: [])
    guard meta.root >= 2, meta.root < meta.highWater else {
      throw .badPage(id: meta.root, reason: "the root is outside the file")
    }
  }

  /// Nil if the bytes there are no valid meta page.
  private func readMeta(at offset: Int) throws(BoltProblem) -> Meta? {
    var page = Bytes(repeating: 0, count: BoltFormat.pageHeaderBytes + BoltFormat.metaBytes)
    guard try read(into: &page, at: offset) == page.count else { return nil }
    return page.withBuffer { raw in
      let meta = UnsafeRawBufferPointer(rebasing: raw[BoltFormat.pageHeaderBytes...])
      let checked = UnsafeRawBufferPointer(rebasing: meta[..<56])
      let size = Int(meta.littleEndian(UInt32.self, at: 8))
      guard meta.littleEndian(UInt32.self, at: 0) == BoltFormat.magic,
        meta.littleEndian(UInt32.self, at: 4) == BoltFormat.version,
        meta.littleEndian(UInt64.self, at: 56) == BoltFormat.fnv1a64(checked),
        BoltFormat.pageBytesRange.contains(size), size & (size - 1) == 0
      else { return nil }
      return Meta(
        pageBytes: size, root: meta.littleEndian(UInt64.self, at: 16),
        highWater: meta.littleEndian(UInt64.self, at: 40),
        transaction: meta.littleEndian(UInt64.self, at: 48))
    }
  }

  private func read(into bytes: inout Bytes, at offset: Int) throws(BoltProblem) -> Int {
    try bytes.withUnsafeMutableBufferPointer { (buffer) throws(BoltProblem) in
      do throws(BackendError) {
        return try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
      } catch {
        if case .ioFailure(_, _, let code) = error { throw .io(errno: code) }
        throw .io(errno: EIO)
      }
    }
  }

  // MARK: Iteration

  /// The buckets directly inside `bucket`, in byte order.
  public func buckets(in bucket: Bucket) throws(BackendError) -> [(name: Bytes, bucket: Bucket)] {
    var found: [(name: Bytes, bucket: Bucket)] = []
    var problem: BoltProblem?
    try walkReporting(bucket) { flags, key, value in
      guard flags & BoltFormat.bucketElement != 0 else { return true }
      guard value.count >= BoltFormat.bucketHeaderBytes else {
        problem = .badEntry(bucket: String(decoding: key, as: UTF8.self), reason: "no header")
        return false
      }
      let page = value.littleEndian(UInt64.self, at: 0)
      let inline = page == 0 ? Bytes(value.dropFirst(BoltFormat.bucketHeaderBytes)) : []
      found.append((Bytes(key), Bucket(root: page, inline: inline)))
      return true
    }
    if let problem { throw .badSnapshot(file: path, problem: problem) }
    return found
  }

  /// Visits keys and values of `bucket` in byte order until `body` returns false. Nested buckets are
  /// passed over. The buffers are valid during the call.
  public func scan(
    _ bucket: Bucket,
    _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
  ) throws(BackendError) {
    try walkReporting(bucket) { flags, key, value in
      flags & BoltFormat.bucketElement != 0 ? true : body(key, value)
    }
  }

  private typealias Visit = (
    _ flags: UInt32, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> Bool

  private struct Walk {
    var pagesLeft: UInt64
    var lastKey: Bytes = []
    var isFirst = true
    /// One page per level, reused.
    var pages: [Bytes] = []
  }

  private func walkReporting(_ bucket: Bucket, _ visit: Visit) throws(BackendError) {
    do throws(BoltProblem) {
      try walk(bucket, visit)
    } catch {
      throw .badSnapshot(file: path, problem: error)
    }
  }

  private func walk(_ bucket: Bucket, _ visit: Visit) throws(BoltProblem) {
    var walk = Walk(pagesLeft: highWater)
    if bucket.root != 0 {
      _ = try walkPage(bucket.root, depth: 0, &walk, visit)
    } else {
      _ = try bucket.inline.withBuffer { (raw) throws(BoltProblem) in
        let node = try BoltNode(raw, id: 0)
        guard !node.isBranch else { throw .badPage(id: 0, reason: "inline page is a branch") }
        return try walkLeaf(node, &walk, visit)
      }
    }
  }

  /// False when the visit ended the walk.
  private func walkPage(
    _ id: UInt64, depth: Int, _ walk: inout Walk, _ visit: Visit
  ) throws(BoltProblem) -> Bool {
    guard depth < Self.depthMax else { throw .cycle(id: id) }
    if walk.pages.count == depth { walk.pages.append([]) }
    // Taken out while it is read from, so that deeper levels may use `walk`.
    var page: Bytes = []
    swap(&page, &walk.pages[depth])
    try load(id, into: &page, &walk)
    let goesOn = try page.withBuffer { (raw) throws(BoltProblem) in
      let node = try BoltNode(raw, id: id)
      guard node.isBranch else { return try walkLeaf(node, &walk, visit) }
      for index in 0..<node.count {
        let child = try node.child(index)
        guard try walkPage(child, depth: depth + 1, &walk, visit) else { return false }
      }
      return true
    }
    swap(&page, &walk.pages[depth])
    return goesOn
  }

  private func walkLeaf(
    _ node: BoltNode, _ walk: inout Walk, _ visit: Visit
  ) throws(BoltProblem) -> Bool {
    for index in 0..<node.count {
      let (flags, key, value) = try node.entry(index)
      let ascends = walk.isFirst || walk.lastKey.withBuffer { $0.compare(key) < 0 }
      guard ascends else { throw .badPage(id: node.id, reason: "keys are out of order") }
      walk.isFirst = false
      walk.lastKey.removeAll(keepingCapacity: true)
      walk.lastKey.append(contentsOf: key)
      guard visit(flags, key, value) else { return false }
    }
    return true
  }

  /// Reads a page with its overflow pages. A tree reaches each page once, which bounds the walk.
  private func load(
    _ id: UInt64, into page: inout Bytes, _ walk: inout Walk
  ) throws(BoltProblem) {
    guard id >= 2, id < highWater else { throw .badPage(id: id, reason: "outside the file") }
    guard walk.pagesLeft > 0 else { throw .cycle(id: id) }
    walk.pagesLeft -= 1
    let offset = Int(id) * pageBytes
    try resizeAndRead(&page, pageBytes, offset, id)
    let overflow = page.withBuffer { UInt64($0.littleEndian(UInt32.self, at: 12)) }
    guard overflow > 0 else { return }
    guard overflow < highWater - id, (Int(overflow) + 1) * pageBytes < Self.nodeBytesMax else {
      throw .badPage(id: id, reason: "overflow of \(overflow) pages leaves the file")
    }
    guard walk.pagesLeft >= overflow else { throw .cycle(id: id) }
    walk.pagesLeft -= overflow
    try resizeAndRead(&page, (Int(overflow) + 1) * pageBytes, offset, id)
  }

  private func resizeAndRead(
    _ page: inout Bytes, _ count: Int, _ offset: Int, _ id: UInt64
  ) throws(BoltProblem) {
    if page.count != count { page = Bytes(repeating: 0, count: count) }
    guard try read(into: &page, at: offset) == count else {
      throw .badPage(id: id, reason: "the file ends inside it")
    }
  }
}

/// A branch or leaf page with every access checked.
private struct BoltNode {
  let id: UInt64
  let isBranch: Bool
  let count: Int
  private let page: UnsafeRawBufferPointer

  /// - Parameter id: must match the page's own; inline pages have 0.
  init(_ page: UnsafeRawBufferPointer, id: UInt64) throws(BoltProblem) {
    guard page.count >= BoltFormat.pageHeaderBytes else {
      throw .badPage(id: id, reason: "shorter than its header")
    }
    let flags = page.littleEndian(UInt16.self, at: 8)
    guard id == 0 || page.littleEndian(UInt64.self, at: 0) == id else {
      throw .badPage(id: id, reason: "carries another page's id")
    }
    guard flags == BoltFormat.PageFlag.branch || flags == BoltFormat.PageFlag.leaf else {
      throw .badPage(id: id, reason: "is neither branch nor leaf")
    }
    self.id = id
    self.page = page
    isBranch = flags == BoltFormat.PageFlag.branch
    count = Int(page.littleEndian(UInt16.self, at: 10))
    let end = BoltFormat.pageHeaderBytes + count * BoltFormat.elementBytes
    guard end <= page.count else { throw .badPage(id: id, reason: "too many elements") }
    guard !isBranch || count > 0 else { throw .badPage(id: id, reason: "empty branch") }
  }

  func child(_ index: Int) throws(BoltProblem) -> UInt64 {
    page.littleEndian(UInt64.self, at: element(index) + 8)
  }

  func entry(
    _ index: Int
  ) throws(BoltProblem) -> (UInt32, UnsafeRawBufferPointer, UnsafeRawBufferPointer) {
    let element = element(index)
    let keyStart = element + Int(page.littleEndian(UInt32.self, at: element + 4))
    let keyEnd = keyStart + Int(page.littleEndian(UInt32.self, at: element + 8))
    let valueEnd = keyEnd + Int(page.littleEndian(UInt32.self, at: element + 12))
    guard valueEnd <= page.count else {
      throw .badPage(id: id, reason: "element \(index) leaves the page")
    }
    return (
      page.littleEndian(UInt32.self, at: element),
      UnsafeRawBufferPointer(rebasing: page[keyStart..<keyEnd]),
      UnsafeRawBufferPointer(rebasing: page[keyEnd..<valueEnd])
    )
  }

  private func element(_ index: Int) -> Int {
    BoltFormat.pageHeaderBytes + index * BoltFormat.elementBytes
  }
}
