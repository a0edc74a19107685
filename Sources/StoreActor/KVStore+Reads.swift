import Actors
import Base
import EtcdAPI
import SwiftProtobuf
import RaftActor

/// A read that goes on between batches.
enum SlicedRead {
  case range(RangeCursor)
  /// Answered in parts; rows of the next part.
  case rangeStream(RangeCursor, rows: Int)
  case hash(HashCursor)
}

extension KVStore {
  /// Keys or records that one slice looks at: well under a millisecond.
  private static let sliceVisits = 1000
  private static let sliceBytes = 1 << 20

  func serveWaitingReads() {
    guard !waitingReads.isEmpty else { return }
    var rest: [(atLeast: LogIndex, reads: [StoreRead])] = []
    for (atLeast, reads) in waitingReads {
      if atLeast <= machine.applied { serve(reads) } else { rest.append((atLeast, reads)) }
    }
    waitingReads = rest
  }

  func serve(_ reads: [StoreRead]) {
    for read in reads {
      do {
        if let message = try serve(read) {
          replies.append(StoreReply(id: read.id, outcome: .message(message)))
        }
      } catch let error as EtcdError {
        fail(read.id, error)
      } catch let error as KVError {
        fail(read.id, EtcdError(error))
      } catch let error as LeaseError {
        fail(read.id, EtcdError(error))
      } catch {
        fail(read.id, EtcdError(.internal, "\(error)"))
      }
    }
    outlets.measured(.ranges(reads.count))
  }

  private func fail(_ id: UInt64, _ error: EtcdError) {
    replies.append(StoreReply(id: id, outcome: .failure(error)))
  }

  /// - Returns: the answer, or nil if it comes later.
  private func serve(_ read: StoreRead) throws -> Bytes? {
    switch read.kind {
    case .range(let request): return try range(request, id: read.id)
    case .rangeStream(let request):
      cursors.append((read.id, .rangeStream(try machine.kv.openRange(request), rows: 10)))
      return nil
    case .txn(let request):
      return machine.responseEncoder.encode(try machine.kv.readOnlyTxn(request))
    case .hashKV(let revision):
      cursors.append((read.id, .hash(try machine.kv.beginHash(revision))))
      return nil
    case .leases:
      return try Etcdserverpb_LeaseLeasesResponse.with {
        $0.header = machine.header()
        $0.leases = machine.lessor.leases.map { id in .with { $0.id = id } }
      }.serializedBytes()
    case .leaseTimeToLive(let id, let keys): return try timeToLive(id, withKeys: keys)
    case .leaseKeepAlive(let lease): return try keepAlive(lease, id: read.id)
    case .nothing: return []
    }
  }

  private func range(_ request: Etcdserverpb_RangeRequest, id: UInt64) throws -> Bytes? {
    // One key, or an order that needs all rows at once.
    if request.rangeEnd.isEmpty || !RangeCursor.isPlain(request) {
      return machine.responseEncoder.encode(try machine.kv.range(request))
    }
    var cursor = try machine.kv.openRange(request)
    if try machine.kv.advance(&cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes) {
      return machine.responseEncoder.encode(cursor.result)
    }
    cursors.append((id, .range(cursor)))
    return nil
  }

  /// Moves the oldest long read on by one slice; readers take turns.
  func advanceCursors() {
    guard !cursors.isEmpty else { return }
    let (id, read) = cursors.removeFirst()
    do {
      if let rest = try advance(read, id: id) { cursors.append((id, rest)) }
    } catch let error as KVError {
      fail(id, EtcdError(error))
    } catch {
      fail(id, EtcdError(.internal, "\(error)"))
    }
  }

  /// - Returns: what is left of the read; nil when it is answered.
  private func advance(_ read: SlicedRead, id: UInt64) throws -> SlicedRead? {
    switch read {
    case .range(var cursor):
      let done = try machine.kv.advance(
        &cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes)
      guard done else { return .range(cursor) }
      replies.append(
        StoreReply(
          id: id, outcome: .message(machine.responseEncoder.encode(cursor.result))))
      return nil
    case .rangeStream(var cursor, let rows):
      let done = try machine.kv.advance(&cursor, visits: rows, bytes: Self.sliceBytes)
      outlets.stream(id, machine.responseEncoder.streamPart(&cursor, isLast: done))
      guard !done else {
        replies.append(StoreReply(id: id, outcome: .message([])))
        return nil
      }
      return .rangeStream(cursor, rows: min(rows * 2, 10_000))
    case .hash(var cursor):
      _ = try machine.kv.advance(&cursor, records: Self.sliceVisits)
      guard let result = cursor.result else { return .hash(cursor) }
      let message: Bytes = try Etcdserverpb_HashKVResponse.with {
        $0.header = machine.header()
        $0.hash = result.hash
        $0.compactRevision = result.compactRevision
        $0.hashRevision = result.revision
      }.serializedBytes()
      replies.append(StoreReply(id: id, outcome: .message(message)))
      return nil
    }
  }
}

extension ResponseEncoder {
  /// A RangeStreamResponse with the rows read since the last part. Header, `more` and `count` stand
  /// in the last one only.
  func streamPart(_ cursor: inout RangeCursor, isLast: Bool) -> Bytes {
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
