// Small batches that are synced at once go past the page cache: copying them into it, having it
// written and waiting for that takes up to a quarter longer, and a quarter more of a processor, than
// handing the disk the block (docs/performance.md). What reached the disk is durable after a sync, as before.
extension WriteAheadLog {
  /// The tail, opened a second time.
  enum DirectTail {
    case untried
    case open(Int32)
    /// The file system cannot do it.
    case refused
  }

  /// Beyond this the page cache is as quick.
  static let directBytesMax = 64 << 10

  /// Writes what is pending as whole blocks: the bytes of the first one that are in the log already
  /// are written again as they are, and behind the last frame the log holds nothing but zeros.
  /// - Returns: false if the page cache must be used.
  func writePendingDirectly() throws(WALError) -> Bool {
    let count = buffer.count
    guard count > 0, count <= Self.directBytesMax,
      count <= options.unsyncedBytesMax - unsyncedBytes, let file = directTail()
    else { return false }
    let start = position - buffer.carried
    guard try storage.writeBlocks(file, tail.path, buffer.blocks(), at: start) else {
      closeDirectTail()
      direct = .refused
      return false
    }
    position += count
    unsyncedBytes += count
    buffer.didWrite()
    return true
  }

  /// Reads the part of a block after which the log goes on.
  func carryTail() throws(WALError) {
    let count = position % WALFrameBuffer.blockBytes
    let (file, path, _) = tail
    let start = position - count
    let head = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { head.deallocate() }
    guard try storage.readAll(file, path, into: head, at: start) == count else {
      throw .corrupt(file: path, offset: start, reason: "the file has become shorter")
    }
    buffer.carry(UnsafeRawBufferPointer(head))
  }

  /// The next write to the tail opens it anew: it is another file, or none.
  func closeDirectTail() {
    guard case .open(let file) = direct else { return }
    storage.files.close(file)
    direct = .untried
  }

  private func directTail() -> Int32? {
    switch direct {
    case .open(let file): return file
    case .refused: return nil
    case .untried:
      let file = storage.files.openDirect(tail.path)
      direct = file.map { .open($0) } ?? .refused
      return file
    }
  }
}
