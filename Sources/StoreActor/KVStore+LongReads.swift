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
  var cursor: RangeCursor

  init(id: UInt64, cursor: RangeCursor) {
    self.cursor = cursor
    super.init(id: id)
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
  /// Keys or records that one slice looks at: well under a millisecond.
  static let sliceVisits = 1000
  static let sliceBytes = 1 << 20
  private static let streamRowsMax = 10_000

  var hasLongReads: Bool { longReads.contains(where: \.isReady) }

  /// Moves the oldest long read on by one slice; readers take turns.
  func advanceLongReads() {
    guard let position = longReads.firstIndex(where: \.isReady) else { return }
    let read = longReads.remove(at: position)
    do {
      // What the reader may see could be less by now than when the read began.
      if let caller = read.caller { try machine.auth.checkRevision(caller) }
      if try !advance(read) { longReads.append(read) }
    } catch let error as EtcdError {
      fail(read.id, error)
    } catch let error as KVError {
      fail(read.id, EtcdError(error))
    } catch {
      fail(read.id, EtcdError(.internal, "\(error)"))
    }
  }

  /// - Returns: whether the read is answered.
  private func advance(_ read: LongRead) throws -> Bool {
    switch read {
    case let read as LongRange:
      guard
        try machine.kv.advance(
          &read.cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes)
      else { return false }
      answer(read.id, machine.responseEncoder.encode(read.cursor.result))
    case let read as StreamedRange:
      let isLast = try machine.kv.advance(
        &read.cursor, visits: read.rows, bytes: Self.sliceBytes)
      outlets.stream(read.id, machine.responseEncoder.streamPart(&read.cursor, isLast: isLast))
      read.rows = min(read.rows * 2, Self.streamRowsMax)
      read.isReady = false
      guard isLast else { return false }
      answer(read.id, [])
    case let read as LongHash:
      _ = try machine.kv.advance(&read.cursor, records: Self.sliceVisits)
      guard let result = read.cursor.result else { return false }
      outlets.measured(.hashedRevision(nanoseconds: monotonicNanoseconds() - read.startedAt))
      answer(read.id, try message(result))
    default: preconditionFailure("a long read of unknown kind")
    }
    return true
  }

  /// The client has taken most of what was sent.
  func continueStream(id: UInt64) {
    longReads.first { $0.id == id }?.isReady = true
  }

  /// The client has gone.
  func endRead(id: UInt64) { longReads.removeAll { $0.id == id } }

  private func answer(_ id: UInt64, _ message: Bytes) {
    replies.append(StoreReply(id: id, outcome: .message(message)))
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
    for row in cursor.takeRows() { inner.field(2, always: row) }
    if isLast {
      inner.field(3, cursor.more)
      inner.field(4, signed: cursor.count)
    }
    var outer = ProtobufWriter(reserving: inner.bytes.count + 8)
    outer.field(1, always: inner.bytes)
    return outer.bytes
  }
}
