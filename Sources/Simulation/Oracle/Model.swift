import Base
import StoreActor

/// A request as the simulation made it: what the model executes without decoding anything.
enum Command: Sendable {
  case put(key: Int, value: UInt64, lease: LeaseID)
  /// Keys `from..<to`.
  case delete(from: Int, to: Int)
  /// If the key was last changed at `mod`: `success`, else `failure`.
  case txn(key: Int, mod: Int64, success: [Step], failure: [Step])
  case compact(Int64)
  case grant(LeaseID, ttl: Int64)
  case revoke(LeaseID)
  /// Proposed by a leader whose clock says that the lease is over.
  case expire(LeaseID)

  enum Step: Sendable {
    case put(key: Int, value: UInt64)
    case delete(key: Int)
    case get(key: Int)
  }
}

/// What a request has to answer.
struct Expected: Equatable, Sendable {
  var succeeds = true
  /// Of the header.
  var revision: Int64 = 0
  /// Deleted keys, or 1 for a transaction whose compare held.
  var count: Int64 = 0
}

/// etcd's store as simply as it can be written: nothing is ever removed.
struct Model {
  struct Event: Equatable, Sendable {
    let isDelete: Bool
    let key: Int
    let revision: Revision
    /// The encoded key-value that watchers get.
    let keyValue: Bytes
  }

  private struct Version {
    let revision: Revision
    /// nil = a tombstone.
    let row: Bytes?
    let create: Int64
    let version: Int64
    let lease: LeaseID
  }

  private var keys: [[Version]]
  /// By revision, from 2 on.
  private(set) var events: [[Event]] = []
  private(set) var revision: Int64 = 1
  private(set) var compactRevision: Int64 = -1
  private(set) var leases: [LeaseID: Int64] = [:]
  let ttlMin: Int64

  init(keys: Int, ttlMin: Int64) {
    self.keys = Array(repeating: [], count: keys)
    self.ttlMin = ttlMin
  }

  static func name(_ key: Int) -> Bytes { [UInt8(ascii: "a") + UInt8(key)] }
  static func value(_ value: UInt64) -> Bytes { value.bigEndianBytes }

  // MARK: - Writes

  mutating func apply(_ command: Command) -> Expected {
    var changes: [Event] = []
    var expected = Expected()
    switch command {
    case .put(let key, let value, let lease):
      guard lease == 0 || leases[lease] != nil else { return Expected(succeeds: false) }
      put(key, value, lease, &changes)
    case .delete(let from, let to):
      for key in from..<to where delete(key, &changes) { expected.count += 1 }
    case .txn(let key, let mod, let success, let failure):
      let holds = modRevision(key) == mod
      expected.count = holds ? 1 : 0
      for step in holds ? success : failure {
        switch step {
        case .put(let key, let value): put(key, value, 0, &changes)
        case .delete(let key): _ = delete(key, &changes)
        case .get: break
        }
      }
    case .compact(let limit):
      guard limit > compactRevision, limit <= revision else { return Expected(succeeds: false) }
      compactRevision = limit
    case .grant(let id, let ttl):
      guard leases[id] == nil else { return Expected(succeeds: false) }
      leases[id] = max(ttl, ttlMin)
    case .revoke(let id), .expire(let id):
      guard leases.removeValue(forKey: id) != nil else { return Expected(succeeds: false) }
      for key in keys.indices where keys[key].last?.lease == id { _ = delete(key, &changes) }
    }
    if !changes.isEmpty {
      events.append(changes)
      revision += 1
    }
    expected.revision = revision
    return expected
  }

  private func modRevision(_ key: Int) -> Int64 {
    guard let last = keys[key].last, last.row != nil else { return 0 }
    return last.revision.main
  }

  private mutating func put(
    _ key: Int, _ value: UInt64, _ lease: LeaseID, _ changes: inout [Event]
  ) {
    let at = Revision(main: revision + 1, sub: Int64(changes.count))
    var create = at.main
    var version: Int64 = 1
    if let last = keys[key].last, last.row != nil {
      create = last.create
      version = last.version + 1
    }
    let row = StoredKeyValue.encode(
      key: Self.name(key), createRevision: create, modRevision: at.main, version: version,
      value: Self.value(value), lease: lease)
    keys[key].append(
      Version(revision: at, row: row, create: create, version: version, lease: lease))
    changes.append(Event(isDelete: false, key: key, revision: at, keyValue: row))
  }

  private mutating func delete(_ key: Int, _ changes: inout [Event]) -> Bool {
    guard let last = keys[key].last, last.row != nil else { return false }
    let at = Revision(main: revision + 1, sub: Int64(changes.count))
    keys[key].append(Version(revision: at, row: nil, create: 0, version: 0, lease: 0))
    let told = StoredKeyValue.encodeDeletion(key: Self.name(key), at: at.main)
    changes.append(Event(isDelete: true, key: key, revision: at, keyValue: told))
    return true
  }

  // MARK: - Reads

  /// The rows of keys `from..<to` as of a revision.
  func rows(from: Int, to: Int, at revision: Int64) -> [Bytes] {
    var rows: [Bytes] = []
    for key in from..<to {
      guard let version = keys[key].last(where: { $0.revision.main <= revision }) else { continue }
      if let row = version.row { rows.append(row) }
    }
    return rows
  }

  /// The events of keys `from..<to` with revisions in `first...last`.
  func events(from: Int, to: Int, first: Int64, last: Int64) -> [Event] {
    guard first <= last else { return [] }
    var found: [Event] = []
    for main in max(2, first)...max(2, last) where main <= last {
      for event in events[Int(main) - 2] where event.key >= from && event.key < to {
        found.append(event)
      }
    }
    return found
  }
}
