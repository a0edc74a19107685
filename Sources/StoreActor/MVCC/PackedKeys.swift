import Base
import Glibc

/// Sorted keys in one contiguous buffer: the keys of one node of the index.
///
/// A key costs its own bytes plus four for its end offset.
struct PackedKeys: Sendable {
  private(set) var bytes: Bytes = []
  private var ends: [UInt32] = []

  init(reserving keys: Int = 0) { ends.reserveCapacity(keys) }

  var count: Int { ends.count }

  /// Bytes of heap behind these keys, unused capacity included.
  var footprint: Int { bytes.capacity + ends.capacity * 4 }

  subscript(slot: Int) -> Bytes { Bytes(bytes[start(of: slot)..<Int(ends[slot])]) }

  private func start(of slot: Int) -> Int { slot == 0 ? 0 : Int(ends[slot - 1]) }

  /// Calls `body` with the bytes of the key at `slot`, which are valid only during the call.
  @inline(__always)
  func withKey<Result>(at slot: Int, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    let range = start(of: slot)..<Int(ends[slot])
    return bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
  }

  /// The first slot whose key is not below `key`, and whether it holds `key` itself.
  func search(_ key: UnsafeRawBufferPointer) -> (slot: Int, found: Bool) {
    bytes.withUnsafeBytes { all in
      ends.withUnsafeBufferPointer { ends in
        var low = 0
        var high = ends.count
        while low < high {
          let middle = (low + high) >> 1
          let start = middle == 0 ? 0 : Int(ends[middle - 1])
          let count = Int(ends[middle]) - start
          let common = min(count, key.count)
          var order = 0
          if common > 0, let left = all.baseAddress, let right = key.baseAddress {
            order = Int(memcmp(left + start, right, common))
          }
          if order == 0 { order = count - key.count }
          if order == 0 { return (middle, true) }
          if order < 0 { low = middle + 1 } else { high = middle }
        }
        return (low, false)
      }
    }
  }

  mutating func insert(_ key: UnsafeRawBufferPointer, at slot: Int) {
    let position = start(of: slot)
    let grown = UInt32(truncatingIfNeeded: key.count)
    precondition(bytes.count + key.count <= Int(UInt32.max), "a node holds at most 4 GiB of keys")
    if slot == ends.count {
      bytes.append(contentsOf: key)
      ends.append(UInt32(truncatingIfNeeded: bytes.count))
      return
    }
    bytes.insert(contentsOf: key, at: position)
    ends.insert(UInt32(truncatingIfNeeded: position) + grown, at: slot)
    ends.withUnsafeMutableBufferPointer { ends in
      for later in (slot + 1)..<ends.count { ends[later] += grown }
    }
  }

  mutating func remove(at slot: Int) {
    let from = start(of: slot)
    let to = Int(ends[slot])
    bytes.removeSubrange(from..<to)
    ends.remove(at: slot)
    for later in slot..<ends.count { ends[later] -= UInt32(to - from) }
  }

  mutating func append(_ other: PackedKeys) {
    let base = UInt32(bytes.count)
    bytes.append(contentsOf: other.bytes)
    for end in other.ends { ends.append(base + end) }
  }

  /// Moves the keys from `slot` on into a buffer of their own.
  mutating func split(at slot: Int, reserving keys: Int) -> PackedKeys {
    var right = PackedKeys(reserving: keys)
    let cut = start(of: slot)
    right.bytes.append(contentsOf: bytes[cut...])
    for end in ends[slot...] { right.ends.append(end - UInt32(cut)) }
    bytes.removeSubrange(cut...)
    ends.removeSubrange(slot...)
    return right
  }
}
