public import Base

/// Frame types of the msgapp v2 stream.
private enum FrameType {
  static let linkHeartbeat: UInt8 = 0
  /// Entries and commit only; the rest follows from the stream's state.
  static let entries: UInt8 = 1
  static let message: UInt8 = 2
}

/// Writes the msgapp v2 stream of one connection.
///
/// Both ends remember (term, index) of what was sent last, so that an append which continues it
/// needs no fields of its own. Make a new encoder for every connection, and whenever a message for
/// the stream was dropped.
public struct MsgAppV2Encoder {
  private var term: Term = 0
  private var index: LogIndex = 0

  public init() {}

  /// - Parameter message: an append. Its entries are contiguous behind `message.index`.
  public mutating func append(_ message: Message, to bytes: inout Bytes) {
    precondition(message.kind == .append, "only appends travel on the msgapp stream")
    if message.index == index, message.logTerm == term, message.term == term {
      appendEntries(of: message, to: &bytes)
      return
    }
    bytes.append(FrameType.message)
    MessageStreamEncoder.append(message, to: &bytes)
    term = message.term
    index = message.entries.last?.index ?? message.index
  }

  public mutating func appendLinkHeartbeat(to bytes: inout Bytes) {
    bytes.append(FrameType.linkHeartbeat)
  }

  private mutating func appendEntries(of message: Message, to bytes: inout Bytes) {
    var taken: Bytes = []
    swap(&taken, &bytes)
    taken.append(FrameType.entries)
    taken.append(bigEndian: UInt64(message.entries.count))
    var writer = ProtobufWriter(appendingTo: consume taken)
    for entry in message.entries {
      index += 1
      precondition(entry.index == index, "entries of an append are contiguous")
      var length = UInt64(entry.encodedCount).bigEndian
      withUnsafeBytes(of: &length) { writer.raw($0) }
      entry.encode(into: &writer)
    }
    var commit = message.commit.bigEndian
    withUnsafeBytes(of: &commit) { writer.raw($0) }
    bytes = writer.bytes
  }
}

/// Reads the msgapp v2 stream of one connection in pieces of any size.
///
/// After an error the decoder is of no use: the connection has to go.
public struct MsgAppV2Decoder {
  /// Largest message, and largest sum of the entries in one short frame.
  public static let messageBytesMax = 512 << 20
  /// Most entries in one short frame; etcd sends at most 1 MiB of them.
  public static let entriesMax = 1 << 22

  public private(set) var linkHeartbeatCount = 0

  private enum Step {
    case type, entryCount, entryLength, entry(Int), commit, messageLength, message(Int)
  }

  private let local: MemberID
  private let remote: MemberID
  private var term: Term = 0
  private var index: LogIndex = 0
  private var step = Step.type
  private var assembler = FrameAssembler()
  private var remaining = 0
  private var entryBytes = 0
  private var pending = Message(kind: .append)

  /// - Parameters:
  ///   - local: this member, the `to` of short frames.
  ///   - remote: the member at the other end, their `from`.
  public init(local: MemberID, remote: MemberID) {
    self.local = local
    self.remote = remote
  }

  /// Calls `emit` for every append that `bytes` completes, in order.
  public mutating func feed(
    _ bytes: UnsafeRawBufferPointer, _ emit: (Message) -> Void
  ) throws(WireError) {
    var input = bytes
    while try advance(&input, emit) {}
  }

  /// One step; false when it needs more bytes.
  private mutating func advance(
    _ input: inout UnsafeRawBufferPointer, _ emit: (Message) -> Void
  ) throws(WireError) -> Bool {
    switch step {
    case .type:
      guard
        let type = try assembler.take(1, from: &input, { (bytes) throws(WireError) in bytes[0] })
      else { return false }
      try begin(type)
    case .entryCount:
      guard let count = try assembler.takeLength(limit: Self.entriesMax, from: &input) else {
        return false
      }
      remaining = count
      pending.entries.reserveCapacity(min(count, 1024))
      step = count == 0 ? .commit : .entryLength
    case .entryLength:
      let limit = Self.messageBytesMax - entryBytes
      guard let count = try assembler.takeLength(limit: limit, from: &input) else { return false }
      entryBytes += count
      step = .entry(count)
    case .entry(let count):
      let entry = try assembler.take(count, from: &input) { (bytes) throws(WireError) in
        try Entry(decoding: bytes)
      }
      guard let entry else { return false }
      try add(entry)
    case .commit:
      guard let commit = try assembler.takeUInt64(from: &input) else { return false }
      pending.commit = commit
      step = .type
      emit(pending)
    case .messageLength:
      let length = try assembler.takeLength(limit: Self.messageBytesMax, from: &input)
      guard let length else { return false }
      step = .message(length)
    case .message(let count):
      let message = try assembler.take(count, from: &input) { (bytes) throws(WireError) in
        try Message(decoding: bytes)
      }
      guard let message else { return false }
      term = message.term
      index = message.entries.last?.index ?? message.index
      step = .type
      emit(message)
    }
    return true
  }

  private mutating func begin(_ type: UInt8) throws(WireError) {
    switch type {
    case FrameType.linkHeartbeat: linkHeartbeatCount += 1
    case FrameType.entries:
      pending = Message(
        kind: .append, to: local, from: remote, term: term, logTerm: term, index: index)
      entryBytes = 0
      step = .entryCount
    case FrameType.message: step = .messageLength
    default: throw .unknownFrameType(type)
    }
  }

  /// A frame that does not continue the stream would land at wrong positions silently.
  private mutating func add(_ entry: Entry) throws(WireError) {
    guard entry.index == index &+ 1 else {
      throw .entryOutOfPlace(expected: index &+ 1, found: entry.index)
    }
    index = entry.index
    pending.entries.append(entry)
    remaining -= 1
    step = remaining == 0 ? .commit : .entryLength
  }
}
