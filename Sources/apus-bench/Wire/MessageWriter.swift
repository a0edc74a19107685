// Requests as protobuf in gRPC frames, appended to a buffer that is used again and again.

/// Appends etcd requests to a byte array.
///
/// Hand-written: the generator shares its machine with the servers that it measures.
struct MessageWriter {
  private(set) var bytes: [UInt8] = []
  private var frameStart = 0

  mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

  mutating func beginFrame() {
    frameStart = bytes.count
    for _ in 0..<5 { bytes.append(0) }
  }

  mutating func endFrame() {
    let count = bytes.count - frameStart - 5
    for place in 0..<4 {
      bytes[frameStart + 1 + place] = UInt8(truncatingIfNeeded: count >> (24 - 8 * place))
    }
  }

  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  mutating func field(_ number: UInt64, _ value: UInt64) {
    varint(number << 3)
    varint(value)
  }

  /// Tag and length; the caller appends `count` bytes.
  mutating func prefix(_ number: UInt64, _ count: Int) {
    varint(number << 3 | 2)
    varint(UInt64(count))
  }

  mutating func raw(_ more: [UInt8]) { bytes.append(contentsOf: more) }

  static func varintCount(_ value: Int) -> Int {
    value == 0 ? 1 : (70 - UInt64(value).leadingZeroBitCount) / 7
  }

  /// Bytes that a length-delimited field of a number below 16 takes.
  static func fieldCount(_ count: Int) -> Int { 1 + varintCount(count) + count }
}

/// How keys look: a prefix and a number, padded with zeros so that all have one length.
struct KeyShape: Sendable {
  let prefix: [UInt8]
  let digits: Int

  /// Room for every number below `space`, even if `keyBytes` is less.
  init(prefix: String, keyBytes: Int, space: Int) {
    self.prefix = Array(prefix.utf8)
    digits = max(keyBytes - prefix.utf8.count, String(max(space, 1)).utf8.count)
  }

  var count: Int { prefix.count + digits }

  /// The end of a range of all keys with the prefix.
  var prefixEnd: [UInt8] {
    var end = prefix
    while let last = end.last {
      if last < 0xff {
        end[end.count - 1] = last + 1
        return end
      }
      end.removeLast()
    }
    return [0]
  }
}

extension MessageWriter {
  mutating func key(_ shape: KeyShape, _ number: Int) {
    raw(shape.prefix)
    let start = bytes.count
    for _ in 0..<shape.digits { bytes.append(UInt8(ascii: "0")) }
    var rest = number
    var place = start + shape.digits - 1
    while rest > 0, place >= start {
      bytes[place] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
      place -= 1
    }
  }

  static func putCount(_ shape: KeyShape, _ value: [UInt8]) -> Int {
    fieldCount(shape.count) + fieldCount(value.count)
  }

  /// A PutRequest without a frame.
  /// - Parameter stamp: replaces the first eight bytes of the value; 0 leaves them.
  mutating func put(_ shape: KeyShape, _ number: Int, value: [UInt8], stamp: UInt64 = 0) {
    prefix(1, shape.count)
    key(shape, number)
    prefix(2, value.count)
    let start = bytes.count
    raw(value)
    if stamp != 0, value.count >= 8 {
      for place in 0..<8 {
        bytes[start + place] = UInt8(truncatingIfNeeded: stamp >> (8 * UInt64(place)))
      }
    }
  }
}
