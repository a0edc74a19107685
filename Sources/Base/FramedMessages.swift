/// Messages in gRPC's framing, one behind the other: what a stream can send as it is.
///
/// Each has a prefix of five bytes: 0 (not compressed), then its length, big-endian.
public struct FramedMessages: Sendable {
  public static let prefixBytes = 5
  private static let emptyPrefix = Bytes(repeating: 0, count: prefixBytes)
  /// A piece takes no more messages from this size on, so that large ones are let go of one by one.
  private static let pieceBytes = 64 << 10

  /// Whole messages each.
  public private(set) var pieces: [Bytes] = []
  public private(set) var count = 0
  /// Bytes that will come, as far as known.
  private var expected: Int

  /// - Parameter expected: bytes of all messages, about.
  public init(expected: Int = 0) { self.expected = expected }

  /// Bytes of the messages, without their prefixes.
  public var messageBytes: Int {
    pieces.reduce(0) { $0 + $1.count } - count * Self.prefixBytes
  }

  /// Appends the message that `write` writes.
  public mutating func append(_ write: (inout ProtobufWriter) -> Void) {
    if (pieces.last?.count ?? .max) >= Self.pieceBytes { beginPiece() }
    // Moved out and back, so that appending does not copy the piece.
    var piece: Bytes = []
    swap(&piece, &pieces[pieces.count - 1])
    let start = piece.count
    var writer = ProtobufWriter(appendingTo: consume piece)
    writer.raw(Self.emptyPrefix)
    write(&writer)
    writer.patch(
      UInt32(writer.bytes.count - start - Self.prefixBytes), at: start + Self.prefixBytes - 4)
    pieces[pieces.count - 1] = writer.bytes
    count += 1
  }

  private mutating func beginPiece() {
    if let last = pieces.last { expected = Swift.max(0, expected - last.count) }
    var piece: Bytes = []
    // The last message of a piece goes beyond its bound: room for an ordinary one.
    piece.reserveCapacity(Swift.min(expected, Self.pieceBytes + Self.pieceBytes / 16))
    pieces.append(piece)
  }
}

/// The messages one by one, without their prefixes.
extension FramedMessages: Sequence {
  public struct Iterator: IteratorProtocol {
    fileprivate var rest: ArraySlice<Bytes>
    fileprivate var offset = 0

    public mutating func next() -> Bytes? {
      guard let piece = rest.first else { return nil }
      let start = offset + FramedMessages.prefixBytes
      let length = piece[offset + 1..<start].reduce(0) { $0 << 8 | Int($1) }
      offset = start + length
      if offset == piece.count {
        rest.removeFirst()
        offset = 0
      }
      return Bytes(piece[start..<start + length])
    }
  }

  public func makeIterator() -> Iterator { Iterator(rest: pieces[...]) }
}
