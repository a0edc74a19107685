import Base
import StoreActor

/// A store's history in miniature, and the hub that watches it.
struct WatchedStore {
  /// Changes of revision `i + 2` at index `i`: like a store, the first write makes revision 2.
  private(set) var history: [[Change]] = []
  var hub: WatchHub
  private(set) var compactRevision: Int64 = 0
  /// How often a previous key-value was looked up.
  private(set) var lookups = 0

  init(limits: WatchLimits = .init()) {
    hub = WatchHub(currentRevision: 1, compactRevision: 0, limits: limits)
  }

  var revision: Int64 { Int64(history.count) + 1 }

  static func put(_ key: String, _ value: String = "v") -> (Change.Kind, String, String) {
    (.put, key, value)
  }

  static func delete(_ key: String) -> (Change.Kind, String, String) { (.delete, key, "") }

  /// Makes one revision and announces it.
  mutating func write(_ operations: (Change.Kind, String, String)...) { write(operations) }

  mutating func write(_ operations: [(Change.Kind, String, String)], announce: Bool = true) {
    let main = revision + 1
    let changes = operations.enumerated().map { sub, operation in
      Change(
        kind: operation.0, key: Bytes(operation.1.utf8),
        revision: Revision(main: main, sub: Int64(sub)),
        keyValue: Self.keyValue(operation.0, operation.1, main, operation.2))
    }
    history.append(changes)
    guard announce else { return }
    let history = self.history
    var lookups = 0
    hub.notify(changes, revision: main) { change in
      lookups += 1
      return Self.previous(of: change, in: history)
    }
    self.lookups += lookups
  }

  /// Puts `count` revisions of one key each.
  mutating func writeMany(_ count: Int, key: String) {
    for number in 0..<count { write(Self.put(key, "\(number)")) }
  }

  mutating func compact(_ revision: Int64) {
    compactRevision = max(compactRevision, revision)
    hub.compacted(to: compactRevision)
  }

  /// Skips the announcements: what a snapshot from the leader does.
  mutating func restore(_ revisions: [[(Change.Kind, String, String)]], compact: Int64? = nil) {
    for operations in revisions { write(operations, announce: false) }
    compactRevision = max(compactRevision, compact ?? 0)
    hub.storeRestored(currentRevision: revision, compactRevision: compactRevision)
  }

  func changes(_ from: Int64, _ through: Int64) -> [Change] {
    guard from <= through else { return [] }
    return history[Int(from - 2)...Int(through - 2)].flatMap { $0 }
  }

  /// One pass of catching up, read in one go. False if there was nothing to do.
  @discardableResult
  mutating func catchUpOnce(limit: Int = .max) -> Bool {
    guard let request = hub.nextCatchUp(limit: limit) else { return false }
    serve(request, through: request.through)
    return true
  }

  mutating func serve(_ request: CatchUpRequest, through: Int64, storeRevision: Int64? = nil) {
    let history = self.history
    // A compacted store no longer has what lies below.
    let from = max(request.from, compactRevision, 2)
    hub.catchUp(
      request, changes: changes(from, through), through: through,
      storeRevision: storeRevision ?? revision
    ) { Self.previous(of: $0, in: history) }
  }

  mutating func catchUpFully() {
    var passes = 0
    while catchUpOnce() {
      passes += 1
      precondition(passes < 100_000, "catching up does not end")
    }
  }

  mutating func take() -> [WatchOutput] { hub.takeOutput().flatMap(\.outputs) }

  static func keyValue(_ kind: Change.Kind, _ key: String, _ main: Int64, _ value: String) -> Bytes
  {
    var writer = ProtobufWriter()
    writer.field(1, key.utf8)
    writer.field(3, signed: main)
    if kind == .put { writer.field(5, value.utf8) }
    return writer.bytes
  }

  /// The key's value before the change's revision.
  static func previous(of change: Change, in history: [[Change]]) -> Bytes? {
    for changes in history[..<Int(change.revision.main - 2)].reversed() {
      if let last = changes.last(where: { $0.key == change.key }) {
        return last.kind == .put ? last.keyValue : nil
      }
    }
    return nil
  }
}

extension WatchOutput {
  /// One line that tells everything but the events' content.
  var line: String {
    switch self {
    case .created(let id, let revision): "created \(id) @\(revision)"
    case .refused(let reason, let revision): "refused @\(revision): \(reason)"
    case .canceled(let id, let revision): "canceled \(id) @\(revision)"
    case .compacted(let id, let revision): "compacted \(id) \(revision)"
    case .progress(let id, let revision): "progress \(id) @\(revision)"
    case .events(let batch):
      "events \(batch.watchID) @\(batch.headerRevision): "
        + batch.events.map { event in
          let sign = event.change.kind == .put ? "+" : "-"
          let name = String(decoding: event.change.key, as: UTF8.self)
          return "\(sign)\(name)/\(event.change.revision.main)"
        }.joined(separator: " ")
    }
  }
}

extension [WatchOutput] {
  var lines: [String] { map(\.line) }
}

extension WatchCreate {
  init(_ key: String, to end: String = "", from start: Int64 = 0) {
    self.init(key: Bytes(key.utf8), rangeEnd: Bytes(end.utf8), startRevision: start)
  }

  func with(_ change: (inout WatchCreate) -> Void) -> WatchCreate {
    var copy = self
    change(&copy)
    return copy
  }
}
