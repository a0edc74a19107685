// Counting events in watch responses without building them.

import Base

/// What one watch response holds.
struct WatchBatch {
  var created = false
  var canceled = false
  var events = 0
  /// The send time in the value of the first event; 0 if it has none.
  var stamp: UInt64 = 0

  /// Reads an encoded WatchResponse.
  init(_ bytes: UnsafeRawBufferPointer) throws(ProtobufError) {
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch field.number {
      case 3: created = try field.bool()
      case 4: canceled = try field.bool()
      case 11:
        if events == 0 { stamp = try Self.stamp(in: try field.buffer()) }
        events += 1
      default: break
      }
    }
  }

  private static func stamp(in event: UnsafeRawBufferPointer) throws(ProtobufError) -> UInt64 {
    var reader = ProtobufReader(event)
    while let field = try reader.next(), field.number <= 2 {
      guard field.number == 2 else { continue }
      var keyValue = ProtobufReader(try field.buffer())
      while let part = try keyValue.next(), part.number <= 5 {
        guard part.number == 5 else { continue }
        let value = try part.buffer()
        guard value.count >= 8 else { return 0 }
        return UInt64(littleEndian: value.loadUnaligned(as: UInt64.self))
      }
    }
    return 0
  }
}

/// Cuts a stream of DATA into gRPC messages.
struct FrameCutter {
  private var partial: [UInt8] = []

  /// Calls `body` with every message that is complete. Compressed ones never come: not asked for.
  mutating func feed(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    if partial.isEmpty {
      let used = Self.cut(bytes, body)
      if used < bytes.count { partial.append(contentsOf: bytes[used...]) }
      return
    }
    partial.append(contentsOf: bytes)
    let used = partial.withUnsafeBytes { Self.cut($0, body) }
    if used > 0 { partial.removeFirst(used) }
  }

  private static func cut(
    _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
  ) -> Int {
    var at = 0
    while bytes.count - at >= 5 {
      let length = UInt32(
        bigEndian: bytes.loadUnaligned(fromByteOffset: at + 1, as: UInt32.self))
      let end = at + 5 + Int(length)
      guard end <= bytes.count else { break }
      body(UnsafeRawBufferPointer(rebasing: bytes[at + 5..<end]))
      at = end
    }
    return at
  }
}
