// Ranges of keys as the command line names them.

import FoundationEssentials

enum KeyRange {
  /// The end that stands for "no upper bound", and the first key of all.
  static let zero = Data([0])

  /// The smallest key greater than all keys with this prefix.
  static func end(ofPrefix prefix: Data) -> Data {
    var bytes = Array(prefix)
    while let last = bytes.last {
      if last < 0xff {
        bytes[bytes.count - 1] = last + 1
        return Data(bytes)
      }
      bytes.removeLast()
    }
    return zero
  }

  /// The key and range end for `--prefix` and `--from-key`, of which at most one is set.
  static func resolve(
    key: String, end: String?, isPrefix: Bool, isFromKey: Bool
  ) -> (key: Data, end: Data) {
    let key = Data(RawText.bytes(key))
    if isPrefix || isFromKey {
      if key.isEmpty { return (zero, zero) }
      return (key, isPrefix ? Self.end(ofPrefix: key) : zero)
    }
    return (key, Data(RawText.bytes(end ?? "")))
  }
}
