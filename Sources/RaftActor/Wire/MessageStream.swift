public import Base

/// The `message` stream: u64 big-endian length, then a Message; over and over.
public enum MessageStreamEncoder {
  public static func append(_ message: Message, to bytes: inout Bytes) {
    let count = message.encodedCount
    bytes.reserveCapacity(bytes.count + 8 + count)
    bytes.append(bigEndian: UInt64(count))
    message.append(to: &bytes)
  }

  public static func appendLinkHeartbeat(to bytes: inout Bytes) {
    append(.linkHeartbeat, to: &bytes)
  }
}

/// Reads a `message` stream in pieces of any size.
///
/// After an error the decoder is of no use: the connection has to go.
public struct MessageStreamDecoder {
  /// Largest message accepted: etcd's own limit.
  public static let messageBytesMax = 512 << 20

  /// Frames that only kept the stream alive.
  public private(set) var linkHeartbeatCount = 0
  /// Messages of a kind this version does not know: dropped, as etcd's Raft does.
  public private(set) var ignoredCount = 0

  private var assembler = FrameAssembler()
  private var bodyCount: Int?

  public init() {}

  /// Calls `emit` for every Raft message that `bytes` completes, in order.
  public mutating func feed(
    _ bytes: UnsafeRawBufferPointer, _ emit: (Message) -> Void
  ) throws(WireError) {
    var input = bytes
    while true {
      if bodyCount == nil {
        bodyCount = try assembler.takeLength(limit: Self.messageBytesMax, from: &input)
      }
      guard let count = bodyCount else { return }
      guard let message = try assembler.take(count, from: &input, Message.decodingIfKnown) else {
        return
      }
      bodyCount = nil
      switch message {
      case .none: ignoredCount += 1
      case .some(let message) where message.isLinkHeartbeat: linkHeartbeatCount += 1
      case .some(let message): emit(message)
      }
    }
  }
}

extension Message {
  /// nil for a message whose kind is from a later version.
  static func decodingIfKnown(
    _ buffer: UnsafeRawBufferPointer
  ) throws(WireError) -> Message? {
    do throws(WireError) { return try Message(decoding: buffer) } catch {
      if case .unknownKind("Message", _) = error { return nil }
      throw error
    }
  }
}

/// What stands before the file in the body of `POST /raft/snapshot`: u64 big-endian length and the
/// Message. The store's file follows to the end of the body.
public struct SnapshotHeaderDecoder {
  /// Largest message accepted, file excluded: the limit of etcd 3.7.
  public static let messageBytesMax = 64 << 20

  private var assembler = FrameAssembler()
  private var bodyCount: Int?
  private var isDone = false

  public init() {}

  /// Takes what it needs from `bytes`.
  /// - Returns: the message and how many of `bytes` belong to it, once it is complete; what lies
  ///   behind is the file. Not to be called again after that.
  public mutating func feed(
    _ bytes: UnsafeRawBufferPointer
  ) throws(WireError) -> (message: Message, consumed: Int)? {
    precondition(!isDone, "the snapshot header is complete already")
    var input = bytes
    if bodyCount == nil {
      bodyCount = try assembler.takeLength(limit: Self.messageBytesMax, from: &input)
    }
    guard let count = bodyCount else { return nil }
    let message = try assembler.take(count, from: &input) { (body) throws(WireError) in
      try Message(decoding: body)
    }
    guard let message else { return nil }
    isDone = true
    return (message, bytes.count - input.count)
  }

  public static func encode(_ message: Message) -> Bytes {
    var bytes: Bytes = []
    MessageStreamEncoder.append(message, to: &bytes)
    return bytes
  }
}
