// Bytes that a socket would not take yet.

import Glibc

/// A growing byte buffer at a stable address, as libuv needs it while a write is under way.
struct OutputBuffer: ~Copyable {
  /// A buffer larger than this is given back to the system when it has been sent.
  private static let keptBytesMax = 128 * 1024

  private(set) var base: UnsafeMutableRawPointer?
  private(set) var count = 0
  private var capacity = 0

  deinit { free(base) }

  mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress, !bytes.isEmpty else { return }
    let needed = count + bytes.count
    if needed > capacity {
      let grown = max(needed, capacity * 2, 4096)
      guard let moved = realloc(base, grown) else { preconditionFailure("out of memory") }
      base = moved
      capacity = grown
    }
    base?.advanced(by: count).copyMemory(from: source, byteCount: bytes.count)
    count = needed
  }

  mutating func removeAll() {
    count = 0
    if capacity > Self.keptBytesMax {
      free(base)
      base = nil
      capacity = 0
    }
  }
}
