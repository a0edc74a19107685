package import Base

/// What a client asks for when it creates a watcher (etcdserverpb.WatchCreateRequest).
package struct WatchCreate: Sendable {
  /// Empty means the one-byte key `\0`.
  package var key: Bytes
  /// As received: empty = exactly `key`, one zero byte = everything from `key` on.
  package var rangeEnd: Bytes
  /// First revision wanted; 0 = only what happens after the creation.
  package var startRevision: Int64
  package var progressNotify: Bool
  /// Filter NOPUT.
  package var noPut: Bool
  /// Filter NODELETE.
  package var noDelete: Bool
  package var prevKV: Bool
  /// 0 = the hub picks the stream's next free number.
  package var watchID: Int64
  package var fragment: Bool

  package init(
    key: Bytes, rangeEnd: Bytes = [], startRevision: Int64 = 0, progressNotify: Bool = false,
    noPut: Bool = false, noDelete: Bool = false, prevKV: Bool = false, watchID: Int64 = 0,
    fragment: Bool = false
  ) {
    self.key = key
    self.rangeEnd = rangeEnd
    self.startRevision = startRevision
    self.progressNotify = progressNotify
    self.noPut = noPut
    self.noDelete = noDelete
    self.prevKV = prevKV
    self.watchID = watchID
    self.fragment = fragment
  }

  /// The keys selected, or nil when there can be none (a failed creation, unlike in a range read).
  var range: KeyRange? {
    let range = KeyRange(key: key.isEmpty ? [0] : key, rangeEnd: rangeEnd)
    if case .span(let start, let end) = range, !start.precedes(end) { return nil }
    return range
  }
}

/// One change in one wire form (with or without the previous key-value), encoded once and shared
/// by every watcher that wants this form, on any thread.
package final class WatchEvent: Sendable {
  package let change: Change
  /// The encoded mvccpb.KeyValue before the change, if asked for and still known.
  package let previous: Bytes?
  /// Field 11 of a WatchResponse, tag and length included: ready to splice.
  package let encoded: Bytes

  package init(change: Change, previous: Bytes?) {
    self.change = change
    self.previous = previous
    let isDelete = change.kind == .delete
    var count = isDelete ? 2 : 0
    count += Self.fieldCount(change.keyValue)
    if let previous { count += Self.fieldCount(previous) }
    var writer = ProtobufWriter(reserving: count + 6)
    writer.lengthPrefix(11, count)
    writer.field(1, isDelete)
    writer.field(2, always: change.keyValue)
    if let previous { writer.field(3, always: previous) }
    encoded = writer.bytes
  }

  private static func fieldCount(_ message: Bytes) -> Int {
    1 + ProtobufWriter.varintCount(UInt64(message.count)) + message.count
  }
}

/// Events of one watcher that travel in one response: whole revisions, in order.
package struct WatchBatch: Sendable {
  package let watchID: Int64
  /// `header.revision`: the last event's revision when live, the store's when read from history.
  package internal(set) var headerRevision: Int64
  package internal(set) var events: [WatchEvent]
  /// Distinct revisions among `events`.
  package internal(set) var revisionCount: Int
  /// Sum of the encoded events' sizes.
  package internal(set) var bytes: Int
  /// The client accepts the response cut into fragments.
  package let fragment: Bool
}

/// One answer or notification of a watch stream, in the order in which it must be sent.
package enum WatchOutput: Sendable {
  /// created.
  case created(watchID: Int64, revision: Int64)
  /// created + canceled with watch id -1: the creation failed.
  case refused(reason: String, revision: Int64)
  /// canceled, on request.
  case canceled(watchID: Int64, revision: Int64)
  /// canceled, because the history it needs is gone. The header's revision is 0.
  case compacted(watchID: Int64, compactRevision: Int64)
  case events(WatchBatch)
  /// No events; everything up to `revision` has been sent. Watch id -1: for the whole stream.
  case progress(watchID: Int64, revision: Int64)
}

/// The outputs of one stream since they were last taken.
package struct WatchDelivery: Sendable {
  package let stream: WatchHub.StreamID
  package let outputs: [WatchOutput]
  /// Sum of the encoded events' sizes.
  package let eventBytes: Int
}

/// A slice of history that lagging watchers need. The owner reads it and calls `catchUp`.
package struct CatchUpRequest: Sendable {
  /// First revision needed.
  package let from: Int64
  /// Last revision useful in this pass, inclusive. The owner may read less, in whole revisions.
  package let through: Int64
  package var watcherCount: Int { watchers.count }
  let watchers: [WatcherReference]
}

/// A watcher's slot, valid as long as the slot's generation is the same.
struct WatcherReference: Sendable {
  let slot: Int
  let generation: UInt64
}

/// Bounds of the hub's queues and passes.
package struct WatchLimits: Sendable {
  /// Event batches queued per stream between two `takeOutput` calls.
  package var batchesPerStreamMax = 128
  /// Encoded event bytes queued per stream; passed by at most one batch.
  package var bytesPerStreamMax = 4 << 20
  /// Distinct revisions merged into one response.
  package var revisionsPerBatchMax = 1000
  /// Merging stops at this size. A single revision may be larger: it is never split here.
  package var bytesPerBatchMax = 1 << 20
  package var watchersPerPassMax = 512
  package var revisionsPerPassMax: Int64 = 1000

  package init() {}
}

package struct WatchStatistics: Equatable, Sendable {
  package var streams: Int
  package var watchers: Int
  /// Watchers that read history because they are behind the current revision.
  package var slowWatchers: Int
  /// Events queued in the hub and not yet taken.
  package var pendingEvents: Int
  /// Events queued for watchers since the hub exists.
  package var eventsDelivered: UInt64
}
