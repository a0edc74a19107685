import Base

/// All watchers of one member: who wants which change, and what each stream is to be told.
///
/// A value owned by the store's actor and used on the store thread only. The owner announces every
/// revision with `notify` in the step that makes it readable, feeds history to watchers that are
/// behind, and hands what `takeOutput` returns to whoever writes to the sockets.
///
/// A watcher is *synced* when everything it wants up to `currentRevision` has been queued, else
/// *lagging*: then its `next` revision is the only source of what it gets from history. Nothing is
/// ever skipped: a watcher that needs compacted history ends with the compact revision.
public struct WatchHub: Sendable {
  /// Chosen by the owner of the streams; never reused while open.
  public typealias StreamID = UInt64

  /// One client stream. Index positions in `queue` are stable between two `takeOutput` calls.
  struct Stream: Sendable {
    var id: StreamID
    var isOpen = true
    /// Slot of each watcher by its id, `reserved` for an id whose watcher a compaction ended.
    var watchers: [Int64: Int] = [:]
    var nextID: Int64 = 0
    var queue: [WatchOutput] = []
    var queuedBatches = 0
    var queuedBytes = 0
    /// Counts `takeOutput` calls, from 1: tells whether a remembered position is still queued.
    var epoch: UInt64 = 1
    /// Batches before this position are closed: a progress report follows them.
    var mergeFrom = 0
    var isBlocked = false
    var laggingCount = 0
    /// Without reserved ids.
    var watcherCount = 0
    /// Upper bound of the start revisions on this stream.
    var highestStart: Int64 = 0
  }

  /// In a watcher's place in a stream's table: cancelled by a compaction, id still taken.
  private static let reserved = -1

  /// A watcher in its slot; `generation` tells successive tenants of the slot apart.
  struct Watcher: Sendable {
    var generation: UInt64 = 0
    var isLive = true
    let stream: Int
    let id: Int64
    var range: KeyRange
    /// As requested; 0 = from the creation on.
    let start: Int64
    let wantsPuts: Bool
    let wantsDeletes: Bool
    let wantsPrevious: Bool
    let wantsProgress: Bool
    let fragment: Bool
    /// Nothing below this revision is delivered. When lagging: the first revision not yet queued.
    var next: Int64
    var isSynced: Bool
    /// No events since the last progress tick.
    var isQuiet = true
    /// The revision whose changes the stream agreed to take last.
    var acceptedRevision: Int64 = 0
    /// Where this watcher's last batch stands, if `batchEpoch` is the stream's epoch.
    var batchEpoch: UInt64 = 0
    var batchPosition = 0
  }

  public let limits: WatchLimits
  /// The last revision announced.
  public internal(set) var currentRevision: Int64
  public internal(set) var compactRevision: Int64

  var streams: [Stream] = []
  private var freeStreams: [Int] = []
  private var streamSlots: [StreamID: Int] = [:]
  var watchers: [Watcher] = []
  private var freeSlots: [Int] = []
  var index = WatcherIndex()
  /// Streams that have output, in the order of their first one.
  private var streamsWithOutput: [Int] = []
  /// Lagging watchers in order of their turn; entries of ended watchers are dropped on the way.
  var lagging: [WatcherReference] = []
  var laggingCount = 0
  var pendingEvents = 0
  var eventsDelivered: UInt64 = 0
  /// Reused by `notify`.
  var matched: [Int] = []

  /// - Parameters:
  ///   - currentRevision: the store's revision; the next one announced is one higher.
  ///   - compactRevision: the store's compacted revision, 0 or less if none.
  public init(currentRevision: Int64, compactRevision: Int64, limits: WatchLimits = .init()) {
    self.currentRevision = currentRevision
    self.compactRevision = compactRevision
    self.limits = limits
  }

  public var statistics: WatchStatistics {
    WatchStatistics(
      streams: streamSlots.count, watchers: index.count, slowWatchers: laggingCount,
      pendingEvents: pendingEvents, eventsDelivered: eventsDelivered)
  }

  // MARK: Streams

  public mutating func openStream(id: StreamID) {
    precondition(streamSlots[id] == nil, "watch stream opened twice")
    let slot = freeStreams.popLast() ?? streams.count
    if slot == streams.count {
      streams.append(Stream(id: id))
    } else {
      streams[slot] = Stream(id: id)
    }
    streamSlots[id] = slot
  }

  /// Ends every watcher of the stream and drops what is queued for it. Unknown ids are ignored.
  public mutating func closeStream(id: StreamID) {
    guard let position = streamSlots.removeValue(forKey: id) else { return }
    let stream = streams[position]
    // In id order: removals shape the order in which the remaining watchers are matched.
    for watchID in stream.watchers.keys.sorted() {
      if let slot = stream.watchers[watchID], slot != Self.reserved { removeWatcher(slot) }
    }
    pendingEvents -= Self.eventCount(stream.queue)
    streamsWithOutput.removeAll { $0 == position }
    streams[position] = Stream(id: id, isOpen: false)
    freeStreams.append(position)
  }

  /// The stream takes no more events for now (full window or queue). Its watchers fall behind.
  public mutating func streamBlocked(id: StreamID) {
    if let slot = streamSlots[id] { streams[slot].isBlocked = true }
  }

  /// The stream takes events again; watchers that fell behind are served by the next catch-ups.
  public mutating func streamReady(id: StreamID) {
    if let slot = streamSlots[id] { streams[slot].isBlocked = false }
  }

  // MARK: Watchers

  /// Creates a watcher and queues exactly one creation answer, plus a cancellation if its start is
  /// already compacted. Takes effect at `currentRevision`, which the answer carries.
  ///
  /// - Parameter refusal: the reason of a failed authorization, if it failed. It is a parameter
  ///   because the check ranks between the others.
  public mutating func create(stream id: StreamID, request: WatchCreate, refusal: String? = nil) {
    guard let position = streamSlots[id] else { return }
    if request.startRevision < 0 {
      return refuse(position, "etcdserver: mvcc: required revision has been compacted")
    }
    if let refusal { return refuse(position, refusal) }
    guard let range = request.range else { return refuse(position, "mvcc: watcher range is empty") }
    guard let watchID = assignID(request.watchID, on: position) else {
      return refuse(position, "mvcc: duplicate watch ID provided on the WatchStream")
    }
    queue(.created(watchID: watchID, revision: currentRevision), on: position)
    let isPast = request.startRevision > 0 && request.startRevision <= currentRevision
    if isPast && request.startRevision < compactRevision {
      streams[position].watchers[watchID] = Self.reserved
      queue(.compacted(watchID: watchID, compactRevision: compactRevision), on: position)
      return
    }
    let watcher = Watcher(
      stream: position, id: watchID, range: range, start: request.startRevision,
      wantsPuts: !request.noPut, wantsDeletes: !request.noDelete, wantsPrevious: request.prevKV,
      wantsProgress: request.progressNotify, fragment: request.fragment,
      next: request.startRevision > 0 ? request.startRevision : currentRevision + 1,
      isSynced: true)
    let slot = add(watcher)
    if isPast { markLagging(slot, next: request.startRevision) }
  }

  /// Ends a watcher, with an answer; an id that the stream does not know gets none.
  public mutating func cancel(stream id: StreamID, watchID: Int64) {
    guard let position = streamSlots[id],
      let entry = streams[position].watchers.removeValue(forKey: watchID)
    else { return }
    if entry != Self.reserved { removeWatcher(entry) }
    queue(.canceled(watchID: watchID, revision: currentRevision), on: position)
  }

  /// History below `revision` is gone. Lagging watchers that still need it are cancelled.
  /// To be called before any history is read that lacks it.
  public mutating func compacted(to revision: Int64) {
    guard revision > compactRevision else { return }
    compactRevision = revision
    guard laggingCount > 0 else { return }
    for reference in lagging
    where isLive(reference) && watchers[reference.slot].next < revision {
      endByCompaction(reference.slot)
    }
    lagging = lagging.filter { isLive($0) }
  }

  // MARK: Output

  public var hasOutput: Bool { !streamsWithOutput.isEmpty }

  /// Removes and returns everything queued: one delivery per stream, in order within the stream.
  public mutating func takeOutput() -> [WatchDelivery] {
    var deliveries: [WatchDelivery] = []
    deliveries.reserveCapacity(streamsWithOutput.count)
    for position in streamsWithOutput {
      var outputs: [WatchOutput] = []
      swap(&outputs, &streams[position].queue)
      deliveries.append(
        WatchDelivery(
          stream: streams[position].id, outputs: outputs,
          eventBytes: streams[position].queuedBytes))
      streams[position].queuedBatches = 0
      streams[position].queuedBytes = 0
      streams[position].mergeFrom = 0
      streams[position].epoch += 1
    }
    streamsWithOutput.removeAll(keepingCapacity: true)
    pendingEvents = 0
    return deliveries
  }

  mutating func queue(_ output: WatchOutput, on position: Int) {
    if streams[position].queue.isEmpty { streamsWithOutput.append(position) }
    streams[position].queue.append(output)
  }

  func streamPosition(_ id: StreamID) -> Int? { streamSlots[id] }

  private mutating func refuse(_ position: Int, _ reason: String) {
    queue(.refused(reason: reason, revision: currentRevision), on: position)
  }

  private static func eventCount(_ outputs: [WatchOutput]) -> Int {
    outputs.reduce(0) { sum, output in
      if case .events(let batch) = output { sum + batch.events.count } else { sum }
    }
  }

  // MARK: Slots

  func isLive(_ reference: WatcherReference) -> Bool {
    watchers[reference.slot].isLive && watchers[reference.slot].generation == reference.generation
  }

  mutating func markLagging(_ slot: Int, next: Int64) {
    watchers[slot].isSynced = false
    watchers[slot].next = next
    lagging.append(WatcherReference(slot: slot, generation: watchers[slot].generation))
    laggingCount += 1
    streams[watchers[slot].stream].laggingCount += 1
  }

  /// The caller drops the entry in `lagging`.
  mutating func markSynced(_ slot: Int) {
    watchers[slot].isSynced = true
    laggingCount -= 1
    streams[watchers[slot].stream].laggingCount -= 1
  }

  /// The id of a new watcher, or nil if the wanted one is taken.
  private mutating func assignID(_ wanted: Int64, on position: Int) -> Int64? {
    if wanted != 0 { return streams[position].watchers[wanted] == nil ? wanted : nil }
    var id = streams[position].nextID
    while streams[position].watchers[id] != nil { id += 1 }
    streams[position].nextID = id + 1
    return id
  }

  private mutating func add(_ watcher: Watcher) -> Int {
    let slot = freeSlots.popLast() ?? watchers.count
    if slot == watchers.count {
      watchers.append(watcher)
    } else {
      let generation = watchers[slot].generation + 1
      watchers[slot] = watcher
      watchers[slot].generation = generation
    }
    index.insert(slot, range: watcher.range)
    streams[watcher.stream].watchers[watcher.id] = slot
    streams[watcher.stream].watcherCount += 1
    streams[watcher.stream].highestStart = max(
      streams[watcher.stream].highestStart, watcher.start)
    return slot
  }

  /// Frees the slot. The caller has dealt with the id in the stream's table.
  private mutating func removeWatcher(_ slot: Int) {
    let stream = watchers[slot].stream
    index.remove(slot)
    if !watchers[slot].isSynced {
      laggingCount -= 1
      streams[stream].laggingCount -= 1
      if laggingCount == 0 { lagging.removeAll() }
    }
    streams[stream].watcherCount -= 1
    watchers[slot].isLive = false
    watchers[slot].range = .single([])
    freeSlots.append(slot)
  }

  /// The id stays taken until the client cancels it.
  private mutating func endByCompaction(_ slot: Int) {
    let stream = watchers[slot].stream
    let id = watchers[slot].id
    removeWatcher(slot)
    streams[stream].watchers[id] = Self.reserved
    queue(.compacted(watchID: id, compactRevision: compactRevision), on: stream)
  }
}
