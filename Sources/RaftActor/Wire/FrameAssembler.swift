import Base

/// Gives an incremental decoder exactly the bytes its next step needs.
///
/// Whole frames are handed over in place; only what is split between two reads is copied, once.
struct FrameAssembler {
  private var held: Bytes = []

  /// Memory kept between frames; what a larger frame took is given back.
  private static let keptBytesMax = 1 << 20

  /// Calls `body` with the next `count` bytes once they are there.
  /// - Returns: nil while bytes are missing; everything of `input` is consumed then.
  mutating func take<Value>(
    _ count: Int, from input: inout UnsafeRawBufferPointer,
    _ body: (UnsafeRawBufferPointer) throws(WireError) -> Value
  ) throws(WireError) -> Value? {
    if held.isEmpty, input.count >= count {
      let frame = UnsafeRawBufferPointer(rebasing: input[..<count])
      input = UnsafeRawBufferPointer(rebasing: input[count...])
      return try body(frame)
    }
    let part = min(count - held.count, input.count)
    held.append(contentsOf: input[..<part])
    input = UnsafeRawBufferPointer(rebasing: input[part...])
    guard held.count == count else { return nil }
    defer { held.removeAll(keepingCapacity: held.capacity <= Self.keptBytesMax) }
    let result = held.withUnsafeBytes { buffer -> Result<Value, WireError> in
      do throws(WireError) { return .success(try body(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// A big-endian length or number.
  mutating func takeUInt64(
    from input: inout UnsafeRawBufferPointer
  ) throws(WireError) -> UInt64? {
    try take(8, from: &input) { (bytes) throws(WireError) in
      UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
    }
  }

  /// A big-endian length, refused above `limit`.
  mutating func takeLength(
    limit: Int, from input: inout UnsafeRawBufferPointer
  ) throws(WireError) -> Int? {
    guard let length = try takeUInt64(from: &input) else { return nil }
    guard length <= UInt64(limit) else { throw .frameTooLong(bytes: length, limit: limit) }
    return Int(length)
  }
}

extension Bytes {
  mutating func append(bigEndian value: UInt64) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}
