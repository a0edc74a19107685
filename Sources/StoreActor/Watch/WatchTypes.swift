public import Base

/// What a client asks for when it creates a watcher (etcdserverpb.WatchCreateRequest).
public struct WatchCreate: Sendable {
  /// Empty means the one-byte key `\0`.
  public var key: Bytes
  /// As received: empty = exactly `key`, one zero byte = everything from `key` on.
  public var rangeEnd: Bytes
  /// First revision wanted; 0 = only what happens after the creation.
  public var startRevision: Int64
  public var progressNotify: Bool
  /// Filter NOPUT.
  public var noPut: Bool
  /// Filter NODELETE.
  public var noDelete: Bool
  public var prevKV: Bool
  /// 0 = the hub picks the stream's next free number.
  public var watchID: Int64
  public var fragment: Bool

  public init(
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
public final class WatchEvent: Sendable {
  public let change: Change
  /// The encoded mvccpb.KeyValue before the change, if asked for and still known.
  public let previous: Bytes?
  /// Field 11 of a WatchResponse, tag and length included: ready to splice.
  public let encoded: Bytes

  public init(change: Change, previous: Bytes?) {
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
public struct WatchBatch: Sendable {
  public let watchID: Int64
  /// `header.revision`: the last event's revision when live, the store's when read from history.
  public internal(set) var headerRevision: Int64
  public internal(set) var events: [WatchEvent]
  /// Distinct revisions among `events`.
  public internal(set) var revisionCount: Int
  /// Sum of the encoded events' sizes.
  public internal(set) var bytes: Int
  /// The client accepts the response cut into fragments.
  public let fragment: Bool
}

/// One answer or notification of a watch stream, in the order in which it must be sent.
public enum WatchOutput: Sendable {
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
public struct WatchDelivery: Sendable {
  public let stream: WatchHub.StreamID
  public let outputs: [WatchOutput]
  /// Sum of the encoded events' sizes.
  public let eventBytes: Int
}

/// A slice of history that lagging watchers need. The owner reads it and calls `catchUp`.
public struct CatchUpRequest: Sendable {
  /// First revision needed.
  public let from: Int64
  /// Last revision useful in this pass, inclusive. The owner may read less, in whole revisions.
  public let through: Int64
  public var watcherCount: Int { watchers.count }
  let watchers: [WatcherReference]
}

/// A watcher's slot, valid as long as the slot's generation is the same.
struct WatcherReference: Sendable {
  let slot: Int
  let generation: UInt64
}

/// Bounds of the hub's queues and passes.
public struct WatchLimits: Sendable {
  /// Event batches queued per stream between two `takeOutput` calls.
  public var batchesPerStreamMax = 128
  /// Encoded event bytes queued per stream; passed by at most one batch.
  public var bytesPerStreamMax = 4 << 20
  /// Distinct revisions merged into one response.
  public var revisionsPerBatchMax = 1000
  /// Merging stops at this size. A single revision may be larger: it is never split here.
  public var bytesPerBatchMax = 1 << 20
  public var watchersPerPassMax = 512
  public var revisionsPerPassMax: Int64 = 1000

  public init() {}
}

public struct WatchStatistics: Equatable, Sendable {
  public var streams: Int
  public var watchers: Int
  /// Watchers that read history because they are behind the current revision.
  public var slowWatchers: Int
  /// Events queued in the hub and not yet taken.
  public var pendingEvents: Int
  /// Events queued for watchers since the hub exists.
  public var eventsDelivered: UInt64
}
