public import Base

/// Turns watch outputs into encoded etcdserverpb.WatchResponse messages. Usable on any thread.
///
/// Events are spliced in as they were encoded once; only the header and the watch id differ between
/// the watchers of a key, and the header of successive outputs is mostly the same.
public struct WatchResponseEncoder: Sendable {
  /// etcd's limit for requests of the default size: 1.5 MiB + 512 KiB.
  public static let fragmentBytesDefault = 2 << 20

  /// Fields 1 and 2 of every header.
  private let identity: Bytes
  private let fragmentBytes: Int
  /// The last header, as field 1 of a response, and what it says.
  private var header: Bytes = []
  private var headerRevision: Int64 = 0
  private var headerTerm: Term = 0
  /// Header, watch id and fragment mark, at their longest.
  private var headBytesMax: Int { identity.count + 48 }

  /// - Parameter fragmentBytes: size from which a response is cut, if its watcher allows it.
  public init(
    cluster: ClusterID, member: MemberID, fragmentBytes: Int = Self.fragmentBytesDefault
  ) {
    var writer = ProtobufWriter(reserving: 22)
    writer.field(1, cluster)
    writer.field(2, member)
    identity = writer.bytes
    self.fragmentBytes = fragmentBytes
    header = encodedHeader()
  }

  /// All messages of a stream's outputs.
  public mutating func framed(_ delivery: WatchDelivery, term: Term) -> FramedMessages {
    var messages = FramedMessages(
      expected: delivery.eventBytes + delivery.outputs.count * headBytesMax)
    for output in delivery.outputs { frame(output, term: term, into: &messages) }
    return messages
  }

  /// Appends the messages of one output: one, or several if it is a batch to be cut.
  /// - Parameter term: the Raft term for the header.
  public mutating func frame(
    _ output: WatchOutput, term: Term, into messages: inout FramedMessages
  ) {
    if output.headerRevision != headerRevision || term != headerTerm {
      headerRevision = output.headerRevision
      headerTerm = term
      header = encodedHeader()
    }
    guard case .events(let batch) = output else {
      return messages.append { appendControl(output, to: &$0) }
    }
    guard mayBeCut(batch) else {
      return messages.append { append(batch, batch.events.indices, to: &$0) }
    }
    for piece in pieces(of: batch) { messages.append { append(batch, piece, to: &$0) } }
  }

  /// The part of a batch that `piece` selects, as one message.
  private func append(
    _ batch: WatchBatch, _ piece: Range<Int>, to writer: inout ProtobufWriter
  ) {
    writer.raw(header)
    writer.field(2, signed: batch.watchID)
    writer.field(7, piece.upperBound < batch.events.count)
    for position in piece { writer.raw(batch.events[position].encoded) }
  }

  private func appendControl(_ output: WatchOutput, to writer: inout ProtobufWriter) {
    writer.raw(header)
    switch output {
    case .created(let watchID, _):
      writer.field(2, signed: watchID)
      writer.field(3, true)
    case .refused(let reason, _):
      writer.field(2, signed: -1)
      writer.field(3, true)
      writer.field(4, true)
      writer.field(6, reason.utf8)
    case .canceled(let watchID, _):
      writer.field(2, signed: watchID)
      writer.field(4, true)
    case .compacted(let watchID, let compactRevision):
      writer.field(2, signed: watchID)
      writer.field(4, true)
      writer.field(5, signed: compactRevision)
    case .progress(let watchID, _):
      writer.field(2, signed: watchID)
    case .events: preconditionFailure("events are framed piece by piece")
    }
  }

  /// How a batch is cut: index ranges of its events, one per message, in order.
  private func pieces(of batch: WatchBatch) -> [Range<Int>] {
    let overhead = headBytesMax
    let count = batch.events.count
    var pieces: [Range<Int>] = []
    var start = 0
    var size = overhead
    for position in 0..<count {
      let event = batch.events[position].encoded.count
      if position > start, size + event >= fragmentBytes {
        pieces.append(start..<position)
        start = position
        size = overhead
      }
      size += event
    }
    pieces.append(start..<count)
    return pieces
  }

  /// Whether the watcher allows fragments and the response reaches the limit.
  private func mayBeCut(_ batch: WatchBatch) -> Bool {
    batch.fragment && batch.events.count > 1 && batch.bytes + headBytesMax >= fragmentBytes
  }

  private func encodedHeader() -> Bytes {
    var content = ProtobufWriter(reserving: identity.count + 22)
    content.raw(identity)
    content.field(3, signed: headerRevision)
    content.field(4, headerTerm)
    var field = ProtobufWriter(reserving: content.bytes.count + 2)
    field.field(1, always: content.bytes)
    return field.bytes
  }
}

extension WatchOutput {
  /// 0 is left out.
  fileprivate var headerRevision: Int64 {
    switch self {
    case .created(_, let revision), .refused(_, let revision), .canceled(_, let revision),
      .progress(_, let revision):
      revision
    case .compacted: 0
    case .events(let batch): batch.headerRevision
    }
  }
}
