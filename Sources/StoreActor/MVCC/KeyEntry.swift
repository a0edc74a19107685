public import Base

/// One change of a key as the index remembers it: 12 bytes.
struct Mark: Equatable, Sendable {
  let main: Int64
  private let bits: UInt32

  /// No change: real ones have a positive revision.
  static let none = Mark(Revision(main: 0))

  init(_ revision: Revision, isTombstone: Bool = false, isLeased: Bool = false) {
    precondition(revision.sub >= 0 && revision.sub < 1 << 30, "too many changes in one revision")
    main = revision.main
    bits = UInt32(revision.sub) << 2 | (isLeased ? 2 : 0) | (isTombstone ? 1 : 0)
  }

  var revision: Revision { Revision(main: main, sub: Int64(bits >> 2)) }
  var isTombstone: Bool { bits & 1 != 0 }
  /// The change attached a lease. Saves reading the record of the many keys that have none.
  var isLeased: Bool { bits & 2 != 0 }
  var isNone: Bool { main == 0 }
}

/// What the index holds for a key: its changes, newest first. 48 bytes.
///
/// The two newest changes are stored in place. Only a key with three or more keeps the older ones in
/// an array of the index's `histories`. A generation ends with a tombstone; `created` and `version`
/// belong to the newest put, so they are known for the current state only.
struct KeyEntry: Sendable {
  var latest: Mark
  var previous = Mark.none
  /// Slot in `KeyIndex.histories` of the changes before `previous`, oldest first, or -1.
  var history: Int32 = -1
  var created: Int64
  var version: Int64

  var isLive: Bool { !latest.isTombstone }
}

/// The newest put of a key that is not deleted.
public struct KeyState: Equatable, Sendable {
  public let revision: Revision
  public let created: Int64
  public let version: Int64
  public let isLeased: Bool

  init(_ entry: KeyEntry) {
    revision = entry.latest.revision
    created = entry.created
    version = entry.version
    isLeased = entry.latest.isLeased
  }
}
