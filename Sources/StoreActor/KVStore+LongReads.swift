import Actors
import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf

/// A read that goes on between batches. References, so that what was read is never copied.
class LongRead {
  let id: UInt64
  /// On whose behalf; nil = the member's own.
  var caller: AuthCaller?
  /// Its reader can take more.
  var isReady = true

  init(id: UInt64) { self.id = id }
}

final class LongRange: LongRead {
  let request: Etcdserverpb_RangeRequest
  var cursor: RangeCursor

  init(id: UInt64, request: Etcdserverpb_RangeRequest, cursor: RangeCursor) {
    self.request = request
    self.cursor = cursor
    super.init(id: id)
  }
}

/// A transaction that only reads.
final class LongTxn: LongRead {
  var cursor: ReadOnlyTxnCursor

  init(id: UInt64, cursor: ReadOnlyTxnCursor) {
    self.cursor = cursor
    super.init(id: id)
  }
}

/// The ranges of a transaction that has been applied.
final class LongWrite: LongRead {
  var reply: DeferredReply

  init(_ reply: DeferredReply) {
    self.reply = reply
    super.init(id: reply.id)
  }
}

/// A range that is answered in parts.
final class StreamedRange: LongRead {
  var cursor: RangeCursor
  /// Rows of the next part.
  var rows = 10

  init(id: UInt64, cursor: RangeCursor) {
    self.cursor = cursor
    super.init(id: id)
  }
}

final class LongHash: LongRead {
  var cursor: HashCursor
  let startedAt = monotonicNanoseconds()

  init(id: UInt64, cursor: HashCursor) {
    self.cursor = cursor
    super.init(id: id)
  }
}

extension KVStore {
  /// Keys or records that one slice looks at: a quarter of a millisecond.
  static let sliceVisits = 250
  static let sliceBytes = 256 << 10
  private static let streamRowsMax = 10_000
  private static let streamPartBytes = 1 << 20
  /// Others count as being served for so long after the last of them: nanoseconds.
  private static let busyNanoseconds: UInt64 = 20_000_000

  var hasLongReads: Bool { !longReadsPause && longReads.contains(where: \.isReady) }

  /// Moves the oldest long read on by one slice; readers take turns.
  ///
  /// While others are served, a pause follows each slice. A thread that always has work is made to wait
  /// by the kernel when there are more threads than cores, and everybody with it.
  func advanceLongReads() {
    guard !longReadsPause, let position = longReads.firstIndex(where: \.isReady) else { return }
    let read = longReads.remove(at: position)
    do {
      // What the reader may see could be less by now than when the read began.
      if let caller = read.caller { try machine.auth.checkRevision(caller) }
      if try !advance(read) { longReads.append(read) }
    } catch KVError.compacted where restart(read) {
      longReads.append(read)
    } catch let error as EtcdError {
      fail(read.id, error)
    } catch let error as KVError {
      fail(read.id, EtcdError(error))
    } catch {
      fail(read.id, EtcdError(.internal, "\(error)"))
    }
    if hasLongReads, clock() < servedAt + Self.busyNanoseconds {
      longReadsPause = true
      outlets.pause(.longReads)
    }
  }

  /// A read of the current state that compaction has overtaken begins again: its caller asked for no
  /// revision that could be compacted.
  private func restart(_ read: LongRead) -> Bool {
    guard let read = read as? LongRange, read.request.revision <= 0,
      let cursor = try? machine.kv.openRange(read.request)
    else { return false }
    read.cursor = cursor
    return true
  }

  /// - Returns: whether the read is answered.
  private func advance(_ read: LongRead) throws -> Bool {
    switch read {
    case let read as LongRange:
      guard
        try machine.kv.advance(
          &read.cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes)
      else { return false }
      answer(read.id, machine.responseEncoder.pieces(read.cursor.result))
    case let read as LongTxn:
      guard
        try machine.kv.advance(
          &read.cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes)
      else { return false }
      answer(read.id, machine.responseEncoder.pieces(read.cursor.result))
    case let read as LongWrite:
      guard
        try machine.kv.advance(
          &read.reply.txn.reads, visits: Self.sliceVisits, bytes: Self.sliceBytes)
      else { return false }
      answer(read.id, read.reply.encoder.pieces(read.reply.txn.answer))
    case let read as StreamedRange:
      let isLast = try advanceStreamed(read)
      guard isLast else { return false }
      answer(read.id, [])
    case let read as LongHash:
      _ = try machine.kv.advance(&read.cursor, records: Self.sliceVisits)
      guard let result = read.cursor.result else { return false }
      outlets.measured(.hashedRevision(nanoseconds: monotonicNanoseconds() - read.startedAt))
      answer(read.id, [try message(result)])
    default: preconditionFailure("a long read of unknown kind")
    }
    return true
  }

  // MARK: - Transactions that write

  func answerLater(_ reply: DeferredReply) {
    longReads.append(LongWrite(reply))
    outlets.deferred(reply.id)
  }

  var hasDeferredTxns: Bool { !longReads.isEmpty && longReads.contains { $0 is LongWrite } }

  static func isCompaction(_ entry: Entry) -> Bool {
    guard entry.kind == .normal, case .request(let envelope)? = try? EntryPayload(entry.data) else {
      return false
    }
    return envelope.kind == .compaction
  }

  /// Reads all that applied transactions wait for, before the state that they see goes. Their callers
  /// could be told of no error then: what they wrote is there.
  func completeDeferredTxns() {
    for read in longReads.compactMap({ $0 as? LongWrite }) {
      do throws(KVError) {
        while try !machine.kv.advance(&read.reply.txn.reads, visits: .max) {}
      } catch {
        preconditionFailure("a transaction still reads what is gone: \(error)")
      }
      answer(read.id, read.reply.encoder.pieces(read.reply.txn.answer))
    }
    longReads.removeAll { $0 is LongWrite }
  }

  /// A part may take several slices.
  private func advanceStreamed(_ read: StreamedRange) throws -> Bool {
    let missing = max(1, read.rows - read.cursor.rows.count)
    let isLast = try machine.kv.advance(
      &read.cursor, visits: min(missing, Self.sliceVisits), bytes: Self.sliceBytes)
    let rows = read.cursor.rows
    guard isLast || rows.count >= read.rows || rows.byteCount >= Self.streamPartBytes else {
      return false
    }
    outlets.stream(read.id, machine.responseEncoder.streamPart(&read.cursor, isLast: isLast))
    read.rows = min(read.rows * 2, Self.streamRowsMax)
    read.isReady = false
    return isLast
  }

  /// The client has taken most of what was sent.
  func continueStream(id: UInt64) {
    longReads.first { $0.id == id }?.isReady = true
  }

  /// The client has gone.
  func endRead(id: UInt64) { longReads.removeAll { $0.id == id } }

  private func answer(_ id: UInt64, _ pieces: [Bytes]) {
    replies.append(StoreReply(id: id, pieces: pieces))
  }

  func message(_ hash: KeyValueHash) throws -> Bytes {
    try Etcdserverpb_HashKVResponse.with {
      $0.header = machine.header()
      $0.hash = hash.hash
      $0.compactRevision = hash.compactRevision
      $0.hashRevision = hash.revision
    }.serializedBytes()
  }
}

extension ResponseEncoder {
  /// A RangeStreamResponse with the rows read since the last part. Header, `more` and `count` stand
  /// in the last one only.
  fileprivate func streamPart(_ cursor: inout RangeCursor, isLast: Bool) -> Bytes {
    var inner = ProtobufWriter()
    if isLast { inner.field(1, always: header(cursor.headerRevision)) }
    let rows = cursor.takeRows()
    for piece in rows.closed { inner.raw(piece) }
    inner.raw(rows.open)
    if isLast {
      inner.field(3, cursor.more)
      inner.field(4, signed: cursor.count)
    }
    var outer = ProtobufWriter(reserving: inner.bytes.count + 8)
    outer.field(1, always: inner.bytes)
    return outer.bytes
  }
}
