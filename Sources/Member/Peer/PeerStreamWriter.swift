import Actors
import Base
import RaftActor

/// The outgoing half of a link: a stream that the other member has opened and this one writes.
///
/// Messages of one loop turn become one chunk of the endless response, written at the end of the
/// turn.
final class PeerStreamWriter {
  enum Outcome { case sent, detached, dropped }

  /// A third of the time after which etcd takes a silent stream for dead.
  static let heartbeatMilliseconds: UInt64 = 1666
  /// Eight digits and a line break in front of each chunk.
  private static let chunkHeadBytes = 10
  private static let keptBytesMax = 1 << 20

  let kind: PeerStreamKind
  private let queueBytesMax: Int
  private let timeoutMilliseconds: UInt64
  private(set) var connection: StreamConnection?
  private var encoder = MsgAppV2Encoder()
  /// The chunk under way: room for its head, then frames.
  private var chunk: Bytes = []
  /// What the socket had not taken when the chunk was begun.
  private var queuedBytes = 0
  private var writtenBytes = 0
  private var heartbeatDue: UInt64 = 0
  private var progress: (acknowledged: Int, at: UInt64) = (0, 0)

  init(kind: PeerStreamKind, configuration: PeerConfiguration) {
    self.kind = kind
    queueBytesMax = configuration.streamQueueBytesMax
    timeoutMilliseconds = UInt64(configuration.streamTimeoutMilliseconds)
  }

  var isAttached: Bool { connection != nil }
  var isDirty: Bool { !chunk.isEmpty }

  /// Takes over a connection whose response head has been written; an earlier one is closed.
  func attach(_ connection: StreamConnection, now: UInt64) {
    self.connection?.close()
    self.connection = connection
    encoder = MsgAppV2Encoder()
    chunk.removeAll(keepingCapacity: true)
    writtenBytes = 0
    heartbeatDue = now + Self.heartbeatMilliseconds
    progress = (0, now)
  }

  /// Forgets the connection, which has ended or is closed here.
  func detach() {
    connection?.close()
    connection = nil
    chunk.removeAll(keepingCapacity: false)
  }

  /// Encodes a message for the end of this turn.
  func send(_ message: Message) -> Outcome {
    guard connection != nil else { return .detached }
    beginChunk()
    guard queuedBytes + chunk.count < queueBytesMax else {
      // The other end must not take the next append for a continuation.
      encoder = MsgAppV2Encoder()
      return .dropped
    }
    switch kind {
    case .message: MessageStreamEncoder.append(message, to: &chunk)
    case .msgapp: encoder.append(message, to: &chunk)
    }
    return .sent
  }

  private func beginChunk() {
    guard chunk.isEmpty, let connection else { return }
    queuedBytes = connection.queuedBytes
    chunk.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: Self.chunkHeadBytes))
  }

  /// Writes the chunk.
  /// - Returns: its bytes, 0 if there was nothing to write.
  func flush() -> Int {
    let payload = chunk.count - Self.chunkHeadBytes
    defer { chunk.removeAll(keepingCapacity: chunk.capacity <= Self.keptBytesMax) }
    guard payload > 0, let connection else { return 0 }
    Self.writeChunkHead(payload, to: &chunk)
    chunk.append(13)
    chunk.append(10)
    writtenBytes += chunk.count
    chunk.withUnsafeBytes { connection.write($0) }
    return payload
  }

  /// Hexadecimal with leading zeros, so that the head can be filled in afterwards.
  private static func writeChunkHead(_ count: Int, to chunk: inout Bytes) {
    precondition(count <= UInt32.max, "a chunk's length has eight digits")
    for place in 0..<8 {
      let digit = UInt8(truncatingIfNeeded: count >> (28 - 4 * place)) & 15
      chunk[place] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }
    chunk[8] = 13
    chunk[9] = 10
  }

  /// Keeps the stream alive.
  /// - Returns: false if the other end has taken nothing for too long.
  func tick(now: UInt64) -> Bool {
    guard let connection else { return true }
    let queued = connection.queuedBytes
    let acknowledged = writtenBytes - queued
    if queued == 0 || acknowledged != progress.acknowledged {
      progress = (acknowledged, now)
    } else if now >= progress.at + timeoutMilliseconds {
      return false
    }
    if now >= heartbeatDue {
      heartbeatDue = now + Self.heartbeatMilliseconds
      beginChunk()
      switch kind {
      case .message: MessageStreamEncoder.appendLinkHeartbeat(to: &chunk)
      case .msgapp: encoder.appendLinkHeartbeat(to: &chunk)
      }
    }
    return true
  }
}
