import Actors
import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf

extension KVStore {
  func serveWaitingReads() {
    guard !waitingReads.isEmpty else { return }
    var rest: [(atLeast: LogIndex, reads: [StoreRead])] = []
    for (atLeast, reads) in waitingReads {
      if atLeast <= machine.applied { serve(reads) } else { rest.append((atLeast, reads)) }
    }
    waitingReads = rest
  }

  func serve(_ reads: [StoreRead]) {
    var before = monotonicNanoseconds()
    for read in reads {
      var succeeded = true
      do {
        if let message = try serve(read) {
          replies.append(StoreReply(id: read.id, outcome: .message(message)))
          hasServed = true
        }
      } catch let error as EtcdError {
        fail(read.id, error)
      } catch let error as KVError {
        fail(read.id, EtcdError(error))
        succeeded = false
      } catch let error as LeaseError {
        fail(read.id, EtcdError(error))
      } catch {
        fail(read.id, EtcdError(.internal, "\(error)"))
      }
      // One look at the clock per read: the end of one is the beginning of the next.
      let after = monotonicNanoseconds()
      if case .range = read.kind { outlets.rangeTook(succeeded, after - before) }
      before = after
    }
    outlets.measured(.applied(machine.takeCounts()))
  }

  func fail(_ id: UInt64, _ error: EtcdError) {
    replies.append(StoreReply(id: id, outcome: .failure(error)))
  }

  /// - Returns: the answer, or nil if it comes later.
  private func serve(_ read: StoreRead) throws -> Bytes? {
    if machine.auth.isEnabled, let caller = read.caller { try authorize(read.kind, caller) }
    switch read.kind {
    case .range(let request):
      machine.counts.ranges += 1
      return try range(request, read)
    case .rangeStream(let request):
      machine.counts.ranges += 1
      begin(StreamedRange(id: read.id, cursor: try machine.kv.openRange(request)), for: read)
      return nil
    case .txn(let request):
      machine.counts.ranges += UInt64(request.success.count)
      var cursor = try machine.kv.openReadOnlyTxn(request)
      if try machine.kv.advance(&cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes) {
        return machine.responseEncoder.encode(cursor.result)
      }
      begin(LongTxn(id: read.id, cursor: cursor), for: read)
      return nil
    case .hashKV(let revision):
      if let hash = compactionHashes.last(where: { $0.revision == revision }) {
        return try message(hash)
      }
      longReads.append(LongHash(id: read.id, cursor: try machine.kv.beginHash(revision)))
      return nil
    case .leases:
      return try Etcdserverpb_LeaseLeasesResponse.with {
        $0.header = machine.header()
        $0.leases = machine.lessor.leases.map { id in .with { $0.id = id } }
      }.serializedBytes()
    case .leaseTimeToLive(let id, let keys): return try timeToLive(id, withKeys: keys)
    case .leaseKeepAlive(let lease): return try keepAlive(lease, id: read.id)
    case .leaseAccess, .nothing: return []
    }
  }

  private func begin(_ long: LongRead, for read: StoreRead) {
    long.caller = read.caller
    longReads.append(long)
  }

  private func range(_ request: Etcdserverpb_RangeRequest, _ read: StoreRead) throws -> Bytes? {
    if request.rangeEnd.isEmpty {
      return machine.responseEncoder.encode(try machine.kv.range(request))
    }
    var cursor = try machine.kv.openRange(request)
    if try machine.kv.advance(&cursor, visits: Self.sliceVisits, bytes: Self.sliceBytes) {
      return machine.responseEncoder.encode(cursor.result)
    }
    begin(LongRange(id: read.id, request: request, cursor: cursor), for: read)
    return nil
  }
}
