import Actors
import Base
import EtcdAPI
import HTTP
import StoreActor
import SwiftProtobuf

/// A watch stream: its call, and whether its watchers were told to wait.
struct WatchStream {
  let handle: CallHandle
  var isBlocked = false
  let needsLeader: Bool
}

extension ClientGateway {
  func openWatch(_ handle: CallHandle) {
    let id = ids.next()
    (handle.call.userData as? CallBox)?.watchStream = id
    watchStreams[id] = WatchStream(
      handle: handle, needsLeader: handle.call.metadata("hasleader") == "true")
    watchCommands.append(.open(id))
  }

  /// - Throws: ``TokenPending`` only.
  func watch(_ handle: CallHandle, _ request: Etcdserverpb_WatchRequest) throws {
    guard let id = (handle.call.userData as? CallBox)?.watchStream else { return }
    switch request.requestUnion {
    case .createRequest(let create):
      do {
        let caller = try caller(of: handle)
        watchCommands.append(.create(id, WatchCreate(create), .client(caller)))
      } catch let error as EtcdError {
        watchCommands.append(.create(id, WatchCreate(create), .refused(error)))
      }
    case .cancelRequest(let cancel):
      watchCommands.append(.cancel(id, watchID: cancel.watchID))
    case .progressRequest: watchCommands.append(.progress(id))
    case nil: break
    }
  }

  /// Sends what the store has for watch streams. The times of a batch are shared out evenly.
  func deliver(
    _ deliveries: [(stream: UInt64, messages: FramedMessages)], _ counts: WatchDeliveryCounts
  ) {
    let start = monotonicNanoseconds()
    for (stream, messages) in deliveries { deliver(messages, to: stream) }
    guard counts.messages > 0 else { return }
    let each = Double(monotonicNanoseconds() - start) / 1e9 / Double(counts.messages)
    let responses = counts.messages - counts.control - counts.progress
    metrics.watch.sendStream.observe(each, times: responses)
    if responses > 0, counts.events > 0 {
      metrics.watch.sendPerEvent.observe(
        each * Double(responses) / Double(counts.events), times: counts.events)
    }
    metrics.watch.sendControl.observe(each, times: counts.control)
    metrics.watch.sendProgress.observe(each, times: counts.progress)
  }

  /// Answers a creation, if it is one, with a refusal. The stream lives on.
  func refuseWatch(
    _ handle: CallHandle, _ request: Etcdserverpb_WatchRequest, _ error: EtcdError
  ) {
    guard let id = (handle.call.userData as? CallBox)?.watchStream,
      case .createRequest(let create) = request.requestUnion
    else { return }
    watchCommands.append(.create(id, WatchCreate(create), .refused(error)))
  }

  /// Sends responses; a client that reads too slowly makes its watchers wait in the store.
  func deliver(_ messages: FramedMessages, to id: UInt64) {
    guard let stream = watchStreams[id] else { return deliverConcurrency(messages, to: id) }
    let call = stream.handle.call
    call.send(messages)
    metrics.network.clientSentBytes.increment(by: UInt64(messages.messageBytes))
    stream.handle.connection.touch()
    if !stream.isBlocked, call.queuedBytes > Self.watchQueueBytesMax {
      watchStreams[id]?.isBlocked = true
      // Creations and cancellations are answered in any case: no more of them meanwhile.
      call.pauseReceiving()
      watchCommands.append(.blocked(id))
    }
  }

  func watchWritable(_ id: UInt64) {
    guard watchStreams[id]?.isBlocked == true else { return }
    watchStreams[id]?.isBlocked = false
    watchStreams[id]?.handle.call.resumeReceiving()
    watchCommands.append(.ready(id))
  }

  func closeWatch(_ id: UInt64) {
    guard watchStreams.removeValue(forKey: id) != nil else { return }
    watchCommands.append(.close(id))
  }

  func endWatch(_ id: UInt64, _ status: GRPCStatus) {
    guard let stream = watchStreams[id] else { return }
    closeWatch(id)
    finish(stream.handle, status)
  }

  func endOverdueWatches(now: UInt64) {
    for (id, stream) in watchStreams where (stream.handle.call.deadline ?? .max) <= now {
      endWatch(id, GRPCStatus(.deadlineExceeded))
    }
  }

  /// Streams that asked for a leader end once there has been none for three election timeouts.
  func endLeaderlessStreams() {
    for (id, stream) in watchStreams where stream.needsLeader {
      endWatch(id, GRPCStatus(.noLeader))
    }
    for (id, stream) in keepAlives where stream.needsLeader { endKeepAlive(id, .noLeader) }
    endLeaderlessObservers()
  }
}

extension WatchCreate {
  init(_ request: Etcdserverpb_WatchCreateRequest) {
    self.init(
      key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd),
      startRevision: request.startRevision, progressNotify: request.progressNotify,
      noPut: request.filters.contains(.noput), noDelete: request.filters.contains(.nodelete),
      prevKV: request.prevKv, watchID: request.watchID, fragment: request.fragment)
  }
}
