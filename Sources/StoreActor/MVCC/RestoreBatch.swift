import Base
import Glibc

/// Stored records on their way into the index at start, sorted by key batch by batch.
///
/// Records come in the order in which they were written, which for the index is a random one, and a
/// large index does not fit the processor's caches. Neighbouring keys share their nodes.
struct RestoreBatch {
  private struct Item {
    let start: Int
    let count: Int
    let mark: Mark
    let created: Int64
    let version: Int64
  }

  private static let itemsMax = 1 << 17
  private static let keyBytesMax = 64 << 20

  private var keys: Bytes = []
  private var items: [Item] = []

  var isFull: Bool { items.count >= Self.itemsMax || keys.count >= Self.keyBytesMax }

  mutating func add(_ key: UnsafeRawBufferPointer, mark: Mark, created: Int64, version: Int64) {
    items.append(
      Item(start: keys.count, count: key.count, mark: mark, created: created, version: version))
    keys.append(contentsOf: key)
  }

  /// Moves everything into the index. Changes of one key stay in order.
  mutating func flush(into index: inout KeyIndex) {
    var sorted = items
    items.removeAll(keepingCapacity: true)
    keys.withUnsafeBytes { keys in
      guard let base = keys.baseAddress else { return }
      sorted.sort { left, right in
        let common = min(left.count, right.count)
        let order = Int(memcmp(base + left.start, base + right.start, common))
        if order != 0 { return order < 0 }
        return left.count != right.count ? left.count < right.count : left.start < right.start
      }
      for item in sorted {
        let key = UnsafeRawBufferPointer(start: base + item.start, count: item.count)
        index.restore(key, mark: item.mark, created: item.created, version: item.version)
      }
    }
    keys.removeAll(keepingCapacity: true)
  }
}
