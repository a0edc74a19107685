package import Base

/// Turns watch outputs into encoded etcdserverpb.WatchResponse messages. Usable on any thread.
///
/// Events are spliced in as they were encoded once; only the header and the watch id differ between
/// the watchers of a key.
package struct WatchResponseEncoder: Sendable {
  /// etcd's limit for requests of the default size: 1.5 MiB + 512 KiB.
  package static let fragmentBytesDefault = 2 << 20

  /// Fields 1 and 2 of every header.
  private let identity: Bytes
  private let fragmentBytes: Int
  /// Header, watch id and fragment mark, at their longest.
  private var headBytesMax: Int { identity.count + 48 }

  /// - Parameter fragmentBytes: size from which a response is cut, if its watcher allows it.
  package init(
    cluster: ClusterID, member: MemberID, fragmentBytes: Int = Self.fragmentBytesDefault
  ) {
    var writer = ProtobufWriter(reserving: 22)
    writer.field(1, cluster)
    writer.field(2, member)
    identity = writer.bytes
    self.fragmentBytes = fragmentBytes
  }

  /// The messages of one output: one, or several if it is a batch to be cut.
  /// - Parameter term: the Raft term for the header.
  package func encode(_ output: WatchOutput, term: Term) -> [Bytes] {
    guard case .events(let batch) = output else {
      var bytes = Bytes()
      append(output, term: term, to: &bytes)
      return [bytes]
    }
    let pieces = pieces(of: batch)
    return pieces.map { piece in
      var bytes = Bytes()
      append(batch, piece, term: term, to: &bytes)
      return bytes
    }
  }

  /// Appends an output as one message, uncut.
  package func append(_ output: WatchOutput, term: Term, to bytes: inout Bytes) {
    let writer = ProtobufWriter(appendingTo: take(&bytes))
    bytes = appended(output, term, writer)
  }

  /// Appends the part of a batch that `piece` selects as one message.
  /// - Parameter piece: an element of `pieces(of:)`.
  package func append(
    _ batch: WatchBatch, _ piece: Range<Int>, term: Term, to bytes: inout Bytes
  ) {
    let isLast = piece.upperBound == batch.events.count
    if bytes.isEmpty {
      // Only then: exact reservations would defeat the growth of a buffer that is filled in steps.
      let isWhole = piece == batch.events.indices
      let size = isWhole ? batch.bytes : batch.events[piece].reduce(0) { $0 + $1.encoded.count }
      bytes.reserveCapacity(size + headBytesMax)
    }
    var writer = ProtobufWriter(appendingTo: take(&bytes))
    header(batch.headerRevision, term, &writer)
    writer.field(2, signed: batch.watchID)
    writer.field(7, !isLast)
    for event in batch.events[piece] { writer.raw(event.encoded) }
    bytes = writer.bytes
  }

  /// How a batch is cut: index ranges of its events, one per message, in order. A single range
  /// unless the watcher allows fragments and the response reaches the limit.
  package func pieces(of batch: WatchBatch) -> [Range<Int>] {
    let overhead = headBytesMax
    let count = batch.events.count
    guard batch.fragment, count > 1, batch.bytes + overhead >= fragmentBytes else {
      return [0..<count]
    }
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

  private func appended(
    _ output: WatchOutput, _ term: Term, _ start: consuming ProtobufWriter
  ) -> Bytes {
    var writer = start
    switch output {
    case .created(let watchID, let revision):
      header(revision, term, &writer)
      writer.field(2, signed: watchID)
      writer.field(3, true)
    case .refused(let reason, let revision):
      header(revision, term, &writer)
      writer.field(2, signed: -1)
      writer.field(3, true)
      writer.field(4, true)
      writer.field(6, reason.utf8)
    case .canceled(let watchID, let revision):
      header(revision, term, &writer)
      writer.field(2, signed: watchID)
      writer.field(4, true)
    case .compacted(let watchID, let compactRevision):
      header(0, term, &writer)
      writer.field(2, signed: watchID)
      writer.field(4, true)
      writer.field(5, signed: compactRevision)
    case .events(let batch):
      var bytes = writer.bytes
      writer = ProtobufWriter()
      append(batch, batch.events.indices, term: term, to: &bytes)
      return bytes
    case .progress(let watchID, let revision):
      header(revision, term, &writer)
      writer.field(2, signed: watchID)
    }
    return writer.bytes
  }

  private func header(_ revision: Int64, _ term: Term, _ writer: inout ProtobufWriter) {
    var count = identity.count
    if revision != 0 { count += 1 + ProtobufWriter.varintCount(UInt64(bitPattern: revision)) }
    if term != 0 { count += 1 + ProtobufWriter.varintCount(term) }
    writer.lengthPrefix(1, count)
    writer.raw(identity)
    writer.field(3, signed: revision)
    writer.field(4, term)
  }

  /// Moves the array out, so that appending does not copy it.
  private func take(_ bytes: inout Bytes) -> Bytes {
    var taken = Bytes()
    swap(&taken, &bytes)
    return taken
  }
}
