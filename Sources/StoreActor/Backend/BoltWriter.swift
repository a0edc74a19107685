public import Base
import Glibc

/// Writes a bbolt file in one pass: leaf pages as they fill, branch pages above them, metas last.
///
/// Memory is bounded by a page per tree level and a small output buffer, however large the file.
/// Buckets, and keys within a bucket, come in ascending byte order (precondition).
public struct BoltWriter: ~Copyable {
  private var sink: PageSink
  private var root = TreeBuilder()
  private var bucket = TreeBuilder()
  private var bucketName: Bytes?

  /// Creates `path`; an existing file there is replaced.
  public init(path: String) throws(BackendError) {
    sink = try PageSink(path: path)
  }

  public mutating func beginBucket(_ name: Bytes) {
    precondition(bucketName == nil, "buckets are written one after another")
    bucketName = name
  }

  public mutating func put(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) throws(BackendError) {
    assert(bucketName != nil, "no bucket was begun")
    try bucket.add(key, value, flags: 0, &sink)
  }

  public mutating func put(_ key: Bytes, _ value: Bytes) throws(BackendError) {
    try key.withBuffer { (key) throws(BackendError) in
      try value.withBuffer { (value) throws(BackendError) in try put(key, value) }
    }
  }

  public mutating func endBucket() throws(BackendError) {
    guard let name = bucketName else { preconditionFailure("no bucket was begun") }
    var value: Bytes = []
    if let inline = bucket.inlinePage() {
      value.appendLittleEndian(UInt64(0))
      value.appendLittleEndian(UInt64(0))
      value.append(contentsOf: inline)
    } else {
      value.appendLittleEndian(try bucket.finish(&sink))
      value.appendLittleEndian(UInt64(0))
    }
    bucket = TreeBuilder()
    bucketName = nil
    try name.withBuffer { (name) throws(BackendError) in
      try value.withBuffer { (value) throws(BackendError) in
        try root.add(name, value, flags: BoltFormat.bucketElement, &sink)
      }
    }
  }

  /// Completes the file and makes it durable (not its name: sync the directory for that).
  ///
  /// - Returns: the file's size, a multiple of 4096.
  public mutating func finish() throws(BackendError) -> Int {
    precondition(bucketName == nil, "a bucket is still open")
    return try sink.finish(rootPage: try root.finish(&sink))
  }
}

/// Appends pages to the file, in order of their ids.
private struct PageSink: ~Copyable {
  private let file: OwnedFile
  private var buffer: Bytes = []
  private var bufferOffset: Int
  private(set) var nextPage: UInt64 = 2

  private static let bufferBytes = 1 << 20

  init(path: String) throws(BackendError) {
    file = try OwnedFile(path: path, flags: O_RDWR | O_CREAT | O_TRUNC)
    bufferOffset = 2 * BoltFormat.pageBytes
    buffer.reserveCapacity(Self.bufferBytes + (1 << 16))
  }

  mutating func append(_ node: borrowing NodeBuilder) throws(BackendError) -> UInt64 {
    let id = nextPage
    let pages = (node.byteCount + BoltFormat.pageBytes - 1) / BoltFormat.pageBytes
    node.encode(id: id, overflow: UInt32(pages - 1), into: &buffer)
    let padding = pages * BoltFormat.pageBytes - node.byteCount
    buffer.append(contentsOf: repeatElement(0, count: padding))
    nextPage += UInt64(pages)
    if buffer.count >= Self.bufferBytes { try flush() }
    return id
  }

  private mutating func flush() throws(BackendError) {
    let offset = bufferOffset
    try buffer.withBuffer { (raw) throws(BackendError) in try file.write(raw, at: offset) }
    bufferOffset += buffer.count
    buffer.removeAll(keepingCapacity: true)
  }

  mutating func finish(rootPage: UInt64) throws(BackendError) -> Int {
    try flush()
    var metas: Bytes = []
    for id in 0..<2 {
      metas.append(contentsOf: Self.meta(id: UInt64(id), root: rootPage, highWater: nextPage))
    }
    try metas.withBuffer { (raw) throws(BackendError) in try file.write(raw, at: 0) }
    try file.sync()
    return Int(nextPage) * BoltFormat.pageBytes
  }

  /// bbolt writes meta `txid % 2`; equal contents but for the txid leave two valid metas.
  private static func meta(id: UInt64, root: UInt64, highWater: UInt64) -> Bytes {
    var page: Bytes = []
    page.appendLittleEndian(id)
    page.appendLittleEndian(BoltFormat.PageFlag.meta)
    page.appendLittleEndian(UInt16(0))
    page.appendLittleEndian(UInt32(0))
    let start = page.count
    page.appendLittleEndian(BoltFormat.magic)
    page.appendLittleEndian(BoltFormat.version)
    page.appendLittleEndian(UInt32(BoltFormat.pageBytes))
    page.appendLittleEndian(UInt32(0))
    page.appendLittleEndian(root)
    page.appendLittleEndian(UInt64(0))
    page.appendLittleEndian(BoltFormat.noFreelist)
    page.appendLittleEndian(highWater)
    page.appendLittleEndian(2 + id)
    let checksum = page.withBuffer {
      BoltFormat.fnv1a64(UnsafeRawBufferPointer(rebasing: $0[start...]))
    }
    page.appendLittleEndian(checksum)
    page.append(contentsOf: repeatElement(0, count: BoltFormat.pageBytes - page.count))
    return page
  }
}

/// The entries of one page under construction.
private struct NodeBuilder {
  private struct Element {
    let keyOffset: Int
    let keyCount: UInt32
    let valueCount: UInt32
    /// Leaf: the element's flags. Branch: the child's page id.
    let extra: UInt64
  }

  private let isBranch: Bool
  private var elements: [Element] = []
  private var payload: Bytes = []

  init(isBranch: Bool) { self.isBranch = isBranch }

  var count: Int { elements.count }

  var byteCount: Int {
    BoltFormat.pageHeaderBytes + elements.count * BoltFormat.elementBytes + payload.count
  }

  func fits(_ bytes: Int) -> Bool {
    byteCount + BoltFormat.elementBytes + bytes <= BoltFormat.pageBytes
  }

  mutating func add(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, extra: UInt64
  ) {
    elements.append(
      Element(
        keyOffset: payload.count, keyCount: UInt32(key.count), valueCount: UInt32(value.count),
        extra: extra))
    payload.append(contentsOf: key)
    payload.append(contentsOf: value)
  }

  mutating func removeAll() {
    elements.removeAll(keepingCapacity: true)
    payload.removeAll(keepingCapacity: true)
  }

  /// Takes the last entry off a branch page.
  mutating func removeLast() -> (key: Bytes, child: UInt64) {
    let element = elements.removeLast()
    let key = Bytes(payload[element.keyOffset...])
    payload.removeLast(key.count)
    return (key, element.extra)
  }

  var firstKey: Bytes { Bytes(payload.prefix(Int(elements[0].keyCount))) }
  var onlyChild: UInt64 { elements[0].extra }

  func isAscending(_ key: UnsafeRawBufferPointer) -> Bool {
    guard let last = elements.last else { return true }
    return payload.withBuffer {
      let end = last.keyOffset + Int(last.keyCount)
      return UnsafeRawBufferPointer(rebasing: $0[last.keyOffset..<end]).compare(key) < 0
    }
  }

  func encode(id: UInt64, overflow: UInt32, into out: inout Bytes) {
    out.appendLittleEndian(id)
    out.appendLittleEndian(isBranch ? BoltFormat.PageFlag.branch : BoltFormat.PageFlag.leaf)
    out.appendLittleEndian(UInt16(elements.count))
    out.appendLittleEndian(overflow)
    for (index, element) in elements.enumerated() {
      let position =
        (elements.count - index) * BoltFormat.elementBytes + element.keyOffset
      if isBranch {
        out.appendLittleEndian(UInt32(position))
        out.appendLittleEndian(element.keyCount)
        out.appendLittleEndian(element.extra)
      } else {
        out.appendLittleEndian(UInt32(element.extra))
        out.appendLittleEndian(UInt32(position))
        out.appendLittleEndian(element.keyCount)
        out.appendLittleEndian(element.valueCount)
      }
    }
    out.append(contentsOf: payload)
  }
}

/// Builds one B+tree bottom-up.
private struct TreeBuilder {
  private var leaf = NodeBuilder(isBranch: false)
  private var branches: [NodeBuilder] = []

  /// Larger single-page buckets get a page of their own, as in bbolt.
  private static let inlineBytesMax = BoltFormat.pageBytes / 4

  mutating func add(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, flags: UInt32,
    _ sink: inout PageSink
  ) throws(BackendError) {
    precondition(leaf.isAscending(key), "keys ascend within a bucket")
    if leaf.count > 0, !leaf.fits(key.count + value.count) { try flushLeaf(&sink) }
    leaf.add(key, value, extra: UInt64(flags))
  }

  private mutating func flushLeaf(_ sink: inout PageSink) throws(BackendError) {
    let page = try sink.append(leaf)
    try addChild(leaf.firstKey, page, level: 0, &sink)
    leaf.removeAll()
  }

  private mutating func addChild(
    _ key: Bytes, _ page: UInt64, level: Int, _ sink: inout PageSink
  ) throws(BackendError) {
    if level == branches.count { branches.append(NodeBuilder(isBranch: true)) }
    if branches[level].count > 1, !branches[level].fits(key.count) {
      // The last entry moves on, so that no branch page is left with a single child.
      let carried = branches[level].count > 2 ? branches[level].removeLast() : nil
      let full = try sink.append(branches[level])
      try addChild(branches[level].firstKey, full, level: level + 1, &sink)
      branches[level].removeAll()
      if let carried { addEntry(carried.key, carried.child, level) }
    }
    addEntry(key, page, level)
  }

  private mutating func addEntry(_ key: Bytes, _ page: UInt64, _ level: Int) {
    key.withBuffer {
      branches[level].add($0, UnsafeRawBufferPointer(start: nil, count: 0), extra: page)
    }
  }

  /// The page to store inside the bucket's value, if the bucket is small enough for that.
  func inlinePage() -> Bytes? {
    guard branches.isEmpty, leaf.byteCount <= Self.inlineBytesMax else { return nil }
    var page: Bytes = []
    leaf.encode(id: 0, overflow: 0, into: &page)
    return page
  }

  /// Writes what is left and returns the root's page id.
  mutating func finish(_ sink: inout PageSink) throws(BackendError) -> UInt64 {
    if branches.isEmpty { return try sink.append(leaf) }
    if leaf.count > 0 { try flushLeaf(&sink) }
    var level = 0
    while true {
      let isTop = level == branches.count - 1
      if isTop, branches[level].count == 1 { return branches[level].onlyChild }
      let page = try sink.append(branches[level])
      if isTop { return page }
      try addChild(branches[level].firstKey, page, level: level + 1, &sink)
      level += 1
    }
  }
}
