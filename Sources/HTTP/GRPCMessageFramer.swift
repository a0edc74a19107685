import Base

/// The five bytes before every gRPC message: compressed flag, length in network order.
public enum GRPCMessageFramer {
  public static let prefixBytes = FramedMessages.prefixBytes

  /// Appends the prefix of a message of `count` bytes.
  public static func appendPrefix(
    count: Int, isCompressed: Bool = false, to output: inout [UInt8]
  ) {
    for index in 0..<prefixBytes {
      output.append(prefixByte(index, count: count, isCompressed: isCompressed))
    }
  }

  /// A whole frame: prefix and message.
  public static func frame(_ message: [UInt8], isCompressed: Bool = false) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(prefixBytes + message.count)
    appendPrefix(count: message.count, isCompressed: isCompressed, to: &output)
    output.append(contentsOf: message)
    return output
  }

  /// Reads a prefix; nil if fewer than five bytes are there.
  public static func parsePrefix(
    _ bytes: UnsafeRawBufferPointer
  ) -> (flag: UInt8, count: Int)? {
    guard bytes.count >= prefixBytes else { return nil }
    let count =
      Int(bytes[1]) << 24 | Int(bytes[2]) << 16 | Int(bytes[3]) << 8 | Int(bytes[4])
    return (bytes[0], count)
  }

  static func prefixByte(_ index: Int, count: Int, isCompressed: Bool) -> UInt8 {
    index == 0
      ? (isCompressed ? 1 : 0)
      : UInt8(truncatingIfNeeded: count >> (8 * (prefixBytes - 1 - index)))
  }
}

/// How the messages of one direction of a call are encoded, from `grpc-encoding`.
enum MessageEncoding: Equatable {
  case identity
  case gzip
}

/// Puts messages back together from chunks of bytes.
///
/// The sessions drive it: `take` looks at the bytes of a chunk (or of ``partial``) and says what
/// stands at their head; what cannot be used yet is kept in ``partial``.
struct MessageAssembler {
  enum Step {
    case needMore
    /// A message's payload lies at `payload` of the bytes looked at.
    case message(payload: Range<Int>, isCompressed: Bool)
    case failed(GRPCStatus)
  }

  /// Bytes received and not yet delivered.
  var partial: [UInt8] = []

  /// What `bytes` begin with, given the largest message accepted.
  static func next(
    _ bytes: UnsafeRawBufferPointer, limit: Int, encoding: MessageEncoding
  ) -> Step {
    guard let (flag, count) = GRPCMessageFramer.parsePrefix(bytes) else { return .needMore }
    switch (flag, encoding) {
    case (0, _), (1, .gzip): break
    case (1, .identity):
      return .failed(
        GRPCStatus(.internal, "grpc: compressed flag set with identity or empty encoding"))
    default:
      return .failed(GRPCStatus(.internal, "grpc: received unexpected payload format \(flag)"))
    }
    guard count <= limit else {
      return .failed(
        GRPCStatus(
          .resourceExhausted, "grpc: received message larger than max (\(count) vs. \(limit))"))
    }
    let end = GRPCMessageFramer.prefixBytes + count
    guard bytes.count >= end else { return .needMore }
    return .message(payload: GRPCMessageFramer.prefixBytes..<end, isCompressed: flag == 1)
  }

  /// Whether ``partial`` could hold a whole message once `more` bytes are appended.
  func completes(with more: Int) -> Bool {
    let total = partial.count + more
    return partial.withUnsafeBytes { bytes in
      guard let (_, count) = GRPCMessageFramer.parsePrefix(bytes) else {
        return total >= GRPCMessageFramer.prefixBytes
      }
      return total >= GRPCMessageFramer.prefixBytes + count
    }
  }

  /// Decompresses a payload within `limit`.
  static func inflate(
    _ payload: UnsafeRawBufferPointer, limit: Int
  ) throws(GRPCStatus) -> [UInt8] {
    do {
      return try Gzip.decompress(payload, limit: limit)
    } catch {
      switch error {
      case .tooLarge:
        throw GRPCStatus(
          .resourceExhausted,
          "grpc: received message after decompression larger than max (\(limit + 1) vs. \(limit))")
      case .malformed:
        throw GRPCStatus(
          .internal, "grpc: failed to decompress the received message: gzip: invalid data")
      }
    }
  }
}

/// Bytes of one stream that wait for the peer's window, in order.
struct MessageQueue {
  // The first message lies apart from the rest, so a unary reply needs no second array.
  private var head: [UInt8] = []
  private var headAt = 0
  private var hasHead = false
  /// Bytes that the head's prefix announces.
  private var headAnnounces = 0
  private var tail: [Entry] = []
  private var tailAt = 0
  /// Bytes waiting, prefixes included.
  private(set) var bytes = 0
  /// Whether each entry gets a gRPC prefix (false: plain bytes of an HTTP body).
  var isFramed = true
  /// Whether entries were compressed; an empty message never is.
  var isCompressed = false

  private struct Entry {
    var bytes: [UInt8]
    /// Bytes of the message that begins here; nil in the middle of one, or if its prefix is there.
    let announces: Int?
  }

  private var prefix: Int { isFramed ? GRPCMessageFramer.prefixBytes : 0 }

  mutating func append(_ message: [UInt8]) { append(message, announces: message.count) }

  /// Appends one message that comes in pieces, none of which is copied.
  mutating func append(_ first: [UInt8], _ rest: ArraySlice<[UInt8]>) {
    append(first, announces: rest.reduce(first.count) { $0 + $1.count })
    for piece in rest { append(piece, announces: nil) }
  }

  /// Appends whole messages that have their prefixes.
  mutating func append(framed piece: [UInt8]) { append(piece, announces: nil) }

  private mutating func append(_ piece: [UInt8], announces: Int?) {
    bytes += piece.count + (announces == nil ? 0 : prefix)
    if hasHead {
      tail.append(Entry(bytes: piece, announces: announces))
    } else {
      hasHead = true
      begin(piece, announces: announces)
    }
  }

  /// Makes a piece the head.
  private mutating func begin(_ piece: [UInt8], announces: Int?) {
    head = piece
    headAt = announces == nil ? 0 : -prefix
    headAnnounces = announces ?? 0
  }

  mutating func removeAll() {
    self.head = []
    self.hasHead = false
    self.tail = []
    self.tailAt = 0
    self.bytes = 0
  }

  /// Moves the first `count` bytes to `output`. Precondition: as many are waiting.
  mutating func write(_ count: Int, to output: inout [UInt8]) {
    precondition(count <= bytes, "more asked for than is queued")
    bytes -= count
    var left = count
    while left > 0 {
      while headAt < 0, left > 0 {
        output.append(
          GRPCMessageFramer.prefixByte(
            GRPCMessageFramer.prefixBytes + headAt, count: headAnnounces,
            isCompressed: isCompressed && headAnnounces > 0))
        headAt += 1
        left -= 1
      }
      if headAt >= 0 {
        let taken = min(left, head.count - headAt)
        if taken > 0 { output.append(contentsOf: head[headAt..<headAt + taken]) }
        headAt += taken
        left -= taken
        if headAt == head.count { advance() }
      }
    }
  }

  private mutating func advance() {
    guard tailAt < tail.count else {
      head = []
      hasHead = false
      return
    }
    begin(tail[tailAt].bytes, announces: tail[tailAt].announces)
    tail[tailAt].bytes = []
    tailAt += 1
    if tailAt == tail.count {
      tail.removeAll(keepingCapacity: true)
      tailAt = 0
    }
  }
}
